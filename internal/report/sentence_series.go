package report

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

func itoa(n int) string { return strconv.Itoa(n) }

// sentence is the verdict of a series in one line.
func (s *series) sentence() string {
	var total, measured, testable int
	for i := range s.rows {
		if s.rows[i].Base {
			continue
		}
		total++
		if s.rows[i].measured() {
			measured++
			if s.rows[i].testable() {
				testable++
			}
		}
	}
	if s.Status != "" && s.Status != "done" {
		return fmt.Sprintf("%s after %d of %s: %s", plain(s.Status), measured, count(total, "commit"), s.judgement(measured, testable))
	}
	return s.judgement(total, testable)
}

// also is what else a reader should know, "" if nothing.
func (s *series) also() string {
	var parts []string
	if b := s.onBase(); len(b) > 0 {
		parts = append(parts, fmt.Sprintf("%s bad on the base already, not introduced here", count(len(b), "test")))
	}
	inconclusive := map[string]bool{}
	for i := range s.rows {
		for _, t := range s.rows[i].named(kernel.Inconclusive) {
			inconclusive[t] = true
		}
	}
	if n := len(inconclusive); n > 0 {
		parts = append(parts, fmt.Sprintf("%s inconclusive", count(n, "test")))
	}
	for i := range s.rows {
		if u := remarks(s.rows[i].Tests); u != "" {
			parts = append(parts, "at "+s.rows[i].num+" "+u)
			break // those behind it say the same again
		}
	}
	return strings.Join(parts, "; ")
}

func (s *series) judgement(total, testable int) string {
	cs := s.culprits()
	switch {
	case len(cs) > 0:
		return s.blame(cs, total)
	case total == 0:
		return "the series has no commits"
	case testable == 0:
		return fmt.Sprintf("nothing could be tested: 0 of %s build and boot", count(total, "commit"))
	case len(s.tests) == 0:
		return fmt.Sprintf("no tests were run on %s", count(total, "commit"))
	}
	if n := s.unexplained(); n > 0 {
		return fmt.Sprintf("%s bad, without a good commit before: where it began is not in this series", count(n, "test"))
	}
	if testable < total {
		return fmt.Sprintf("no new failures in %d of %s, %d cannot be tested", testable, count(total, "commit"), total-testable)
	}
	return fmt.Sprintf("no new failures in %s", count(total, "commit"))
}

// unexplained counts tests that are bad in the series and neither on its base
// nor after a good commit.
func (s *series) unexplained() int {
	n := 0
	for j, name := range s.tests {
		if _, ok := s.FirstBad[name]; ok {
			continue
		}
		for i := range s.rows {
			v := s.rows[i].verdict(j)
			if v == kernel.Bad && !s.rows[i].Base {
				n++
			}
			if v == kernel.Bad || v == kernel.Good {
				break
			}
		}
	}
	return n
}

// blame names the commits that introduce failures.
func (s *series) blame(cs []culprit, total int) string {
	verb, noun := "introduces", "a failure"
	if len(cs) > 1 {
		verb, noun = "introduce", "failures"
	}
	var parts []string
	for _, c := range cs {
		r := s.rows[c.row]
		part := fmt.Sprintf("%s \"%s\" breaks %s", plain(kernel.Abbrev(r.SHA)), cut(plain(r.Subject), 72), someOf(c.tests, 1))
		part += s.unless(c.suspects)
		parts = append(parts, part)
	}
	return fmt.Sprintf("%d of %s %s %s: %s", len(cs), count(total, "commit"), verb, noun, strings.Join(parts, "; "))
}

// unless says that a commit is only the first one seen bad: nothing is known
// of the ones right before it.
func (s *series) unless(suspects []int) string {
	var nums []string
	for _, k := range suspects {
		nums = append(nums, s.rows[k].num)
	}
	switch len(nums) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf(", unless commit %s did, which has no verdict", nums[0])
	}
	return fmt.Sprintf(", unless one of commits %s did, which have no verdict", someOf(nums, 5))
}

// checkSentence is the verdict of a check in one line.
func checkSentence(r *kernel.CheckResult) string {
	name := plain(r.Kernel.Release)
	if r.Commit != nil {
		name = plain(r.Commit.Short()) + " \"" + cut(plain(r.Commit.Subject), 72) + "\""
	}
	if name == "" {
		name = "the kernel"
	}
	switch {
	case r.Build != nil && r.Build.Status == kernel.BuildFailed:
		return name + " does not build"
	case r.Boot.Status == kernel.BootFailed:
		return name + " does not boot"
	}
	by := map[kernel.Verdict][]string{}
	for _, t := range r.Tests {
		by[t.Verdict] = append(by[t.Verdict], t.Name)
	}
	if len(r.Tests) == 0 {
		return name + ": no tests were run"
	}
	if bad := by[kernel.Bad]; len(bad) > 0 {
		return fmt.Sprintf("%s: %d of %s bad: %s", name, len(bad), count(len(r.Tests), "test"), someOf(bad, 2))
	}
	return name + ": " + tally(by)
}

// unexpected says which tests pass that are known to fail, "" for none: it is
// nothing bad, but a fix, or a test that no longer sees what it is for.
func unexpected(tests []kernel.TestResult) string {
	var names []string
	for _, t := range tests {
		if t.Known == kernel.XPass {
			names = append(names, t.Name)
		}
	}
	switch len(names) {
	case 0:
		return ""
	case 1:
		return "1 test passes that is known to fail: " + plain(names[0])
	}
	return fmt.Sprintf("%d tests pass that are known to fail: %s", len(names), someOf(names, 4))
}

// missing says which tests skipped that must not, "" for none.
func missing(tests []kernel.TestResult) string {
	var names []string
	for _, t := range tests {
		if t.MustRun {
			names = append(names, t.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("%s skipped that must run in this profile: %s", count(len(names), "test"), someOf(names, 2))
}

// remarks are what the verdicts alone do not tell.
func remarks(tests []kernel.TestResult) string {
	var parts []string
	for _, s := range []string{missing(tests), unexpected(tests)} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, "; ")
}

// tally counts verdicts: "11 good, 2 skipped".
func tally(by map[kernel.Verdict][]string) string {
	var parts []string
	for _, v := range []kernel.Verdict{kernel.Good, kernel.Bad, kernel.Inconclusive, kernel.Skipped, kernel.Untestable, ""} {
		if n := len(by[v]); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, word(v)))
		}
	}
	return strings.Join(parts, ", ")
}
