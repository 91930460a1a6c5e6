package verdict

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/ktap"
)

// several takes the output of a program with more than one result apart: one
// outcome for each, and one of its own for what none of them explains. It is
// nil for a program that is one test, and where nothing was found out.
func several(r kernel.Run, e Evidence) []kernel.TestOutcome {
	if r.Outcome == kernel.Infra {
		return nil
	}
	res := ktap.Parse(e.Output)
	if res.Version == "" {
		return nil
	}
	var tests []kernel.TestOutcome
	missing, failed := 0, false
	for path, t := range leaves(res.Tests) {
		if t.Missing > 0 {
			missing += t.Missing
			continue
		}
		if t.Number == 0 && t.Name == bailOut && res.BailOut != "" {
			continue // it is about the program
		}
		o := outcomeOf(path, t)
		if t.Started && o.Outcome == kernel.Fail && r.Outcome.Bad() && (!e.Result || e.Signal != "" || e.TimedOut) {
			// It was running when everything ended.
			o.Outcome, o.Signature, o.Reason = r.Outcome, r.Signature, r.Reason
		}
		failed = failed || o.Outcome.Bad()
		tests = append(tests, o)
	}
	if len(tests)+missing < 2 {
		return nil
	}
	if own, ok := ownOutcome(r, e, res, missing, failed); ok {
		tests = slices.Insert(tests, 0, own)
	}
	return tests
}

// bailOut is what the parser calls the test that a "Bail out!" makes.
const bailOut = "Bail out!"

// ownOutcome is what happened to the program itself, if its tests do not say
// it all.
func ownOutcome(r kernel.Run, e Evidence, res ktap.Result, missing int, failed bool) (kernel.TestOutcome, bool) {
	own := kernel.TestOutcome{Outcome: r.Outcome, Signature: r.Signature, Reason: r.Reason}
	switch {
	case r.Outcome == kernel.Crash || r.Outcome == kernel.Hang:
	case e.Signal != "":
		own.Outcome, own.Signature, own.Reason = fail("killed by " + e.Signal)
	case res.BailOut != "":
		own.Outcome, own.Signature, own.Reason = fail(res.BailOut)
	case missing > 0 && r.Outcome == kernel.Skip: // it gave up in the middle, and said so
	case missing > 0:
		own.Outcome, own.Signature, own.Reason = fail("ended before its last test")
	case r.Outcome.Bad() && !failed:
	default:
		return own, false
	}
	if missing > 0 {
		own.Reason = fmt.Sprintf("%s; %d of %d tests not run", own.Reason, missing, res.Planned)
	}
	return own, true
}

// leaves gives every result that has none below it that explains it, with the
// names from the root down.
func leaves(tests []ktap.Test) func(yield func(string, ktap.Test) bool) {
	var walk func(above string, tests []ktap.Test, yield func(string, ktap.Test) bool) bool
	walk = func(above string, tests []ktap.Test, yield func(string, ktap.Test) bool) bool {
		for _, t := range tests {
			path := above + t.Name
			explained := slices.ContainsFunc(t.Children, func(c ktap.Test) bool { return c.Status == t.Status })
			bad := t.Status == ktap.Fail || t.Status == ktap.Error
			if (len(t.Children) == 0 || bad && !explained) && !yield(path, t) {
				return false
			}
			if !walk(path+"/", t.Children, yield) {
				return false
			}
		}
		return true
	}
	return func(yield func(string, ktap.Test) bool) { walk("", tests, yield) }
}

// outcomeOf judges one result line.
func outcomeOf(path string, t ktap.Test) kernel.TestOutcome {
	o := kernel.TestOutcome{Name: path}
	switch t.Status {
	case ktap.Pass, ktap.XFail:
		o.Outcome = kernel.Pass
		o.Known, o.Reason = knownOf(t)
	case ktap.Skip:
		o.Outcome, o.Reason = kernel.Skip, orElse(t.Reason, orElse(lastOf(t.Said), "skipped without a reason"))
	default:
		title, reason := failureOf(path, t, orElse(t.Reason, "the test reports a failure"))
		o.Outcome, o.Signature, _ = fail(title)
		o.Reason = reason
		o.Output = strings.Join(t.Said, "\n")
	}
	return o
}

// knownOf is what a result that passes says about a failure that is known of
// the test.
func knownOf(t ktap.Test) (known kernel.Known, remark string) {
	switch {
	case t.Status == ktap.XFail:
		known, remark = kernel.XFail, "expected failure"
	case t.Directive == "XPASS" || t.Directive == "TODO":
		known, remark = kernel.XPass, "passes, but is known to fail"
	default:
		return "", ""
	}
	if t.Reason != "" {
		remark += ": " + t.Reason
	}
	return known, remark
}

// DecideAll gives the verdicts of a program's tests, or its own where it is
// one test, from its runs. A test that a run did not come to has a run less to
// stand on.
func DecideAll(program string, runs []kernel.Run, before Before) []kernel.TestResult {
	own, names, byName := split(runs)
	var out []kernel.TestResult
	if own != nil {
		out = append(out, Decide(program, own, before))
	}
	for _, n := range names {
		out = append(out, Decide(program+"/"+n, byName[n], before))
	}
	return out
}

// AllDecided says whether more runs are not needed for any of a program's
// tests. Only those of the first run count: what comes and goes, a name with a
// number in it or a test behind a rare crash, would keep it running for good.
func AllDecided(program string, runs []kernel.Run, least int, before Before) bool {
	if len(runs) == 0 {
		return false
	}
	own, names, byName := split(runs)
	if own != nil && !Count(own).Decided(program, least, before) {
		return false
	}
	for _, n := range names {
		first := slices.ContainsFunc(runs[0].Tests, func(o kernel.TestOutcome) bool { return o.Name == n })
		if first && !Count(byName[n]).Decided(program+"/"+n, least, before) {
			return false
		}
	}
	return true
}

// split sorts the outcomes of runs by test. own is nil where the program has
// nothing to say besides its tests.
func split(runs []kernel.Run) (own []kernel.Run, names []string, byName map[string][]kernel.Run) {
	byName = map[string][]kernel.Run{}
	said := false
	for _, r := range runs {
		if len(r.Tests) == 0 {
			own, said = append(own, r), true
			continue
		}
		whole := kernel.Run{Test: r.Test, Outcome: kernel.Pass}
		for _, o := range r.Tests {
			x := kernel.Run{Test: r.Test + "/" + o.Name, Outcome: o.Outcome, Signature: o.Signature, Known: o.Known, Reason: o.Reason, Output: o.Output}
			if o.Name == "" {
				said = true
				x.Test, x.Output, x.Console = r.Test, r.Output, r.Console
				whole = x
				continue
			}
			if byName[o.Name] == nil {
				names = append(names, o.Name)
			}
			byName[o.Name] = append(byName[o.Name], x)
		}
		own = append(own, whole)
	}
	if !said {
		own = nil
	}
	return own, names, byName
}

// SiteOf counts what a program's runs on one kernel say of one of its tests, or
// of the program itself: that passes where there is something to say of its tests
// only.
func SiteOf(program, test string, runs []kernel.Run) Site {
	own, names, byName := split(runs)
	if test != program {
		own = byName[strings.TrimPrefix(test, program+"/")]
	} else if own == nil && len(names) > 0 {
		return Site{Passes: len(runs), Runs: len(runs)}
	}
	t := Count(own)
	return Site{Fails: t.Fails, Passes: t.Passes, Runs: len(runs)}
}
