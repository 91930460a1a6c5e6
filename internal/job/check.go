package job

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
	"github.com/kernel-bisect/kbisect/internal/verdict"
)

// Plan says what to run on a kernel.
type Plan struct {
	// Programs are run in this order. A kernel that boots now and then may be down
	// after the boot test: it is to be the last.
	Programs []runner.Program
	Runs     int // evidence wanted at least for each test
	MaxRuns  int // and at most; 0: maxPerTest
	// ShareGuests lets tests that pass do so in one guest, where they can.
	ShareGuests bool
	// MustRun are the tests that must not skip: a guest that lacks what they
	// need is not the one that was asked for.
	MustRun map[string]bool
}

// maxPerTest bounds the runs of a test whose outcomes disagree, unless the
// plan itself asks for more. A test that fails every other run is above 95 % bad
// after twelve.
const maxPerTest = 20

func (plan Plan) most() int {
	if plan.MaxRuns > 0 {
		return plan.MaxRuns
	}
	return max(plan.Runs, maxPerTest)
}

// Check tests one kernel.
func (l *Lab) Check(ctx context.Context, k kernel.Kernel, c kernel.Commit, plan Plan) (kernel.Boot, []kernel.TestResult, error) {
	s := l.subject(k, c.SHA, plan.Programs...)
	defer s.close()
	l.notify(Event{Phase: "boot", Commit: c})
	boot, err := s.boot(ctx)
	if err != nil {
		return boot, nil, err
	}
	tests, err := s.tests(ctx, Event{Commit: c}, boot, plan)
	return boot, tests, err
}

// tests gives a verdict for every program of the plan; e carries the place of
// the commit for progress. After an error the tests that are through are
// returned with it.
func (s *subject) tests(ctx context.Context, e Event, boot kernel.Boot, plan Plan) ([]kernel.TestResult, error) {
	results := make([]kernel.TestResult, 0, len(plan.Programs))
	e.Phase, e.Of = "run", plan.Runs*len(plan.Programs)
	if plan.ShareGuests && boot.Status == kernel.BootOK {
		if err := s.together(ctx, e, plan); err != nil {
			return nil, err
		}
	}
	e.Done = s.haveShared(plan)
	for _, p := range plan.Programs {
		if why := canRun(p, boot); why != "" {
			s.dead = why
			results = append(results, untestable(p, why))
			continue
		}
		if e.Text = p.Name; s.haveSharedOf(p, plan) < plan.Runs {
			s.lab.notify(e)
		}
		r, err := s.test(ctx, p, plan)
		if err != nil {
			return results, err
		}
		results = append(results, plan.held(r)...)
		e.Done += plan.Runs - s.haveSharedOf(p, plan)
	}
	return results, nil
}

// test runs one program until the verdicts of its tests are clear.
func (s *subject) test(ctx context.Context, p runner.Program, plan Plan) ([]kernel.TestResult, error) {
	d := s.done[p.Name]
	if d == nil {
		d = &testRuns{}
		// Passes beside a failure of which nothing is on record would be a choice.
		if known := s.shared[p.Name]; known != nil && !known.failed {
			d.runs, d.reused = slices.Clone(known.runs), known.reused
		}
		s.done[p.Name] = d
	}
	for !d.lost && len(d.runs) < plan.most() && !verdict.AllDecided(p.Name, d.runs, s.least(p, d, plan), s.before) {
		if err := s.once(ctx, p); err != nil {
			return nil, err
		}
	}
	return s.results(p), nil
}

// least is how many runs of a program are wanted at least.
func (s *subject) least(p runner.Program, d *testRuns, plan Plan) int {
	bad := func(r kernel.Run) bool { return r.Outcome.Bad() }
	if known := s.shared[p.Name]; known != nil && known.failed && !slices.ContainsFunc(d.runs, bad) {
		return max(plan.Runs, runsAfterFailure)
	}
	return plan.Runs
}

// once runs a program one more time.
func (s *subject) once(ctx context.Context, p runner.Program) error {
	d := s.done[p.Name]
	r, reused, err := s.run(ctx, p)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	if reused {
		d.reused++
	}
	if len(r.Tests) == 0 && slices.ContainsFunc(d.runs, func(o kernel.Run) bool { return o.Outcome.Bad() }) {
		r.Console, r.Output = "", "" // the first failure's are shown; a series keeps its runs
	}
	d.runs = append(d.runs, r)
	d.lost = r.Outcome == kernel.Infra
	return nil
}

// results are the verdicts of a program's tests from the runs there are.
func (s *subject) results(p runner.Program) []kernel.TestResult {
	d := s.done[p.Name]
	if d == nil {
		return []kernel.TestResult{untestable(p, s.dead)}
	}
	results := verdict.DecideAll(p.Name, d.runs, s.before)
	for i := range results {
		results[i].Reused = min(d.reused, results[i].Runs)
	}
	return results
}

// held makes untestable what skips and must not. It is no failure of the kernel,
// but nothing was found out.
func (plan Plan) held(tests []kernel.TestResult) []kernel.TestResult {
	for i := range tests {
		if t := &tests[i]; t.Verdict == kernel.Skipped && plan.MustRun[t.Name] {
			t.Verdict, t.MustRun, t.Reason = kernel.Untestable, true, "must not skip: "+t.Reason
		}
	}
	return tests
}

// isOf says whether a test is the program itself or one of several in it.
func isOf(test, program string) bool {
	return test == program || strings.HasPrefix(test, program+"/")
}

// Untestable is the verdict of every test of the plan on a kernel that does not
// build or boot.
func (plan Plan) Untestable(reason string) []kernel.TestResult {
	var out []kernel.TestResult
	for _, p := range plan.Programs {
		out = append(out, untestable(p, reason))
	}
	return out
}

func untestable(p runner.Program, reason string) kernel.TestResult {
	return kernel.TestResult{Name: p.Name, Verdict: kernel.Untestable, Reason: reason}
}
