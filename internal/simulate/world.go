// Package simulate lets the real search engine work in simulated worlds: ranges
// with a planted culprit and a test that fails at random. Its numbers are why
// the engine may state a confidence. Pure but for the processors it uses: the
// same seed gives the same answer.
package simulate

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/kernel-bisect/kbisect/internal/bisect"
	"github.com/kernel-bisect/kbisect/internal/history"
)

// Worlds are the ways in which the failure rate of bad commits may vary along
// the range (facts of the prototype: same, spread, drift, drop; and two in which
// it was often wrong: bimodal and decay).
var Worlds = []string{"constant", "spread", "drift", "drop", "bimodal", "decay"}

// World is what a simulation is made of.
type World struct {
	Name          string  // one of Worlds
	Commits       int     // of the range, without the good end
	FailRate      float64 // of bad commits, in the constant world
	FalseFailRate float64 // of good commits
	BuildPrice    float64 // in runs
	Wide          float64 // share of the commits that change a header which everything includes; 0: each build costs BuildPrice
	NarrowPrice   float64 // with Wide: of a build with no such commit between it and the last one, in runs
	FlatPrice     float64 // with Wide: what the search is told that any build costs; 0: the truth
	Iteration     float64 // what a further iteration in one guest costs, in runs; 0: no amplification
	BadGoodEnd    float64 // share of ranges whose good end is bad
	Skips         string  // "", scattered (10 % of the commits), block (30 % in one)
	Hot           float64 // share of the commits that a prior names; 0: no prior
	HotRight      bool    // the culprit is one of them
	Correlation   float64 // chance that a run repeats the outcome of the last one of its commit
	TwoChanges    bool    // a second change repairs and a third one breaks again
	Merges        bool    // a history like the kernel's, in which branches are merged
	Confidence    float64
	Workers       int // probes made at once
}

// world is one range with everything hidden in it.
type world struct {
	World
	rng      *rand.Rand
	shape    *history.Shape
	culprit  int // GoodEnd: older than the good end
	has      history.Bits
	skip     map[int]bool
	rates    map[int]float64
	last     map[int]bool
	hot      []float64
	repaired [2]int // with TwoChanges: good again from the first, bad from the second
	wide     []int  // with Wide: how many such commits there are up to each
}

func newWorld(w World, shape *history.Shape, rng *rand.Rand) *world {
	x := &world{World: w, rng: rng, shape: shape, skip: map[int]bool{}, rates: map[int]float64{}, last: map[int]bool{}}
	n := w.Commits
	x.culprit = rng.IntN(n)
	if rng.Float64() < w.BadGoodEnd {
		x.culprit = bisect.GoodEnd
	}
	switch w.Skips {
	case "scattered":
		for _, i := range rng.Perm(n - 1)[:n/10] {
			x.skip[i] = true
		}
	case "block":
		for x.culprit >= n*34/100-1 && x.culprit <= n*66/100 {
			x.culprit = rng.IntN(n)
		}
		for i := n * 35 / 100; i < n*65/100; i++ {
			x.skip[i] = true
		}
	}
	// Where the culprit or the commit before it cannot be tested there is no
	// right answer but a set; the goals are about the others.
	delete(x.skip, x.culprit)
	delete(x.skip, x.culprit-1)
	if w.Hot > 0 {
		x.hot = make([]float64, n)
		hot := rng.Perm(n)[:int(w.Hot*float64(n))]
		for i := range x.hot {
			x.hot[i] = 1
		}
		for _, i := range hot {
			x.hot[i] = 20
		}
		if w.HotRight {
			x.culprit = hot[rng.IntN(len(hot))]
		} else {
			for x.hot[x.culprit] > 1 {
				x.culprit = rng.IntN(n)
			}
		}
	}
	if w.TwoChanges {
		x.culprit = rng.IntN(n / 3)
		x.repaired = [2]int{n/3 + rng.IntN(n/3), n*2/3 + rng.IntN(n/3)}
	}
	if w.Wide > 0 {
		x.wide = make([]int, n)
		for _, i := range rng.Perm(n)[:int(math.Ceil(w.Wide*float64(n)))] {
			x.wide[i] = 1
		}
		for i := 1; i < n; i++ {
			x.wide[i] += x.wide[i-1]
		}
	}
	if !shape.Line() && x.culprit >= 0 {
		x.has = history.NewBits(n)
		for i := x.culprit; i < n; i++ {
			in := i == x.culprit
			for _, p := range shape.Parents(i) {
				in = in || x.has.Has(int(p))
			}
			if in {
				x.has.Set(i)
			}
		}
	}
	return x
}

