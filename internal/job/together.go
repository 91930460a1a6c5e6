package job

import (
	"context"
	"fmt"
	"slices"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
	"github.com/kernel-bisect/kbisect/internal/verdict"
)

// perGuest is how many tests share a guest: one that hangs costs the others
// their answers, and a whole catalogue at once could hit the time limit.
const perGuest = 100

// sharedRuns are what runs in shared guests tell of one test: passes, and skips without a run.
type sharedRuns struct {
	runs   []kernel.Run
	more   []kernel.Run // on record beyond what the plan wants
	reused int          // of them from the record
	alone  bool         // from now on the test has guests of its own
	failed bool         // for one did not pass, or nobody knows what upset it
}

// What is on record of a shared guest in which a test did not pass, or that something
// upset, and of one that turned out not to be to blame. They are no evidence, but a job
// that is resumed, and every other one, must know.
const (
	didNotPass = "it did not pass in a guest that it shared, and has guests of its own"
	cleared    = "what it shared a guest with had upset that"
)

// runsAfterFailure are wanted of a test that did not pass in a shared guest, in guests
// of its own, where it passes: with two, who failed there would have a second chance.
// A test that fails in half of all runs passed 25 % of two runs, 44 % with the second
// chance, and 25.3 % with these eight.
const runsAfterFailure = 8

// together runs the plan's tests in shared guests as often as it wants each
// run. What fails there, or is not known, is left to guests of its own, so that
// a bad verdict never rests on a shared one. The runs are recorded apart from
// others: a bisection does not use them.
func (s *subject) together(ctx context.Context, e Event, plan Plan) error {
	var several []runner.Program
	for _, p := range plan.Programs {
		if !p.Several {
			continue
		}
		runs, err := s.lab.Record.Runs(ctx, s.sharedCell(p), s.scope())
		if err != nil {
			return err
		}
		failed := false
		for _, r := range runs {
			if r.Outcome == kernel.Infra {
				failed = r.Reason != cleared
			}
		}
		runs = evidence(runs)
		n := min(len(runs), plan.Runs)
		known := &sharedRuns{runs: slices.Clip(runs[:n]), more: runs[n:], reused: n}
		switch {
		case failed:
			known = &sharedRuns{alone: true, failed: true}
		case n < plan.Runs:
			// One that has had guests of its own need not share any.
			own, err := s.lab.Record.Runs(ctx, s.cell(&p), s.scope())
			if err != nil {
				return err
			}
			if len(evidence(own)) >= verdict.RunsAgain(plan.Runs) {
				known = &sharedRuns{alone: true}
			}
		}
		s.shared[p.Name] = known
		several = append(several, p)
	}
	for round := range plan.Runs {
		var left []runner.Program
		for _, p := range several {
			if known := s.shared[p.Name]; !known.alone && len(known.runs) <= round {
				left = append(left, p)
			}
		}
		left, err := s.planOut(ctx, left)
		if err != nil {
			return err
		}
		for group := range slices.Chunk(left, perGuest) {
			e.Done, e.Text = s.haveShared(plan), fmt.Sprintf("%d tests in one guest", len(group))
			s.lab.notify(e)
			if len(group) == 1 {
				s.shared[group[0].Name].alone = true
				continue
			}
			if _, err := s.share(ctx, group); err != nil {
				return err
			}
		}
	}
	return nil
}

// haveShared counts the runs of the plan that shared guests gave.
func (s *subject) haveShared(plan Plan) (n int) {
	for _, p := range plan.Programs {
		n += s.haveSharedOf(p, plan)
	}
	return n
}

func (s *subject) haveSharedOf(p runner.Program, plan Plan) int {
	known := s.shared[p.Name]
	if known == nil || known.failed {
		return 0
	}
	return min(len(known.runs), plan.Runs)
}

// planOut skips the tests that need what the guest has not, and returns the rest.
func (s *subject) planOut(ctx context.Context, ps []runner.Program) (rest []runner.Program, err error) {
	if len(ps) == 0 {
		return nil, nil
	}
	if up, err := s.ready(ctx); !up { // each of them will say so
		return nil, err
	}
	for _, p := range ps {
		r, ok := s.bench.PlanOut(p)
		if !ok {
			rest = append(rest, p)
			continue
		}
		if err := s.append(ctx, p, r); err != nil {
			return nil, err
		}
	}
	return rest, nil
}

// append keeps what a shared guest told of a test.
func (s *subject) append(ctx context.Context, p runner.Program, r kernel.Run) error {
	known := s.shared[p.Name]
	s.sign(&r)
	known.runs = append(known.runs, r)
	return s.lab.Record.AppendRun(ctx, s.lab.Job, s.sharedCell(p), r)
}

