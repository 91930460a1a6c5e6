package job

import (
	"context"
	"fmt"
	"math"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
)

// Finding is what a search found, for Confirm to try again.
type Finding struct {
	Culprit kernel.Commit // with its tree
	Parent  kernel.Commit // git's first parent, not the nearest candidate
	BadEnd  kernel.Commit
	FindFix bool // Culprit is the fix: it is the parent that fails
	Program runner.Program
	// Signature is the failure that was chased. Without a kind any failure counts.
	Signature kernel.Signature
	// FailRate is how often a bad commit fails a run, and FalseFailRate a good
	// one. Rates differ between commits: the lower end of what the search
	// learned of the first asks for more runs and is wrong less often.
	FailRate, FalseFailRate float64
	Confidence              float64
}

// Bounds of a confirmation.
const (
	// minConfirmRuns is what even a deterministic failure is run.
	minConfirmRuns = 2
	// maxConfirmRuns bounds a kernel that cannot be decided. A failure rate of
	// 10 % takes 64 runs on average for 99 %; 120 would leave 7 of 100 open.
	maxConfirmRuns = 200
	// maxConfirmOther is how many runs may fail in another way.
	maxConfirmOther = 5
)

// Confirm builds the culprit and its parent from nothing and runs both again,
// and then the bad end without the culprit. It is a function of the finding and
// the record: a killed job that asks again gets the runs it made, and builds
// are kept. out is filled as it goes on, and update called after every kernel.
//
// No other kernel of the lab may be up.
func (l *Lab) Confirm(ctx context.Context, f Finding, out *kernel.Confirmation, update func()) error {
	// The images are those of the search if all is well, and the record has
	// their runs. The new ones are to be new.
	again := *l
	again.Setting += " confirmation"
	for _, k := range []struct {
		commit kernel.Commit
		why    string
		into   *kernel.Rebuilt
	}{{f.Culprit, "culprit, built anew", &out.Culprit}, {f.Parent, "its parent, built anew", &out.Parent}} {
		r, err := again.rebuild(ctx, f, k.commit, k.why)
		if err != nil {
			return err
		}
		*k.into = r
		update()
	}
	if f.FindFix {
		return nil
	}
	r, err := again.revert(ctx, f)
	if err != nil {
		return err
	}
	out.Revert = &r
	update()
	return nil
}

// rebuild builds a commit from nothing, compares and runs it.
func (l *Lab) rebuild(ctx context.Context, f Finding, c kernel.Commit, why string) (kernel.Rebuilt, error) {
	l.notify(Event{Phase: "build", Commit: c, Text: why})
	before, err := l.Build(ctx, c)
	if err != nil {
		return kernel.Rebuilt{}, err
	}
	build, err := l.BuildClean(ctx, c)
	if err != nil {
		return kernel.Rebuilt{}, err
	}
	r := kernel.Rebuilt{SHA: c.SHA, Verdict: kernel.Untestable}
	if build.Status != kernel.BuildOK {
		r.Reason = build.Trouble()
		return r, nil
	}
	r.Same = before.Status == kernel.BuildOK && before.Kernel.Digest == build.Kernel.Digest
	t, err := l.tryAgain(ctx, f, c, build.Kernel, why)
	r.Verdict, r.Runs, r.Fails, r.Other, r.Reason = t.verdict, t.runs, t.fails, t.other, t.reason
	return r, err
}

