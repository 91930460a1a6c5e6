package report

import (
	"fmt"
	"slices"
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
	total = max(total, s.Total)
	switch {
	case s.Status != "" && s.Status != "done" && measured == 0:
		return fmt.Sprintf("%s, none of %s so far", plain(s.Status), count(total, "commit"))
	case s.Status == "running":
		return fmt.Sprintf("running, %d of %s so far: %s", measured, count(total, "commit"), s.judgement(measured, testable))
	case s.Status != "" && s.Status != "done":
		return fmt.Sprintf("%s after %d of %s: %s", plain(s.Status), measured, count(total, "commit"), s.judgement(measured, testable))
	}
	return s.judgement(total, testable)
}

// also is what else a reader should know, "" if nothing.
func (s *series) also() string {
	var parts []string
	for i := range s.rows {
		if f := s.rows[i].fixes(); len(f) > 0 {
			parts = append(parts, fmt.Sprintf("%s \"%s\" fixes %s", plain(kernel.Abbrev(s.rows[i].SHA)), cut(plain(s.rows[i].Subject), 72), someOf(f, 1)))
		}
	}
	bad, flaky := s.onBase()
	if len(bad) > 0 {
		parts = append(parts, fmt.Sprintf("%s bad on the base already, not introduced here", count(len(bad), "test")))
	}
	if len(flaky) > 0 {
		parts = append(parts, fmt.Sprintf("%s flaky on the base already, not introduced here", count(len(flaky), "test")))
	}
	if n := s.unexplained(); n > 0 && len(s.culprits()) > 0 {
		parts = append(parts, fmt.Sprintf("%s bad, and it is not known since when", count(n, "test")))
	}
	inconclusive := map[string]bool{}
	for i := range s.rows {
		for _, t := range s.rows[i].named(kernel.Inconclusive) {
			inconclusive[t] = true
		}
	}
	for _, t := range flaky {
		delete(inconclusive, t)
	}
	if n := len(inconclusive); n > 0 {
		parts = append(parts, fmt.Sprintf("%s inconclusive", count(n, "test")))
	}
	unread := 0
	for i := range s.rows {
		if s.rows[i].Build.SameAs != "" {
			unread++
		}
	}
	if unread > 0 {
		parts = append(parts, fmt.Sprintf("%s not built: it changes no file that the build reads", count(unread, "commit")))
		if unread > 1 {
			parts[len(parts)-1] = fmt.Sprintf("%s not built: they change no file that the build reads", count(unread, "commit"))
		}
	}
	for i := range s.rows {
		if u := remarks(&kernel.Boot{}, s.rows[i].Tests); u != "" {
			parts = append(parts, "at "+s.rows[i].num+" "+u)
			break // those behind it say the same again
		}
	}
	heard := map[string]bool{}
	for i := range s.rows {
		r := &s.rows[i]
		if u := complains(&r.Boot, r.Tests); u != "" && !heard[u] {
			heard[u] = true
			parts = append(parts, "at "+r.num+" "+u)
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
		return fmt.Sprintf("%s bad, and it is not known since when", count(n, "test"))
	}
	switch {
	case testable < total:
		return fmt.Sprintf("no failure is introduced by %d of %s, %d cannot be tested", testable, count(total, "commit"), total-testable)
	case total == 1:
		return "1 commit introduces no failure"
	}
	return fmt.Sprintf("%d commits introduce no failure", total)
}

// unexplained counts tests that are bad in the series, and it is not known since
// when: neither on its base nor since a commit of it.
func (s *series) unexplained() int {
	n := 0
	for j := range s.tests {
		if s.notKnown(j) {
			n++
		}
	}
	return n
}

func (s *series) notKnown(test int) bool {
	if _, ok := s.FirstBad[s.tests[test]]; ok {
		return false
	}
	for i := range s.rows {
		if c := s.rows[i].cells[test]; c != nil && c.Change == kernel.Unclear {
			return true
		}
	}
	for i := range s.rows {
		c := s.rows[i].cells[test]
		switch {
		case c == nil:
		case c.Verdict == kernel.Bad:
			return !s.rows[i].Base && !s.older(c)
		case c.Verdict == kernel.Good:
			return false
		}
	}
	return false
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
		part += s.unless(c)
		parts = append(parts, part)
	}
	return fmt.Sprintf("%d of %s %s %s: %s", len(cs), count(total, "commit"), verb, noun, strings.Join(parts, "; "))
}

// unless says that a commit is only the first one seen bad: less is known of the
// suspects, mostly nothing.
func (s *series) unless(c culprit) string {
	var nums []string
	seen := false
	for _, k := range c.suspects {
		nums = append(nums, s.rows[k].num)
		for _, t := range c.tests {
			v := s.rows[k].verdict(slices.Index(s.tests, t))
			seen = seen || v == kernel.Good || v == kernel.Bad
		}
	}
	switch {
	case len(nums) == 0:
		return ""
	case seen:
		return fmt.Sprintf(", unless commit %s did", strings.Join(nums, " or "))
	case len(nums) == 1:
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
	case r.Build != nil && unbuilt(r.Build):
		return name + " " + unbuiltWhy(r.Build)
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
func remarks(boot *kernel.Boot, tests []kernel.TestResult) string {
	var parts []string
	for _, s := range []string{missing(tests), unexpected(tests), complains(boot, tests)} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, "; ")
}

// complains tells what a kernel that boots complains of meanwhile, if no test has
// heard it.
func complains(boot *kernel.Boot, tests []kernel.TestResult) string {
	judged := func(t kernel.TestResult) bool { return t.Name == kernel.QuietTest && t.Fails > 0 }
	if boot.Status != kernel.BootOK || boot.Signature.Kind == "" || slices.ContainsFunc(tests, judged) {
		return ""
	}
	return "the kernel complains while it boots, which --test boot would judge: " + failure(boot.Signature)
}

// isBootTest says whether a test is that of the boot itself.
func isBootTest(t kernel.TestResult) bool { return t.Name == kernel.BootTest }

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
