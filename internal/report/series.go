package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// series is a SeriesResult arranged as a matrix: rows are commits, the base
// first, columns are tests.
type series struct {
	*kernel.SeriesResult
	rows  []row
	tests []string // every test seen, those of one case together
}

// row is one commit.
type row struct {
	*kernel.CommitResult
	num   string               // "base" or its place in the series, from 1
	cells []*kernel.TestResult // as series.tests; nil where not run
}

// culprit is a commit with the tests it breaks.
type culprit struct {
	row      int
	tests    []string
	suspects []int // untestable rows right before it: it may as well be these
}

func arrange(r *kernel.SeriesResult) *series {
	s := &series{SeriesResult: r}
	if r.BaseRow != nil {
		b := *r.BaseRow
		b.Base = true
		s.rows = append(s.rows, row{CommitResult: &b, num: "base"})
	}
	for i := range r.Commits {
		s.rows = append(s.rows, row{CommitResult: &r.Commits[i], num: itoa(i + 1)})
	}
	var all [][]kernel.TestResult
	for i := range s.rows {
		all = append(all, s.rows[i].Tests)
	}
	s.tests = testNames(all)
	for i := range s.rows {
		s.rows[i].cells = make([]*kernel.TestResult, len(s.tests))
		for j := range s.rows[i].Tests {
			t := &s.rows[i].Tests[j]
			s.rows[i].cells[slices.Index(s.tests, t.Name)] = t
		}
	}
	return s
}

// testNames collects the names of tests in order of appearance, cases together.
func testNames(lists [][]kernel.TestResult) []string {
	var cases []string
	byCase := map[string][]string{} // case -> its tests
	seen := map[string]bool{}
	for _, list := range lists {
		for _, t := range list {
			if seen[t.Name] {
				continue
			}
			seen[t.Name] = true
			c, _ := splitTest(t.Name)
			if byCase[c] == nil {
				cases = append(cases, c)
			}
			byCase[c] = append(byCase[c], t.Name)
		}
	}
	var out []string
	for _, c := range cases {
		out = append(out, byCase[c]...)
	}
	return out
}

// splitTest takes cow/<case>/<memory> apart into its case and its memory.
func splitTest(name string) (testCase, memory string) {
	i := strings.LastIndexByte(name, '/')
	if i <= 0 || strings.Count(name, "/") < 2 {
		return "", name
	}
	return name[:i], name[i+1:]
}

// briefly drops the first part of a test name when all tests share it.
func (s *series) briefly(name string) string { return strings.TrimPrefix(name, s.shared()) }

func (s *series) shared() string {
	if len(s.tests) == 0 {
		return ""
	}
	i := strings.IndexByte(s.tests[0], '/')
	if i <= 0 {
		return ""
	}
	prefix := s.tests[0][:i+1]
	for _, t := range s.tests {
		if !strings.HasPrefix(t, prefix) || strings.Count(t, "/") < 2 {
			return ""
		}
	}
	return prefix
}

// testable says whether the commit builds and boots.
func (r *row) testable() bool {
	return !unbuilt(&r.Build) && r.Boot.Status != kernel.BootFailed
}

// measured says whether anything is known of the commit: an interrupted series
// has rows nobody came to.
func (r *row) measured() bool {
	return r.Build.Status != "" || r.Boot.Status == kernel.BootFailed || len(r.Tests) > 0
}

// verdict is the cell of a test; "" is not run.
func (r *row) verdict(test int) kernel.Verdict {
	if c := r.cells[test]; c != nil {
		return c.Verdict
	}
	if r.measured() && !r.testable() {
		return kernel.Untestable
	}
	return ""
}

// older says whether a failure is older than the series.
func (s *series) older(t *kernel.TestResult) bool {
	return t.Change == kernel.Flaky || t.Change == kernel.NotIntroduced && t.Since == s.Base.SHA
}

// mark is the sign, the word and the verdict, for its colour, of a cell. What
// the series did not introduce is nothing to be alarmed about in it.
func (s *series) mark(r *row, test int) (mark, text string, colour kernel.Verdict) {
	v := r.verdict(test)
	c := r.cells[test]
	switch {
	case c == nil || !s.older(c):
		return sign(v), word(v), v
	case v == kernel.Bad && c.Change == kernel.Flaky:
		return "=", "bad, flaky, not introduced here", kernel.Inconclusive
	case v == kernel.Bad:
		return "=", "bad, not introduced here", kernel.Inconclusive
	}
	return "~", word(v) + ", but flaky, as on the base", kernel.Inconclusive
}

// named lists the row's tests with a verdict.
func (r *row) named(v kernel.Verdict) []string {
	var out []string
	for _, c := range r.cells {
		if c != nil && c.Verdict == v {
			out = append(out, c.Name)
		}
	}
	return out
}

// index finds the row of a commit, -1 if it has none.
func (s *series) index(sha string) int {
	return slices.IndexFunc(s.rows, func(r row) bool { return r.SHA == sha && !r.Base })
}

// culprits are the commits that introduce a failure, oldest first.
func (s *series) culprits() []culprit {
	var out []culprit
	for i := range s.rows {
		c := culprit{row: i}
		for j := range s.tests {
			if !s.introduces(i, j) {
				continue
			}
			c.tests = append(c.tests, s.tests[j])
			for _, k := range s.suspects(i, j) {
				if !slices.Contains(c.suspects, k) {
					c.suspects = append(c.suspects, k)
				}
			}
		}
		if len(c.tests) > 0 {
			slices.Sort(c.suspects)
			out = append(out, c)
		}
	}
	return out
}