// share runs tests in one guest. When that tells nothing, because one of them
// upset the kernel, its halves are tried. blamed says that it was upset: that is
// evidence against the one that is left alone, or against all where both halves
// get through. On record it is against all until somebody is blamed.
func (s *subject) share(ctx context.Context, group []runner.Program) (blamed bool, err error) {
	if len(group) == 1 { // it is marked as one of several
		s.apart(group)
		return true, nil
	}
	// The bench is up: planOut has seen to it, and shared guests do not take it down.
	got, err := s.bench.RunTogether(ctx, group)
	if err != nil {
		return false, err
	}
	if len(got) == 0 {
		if err := s.mark(ctx, group, didNotPass); err != nil {
			return false, err
		}
		half := len(group) / 2
		for _, part := range [][]runner.Program{group[:half], group[half:]} {
			in, err := s.share(ctx, part)
			if err != nil {
				return false, err
			}
			blamed = blamed || in
		}
		if !blamed {
			s.apart(group)
			return true, nil
		}
		innocent := slices.DeleteFunc(slices.Clone(group), func(p runner.Program) bool { return s.shared[p.Name].failed })
		return true, s.mark(ctx, innocent, cleared)
	}
	// Those first that did not pass: if all ends here, they do not get away.
	failed := slices.DeleteFunc(slices.Clone(group), func(p runner.Program) bool { _, ok := got[p.Name]; return ok })
	if err := s.distrust(ctx, failed); err != nil {
		return false, err
	}
	for _, p := range group {
		if r, ok := got[p.Name]; ok {
			if err := s.append(ctx, p, r); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// distrust has tests run in guests of their own.
func (s *subject) distrust(ctx context.Context, ps []runner.Program) error {
	s.apart(ps)
	return s.mark(ctx, ps, didNotPass)
}

func (s *subject) apart(ps []runner.Program) {
	for _, p := range ps {
		s.shared[p.Name].alone, s.shared[p.Name].failed = true, true
	}
}

// mark keeps on record what is known of tests in shared guests.
func (s *subject) mark(ctx context.Context, ps []runner.Program, what string) error {
	for _, p := range ps {
		r := kernel.Run{Test: p.Name, Outcome: kernel.Infra, Reason: what}
		s.sign(&r)
		if err := s.lab.Record.AppendRun(ctx, s.lab.Job, s.sharedCell(p), r); err != nil {
			return err
		}
	}
	return nil
}

func (s *subject) sharedCell(p runner.Program) string { return s.cell(&p) + "-shared" }

// again runs programs once more each. Those that have only passed share a guest;
// what does not pass there starts anew in guests of its own.
func (s *subject) again(ctx context.Context, ps []runner.Program, plan Plan, tell func(text string)) error {
	left, group, err := s.sharing(ctx, ps)
	if err != nil {
		return err
	}
	share := len(group) > 1
	if share {
		if share, err = s.ready(ctx); err != nil {
			return err
		}
	}
	if share {
		tell(fmt.Sprintf("%d tests again in one guest", len(group)))
		got, err := s.bench.RunTogether(ctx, group)
		if err != nil {
			return err
		}
		for _, p := range group {
			r, ok := got[p.Name]
			if !ok {
				if err := s.distrust(ctx, []runner.Program{p}); err != nil {
					return err
				}
				delete(s.done, p.Name)
				tell(p.Name + " in guests of its own")
				if _, err := s.test(ctx, p, plan); err != nil {
					return err
				}
				continue
			}
			if err := s.append(ctx, p, r); err != nil {
				return err
			}
			s.sign(&r)
			s.done[p.Name].runs = append(s.done[p.Name].runs, r)
		}
	} else {
		left = append(left, group...)
	}
	for _, p := range left {
		tell(p.Name + " again")
		if err := s.once(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// sharing takes what shared guests are known to have told of programs, and divides
// the others into those that need guests of their own and those that can share.
func (s *subject) sharing(ctx context.Context, ps []runner.Program) (alone, group []runner.Program, err error) {
	for _, p := range ps {
		known, d := s.shared[p.Name], s.done[p.Name]
		passes := known != nil && !known.failed &&
			!slices.ContainsFunc(d.runs, func(r kernel.Run) bool { return r.Outcome != kernel.Pass })
		if passes && len(known.more) > 0 {
			d.runs = append(d.runs, known.more[0])
			known.runs, known.more = append(known.runs, known.more[0]), known.more[1:]
			d.reused++
			continue
		}
		if passes {
			// Where an earlier job gave it a guest of its own, that is on record.
			own, err := s.recorded(ctx, p)
			if err != nil {
				return nil, nil, err
			}
			passes = len(own) == 0
		}
		if passes {
			group = append(group, p)
		} else {
			alone = append(alone, p)
		}
	}
	return alone, group, nil
}
