package job

import (
	"context"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/kernel-bisect/kbisect/internal/bisect"
	"github.com/kernel-bisect/kbisect/internal/ddmin"
	"github.com/kernel-bisect/kbisect/internal/kconfig"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
	"github.com/kernel-bisect/kbisect/internal/verdict"
)

// ConfigSearch is what BisectConfig searches: the options in which two
// configurations of one commit differ.
type ConfigSearch struct {
	Commit    kernel.Commit
	Program   runner.Program
	Good, Bad []kconfig.Request // whole .configs
	// Forced are symbols that the lab sets on top of every configuration.
	Forced map[string]bool
}

// Calibration of the bad end, as of a bisection's (internal/bisect): five failures
// make the rate known, of ten runs at least if some pass; sixty runs without one say
// that it is below 4.9 %.
const (
	configFailures = 5
	configRuns     = 10
	configMaxRuns  = 60
)

// configSure is how sure all verdicts of a search for one option are together: of
// the two for each halving, and the ends'.
const configSure = verdict.DecidedAt

// BisectConfig finds a smallest set of options that makes a program fail. A
// configuration is that of the good end with the bad end's values of some options,
// completed by the kernel's own olddefconfig, and is judged by what comes out. res is
// filled as the search goes on, and update called after every step.
func (l *Lab) BisectConfig(ctx context.Context, s ConfigSearch, res *kernel.ConfigResult, update func()) error {
	b := &configSearch{lab: l, ConfigSearch: s, res: res, update: update, judged: map[string]judged{}, steps: map[string]int{"[]": 0}}
	res.Status = kernel.Searching
	if ready, err := b.ends(ctx); !ready || err != nil {
		return err
	}
	found, err := ddmin.Minimize(len(res.Options), func(subset []int) (ddmin.Seen, error) { return b.try(ctx, subset) })
	if err != nil {
		return err
	}
	b.conclude(found)
	return nil
}

type configSearch struct {
	lab *Lab
	ConfigSearch
	res     *kernel.ConfigResult
	update  func()
	fixed   string            // lines of the .config in which both ends agree
	finding Finding           // what a kernel is judged by
	judged  map[string]judged // digest of a kernel -> what its runs came to
	steps   map[string]int    // subset -> its place in the steps
}

type judged struct {
	tried
	step int
}

// stop ends a search that finds nothing.
func (b *configSearch) stop(status kernel.BisectStatus, reason string) (bool, error) {
	b.res.Status, b.res.Reason = status, reason
	b.update()
	return false, nil
}

// ends builds both ends and sees that they do what they are to do. It is false
// when there is nothing to search.
func (b *configSearch) ends(ctx context.Context) (bool, error) {
	var kernels [2]kernel.Kernel
	var configs [2][]kconfig.Request
	for i, reqs := range [2][]kconfig.Request{b.Good, b.Bad} {
		why := [2]string{"good end", "bad end"}[i]
		b.res.Steps = append(b.res.Steps, kernel.ConfigStep{Why: why})
		began := time.Now()
		build, config, err := b.build(ctx, within(reqs))
		b.done(i, began)
		switch {
		case err != nil:
			return false, err
		case build.Status == kernel.BuildRefused:
			return false, &RefusedError{b.Commit.Short() + ", configuration of the " + why, build.Error}
		case build.Status != kernel.BuildOK:
			return b.stop(kernel.NoConclusion, "the "+why+" does not build: "+build.Error)
		}
		kernels[i], configs[i] = build.Kernel, config
	}
	b.differences(configs[0], configs[1])
	if len(b.res.Options) == 0 {
		return b.stop(kernel.NoConclusion, "both configurations come out the same in this kernel")
	}
	if ok, err := b.calibrate(ctx, kernels[1]); !ok || err != nil {
		return false, err
	}
	defer b.done(0, time.Now())
	switch t, err := b.judge(ctx, kernels[0], 0); {
	case err != nil:
		return false, err
	case t.verdict == kernel.Bad:
		return b.stop(kernel.NotReproduced, "the good end fails in the same way: these options do not make the difference")
	case t.verdict != kernel.Good:
		return b.stop(kernel.NoConclusion, "the good end is not known to be good: "+t.reason)
	}
	return true, nil
}

