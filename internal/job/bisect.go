package job

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
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
// a commit that has not failed as chased is given up.
const maxOther = 5

// Bisect carries search out on a range, to find the commit that made p fail or
// repaired it. res is filled as the search goes on, and update called after
// every step.
func (l *Lab) Bisect(ctx context.Context, r Range, search *bisect.Search, p runner.Program, res *kernel.BisectResult, update func()) error {
	b := &bisection{lab: l, Range: r, search: search, program: p, res: res, update: update, details: map[int]kernel.Commit{},
		builds: map[int]kernel.Build{}, subjects: map[string]*tested{}, places: map[string]int{}}
	b.ahead.build = l.Build
	defer b.up.closeAll()
	defer b.ahead.close()
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
	subjects map[string]*tested // by the cell of their kernel
	up       kernelsUp
	ahead    ahead
	chased   kernel.Signature // the failure that is looked for, from the bad end
	first    []calibration    // the runs of the first step: which failure is the usual one
	other    int              // runs in a row that failed in another way
	since    time.Time        // start of the step under way
	under    int              // commit of the step under way
	places   map[string]int   // sha -> commit, of all steps
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
		step.Build, step.Log, step.LogDigest = how(build), build.Log, build.LogDigest
	}
	if build.Status != kernel.BuildOK {
		b.skip(step, c, p, build.Trouble())
		return nil
	}
	if b.res.Release == "" { // the end that fails comes first
		b.res.Release = build.Kernel.Release
	}
	s := b.subject(p.Commit, c.SHA, build.Kernel)
	if s.first != p.Commit {
		step.Build = "identical"
		if !s.twins[p.Commit] {
			return b.twin(ctx, step, c, p, s)
		}
	}
	if err := b.lookAhead(ctx, p.Commit); err != nil {
		return err
	}
	b.up.use(s.subject)
	boot, err := s.boot(ctx)
	if err != nil {
		return err
	}
	if why := canRun(b.program, boot); why != "" {
		step.Console = boot.Console
		s.skip = why
		b.skip(step, c, p, s.skip)
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

// isEnd says whether a commit is an end that the user named, whatever it is run for.
func (b *bisection) isEnd(commit int) bool {
	return commit == bisect.GoodEnd || commit == b.Graph.Len()-1
}

// failed says whether a commit has failed as chased, in any step: that is not given up.
func (b *bisection) failed(sha string) bool {
	return slices.ContainsFunc(b.res.Steps, func(s kernel.BisectStep) bool { return s.SHA == sha && s.Fails > 0 })
}

// step returns the record of the commit under test. One that the search comes
// back to takes its record along to the end: a noisy search goes to and fro, and
// nobody wants to read a step for every run.
func (b *bisection) step(c kernel.Commit, p bisect.Probe) *kernel.BisectStep {
	at := slices.IndexFunc(b.res.Steps, func(s kernel.BisectStep) bool { return s.SHA == c.SHA && s.Why == p.Why })
	if n := len(b.res.Steps); n > 0 && at == n-1 {
		return &b.res.Steps[n-1]
	}
	b.finishStep()
	s := kernel.BisectStep{SHA: c.SHA, Subject: c.Subject, Why: p.Why}
	if at >= 0 {
		s = b.res.Steps[at]
		b.res.Steps = slices.Delete(b.res.Steps, at, at+1)
	}
	b.res.Steps = append(b.res.Steps, s)
	b.other, b.since, b.under, b.places[c.SHA] = 0, time.Now(), p.Commit, p.Commit
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
	s.Seconds += time.Since(b.since).Seconds()
	b.since = time.Now()
	if s.Outcome != "skip" {
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
	switch {
	case s.Outcome == "skip":
		return fmt.Sprintf("%s: untestable, %s", s.Why, s.Reason)
	case s.Runs == 0 && s.Reason != "":
		return fmt.Sprintf("%s: %s, %s, %d candidates left", s.Why, s.Outcome, s.Reason, s.Left)
	}
	return fmt.Sprintf("%s: %s, %d of %d runs fail, %d candidates left", s.Why, s.Outcome, s.Fails, s.Runs, s.Left)
}

// build returns the kernel of a commit. An end that the profile's
// configuration does not fit is an error.
func (b *bisection) build(ctx context.Context, p bisect.Probe, c kernel.Commit) (kernel.Build, error) {
	if build, ok := b.builds[p.Commit]; ok {
		return build, nil
	}
	build, err := b.ahead.get(ctx, c)
	if err != nil {
		return build, err
	}
	if build.Status == kernel.BuildRefused && b.isEnd(p.Commit) {
		return build, &RefusedError{c.Short(), build.Error}
	}
	b.builds[p.Commit] = build
	if !build.Cached && build.Status != kernel.BuildConflict {
		b.res.Builds++
	}
	return build, nil
}

// lookAhead has the commit built that will be wanted when the runs of the one under
// test go on as they are likely to.
func (b *bisection) lookAhead(ctx context.Context, under int) error {
	if !b.lab.BuildAhead {
		return nil
	}
	next, ok := b.search.Foresee(under)
	if !ok {
		return nil
	}
	if _, built := b.builds[next]; built {
		return nil
	}
	c, err := b.commit(ctx, next)
	if err == nil {
		b.ahead.only(ctx, c)
	}
	return err
}

// how says where a kernel came from.
func how(build kernel.Build) string {
	switch {
	case build.Status == kernel.BuildConflict:
		return string(build.Status)
	case build.Status != kernel.BuildOK:
		return "failed"
	case build.Cached:
		return "cached"
	}
	return "built"
}

// tested is a kernel of a bisection.
type tested struct {
	*subject
	first int          // the commit that gave it first
	twins map[int]bool // commits that have it too, and of which the search knows
	skip  string       // why it cannot be booted
}

// subject returns the kernel under test.
func (b *bisection) subject(commit int, sha string, k kernel.Kernel) *tested {
	s := b.lab.subject(k, sha, b.program)
	cell := s.cell(nil)
	if b.subjects[cell] == nil {
		b.subjects[cell] = &tested{subject: s, first: commit, twins: map[int]bool{}}
	}
	return b.subjects[cell]
}

// twin tells the search that a commit has a kernel that another one gave
// before: what is known of it holds, and nothing is to be run.
func (b *bisection) twin(ctx context.Context, step *kernel.BisectStep, c kernel.Commit, p bisect.Probe, s *tested) error {
	first, err := b.commit(ctx, s.first)
	if err != nil {
		return err
	}
	s.twins[p.Commit] = true
	if s.skip != "" {
		b.skip(step, c, p, s.skip)
		return nil
	}
	step.Reason = "the same kernel as " + first.Short()
	if b.builds[p.Commit].SameAs != "" {
		step.Reason += ", as it changes no file that the build reads"
	}
	b.search.Observe(bisect.Observation{Commit: p.Commit, Twin: true, Of: s.first})
	return nil
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
	case r.Outcome == kernel.Infra && r.GaveUp && b.failed(c.SHA) && b.other < maxOther:
		b.other++
		b.search.Observe(bisect.Observation{Commit: p.Commit, Iterations: p.Iterations, Other: true})
		return nil
	case r.Outcome == kernel.Infra && r.GaveUp && !b.isEnd(p.Commit):
		b.skip(step, c, p, "the test cannot find out there: "+r.Reason)
		return nil
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
		if b.other++; b.other >= maxOther && !b.failed(c.SHA) {
			b.skip(step, c, p, "fails in another way: "+r.Signature.String())
			return nil
		}
		b.search.Observe(bisect.Observation{Commit: p.Commit, Iterations: p.Iterations, Other: true})
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
			b.search.Observe(bisect.Observation{Commit: c.probe.Commit, Iterations: c.probe.Iterations, Other: true})
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
	for i := range b.res.Steps { // the runs of others may have settled it, or turned it
		if s := &b.res.Steps[i]; s.Outcome != "skip" {
			s.Outcome = string(b.search.Judged(b.places[s.SHA]))
		}
	}
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
		res.ChangePoints = append(res.ChangePoints, kernel.ChangePoint{From: named(from), To: named(to), Bad: x.Bad, Between: x.Between})
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
