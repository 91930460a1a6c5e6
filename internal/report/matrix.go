package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// matrix is a MatrixResult arranged: rows are tests, columns are kernels.
type matrix struct {
	*kernel.MatrixResult
	cols  []column
	tests []string // every test seen, those of one case together
}

// column is one kernel.
type column struct {
	*kernel.KernelResult
	num   string               // its place, from 1
	name  string               // release, plain
	cells []*kernel.TestResult // as matrix.tests; nil where not run
}

func arrangeMatrix(r *kernel.MatrixResult) *matrix {
	m := &matrix{MatrixResult: r}
	var all [][]kernel.TestResult
	seen := map[string]int{}
	for i := range r.Kernels {
		k := &r.Kernels[i]
		all = append(all, k.Tests)
		m.cols = append(m.cols, column{KernelResult: k, num: itoa(i + 1), name: plain(k.Kernel.Name())})
		seen[m.cols[i].name]++
	}
	m.tests = testNames(all)
	for i := range m.cols {
		c := &m.cols[i]
		if seen[c.name] > 1 || c.name == "" { // two builds of one release
			c.name = strings.TrimSpace(c.name + " " + plain(kernel.Abbrev(c.Kernel.Digest)))
		}
		c.cells = make([]*kernel.TestResult, len(m.tests))
		for j := range c.Tests {
			c.cells[slices.Index(m.tests, c.Tests[j].Name)] = &c.Tests[j]
		}
	}
	return m
}

// measured says whether anything is known of the kernel: an interrupted job
// has kernels nobody came to.
func (c *column) measured() bool {
	return c.Boot.Status == kernel.BootFailed || len(c.Tests) > 0 || c.Error != ""
}

// through says whether every test of the matrix was run on the kernel.
func (c *column) through() bool { return c.measured() && !slices.Contains(c.cells, nil) }

func (c *column) verdict(test int) kernel.Verdict {
	switch {
	case c.cells[test] != nil:
		return c.cells[test].Verdict
	case c.Boot.Status == kernel.BootFailed:
		return kernel.Untestable
	}
	return ""
}

func (c *column) byVerdict() map[kernel.Verdict][]string {
	by := map[kernel.Verdict][]string{}
	for _, t := range c.Tests {
		by[t.Verdict] = append(by[t.Verdict], t.Name)
	}
	return by
}

// summary is what came out for a kernel, with its sign and style.
func (c *column) summary() (string, style) {
	by := c.byVerdict()
	v := kernel.Verdict("")
	switch {
	case !c.measured():
		return ". not run", dim
	case c.Boot.Status == kernel.BootFailed:
		return "/ does not boot", yellow
	case len(by[kernel.Bad]) > 0:
		v = kernel.Bad
	case c.Error != "" && len(by[kernel.Inconclusive]) == len(c.Tests):
		return "? could not be tested", yellow
	case c.Error != "" || len(by[kernel.Inconclusive]) > 0:
		v = kernel.Inconclusive
	case len(by[kernel.Untestable]) > 0: // of a kernel that boots: a test that must not skip
		v = kernel.Untestable
	case len(by[kernel.Good]) > 0:
		v = kernel.Good
	default:
		v = kernel.Skipped
	}
	return sign(v) + " " + tally(by), verdictStyle(v)
}

// sentence is the verdict of a matrix in one line.
func (m *matrix) sentence() string {
	through := 0
	for i := range m.cols {
		if m.cols[i].through() {
			through++
		}
	}
	if m.Status != "" && m.Status != "done" {
		return fmt.Sprintf("%s after %d of %s: %s", plain(m.Status), through, count(len(m.cols), "kernel"), m.judgement())
	}
	return m.judgement()
}

// also is what else a reader should know, "" if nothing.
func (m *matrix) also() string {
	var parts []string
	for i := range m.cols {
		if u := remarks(&m.cols[i].Boot, m.cols[i].Tests); u != "" {
			parts = append(parts, "on "+m.cols[i].name+" "+u)
		}
	}
	return strings.Join(parts, "; ")
}

func (m *matrix) judgement() string {
	var bad, dead, lost []string
	open := map[string]bool{}
	for i := range m.cols {
		c := &m.cols[i]
		by := c.byVerdict()
		for _, t := range by[kernel.Inconclusive] {
			open[t] = true
		}
		switch {
		case c.Boot.Status == kernel.BootFailed:
			dead = append(dead, c.name)
		case len(by[kernel.Bad]) > 0:
			bad = append(bad, fmt.Sprintf("%s (%d of %d)", c.name, len(by[kernel.Bad]), len(m.tests)))
		case c.Error != "":
			lost = append(lost, c.name)
		}
	}
	if len(m.cols) == 0 {
		return "no kernels were tested"
	}
	of := " of " + count(len(m.cols), "kernel")
	var parts []string
	if len(bad) > 0 {
		parts = append(parts, itoa(len(bad))+of+plural(len(bad), " has", " have")+" bad tests: "+someOf(bad, 3))
	} else {
		parts = append(parts, "no test is bad on "+count(len(m.cols), "kernel"))
	}
	if len(dead) > 0 {
		parts = append(parts, someOf(dead, 3)+plural(len(dead), " does", " do")+" not boot")
	}
	if len(lost) > 0 {
		parts = append(parts, someOf(lost, 3)+" could not be tested")
	}
	if len(open) > 0 && len(lost) == 0 {
		parts = append(parts, count(len(open), "test")+" inconclusive")
	}
	return strings.Join(parts, "; ")
}

func plural(n int, one, more string) string {
	if n == 1 {
		return one
	}
	return more
}

// remark is why a test is not good somewhere, from the worst verdict of the
// first kernel that has it.
func (m *matrix) remark(test int) string {
	for _, v := range []kernel.Verdict{kernel.Bad, kernel.Inconclusive, kernel.Good, kernel.Skipped} {
		for i := range m.cols {
			c := &m.cols[i]
			if c.verdict(test) != v {
				continue
			}
			t := c.cells[test]
			switch {
			case v == kernel.Good && t.Fails > 0:
				return fmt.Sprintf("%s runs failed on %s: %s", fails(t.Fails, t.Runs), c.name, why(t))
			// Our own trouble stands below the table, once.
			case v != kernel.Good && (c.Error == "" || t.Reason != c.Error):
				return why(t)
			}
		}
	}
	return ""
}

// failed says whether there is a failure to show at length.
func failed(t *kernel.TestResult) bool {
	return t.Verdict == kernel.Bad || t.Fails > 0 || t.Verdict == kernel.Inconclusive && t.Runs > 0
}

// heads are the names of the columns without what all of them end in, such as
// "-cloud-amd64".
func (m *matrix) heads() []string {
	var heads []string
	for i := range m.cols {
		heads = append(heads, m.cols[i].name)
	}
	if len(heads) < 2 {
		return heads
	}
	end := heads[0]
	for _, h := range heads {
		for !strings.HasSuffix(h, end) {
			end = end[1:]
		}
	}
	i := strings.IndexByte(end, '-')
	if i < 0 {
		return heads
	}
	if slices.Contains(heads, end[i:]) { // nothing would be left
		return heads
	}
	for k, h := range heads {
		heads[k] = strings.TrimSuffix(h, end[i:])
	}
	return heads
}

func (m *matrix) numbers() []string {
	var out []string
	for i := range m.cols {
		out = append(out, m.cols[i].num)
	}
	return out
}
