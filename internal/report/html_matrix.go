package report

import (
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// htmlMatrix is the page of several kernels.
type htmlMatrix struct {
	Kernels []htmlKernel
	Rows    []htmlTest
	Legend  string
	Shared  string // ending of all releases, which the columns leave out
}

// htmlKernel is a column of the matrix and a section below it.
type htmlKernel struct {
	ID, Name    string
	Head        string // name as the column shows it
	Boot, Tests string // words
	Class       string // of Tests
	Modules     string
	Lacks       []string
	Trouble     *trouble
	Error       string
	Details     []detail
}

// Story says whether the kernel needs a section.
func (k htmlKernel) Story() bool {
	return k.Trouble != nil || k.Error != "" || len(k.Lacks) > 0 || len(k.Details) > 0
}

// htmlTest is a row of the matrix.
type htmlTest struct {
	Name, Why string
	Cells     []htmlCell
	Edge      bool // the first test of its case
}

func matrixPage(m *matrix, links Links) *page {
	h := &htmlMatrix{Legend: legend}
	tone := "good"
	heads := m.heads()
	for i := range m.cols {
		k := m.htmlKernel(i)
		k.Head = heads[i]
		h.Shared = strings.TrimPrefix(k.Name, k.Head)
		h.Kernels = append(h.Kernels, k)
		switch {
		case k.Class == "bad":
			tone = "bad"
		case k.Class != "good" && tone == "good":
			tone = "warn"
		}
	}
	for j, name := range m.tests {
		r := htmlTest{Name: plain(name), Why: m.remark(j), Edge: j > 0 && caseOf(name) != caseOf(m.tests[j-1])}
		for i := range m.cols {
			r.Cells = append(r.Cells, m.htmlCell(i, j, links))
		}
		h.Rows = append(h.Rows, r)
	}
	if len(m.tests) == 0 {
		tone = "warn"
	}
	return &page{
		Kind: "check", Verdict: m.sentence(), Also: m.also(), Tone: tone, Matrix: h, Command: plain(m.Command),
		Facts: pairs(pair{"Kernels", itoa(len(m.cols))}, pair{"Tests", itoa(len(m.tests))}, pair{"Profile", m.Profile}),
		Foot:  foot(m.ID, matrixSchema, m.Seconds, m.Started, m.Host),
	}
}

func (m *matrix) htmlKernel(i int) htmlKernel {
	c := &m.cols[i]
	k := htmlKernel{
		ID: "k" + itoa(i), Name: c.name, Modules: plain(loaded(&c.Kernel)), Error: plain(c.Error),
		Lacks: lacks(&c.Kernel, &c.Boot), Trouble: troubleOf(nil, &c.Boot, Links{}),
	}
	text, st := c.summary()
	k.Tests, k.Class = text, map[style]string{red: "bad", green: "good", yellow: "warn", dim: "dim"}[st]
	switch c.Boot.Status {
	case kernel.BootOK:
		k.Boot = "boots in " + seconds(c.Boot.Seconds)
	case kernel.BootFailed:
		k.Boot = "does not boot"
		k.Tests = strings.TrimSuffix(k.Tests, " does not boot") + " untestable"
	}
	for j, t := range c.cells {
		if t != nil && failed(t) {
			k.Details = append(k.Details, testDetail(k.ID+"t"+itoa(j), t))
		}
	}
	return k
}

func (m *matrix) htmlCell(i, j int, links Links) htmlCell {
	v := m.cols[i].verdict(j)
	c := htmlCell{Sign: sign(v), Word: word(v), Class: class(v)}
	t := m.cols[i].cells[j]
	if t == nil {
		return c
	}
	c.Fails = fails(t.Fails, t.Runs)
	if failed(t) {
		c.Href = "#k" + itoa(i) + "t" + itoa(j)
	}
	links.cell(&c, "", m.cols[i].Kernel.Digest, t)
	return c
}
