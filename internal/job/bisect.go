package job

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/kernel-bisect/kbisect/internal/bisect"
	"github.com/kernel-bisect/kbisect/internal/history"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
)

// Range is what a bisection searches.
type Range struct {
	Good  kernel.Commit  // the older end, no candidate
	Graph *history.Graph // its last commit is the newer end
	// Details gives the subject, author and tree of a commit of which the graph
	// may have the id alone; nil if it has all.
	Details func(ctx context.Context, c kernel.Commit) (kernel.Commit, error)
	// AnyFailure takes every failure for the one that is chased.
	AnyFailure bool
	Until      time.Time // when to stop with what is known; zero: never
}

// RefusedError says that an end of the range cannot be configured as the
// profile wants: nothing that a search could go round.
type RefusedError struct{ Commit, Reason string }

func (e *RefusedError) Error() string { return fmt.Sprintf("commit %s: %s", e.Commit, e.Reason) }

// maxOther is how many runs may fail in another way than the chased one before
// a commit is given up.
const maxOther = 5

// Bisect carries search out on a range, to find the commit that made p fail or
// repaired it. res is filled as the search goes on, and update called after
// every step.
func (l *Lab) Bisect(ctx context.Context, r Range, search *bisect.Search, p runner.Program, res *kernel.BisectResult, update func()) error {
	b := &bisection{lab: l, Range: r, search: search, program: p, res: res, update: update, details: map[int]kernel.Commit{},
		builds: map[int]kernel.Build{}, subjects: map[int]*subject{}, digests: map[string]int{}}
	defer b.close()
	for {
		if !r.Until.IsZero() && !time.Now().Before(r.Until) {
			search.Stop("the time allowed is over")
		}
		probes := search.Next(1)
		if len(probes) == 0 {
			break
		}
		if err := b.probe(ctx, probes[0]); err != nil {
			return errors.Join(err, b.conclude(context.WithoutCancel(ctx)))
		}
	}
	return b.conclude(ctx)
}

type bisection struct {
	Range
	lab     *Lab
	search  *bisect.Search
	program runner.Program
	res     *kernel.BisectResult
	update  func()

	details  map[int]kernel.Commit
	builds   map[int]kernel.Build
	subjects map[int]*subject // commit -> its kernel; equal images find the same runs in the record
	digests  map[string]int   // image digest -> first commit that gave it
	current  *subject         // the one that may be booted
	chased   kernel.Signature // the failure that is looked for, from the bad end
	first    []calibration    // the runs of the first step: which failure is the usual one
	other    int              // runs in a row that failed in another way
	since    time.Time        // start of the step under way
	under    int              // commit of the step under way
}

// commit gives all that is known of a commit.
func (b *bisection) commit(ctx context.Context, i int) (kernel.Commit, error) {
	if i == bisect.GoodEnd {
		return b.Good, nil
	}
	c, ok := b.details[i]
	if ok || b.Details == nil {
		if !ok {
			c = b.Graph.Commits[i]
		}
		return c, nil
	}
	c, err := b.Details(ctx, b.Graph.Commits[i])
	if err == nil {
		b.details[i] = c
	}
	return c, err
}

// probe makes one run and tells the search.
func (b *bisection) probe(ctx context.Context, p bisect.Probe) error {
	c, err := b.commit(ctx, p.Commit)
	if err != nil {
		return err
	}
	step := b.step(c, p)
	build, err := b.build(ctx, p, c)
	if err != nil {
		return err
	}
	if step.Build == "" {
		step.Build, step.Log = b.how(p.Commit, build), build.Log
	}
	if build.Status != kernel.BuildOK {
		b.skip(step, c, p, "does not build: "+build.Error)
		return nil
	}
	if b.res.Release == "" { // the end that fails comes first
		b.res.Release = build.Kernel.Release
	}
	s := b.subject(p.Commit, c.SHA, build.Kernel)
	boot, err := s.boot(ctx)
	if err != nil {
		return err
	}
	if boot.Status != kernel.BootOK {
		step.Console = boot.Console
		b.skip(step, c, p, "does not boot: "+boot.Reason)
		return nil
	}
	b.notify(Event{Phase: "run", Commit: c, Done: step.Runs, Text: p.Why})
	program := b.program
	program.Iterations = p.Iterations
	r, _, err := s.run(ctx, program)
	if err != nil {
		return err
	}
	return b.judge(step, c, p, r)
}