func (s *series) introduces(i, test int) bool {
	r := &s.rows[i]
	c := r.cells[test]
	return !r.Base && (s.FirstBad[s.tests[test]] == r.SHA || c != nil && c.Change == kernel.Introduced)
}

// suspects are the rows besides row i that may have introduced its failure of a
// test.
func (s *series) suspects(i, test int) (out []int) {
	name := s.tests[test]
	if s.FirstBad[name] == s.rows[i].SHA && len(s.OneOf[name]) > 0 {
		for _, sha := range s.OneOf[name] {
			if k := s.index(sha); k >= 0 && k != i {
				out = append(out, k)
			}
		}
		return out
	}
	for k := i - 1; k >= 0; k-- {
		if v := s.rows[k].verdict(test); v == kernel.Good || v == kernel.Bad {
			break
		}
		out = append(out, k)
	}
	return out
}

// fixes are the tests that the commit makes pass.
func (r *row) fixes() []string {
	var out []string
	for _, c := range r.cells {
		if c != nil && c.Change == kernel.Fixed {
			out = append(out, c.Name)
		}
	}
	return out
}

// uneven are the columns with something to see: tests that are not good, or
// flaky, in some commit that could be tested.
func (s *series) uneven() []int {
	var out []int
	for j := range s.tests {
		for i := range s.rows {
			c := s.rows[i].cells[j]
			if v := s.rows[i].verdict(j); v == kernel.Bad || v == kernel.Inconclusive || c != nil && c.Change != "" {
				out = append(out, j)
				break
			}
		}
	}
	return out
}

// story tells the changes of a test in their order, "" if none is known.
func (s *series) story(test int) string {
	var parts []string
	say := func(format string, a ...any) {
		if text := fmt.Sprintf(format, a...); !slices.Contains(parts, text) {
			parts = append(parts, text)
		}
	}
	again := ""
	for i := range s.rows {
		r := &s.rows[i]
		c := r.cells[test]
		switch {
		case s.introduces(i, test) && len(parts) > 0 && again == "":
			say("fails more since %s", r.num)
		case s.introduces(i, test):
			say("bad %ssince %s", again, r.num)
		case c == nil:
			continue
		case c.Change == kernel.Fixed:
			say("fixed by %s", r.num)
			again = "again "
			continue
		case c.Change == kernel.Flaky:
			say("flaky on the base: not introduced here")
		case s.older(c):
			say("bad on the base: not introduced here")
		case c.Change == kernel.Unclear:
			say("bad at %s, not known since when", r.num)
		default:
			continue
		}
		again = ""
	}
	return strings.Join(parts, ", ")
}

// remark says in a few words where a test went bad.
func (s *series) remark(test int) string {
	if text := s.story(test); text != "" {
		return text
	}
	good, unclear := "", ""
	for i := range s.rows {
		r := &s.rows[i]
		switch r.verdict(test) {
		case kernel.Good:
			good = r.num
		case kernel.Inconclusive:
			unclear = r.num
		case kernel.Bad:
			switch {
			case r.Base:
				return "bad on the base: not introduced here"
			case good != "":
				return "bad at " + r.num + ", good at " + good
			}
			return "bad at " + r.num + ", never seen good before it"
		}
	}
	return "inconclusive at " + unclear
}

// badSince sorts the bad tests of a row: those that went bad in an earlier row
// are counted ("3 bad since 4", or "before" the series), the others are named.
func (s *series) badSince(r *row) (old, fresh []string) {
	n := make([]int, len(s.rows)) // row -> tests of r that went bad there
	for j, c := range r.cells {
		if c == nil || c.Verdict != kernel.Bad {
			continue
		}
		first := s.since(c)
		for i := 0; first < 0 && i < len(s.rows); i++ {
			if s.rows[i].verdict(j) == kernel.Bad {
				first = i
			}
		}
		if r.Base || s.rows[first].num == r.num {
			fresh = append(fresh, c.Name)
		} else {
			n[first]++
		}
	}
	for i, k := range n {
		if k > 0 {
			text := " bad since " + s.rows[i].num
			if s.rows[i].Base {
				text = " bad before"
			}
			old = append(old, itoa(k)+text)
		}
	}
	return old, fresh
}

// since is the row that brought a failure, -1 if that is not known.
func (s *series) since(c *kernel.TestResult) int {
	switch {
	case s.older(c) && s.rows[0].Base:
		return 0
	case c.Since != "":
		return s.index(c.Since)
	case c.Change == kernel.Unclear:
		return -1
	}
	return s.index(s.FirstBad[c.Name])
}

// onBase are the tests that failed before the series: bad, and flaky, there.
func (s *series) onBase() (bad, flaky []string) {
	if len(s.rows) == 0 || !s.rows[0].Base {
		return nil, nil
	}
	for j, name := range s.tests {
		isFlaky := slices.ContainsFunc(s.rows, func(r row) bool { return r.cells[j] != nil && r.cells[j].Change == kernel.Flaky })
		switch {
		case isFlaky:
			flaky = append(flaky, name)
		case s.rows[0].verdict(j) == kernel.Bad:
			bad = append(bad, name)
		}
	}
	return bad, flaky
}
