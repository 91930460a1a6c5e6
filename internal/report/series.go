package report

import (
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
	return r.Build.Status != kernel.BuildFailed && r.Boot.Status != kernel.BootFailed
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

// culprits are the commits of FirstBad, oldest first.
func (s *series) culprits() []culprit {
	var out []culprit
	for i := range s.rows {
		c := culprit{row: i}
		for j, t := range s.tests {
			if s.rows[i].Base || s.FirstBad[t] != s.rows[i].SHA {
				continue
			}
			c.tests = append(c.tests, t)
			for k := i - 1; k >= 0 && s.rows[k].verdict(j) != kernel.Good; k-- {
				if v := s.rows[k].verdict(j); v == kernel.Bad {
					break
				}
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

// uneven are the columns with something to see: tests that are not good in
// every commit that could be tested.
func (s *series) uneven() []int {
	var out []int
	for j := range s.tests {
		for i := range s.rows {
			if v := s.rows[i].verdict(j); v == kernel.Bad || v == kernel.Inconclusive {
				out = append(out, j)
				break
			}
		}
	}
	return out
}

// remark says in a few words where a test went bad.
func (s *series) remark(test int) string {
	name := s.tests[test]
	if i := s.index(s.FirstBad[name]); i >= 0 {
		text := "bad since " + s.rows[i].num
		for k := i + 1; k < len(s.rows); k++ {
			if s.rows[k].verdict(test) == kernel.Good {
				return text + ", good again at " + s.rows[k].num
			}
		}
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
// are counted ("3 bad since 4"), the others are named.
func (s *series) badSince(r *row) (old, fresh []string) {
	n := make([]int, len(s.rows)) // row -> tests of r that went bad there
	for j, c := range r.cells {
		if c == nil || c.Verdict != kernel.Bad {
			continue
		}
		first := s.index(s.FirstBad[c.Name])
		for i := 0; first < 0 && i < len(s.rows); i++ {
			if s.rows[i].verdict(j) == kernel.Bad {
				first = i
			}
		}
		if s.rows[first].num == r.num {
			fresh = append(fresh, c.Name)
		} else {
			n[first]++
		}
	}
	for i, k := range n {
		if k > 0 {
			old = append(old, itoa(k)+" bad since "+s.rows[i].num)
		}
	}
	return old, fresh
}

// onBase are the tests that were bad before the series.
func (s *series) onBase() []string {
	if len(s.rows) == 0 || !s.rows[0].Base {
		return nil
	}
	return s.rows[0].named(kernel.Bad)
}
