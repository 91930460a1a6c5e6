// Package ktap reads the test protocol of kernel tests, KTAP and the TAP
// dialects of kselftest and KUnit, out of what a test or a console printed, so
// that a reproducer can report many results in one run. It must not know what
// ran, where, or what a verdict is: it takes bytes and gives results, and what
// it does not understand is an error, never a pass.
package ktap

import (
	"fmt"
	"strings"
)

// Status is how one test ended.
type Status string

// The statuses. XFail is an expected failure and counts as a pass; Error says
// that the test itself broke, so that nothing is known about the kernel.
const (
	Pass  Status = "pass"
	Fail  Status = "fail"
	Skip  Status = "skip"
	XFail Status = "xfail"
	Error Status = "error"
)

// Test is one result line with the results nested under it.
type Test struct {
	// Name is what the program said it would run, or else the description,
	// or else "test N". It is unique among siblings: the second of a name
	// is "name (2)".
	//
	// A description may be the verdict instead of a name: mm/cow.c of 6.12
	// prints "ok 12 No leak from parent into child" below its "# [RUN] name",
	// that of 7.3 the name in both. Named after the RUN line, a test has one
	// name on every kernel, whether it passes or not.
	Name      string
	Number    int      // as printed, 0 where the line has none
	Status    Status   // of the line and its children together
	Directive string   // upper case: SKIP, TODO, XFAIL, XPASS, TIMEOUT, ERROR or ""
	Reason    string   // verdict text and text after the directive, or why the parser says Error
	Said      []string // the last "#" lines before the result line, which are about it
	Children  []Test

	Started bool // it said that it would run, and no result came
	Missing int  // it is no test, but stands for so many planned results that never came
}

// Result is everything one output said.
type Result struct {
	Version     string // first version line, "" where there was none
	Tests       []Test
	Planned     int      // sum of the top-level plans, -1 where there was none
	SkipAll     string   // reason of a top-level "1..0", which skips the whole output
	BailOut     string   // text of the first "Bail out!", at any depth
	Diagnostics []string // lines that are no results, capped
	Problems    []string // where the output breaks the protocol, capped

	truncated   bool // results were dropped: the rest cannot be trusted to pass
	skipped     bool // a top-level plan of no tests
	skippedRest bool // the last of Tests stands for results missing after a skip
}

// Overall is the status of the whole output. Fail wins over Error, so that a
// failure seen before a test broke is kept. Without any result it is Error.
func (r Result) Overall() Status {
	if r.BailOut != "" {
		return Fail
	}
	if s := worst(r.Tests); s != "" {
		if r.truncated && s != Fail {
			return Error
		}
		return s
	}
	if r.skipped && !r.truncated {
		return Skip
	}
	return Error
}

// Reason says on one line what Overall rests on, "" for a plain pass.
func (r Result) Reason() string {
	overall := r.Overall()
	if path, t, ok := r.First(overall); ok && overall != Pass && overall != XFail {
		return joinReason(path, t.Reason)
	}
	switch {
	case overall == Pass:
		return ""
	case r.BailOut != "":
		return joinReason("Bail out!", strings.TrimSpace(strings.TrimPrefix(r.BailOut, "Bail out!")))
	case overall == Skip:
		return joinReason("everything skipped", r.SkipAll)
	case r.truncated:
		return "too many results to keep"
	case r.Version == "":
		return "no KTAP or TAP version line in the output"
	}
	return "the output has no results"
}

// Count tells how many leaf results have each status. A test with children is
// not counted itself: its children are.
func (r Result) Count() map[Status]int {
	n := make(map[Status]int)
	r.Walk(func(_ string, t Test) {
		if len(t.Children) == 0 {
			n[t.Status]++
		}
	})
	return n
}

// Walk calls visit for every test, parents before children, with the names
// from the root down to the test joined by " / ".
func (r Result) Walk(visit func(path string, t Test)) { walk("", r.Tests, visit) }

func walk(above string, tests []Test, visit func(string, Test)) {
	for _, t := range tests {
		path := t.Name
		if above != "" {
			path = above + " / " + t.Name
		}
		visit(path, t)
		walk(path, t.Children, visit)
	}
}

// SkippedRest tells whether the output ends as ksft_exit_skip() of kselftest.h
// ends one whose plan is out: with a skip, and without the results after it.
// After a death an output looks the same, so that Overall is Error; whoever
// knows that the program exited with 4 knows better.
func (r Result) SkippedRest() (reason string, ok bool) {
	if !r.skippedRest || r.BailOut != "" || r.truncated {
		return "", false
	}
	rest := len(r.Tests) - 1
	if s := worst(r.Tests[:rest]); s == Fail || s == Error {
		return "", false
	}
	last := r.Tests[rest-1]
	return joinReason(last.Name, last.Reason), true
}

// First finds the most deeply nested first test with a status: the leaf that
// gave its parents theirs. The path is as Walk gives it.
func (r Result) First(s Status) (path string, found Test, ok bool) {
	var names []string
	tests := r.Tests
	for {
		i := 0
		for i < len(tests) && tests[i].Status != s {
			i++
		}
		if i == len(tests) {
			return strings.Join(names, " / "), found, ok
		}
		found, ok = tests[i], true
		names = append(names, found.Name)
		tests = found.Children
	}
}

func joinReason(what, why string) string {
	if why == "" {
		return what
	}
	return fmt.Sprintf("%s: %s", what, why)
}

// worst combines siblings: any failure fails, a broken one breaks, all skipped
// is a skip. It is "" for no tests.
func worst(tests []Test) Status {
	var fail, broken, pass, skip bool
	for _, t := range tests {
		switch t.Status {
		case Fail:
			fail = true
		case Pass, XFail:
			pass = true
		case Skip:
			skip = true
		default:
			broken = true
		}
	}
	switch {
	case fail:
		return Fail
	case broken:
		return Error
	case pass:
		return Pass
	case skip:
		return Skip
	}
	return ""
}
