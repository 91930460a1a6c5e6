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
	Name      string // description; "test N" where the line has none
	Number    int    // as printed, 0 where the line has none
	Status    Status // of the line and its children together
	Directive string // upper case: SKIP, TODO, XFAIL, TIMEOUT, ERROR or ""
	Reason    string // text after the directive, or why the parser says Error
	Children  []Test
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

	truncated bool // results were dropped: the rest cannot be trusted to pass
	skipped   bool // a top-level plan of no tests
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
	if path, t, ok := r.first(overall); ok && overall != Pass && overall != XFail {
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

// first finds the most deeply nested first test with a status: the leaf that
// gave its parents theirs.
func (r Result) first(s Status) (path string, found Test, ok bool) {
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