// revert builds and runs the bad end without the culprit.
func (l *Lab) revert(ctx context.Context, f Finding) (kernel.Revert, error) {
	switch {
	case f.Culprit.SHA == f.BadEnd.SHA:
		return kernel.Revert{Status: kernel.NotReverted, Reason: "the culprit is the bad end: without it, that is the parent"}, nil
	case len(f.Culprit.Parents) > 1:
		return kernel.Revert{Status: kernel.NotReverted, Reason: "the culprit is a merge: git cannot know which of its lines to take out"}, nil
	}
	c, why, err := l.Revert(ctx, f.Culprit, f.BadEnd)
	if err != nil {
		return kernel.Revert{}, err
	}
	if why != "" {
		return kernel.Revert{Status: kernel.DoesNotRevert, Reason: why}, nil
	}
	const text = "bad end without the culprit"
	l.notify(Event{Phase: "build", Commit: c, Text: text})
	build, err := l.Build(ctx, c)
	if err != nil {
		return kernel.Revert{}, err
	}
	if build.Status != kernel.BuildOK {
		return kernel.Revert{Status: kernel.DoesNotBuild, Reason: build.Error}, nil
	}
	t, err := l.tryAgain(ctx, f, c, build.Kernel, text)
	r := kernel.Revert{Status: kernel.RevertUnclear, Runs: t.runs, Fails: t.fails, Reason: t.reason}
	switch {
	case t.verdict == kernel.Good:
		r.Status = kernel.Cures
	case t.verdict == kernel.Bad:
		r.Status = kernel.DoesNotCure
	case t.noBoot:
		r.Status = kernel.DoesNotBuild
	}
	return r, err
}

// tried is what the runs of one kernel came to.
type tried struct {
	verdict            kernel.Verdict
	runs, fails, other int
	reason             string // unless good or bad
	noBoot             bool
}

// tryAgain runs the program on a kernel until it is decided which of the two
// rates its failures have: a sequential test, which for a kernel that only
// passes takes ln(1-confidence) / ln((1-rate)/(1-false rate)) runs.
func (l *Lab) tryAgain(ctx context.Context, f Finding, c kernel.Commit, k kernel.Kernel, why string) (tried, error) {
	t := tried{verdict: kernel.Untestable}
	s := l.subject(k, c.SHA, f.Program)
	defer s.close()
	boot, err := s.boot(ctx)
	if err != nil {
		return t, err
	}
	if why := canRun(f.Program, boot); why != "" {
		t.noBoot, t.reason = true, why
		return t, nil
	}
	for {
		l.notify(Event{Phase: "run", Commit: c, Done: t.runs, Text: why})
		r, _, err := s.run(ctx, f.Program)
		if err != nil {
			return t, err
		}
		switch {
		case r.Outcome == kernel.Infra && r.GaveUp:
			t.reason = "the test cannot find out there: " + r.Reason
			return t, nil
		case r.Outcome == kernel.Infra:
			return t, fmt.Errorf("the test cannot be run on %s: %s", c.Short(), r.Reason)
		case r.Outcome == kernel.Skip:
			t.reason = "the test skips there: " + r.Reason
			return t, nil
		case r.Outcome.Bad() && f.Signature.Kind != "" && !r.Signature.Same(f.Signature):
			if t.other++; t.other >= maxConfirmOther {
				t.reason = "fails in another way: " + r.Signature.String()
				return t, nil
			}
			continue
		case r.Outcome.Bad():
			t.fails++
		}
		t.runs++
		if t.verdict = f.judge(t.runs, t.fails); t.verdict != kernel.Inconclusive {
			return t, nil
		}
		if t.runs == maxConfirmRuns {
			t.reason = fmt.Sprintf("not decided after %d runs", t.runs)
			return t, nil
		}
	}
}

// judge is the sequential test: bad or good as soon as the runs are
// 1/(1-Confidence) times as likely with one rate as with the other.
func (f Finding) judge(runs, fails int) kernel.Verdict {
	if runs < minConfirmRuns {
		return kernel.Inconclusive
	}
	// A rate of 0 or 1 would be refuted by a single run; nothing is known that well.
	r := min(max(f.FailRate, 0.02), 0.98)
	q := min(max(f.FalseFailRate, 0.005), r/2)
	ratio := float64(fails)*math.Log(r/q) + float64(runs-fails)*math.Log((1-r)/(1-q))
	bound := -math.Log(1 - min(max(f.Confidence, 0.5), 0.9999))
	switch {
	case ratio >= bound:
		return kernel.Bad
	case ratio <= -bound:
		return kernel.Good
	}
	return kernel.Inconclusive
}
