package report

import (
	"fmt"
	"math"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// chart is the range of candidates narrowing, step by step, on a logarithmic
// scale: a bisection that works is a straight line.
type chart struct {
	W, H, Left, Right, Bottom int
	Path                      string
	Dots                      []dot
	Ticks                     []tick
	Title                     string
}

type dot struct {
	X, Y        int
	Sign, Class string
	Label       int // step number under it, 0 for none
}

type tick struct {
	Y    int
	Text string
}

func newChart(steps []kernel.BisectStep) *chart {
	if len(steps) < 2 {
		return nil
	}
	c := &chart{W: 640, H: 190, Left: 46, Right: 620, Bottom: 152}
	const top = 18
	most := 1
	var left []string
	for _, s := range steps {
		most = max(most, s.Left)
		left = append(left, itoa(s.Left))
	}
	c.Title = "Candidates left after each step: " + strings.Join(left, ", ")
	y := func(n int) int {
		if most == 1 {
			return c.Bottom
		}
		return c.Bottom - int(float64(c.Bottom-top)*math.Log(float64(max(n, 1)))/math.Log(float64(most)))
	}
	every := (len(steps) + 19) / 20
	var path strings.Builder
	for i, s := range steps {
		d := dot{X: c.Left + 16 + i*(c.Right-c.Left-32)/(len(steps)-1), Y: y(s.Left)}
		v := outcomeVerdict(s.Outcome)
		d.Sign, d.Class = sign(v), class(v)
		if i%every == 0 {
			d.Label = i + 1
		}
		if i == 0 {
			fmt.Fprintf(&path, "M%d %d", d.X, d.Y)
		} else {
			fmt.Fprintf(&path, "H%dV%d", d.X, d.Y)
		}
		c.Dots = append(c.Dots, d)
	}
	c.Path = path.String()
	for n := 1; n < most; n *= 10 {
		if n == 1 || y(n)-y(most) > 14 {
			c.Ticks = append(c.Ticks, tick{y(n), itoa(n)})
		}
	}
	c.Ticks = append(c.Ticks, tick{y(most), itoa(most)})
	return c
}

// heat is where the culprit may be, a row for each step and a column for each
// part of the range.
type heat struct {
	W, H, Left, Right int
	Rows              []heatRow
	Culprit           int // x of its part, 0 when not known
	Foot              int // y of the words below
	Oldest, Newest    string
	Title             string
	Bare              bool // without its style, which the page has
}

type heatRow struct {
	Y, Label int
	Cells    []heatCell
	Tested   int // x of the commit, 0 when below the range
	Class    string
}

// heatCell is some neighbouring parts with about the same probability.
type heatCell struct{ X, W, Level int }

// Bounds of the drawing: rows, their height, and shades that can be told apart.
const (
	maxHeatRows = 40
	heatRowH    = 13
	heatLevels  = 9
)

func newHeat(r *kernel.BisectResult) *heat {
	steps := drawn(r.Steps, maxHeatRows)
	if len(steps) == 0 {
		return nil
	}
	h := &heat{W: 640, Left: 46, Right: 620}
	h.Foot = 16 + len(steps)*heatRowH + 16
	h.H = h.Foot + 6
	if !r.FindFix {
		h.Oldest, h.Newest = "good end", "bad end"
	} else {
		h.Oldest, h.Newest = "broken end", "fixed end"
	}
	at := func(bin, of int) int { return h.Left + (h.Right-h.Left)*bin/of }
	for n, i := range steps {
		s := &r.Steps[i]
		bins := min(len(s.Posterior), kernel.PosteriorBins)
		row := heatRow{Y: 16 + n*heatRowH, Label: i + 1, Class: class(outcomeVerdict(s.Outcome))}
		for from := 0; from < bins; {
			l, to := level(s.Posterior[from], heatLevels), from+1
			for to < bins && level(s.Posterior[to], heatLevels) == l {
				to++
			}
			if l > 0 {
				row.Cells = append(row.Cells, heatCell{at(from, bins), at(to, bins) - at(from, bins), l})
			}
			from = to
		}
		if s.Bin > 0 && s.Bin <= bins {
			row.Tested = (at(s.Bin-1, bins) + at(s.Bin, bins)) / 2
			if r.Culprit != nil && s.SHA == r.Culprit.SHA {
				h.Culprit = row.Tested
			}
		}
		h.Rows = append(h.Rows, row)
	}
	last := r.Steps[steps[len(steps)-1]].Posterior
	best := 0
	for i, p := range last {
		if p > last[best] {
			best = i
		}
	}
	h.Title = fmt.Sprintf("Where the change may be, after each step. In the end %s in part %d of %d of the range, counted from the oldest.",
		percent(last[best]), best+1, len(last))
	return h
}