// calibrate runs the bad end until it is known how, and how often, it fails. False:
// it does not, or cannot be run.
func (b *configSearch) calibrate(ctx context.Context, k kernel.Kernel) (bool, error) {
	step := &b.res.Steps[1]
	defer b.done(1, time.Now())
	s := b.lab.subject(k, b.Commit.SHA, b.Program)
	defer s.close()
	boot, err := s.boot(ctx)
	if err != nil {
		return false, err
	}
	step.Outcome = kernel.Untestable
	if why := canRun(b.Program, boot); why != "" {
		return b.stop(kernel.NoConclusion, "the bad end "+why)
	}
	var fails []kernel.Run
	n, runs := 0, 0 // failures that are chased, runs
	for runs < configMaxRuns && (n < configFailures || n < runs && runs < configRuns) {
		b.lab.notify(Event{Phase: "run", Commit: b.Commit, Done: runs, Text: step.Why})
		r, _, err := s.run(ctx, b.Program)
		switch {
		case err != nil:
			return false, err
		case r.Outcome == kernel.Infra:
			return false, fmt.Errorf("%w at the bad end: %s", errInfra, r.Reason)
		case r.Outcome == kernel.Skip:
			return b.stop(kernel.NoConclusion, "the test skips at the bad end: "+r.Reason)
		}
		runs, b.res.Runs = runs+1, b.res.Runs+1
		if !r.Outcome.Bad() {
			continue
		}
		fails = append(fails, r)
		same := 0
		for _, f := range fails {
			if f.Signature.Same(r.Signature) {
				same++
			}
		}
		if same > n { // the failure that it shows most often
			n, step.Signature, step.Output, step.Console = same, r.Signature, r.Output, r.Console
		}
	}
	step.Fails, step.Other = n, len(fails)-n
	step.Runs = runs - step.Other
	b.res.Signature, b.res.FailRate = step.Signature, bisect.Wilson(n, step.Runs)
	switch step.Outcome = kernel.Inconclusive; {
	case n == 0:
		return b.stop(kernel.NotReproduced, fmt.Sprintf("the bad end does not fail in %d runs", runs))
	case n < configFailures:
		return b.stop(kernel.NoConclusion, fmt.Sprintf("the bad end fails too seldom to tell kernels apart, %d times in %d runs: let the test repeat what it does", n, runs))
	}
	step.Outcome = kernel.Bad
	verdicts := 2*bits.Len(uint(len(b.res.Options))) + 2
	b.finding = Finding{
		Program: b.Program, Signature: step.Signature, FailRate: b.res.FailRate.Low, FalseFailRate: verdict.FalseFailRate.Mean(),
		Confidence: 1 - (1-configSure)/float64(verdicts),
	}
	b.judged[k.Digest] = judged{tried{verdict: kernel.Bad}, 1}
	return true, nil
}

// try builds and runs the good end with a subset of the options.
func (b *configSearch) try(ctx context.Context, subset []int) (ddmin.Seen, error) {
	at := len(b.res.Steps)
	b.steps[fmt.Sprint(subset)] = at
	b.res.Steps = append(b.res.Steps, kernel.ConfigStep{Why: "search", Asked: symbols(b.res.Options, subset)})
	defer b.done(at, time.Now())
	step := &b.res.Steps[at]
	build, config, err := b.build(ctx, b.text(subset))
	if err != nil {
		return ddmin.Seen{}, err
	}
	if build.Status != kernel.BuildOK {
		step.Outcome, step.Reason = kernel.Untestable, "does not build: "+build.Error
		return ddmin.Seen{}, nil
	}
	var took []int
	values := valuesOf(config)
	for i, o := range b.res.Options {
		asked, came := slices.Contains(subset, i), values.of(o.Symbol) == o.Bad
		switch {
		case asked && came:
			took = append(took, i)
		case asked:
			step.Missed = append(step.Missed, o.Symbol)
		case came:
			step.Brings = append(step.Brings, o.Symbol)
		}
	}
	t, err := b.judge(ctx, build.Kernel, at)
	if err != nil {
		return ddmin.Seen{}, err
	}
	switch {
	case t.verdict == kernel.Bad:
		return ddmin.Seen{Answer: ddmin.Bad, Took: took}, nil
	case t.verdict == kernel.Inconclusive:
		return ddmin.Seen{Answer: ddmin.Inconclusive}, nil
	case t.verdict == kernel.Good && len(step.Missed) == 0:
		return ddmin.Seen{Answer: ddmin.Good}, nil
	}
	// A kernel that is good without what was asked for is no evidence of that.
	return ddmin.Seen{Answer: ddmin.Unresolved}, nil
}