// step returns the record of the commit under test: the last one while the
// search stays on a commit, else a new one.
func (b *bisection) step(c kernel.Commit, p bisect.Probe) *kernel.BisectStep {
	if n := len(b.res.Steps); n > 0 && b.res.Steps[n-1].SHA == c.SHA && b.res.Steps[n-1].Why == p.Why {
		return &b.res.Steps[n-1]
	}
	b.finishStep()
	b.res.Steps = append(b.res.Steps, kernel.BisectStep{SHA: c.SHA, Subject: c.Subject, Why: p.Why})
	b.other, b.since, b.under = 0, time.Now(), p.Commit
	b.notify(Event{Phase: "build", Commit: c, Text: p.Why})
	return &b.res.Steps[len(b.res.Steps)-1]
}

// finishStep fills in what the last step came to.
func (b *bisection) finishStep() {
	n := len(b.res.Steps)
	if n == 0 {
		return
	}
	s := &b.res.Steps[n-1]
	s.Left = b.search.Left()
	s.Posterior = b.search.Bins(kernel.PosteriorBins)
	if b.under != bisect.GoodEnd {
		s.Bin = b.under*len(s.Posterior)/b.Graph.Len() + 1
	}
	s.Seconds = time.Since(b.since).Seconds()
	if s.Outcome == "" {
		s.Outcome = string(b.search.Judged(b.under))
	}
	b.notify(Event{Phase: "done", Commit: kernel.Commit{SHA: s.SHA, Subject: s.Subject}, Text: StepSummary(*s)})
	b.update()
}

// notify adds how far the search is: a step for every halving of what is left,
// and one for the verification.
func (b *bisection) notify(e Event) {
	e.Index = len(b.res.Steps)
	e.Total = e.Index
	if left := b.search.Left(); left > 1 {
		e.Total += int(math.Ceil(math.Log2(float64(left)))) + 1
	}
	b.lab.notify(e)
}

// StepSummary tells what came out of a step.
func StepSummary(s kernel.BisectStep) string {
	if s.Outcome == "skip" {
		return fmt.Sprintf("%s: untestable, %s", s.Why, s.Reason)
	}
	return fmt.Sprintf("%s: %s, %d of %d runs fail, %d candidates left", s.Why, s.Outcome, s.Fails, s.Runs, s.Left)
}

// build returns the kernel of a commit. An end that the profile's
// configuration does not fit is an error.
func (b *bisection) build(ctx context.Context, p bisect.Probe, c kernel.Commit) (kernel.Build, error) {
	if build, ok := b.builds[p.Commit]; ok {
		return build, nil
	}
	build, err := b.lab.Build(ctx, c)
	if err != nil {
		return build, err
	}
	isEnd := p.Why == bisect.WhyBadEnd || p.Why == bisect.WhyGoodEnd
	if build.Status == kernel.BuildRefused && isEnd {
		return build, &RefusedError{c.Short(), build.Error}
	}
	b.builds[p.Commit] = build
	if !build.Cached {
		b.res.Builds++
	}
	return build, nil
}

// how says where a kernel came from: built, cached, or identical to that of
// another commit of this search.
func (b *bisection) how(commit int, build kernel.Build) string {
	if build.Status != kernel.BuildOK {
		return "failed"
	}
	first, ok := b.digests[build.Kernel.Digest]
	switch {
	case ok && first != commit:
		return "identical"
	case !ok:
		b.digests[build.Kernel.Digest] = commit
	}
	if build.Cached {
		return "cached"
	}
	return "built"
}

// subject returns the kernel under test. Only one is kept booted: its memory
// is the guest's. Each commit goes through the record from its beginning, so
// that commits with equal images stand on the same runs.
func (b *bisection) subject(commit int, sha string, k kernel.Kernel) *subject {
	s := b.subjects[commit]
	if s == nil {
		s = b.lab.subject(k, sha)
		b.subjects[commit] = s
	}
	if b.current != nil && b.current != s {
		b.current.close()
	}
	b.current = s
	return s
}

func (b *bisection) close() {
	for _, s := range b.subjects {
		s.close()
	}
}

func (b *bisection) skip(step *kernel.BisectStep, c kernel.Commit, p bisect.Probe, reason string) {
	step.Outcome, step.Reason = "skip", reason
	b.res.Skipped = append(b.res.Skipped, kernel.Candidate{SHA: c.SHA, Subject: c.Subject})
	b.search.Observe(bisect.Observation{Commit: p.Commit, Untestable: true})
}

var errInfra = errors.New("the test cannot be run")

