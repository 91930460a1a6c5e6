package report

import (
	"bufio"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// style is a terminal rendition; the empty one is plain.
type style string

const (
	bold   style = "1"
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
)

// verdictStyle is the colour of a verdict.
func verdictStyle(v kernel.Verdict) style {
	switch v {
	case kernel.Good:
		return green
	case kernel.Bad:
		return red
	case kernel.Inconclusive, kernel.Untestable:
		return yellow
	}
	return dim
}

// cell is a piece of text with a style. Its text is plain already.
type cell struct {
	text  string
	style style
}

// printer writes lines, coloured or not. It keeps the first error.
type printer struct {
	w     *bufio.Writer
	color bool
	width int
}

func newPrinter(w io.Writer, o TextOptions) *printer {
	if o.Width <= 0 {
		o.Width = 100
	}
	return &printer{w: bufio.NewWriter(w), color: o.Color, width: max(o.Width, 40)}
}

func (p *printer) flush() error { return p.w.Flush() }

// line writes cells next to each other.
func (p *printer) line(cells ...cell) {
	var b strings.Builder
	for _, c := range cells {
		b.WriteString(p.paint(c, c.text))
	}
	p.w.WriteString(strings.TrimRight(b.String(), " "))
	p.w.WriteByte('\n')
}

// text writes one plain line.
func (p *printer) text(s string) { p.line(cell{text: s}) }

func (p *printer) paint(c cell, s string) string {
	if !p.color || c.style == "" || strings.TrimSpace(s) == "" {
		return s
	}
	// Padding stays outside, or a terminal underlines and inverts it too.
	body := strings.TrimRight(s, " ")
	return "\x1b[" + string(c.style) + "m" + body + "\x1b[0m" + s[len(body):]
}

// table is aligned columns with two blanks between them.
type table struct {
	head  []string
	right map[int]bool // columns aligned to the right
	rows  [][]cell
	// flex are columns that give way when the table is too wide, with the
	// width each keeps, in the order they are cut.
	flex []flexible
}

type flexible struct{ col, keep int }

func (t *table) add(cells ...cell) { t.rows = append(t.rows, cells) }

// print leaves empty columns out.
func (p *printer) print(t *table) {
	width := make([]int, len(t.head))
	for _, r := range t.rows {
		for i, c := range r {
			width[i] = max(width[i], utf8.RuneCountInString(c.text))
		}
	}
	total := 0
	for i, n := range width {
		if n > 0 {
			width[i] = max(n, utf8.RuneCountInString(t.head[i]))
			total += width[i] + 2
		}
	}
	for _, f := range t.flex {
		if over := total - 2 - p.width; over > 0 && width[f.col] > f.keep {
			give := min(over, width[f.col]-f.keep)
			width[f.col] -= give
			total -= give
		}
	}
	head := make([]cell, len(t.head))
	for i, h := range t.head {
		head[i] = cell{h, dim}
	}
	for _, r := range append([][]cell{head}, t.rows...) {
		var out []cell
		for i, c := range r {
			if width[i] == 0 {
				continue
			}
			c.text = pad(cut(c.text, width[i]), width[i], t.right[i])
			out = append(out, c, cell{text: "  "})
		}
		p.line(out...)
	}
}

func pad(s string, width int, right bool) string {
	n := width - utf8.RuneCountInString(s)
	if n <= 0 {
		return s
	}
	if right {
		return strings.Repeat(" ", n) + s
	}
	return s + strings.Repeat(" ", n)
}
