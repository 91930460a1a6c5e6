package report

import (
	"unicode/utf8"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// remarkWidth is what the last column of a matrix should have at least.
const remarkWidth = 24

// checkMatrix writes the kernels, and the matrix of all tests.
func (p *printer) checkMatrix(m *matrix) {
	p.line(cell{m.sentence(), bold})
	if also := m.also(); also != "" {
		p.text(also)
	}
	if len(m.cols) > 0 {
		p.text("")
		p.print(m.kernelTable())
	}
	if len(m.tests) > 0 {
		p.text("")
		p.print(m.testTable(p.width))
		p.line(cell{legend, dim})
	}
	for i := range m.cols {
		c := &m.cols[i]
		p.bootTrouble(c.num+" "+c.name, &c.Boot)
		if c.Error != "" {
			p.text("")
			p.line(cell{c.num + " " + c.name + " could not be tested", bold})
			p.text("    " + plain(c.Error))
		}
	}
	first := true
	for i := range m.cols {
		c := &m.cols[i]
		for _, l := range lacks(&c.Kernel, &c.Boot) {
			if first {
				p.text("")
			}
			first = false
			p.text("the guest of " + c.num + " lacks something: " + l)
		}
	}
	p.text("")
	p.foot([]string{"profile " + plain(m.Profile)}, m.Seconds, m.Host, m.Command)
}

func (m *matrix) kernelTable() *table {
	t := &table{
		head:  []string{"#", "kernel", "boot", "tests"},
		right: map[int]bool{0: true, 2: true},
		flex:  []flexible{{3, 24}, {1, 20}},
	}
	for i := range m.cols {
		c := &m.cols[i]
		boot := ""
		switch c.Boot.Status {
		case kernel.BootOK:
			boot = seconds(c.Boot.Seconds)
		case kernel.BootFailed:
			boot = "failed"
		}
		text, st := c.summary()
		t.add(cell{text: c.num}, cell{text: c.name}, cell{boot, troubleStyle(c.Boot.Status == kernel.BootFailed)}, cell{text, st})
	}
	return t
}

// testTable has a column for each kernel: headed by its release and with words
// where the width allows, else by its number and with signs.
func (m *matrix) testTable(width int) *table {
	heads, wide := m.heads(), true
	need := remarkWidth
	for _, n := range m.tests {
		need = max(need, remarkWidth+utf8.RuneCountInString(plain(n)))
	}
	for i, h := range heads {
		w := utf8.RuneCountInString(h)
		for j := range m.tests {
			w = max(w, len("+ ")+len(word(m.cols[i].verdict(j))))
		}
		need += w + 2
	}
	if need > width {
		heads, wide = m.numbers(), false
	}
	t := &table{head: append(append([]string{"test"}, heads...), "")}
	t.flex = []flexible{{len(t.head) - 1, 16}, {0, 20}}
	for j, name := range m.tests {
		line := []cell{{text: plain(name)}}
		for i := range m.cols {
			v := m.cols[i].verdict(j)
			text := sign(v)
			if wide {
				text += " " + word(v)
			}
			line = append(line, cell{text, verdictStyle(v)})
		}
		t.add(append(line, cell{m.remark(j), dim})...)
	}
	return t
}
