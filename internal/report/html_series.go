package report

import (
	"slices"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// htmlSeries is the page of a series.
type htmlSeries struct {
	Groups  []group // column headings
	Rows    []htmlRow
	Skipped []pair // tests that were skipped in every commit, and why
	Legend  string
}

// group is the tests of one case.
type group struct {
	Case    string
	Columns []string
}

// htmlRow is one commit: a line of the matrix and a section below it.
type htmlRow struct {
	ID, Num, Short, Subject string
	Build, Boot             htmlCell
	Cells                   []htmlCell
	First                   bool     // introduces a failure
	Breaks                  []string // these
	Fixes                   []string // makes these tests pass
	Trouble                 *trouble
	Details                 []detail
}

// Story says whether the commit needs a section.
func (r htmlRow) Story() bool {
	return r.Trouble != nil || len(r.Details) > 0 || r.First || len(r.Fixes) > 0
}

// htmlCell is one cell of the matrix.
type htmlCell struct{ Sign, Word, Class, Fails, Href, Edge, Title string }

func seriesPage(s *series, links Links) *page {
	h := &htmlSeries{Legend: legend + "  " + olderLegend}
	cols := s.shownColumns(h)
	s.head(h, cols)
	breaks := map[int][]string{} // row -> tests
	for _, c := range s.culprits() {
		for _, t := range c.tests {
			breaks[c.row] = append(breaks[c.row], plain(t))
		}
	}
	told := map[int]string{} // column -> id of the section that shows its failure
	for i := range s.rows {
		h.Rows = append(h.Rows, s.htmlRow(i, cols, breaks[i], told, links))
	}
	tone := "good"
	if len(breaks) > 0 || s.unexplained() > 0 {
		tone = "bad"
	} else if len(s.uneven()) > 0 || len(s.tests) == 0 || slices.ContainsFunc(s.rows, func(r row) bool { return !r.testable() || !r.measured() }) {
		tone = "warn"
	}
	return &page{
		Kind: "series", Verdict: s.sentence(), Also: s.also(), Tone: tone, Series: h, Command: plain(s.Command),
		Facts: pairs(pair{"Profile", s.Profile}, pair{"Base", kernel.Abbrev(s.Base.SHA) + " " + s.Base.Subject}, pair{"Carried", carried(s.Carried)}, pair{"Earlier", s.earlier()}),
		Foot:  foot(s.ID, seriesSchema, s.Seconds, s.Started, s.Host),
	}
}

// shownColumns leaves out tests that no commit could run, which would only
// widen the matrix; they are listed below it.
func (s *series) shownColumns(h *htmlSeries) []int {
	var cols []int
	for j, name := range s.tests {
		reason, skipped := "", true
		for i := range s.rows {
			c := s.rows[i].cells[j]
			if c == nil {
				continue
			}
			skipped = skipped && c.Verdict == kernel.Skipped
			if reason == "" {
				reason = c.Reason
			}
		}
		if skipped {
			if reason == "" {
				reason = "skipped"
			}
			h.Skipped = append(h.Skipped, pair{plain(name), plain(reason)})
			continue
		}
		cols = append(cols, j)
	}
	// The matrix is wider than a page: cases the series breaks come first,
	// then others with something to see.
	rank := map[string]int{}
	for _, j := range s.uneven() {
		rank[caseOf(s.tests[j])] = min(rank[caseOf(s.tests[j])], -1)
		if s.index(s.FirstBad[s.tests[j]]) >= 0 {
			rank[caseOf(s.tests[j])] = -2
		}
	}
	slices.SortStableFunc(cols, func(a, b int) int {
		return rank[caseOf(s.tests[a])] - rank[caseOf(s.tests[b])]
	})
	return cols
}

// head groups the column headings by case.
func (s *series) head(h *htmlSeries, cols []int) {
	for k, j := range cols {
		testCase, memory := splitTest(s.tests[j])
		if k == 0 || testCase != caseOf(s.tests[cols[k-1]]) {
			h.Groups = append(h.Groups, group{Case: plain(s.briefly(testCase))})
		}
		g := &h.Groups[len(h.Groups)-1]
		g.Columns = append(g.Columns, plain(memory))
	}
}

func (s *series) htmlRow(i int, cols []int, breaks []string, told map[int]string, links Links) htmlRow {
	r := &s.rows[i]
	out := htmlRow{
		ID: "c" + itoa(i), Num: r.num, Short: plain(kernel.Abbrev(r.SHA)), Subject: plain(r.Subject),
		Build:   links.built(stage(buildWord(&r.Build), unbuilt(&r.Build), i), &r.Build),
		Boot:    stage(bootWord(&r.Boot), r.Boot.Status == kernel.BootFailed, i),
		First:   len(breaks) > 0,
		Breaks:  breaks,
		Trouble: troubleOf(&r.Build, &r.Boot, links),
	}
	for _, t := range s.rows[i].fixes() {
		out.Fixes = append(out.Fixes, plain(t))
	}
	for k, j := range cols {
		v := r.verdict(j)
		mark, text, colour := s.mark(r, j)
		c := htmlCell{Sign: mark, Word: text, Class: class(colour)}
		if k == 0 || caseOf(s.tests[j]) != caseOf(s.tests[cols[k-1]]) {
			c.Edge = "edge"
		}
		if t := r.cells[j]; t != nil {
			c.Fails = fails(t.Fails, t.Runs)
			if v == kernel.Bad || v == kernel.Inconclusive {
				id := s.told(i, j, told)
				if id == "" {
					id = out.ID + "t" + itoa(j)
					d := testDetail(id, t)
					d.Sign, d.Word, d.Class = c.Sign, c.Word, c.Class
					d.Runs = links.runs(r.SHA, r.Build.Kernel.Digest, t)
					out.Details = append(out.Details, d)
				}
				c.Href = "#" + id
			}
			links.cell(&c, r.SHA, r.Build.Kernel.Digest, t)
		}
		out.Cells = append(out.Cells, c)
	}
	return out
}

func caseOf(test string) string { c, _ := splitTest(test); return c }

// told finds the section that shows the same failure of a test already, "" if
// there is none: a page repeats no log.
func (s *series) told(i, j int, told map[int]string) string {
	t := s.rows[i].cells[j]
	if t.Verdict != kernel.Bad {
		return ""
	}
	first := s.firstBad(j)
	if first < i && s.rows[first].cells[j].Signature.Same(t.Signature) {
		return told[j]
	}
	if first == i {
		told[j] = "c" + itoa(i) + "t" + itoa(j)
	}
	return ""
}

// firstBad is the first row where a test is bad.
func (s *series) firstBad(test int) int {
	return slices.IndexFunc(s.rows, func(r row) bool { return r.cells[test] != nil && r.cells[test].Verdict == kernel.Bad })
}

// stage is the cell of a build or a boot.
func stage(text string, failed bool, row int) htmlCell {
	switch {
	case failed:
		return htmlCell{Sign: "/", Word: text, Class: "warn", Href: "#c" + itoa(row)}
	case text == "":
		return htmlCell{Sign: ".", Word: "none", Class: "dim"}
	}
	return htmlCell{Sign: "+", Word: text, Class: "ok"}
}
