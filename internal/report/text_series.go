package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// series writes the commits of a series, and a matrix of the tests that are
// not good everywhere.
func (p *printer) series(s *series) {
	p.line(cell{s.sentence(), bold})
	if also := s.also(); also != "" {
		p.text(also)
	}
	p.carried(s.Carried)
	if e := s.earlier(); e != "" {
		p.text("earlier: " + e)
	}
	if len(s.rows) > 0 {
		p.text("")
		p.print(s.commitTable())
	}
	if cols := s.uneven(); len(cols) > 0 {
		p.text("")
		p.matrix(s, cols)
	}
	for i := range s.rows {
		r := &s.rows[i]
		who := r.num + " " + plain(kernel.Abbrev(r.SHA))
		p.buildTrouble(who, &r.Build)
		p.bootTrouble(who, &r.Boot)
	}
	p.failures(s)
	p.text("")
	p.foot([]string{"profile " + plain(s.Profile)}, s.Seconds, s.Host, s.Command)
}

func (s *series) commitTable() *table {
	t := &table{
		head:  []string{"#", "commit", "subject", "build", "boot", "tests"},
		right: map[int]bool{0: true},
		flex:  []flexible{{5, 48}, {2, 30}, {5, 20}, {2, 12}},
	}
	first := map[int]bool{} // rows that change something
	for i := range s.rows {
		first[i] = len(s.rows[i].fixes()) > 0
	}
	for _, c := range s.culprits() {
		first[c.row] = true
	}
	for i := range s.rows {
		r := &s.rows[i]
		subject := cell{text: plain(r.Subject)}
		if first[i] {
			subject.style = bold
		}
		text, st := s.summary(r)
		t.add(
			cell{text: r.num},
			cell{text: plain(kernel.Abbrev(r.SHA))},
			subject,
			cell{buildWord(&r.Build), troubleStyle(unbuilt(&r.Build))},
			cell{bootWord(&r.Boot), troubleStyle(r.Boot.Status == kernel.BootFailed)},
			cell{text, st},
		)
	}
	return t
}

func troubleStyle(trouble bool) style {
	if trouble {
		return yellow
	}
	return ""
}

// summary is the last column: "10 ok, 3 bad: a/thp-pmd +2, 4 skipped". What may
// be cut stands last.
func (s *series) summary(r *row) (string, style) {
	switch {
	case !r.measured():
		return ". not run", dim
	case !r.testable():
		return "/ untestable", yellow
	case len(r.Tests) == 0:
		return ". no tests", dim
	}
	var parts []string
	if n := len(r.fixes()); n > 0 {
		parts = append(parts, fmt.Sprintf("fixes %d", n))
	}
	if n := len(r.named(kernel.Good)); n > 0 {
		parts = append(parts, fmt.Sprintf("%d good", n))
	}
	old, fresh := s.badSince(r)
	st, mark := green, "+ "
	switch {
	case len(fresh) > 0:
		text := fmt.Sprintf("%d bad: %s", len(fresh), plain(s.briefly(fresh[0])))
		if more := len(fresh) - 1; more > 0 {
			text += fmt.Sprintf(" +%d", more)
		}
		parts = append(parts, text)
		st, mark = red, "! "
	case len(old) > 0:
		st, mark = yellow, "! "
		if len(old) == 1 && strings.HasSuffix(old[0], " before") {
			mark = "= "
		}
	case len(r.named(kernel.Inconclusive)) > 0:
		st, mark = yellow, "? "
	case len(r.named(kernel.Untestable)) > 0:
		st, mark = yellow, "/ "
	case len(r.named(kernel.Good)) == 0:
		st, mark = dim, "- "
	}
	parts = append(parts, old...)
	for _, v := range []kernel.Verdict{kernel.Inconclusive, kernel.Untestable, kernel.Skipped} {
		if n := len(r.named(v)); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, word(v)))
		}
	}
	return mark + strings.Join(parts, ", "), st
}

// matrix writes one sign per test and commit.
func (p *printer) matrix(s *series, cols []int) {
	t := &table{head: []string{"test"}, right: map[int]bool{}}
	for i := range s.rows {
		t.head = append(t.head, strings.Replace(s.rows[i].num, "base", "b", 1))
		t.right[i+1] = true
	}
	t.head = append(t.head, "")
	t.flex = []flexible{{len(t.head) - 1, 16}, {0, 20}}
	older := false
	for _, j := range cols {
		line := []cell{{text: plain(s.tests[j])}}
		for i := range s.rows {
			mark, _, v := s.mark(&s.rows[i], j)
			line = append(line, cell{mark, verdictStyle(v)})
			older = older || mark == "=" || mark == "~"
		}
		t.add(append(line, cell{s.remark(j), dim})...)
	}
	p.print(t)
	p.line(cell{legend, dim})
	if older {
		p.line(cell{olderLegend, dim})
	}
}

// failures says how each test failed when it first did.
func (p *printer) failures(s *series) {
	for _, c := range s.culprits() {
		r := &s.rows[c.row]
		p.text("")
		p.line(cell{fmt.Sprintf("%s %s \"%s\" breaks", r.num, plain(kernel.Abbrev(r.SHA)), plain(r.Subject)), bold})
		var broken []kernel.TestResult
		for _, t := range r.cells {
			if t != nil && slices.Contains(c.tests, t.Name) {
				broken = append(broken, *t)
			}
		}
		p.print(testTable(broken))
	}
}