// build makes a kernel of a .config for the last step, and gives the one that came
// out.
func (b *configSearch) build(ctx context.Context, whole []byte) (kernel.Build, []kconfig.Request, error) {
	at := len(b.res.Steps) - 1
	step := &b.res.Steps[at]
	b.lab.notify(Event{Phase: "build", Commit: b.Commit, Index: at + 1, Text: step.Why})
	build, text, err := b.lab.BuildConfig(ctx, b.Commit, whole)
	if err != nil {
		return build, nil, err
	}
	if step.Build, step.Log = how(build), build.Log; !build.Cached {
		b.res.Builds++
	}
	if build.Status != kernel.BuildOK {
		return build, nil, nil
	}
	config, err := kconfig.ParseFragment(".config", text)
	return build, config, err
}

// judge runs a kernel for a step, unless an equal one was run.
func (b *configSearch) judge(ctx context.Context, k kernel.Kernel, at int) (judged, error) {
	step := &b.res.Steps[at]
	if t, ok := b.judged[k.Digest]; ok {
		step.Outcome, step.Reason = t.verdict, fmt.Sprintf("the same kernel as in step %d", t.step+1)
		return t, nil
	}
	t, err := b.lab.tryAgain(ctx, b.finding, b.Commit, k, step.Why)
	if err != nil {
		return judged{}, err
	}
	b.res.Runs += t.runs + t.other
	step.Outcome, step.Runs, step.Fails, step.Other, step.Reason = t.verdict, t.runs, t.fails, t.other, t.reason
	b.judged[k.Digest] = judged{t, at}
	return b.judged[k.Digest], nil
}

// done is called when something of a step is through that began then.
func (b *configSearch) done(at int, began time.Time) {
	step := &b.res.Steps[at]
	step.Seconds += time.Since(began).Seconds()
	if step.Outcome != "" { // else it was built, and is yet to be run
		b.lab.notify(Event{Phase: "done", Commit: b.Commit, Index: at + 1, Text: step.Why + ": " + string(step.Outcome)})
	}
	b.update()
}

// conclude says what was found, and what each option of it is needed for.
func (b *configSearch) conclude(found ddmin.Result) {
	res := b.res
	var open []string
	for k, i := range found.Set {
		step := res.Steps[b.steps[fmt.Sprint(slices.Delete(slices.Clone(found.Set), k, k+1))]]
		c := kernel.ConfigCulprit{ConfigOption: res.Options[i], Without: step.Outcome}
		switch {
		case found.Without[k] == ddmin.Good:
		case step.Outcome == kernel.Good:
			c.NeededBy = step.Missed
		default:
			c.Reason = step.Reason
			open = append(open, "CONFIG_"+c.Symbol)
		}
		res.Culprits = append(res.Culprits, c)
	}
	if at, ok := b.steps[fmt.Sprint(found.Set)]; ok {
		res.Brings = res.Steps[at].Brings
	}
	res.Status, res.Reason = kernel.Found, "each of them put back makes the test pass"
	if len(open) > 0 {
		res.Status, res.Reason = kernel.Set, "it could not be seen that these are needed: "+strings.Join(open, ", ")
	} else if len(found.Set) == 1 {
		res.Reason = "the good end with this option fails"
	}
	b.update()
}
