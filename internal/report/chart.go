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