// judge turns a run into an observation. One signature is chased: a run that
// fails in another way is no evidence either way.
func (b *bisection) judge(step *kernel.BisectStep, c kernel.Commit, p bisect.Probe, r kernel.Run) error {
	b.res.Runs++
	switch {
	case r.Outcome == kernel.Infra:
		return fmt.Errorf("%w on %s: %s", errInfra, kernel.Abbrev(step.SHA), r.Reason)
	case r.Outcome == kernel.Skip:
		b.skip(step, c, p, "the test skips there: "+r.Reason)
		return nil
	case r.Outcome.Bad() && b.chased.Kind == "":
		b.chased, b.res.Signature = r.Signature, r.Signature
	}
	if len(b.res.Steps) == 1 && !b.AnyFailure {
		b.first = append(b.first, calibration{p, r})
		if r.Outcome.Bad() && !r.Signature.Same(b.chased) && b.seen(r.Signature) > b.seen(b.chased) {
			b.chase(step, r)
			return nil
		}
	}
	if r.Outcome.Bad() && !b.AnyFailure && !r.Signature.Same(b.chased) {
		step.Other++
		if step.Fails == 0 {
			step.Signature, step.Console, step.Output = r.Signature, r.Console, r.Output
		}
		if b.other++; b.other >= maxOther {
			b.skip(step, c, p, "fails in another way: "+r.Signature.String())
		}
		return nil
	}
	b.other = 0
	step.Runs++
	if r.Outcome.Bad() {
		if step.Fails++; step.Fails == 1 {
			step.Signature, step.Console, step.Output = r.Signature, r.Console, r.Output
		}
	}
	b.search.Observe(bisect.Observation{Commit: p.Commit, Iterations: p.Iterations, Failed: r.Outcome.Bad()})
	return nil
}

// calibration is a run of the end that fails, before any other commit has one.
type calibration struct {
	probe bisect.Probe
	run   kernel.Run
}

// seen counts the failures of the first step with a signature.
func (b *bisection) seen(s kernel.Signature) int {
	n := 0
	for _, c := range b.first {
		if c.run.Outcome.Bad() && c.run.Signature.Same(s) {
			n++
		}
	}
	return n
}

// chase turns to a failure that the end which fails shows more often than the
// one it showed first: that one may have been false. What was seen is told to
// the search again in this light.
func (b *bisection) chase(step *kernel.BisectStep, r kernel.Run) {
	for b.search.Undo() {
	}
	b.chased, b.res.Signature, b.other = r.Signature, r.Signature, 0
	step.Runs, step.Fails, step.Other = 0, 0, 0
	step.Signature, step.Console, step.Output = r.Signature, r.Console, r.Output
	for _, c := range b.first {
		bad := c.run.Outcome.Bad()
		if bad && !c.run.Signature.Same(b.chased) {
			step.Other++
			continue
		}
		step.Runs++
		if bad {
			step.Fails++
		}
		b.search.Observe(bisect.Observation{Commit: c.probe.Commit, Iterations: c.probe.Iterations, Failed: bad})
	}
}

// conclude copies the search's answer into the result.
func (b *bisection) conclude(ctx context.Context) error {
	b.finishStep()
	r := b.search.Result()
	res := b.res
	res.Status, res.Confidence, res.Reason = r.Status, r.Confidence, r.Reason
	res.Candidates, res.Culprit, res.ChangePoints, res.Doubt = nil, nil, nil, ""
	res.FailRate, res.FalseFailRate = b.search.Rates()
	res.Iterations = b.search.Iterations()
	for k, x := range r.Candidates {
		c := b.Graph.Commits[x.Commit]
		if k < maxDetailed {
			var err error
			if c, err = b.commit(ctx, x.Commit); err != nil {
				return err
			}
		}
		if r.Status == kernel.Found && x.Commit == r.Culprit {
			res.Culprit = &c
		}
		res.Candidates = append(res.Candidates, kernel.Candidate{SHA: c.SHA, Subject: c.Subject, Probability: x.Probability})
	}
	for _, x := range r.Changes {
		from, err := b.commit(ctx, x.From)
		if err != nil {
			return err
		}
		to, err := b.commit(ctx, x.To)
		if err != nil {
			return err
		}
		res.ChangePoints = append(res.ChangePoints, kernel.ChangePoint{From: named(from), To: named(to), Bad: x.Bad, Between: x.To - x.From - 1})
	}
	if i, fails, ok := b.search.Doubt(); ok {
		c, err := b.commit(ctx, i)
		if err != nil {
			return err
		}
		res.Doubt = fmt.Sprintf("%d more failures in a row of %s, which it is built on, would unseat it", fails, c.Short())
		if fails == 1 {
			res.Doubt = fmt.Sprintf("one failure of %s, which it is built on, would unseat it", c.Short())
		}
	}
	b.update()
	return nil
}

// maxDetailed is how many candidates are reported with their subjects; of more
// nobody reads the list.
const maxDetailed = 100

func named(c kernel.Commit) kernel.Candidate {
	return kernel.Candidate{SHA: c.SHA, Subject: c.Subject}
}