func (w *world) bad(i int) bool {
	switch {
	case w.culprit == bisect.GoodEnd:
		return true
	case i == bisect.GoodEnd:
		return false
	case w.TwoChanges && i >= w.repaired[0] && i < w.repaired[1]:
		return false
	case w.has != nil:
		return w.has.Has(i)
	}
	return i >= w.culprit
}

// price is what the build of a commit costs after that of another.
func (w *world) price(warm, i int) float64 {
	upto := func(i int) int {
		if i == bisect.GoodEnd {
			return 0
		}
		return w.wide[i]
	}
	if w.wide == nil || upto(warm) != upto(i) {
		return w.BuildPrice
	}
	return w.NarrowPrice
}

// prices are those of all commits; nil where the search is not to know them.
func (w *world) prices(warm int) []float64 {
	if w.wide == nil || w.FlatPrice > 0 || warm == bisect.Nowhere {
		return nil
	}
	out := make([]float64, w.Commits)
	for i := range out {
		out[i] = w.price(warm, i)
	}
	return out
}

// rate is the failure rate of a bad commit.
func (w *world) rate(i int) float64 {
	n, c := float64(w.Commits-1), float64(max(w.culprit, 0))
	x := 1.0 // from 0 at the culprit to 1 at the bad end
	if n > c {
		x = (float64(i) - c) / (n - c)
	}
	once := func(draw func() float64) float64 {
		r, ok := w.rates[i]
		if !ok {
			r = draw()
			w.rates[i] = r
		}
		return r
	}
	switch w.Name {
	case "spread":
		return once(func() float64 { return 0.2 + 0.6*w.rng.Float64() })
	case "drift":
		return 0.2 + 0.4*x
	case "drop":
		if float64(i) > 0.9*n {
			return 0.8
		}
		return 0.25
	case "bimodal":
		return once(func() float64 {
			if w.rng.IntN(2) == 0 {
				return 0.7
			}
			return 0.15
		})
	case "decay":
		return 0.9 * math.Exp2(-4*(1-x))
	}
	return w.FailRate
}

// run tests a commit once.
func (w *world) run(i, iterations int) bool {
	if last, ok := w.last[i]; ok && w.rng.Float64() < w.Correlation {
		return last
	}
	r := w.FalseFailRate
	if w.bad(i) {
		r = w.rate(i)
	}
	fails := w.rng.Float64() < 1-math.Pow(1-r, float64(iterations))
	w.last[i] = fails
	return fails
}

// check says what is wrong with a world, nil if nothing is.
func (w *World) check() error {
	known := false
	for _, n := range Worlds {
		known = known || n == w.Name
	}
	rate := func(x float64) bool { return x >= 0 && x <= 1 }
	switch {
	case !known:
		return fmt.Errorf("world %q: one of %v", w.Name, Worlds)
	case w.Commits < 1 || w.Commits > 2_000_000:
		return fmt.Errorf("%d commits: 1 to 2000000", w.Commits)
	case !rate(w.FailRate) || !rate(w.FalseFailRate) || !rate(w.BadGoodEnd) || !rate(w.Hot) || !rate(w.Wide) || !rate(w.Correlation):
		return fmt.Errorf("rates are fractions from 0 to 1")
	case w.Skips != "" && w.Skips != "scattered" && w.Skips != "block":
		return fmt.Errorf("skips %q: scattered or block", w.Skips)
	case w.BuildPrice < 0 || w.NarrowPrice < 0 || w.FlatPrice < 0:
		return fmt.Errorf("prices %g, %g, %g: 0 or more", w.BuildPrice, w.NarrowPrice, w.FlatPrice)
	case w.Wide > 0 && w.Merges:
		return fmt.Errorf("commits that change a header which everything includes: only on a line")
	}
	return nil
}
