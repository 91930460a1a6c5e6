package simulate

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/bisect"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

func plain(n int) World {
	return World{Name: "constant", Commits: n, FailRate: 0.5, FalseFailRate: 0.01, BuildPrice: bisect.DefaultPrice, Confidence: 0.99}
}

// The goals of tests/simulation in small: enough to see an engine that is
// broken, not one that is a little worse.
func TestSearchInWorlds(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*World)
		right  float64
		builds float64
	}{
		{"constant", func(*World) {}, 0.93, 7.5},
		{"rate 0.3", func(w *World) { w.FailRate = 0.3 }, 0.93, 8.5},
		{"deterministic", func(w *World) { w.FailRate, w.FalseFailRate = 1, 0 }, 0.99, 6.5},
		{"spread", func(w *World) { w.Name = "spread" }, 0.9, 9},
		{"bimodal", func(w *World) { w.Name = "bimodal" }, 0.6, 13},
		{"bad good ends", func(w *World) { w.BadGoodEnd = 0.5 }, 0.9, 7},
		{"scattered skips", func(w *World) { w.Skips = "scattered" }, 0.9, 9},
		{"merges", func(w *World) { w.Merges = true }, 0.9, 9},
		{"three workers", func(w *World) { w.Workers = 3 }, 0.9, 16},
		{"rare, repeated", func(w *World) { w.FailRate, w.Iteration, w.FalseFailRate = 0.1, 0.2, 0.002 }, 0.85, 11},
		{"hot", func(w *World) { w.Hot, w.HotRight = 0.05, true }, 0.93, 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := plain(64)
			c.change(&w)
			r, err := Run(w, 20, 11)
			if err != nil {
				t.Fatal(err)
			}
			if r.Right < c.right || r.Wrong > 0.06 || r.BuildsMean > c.builds {
				t.Errorf("%+v", r)
			}
			if sum := r.Right + r.Wrong + r.Inconclusive; sum < 0.999 || sum > 1.001 {
				t.Errorf("shares sum to %g", sum)
			}
		})
	}
}

func TestEqualSeedsGiveEqualAnswers(t *testing.T) {
	a, err := Run(plain(64), 10, 5)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := Run(plain(64), 10, 5)
	c, _ := Run(plain(64), 10, 6)
	if !reflect.DeepEqual(a, b) {
		t.Errorf("%+v\n%+v", a, b)
	}
	if reflect.DeepEqual(a.RunsMean, c.RunsMean) {
		t.Error("another seed gives the same runs")
	}
}

// Where a build costs sixty runs across a commit that changes what everything
// includes, and three elsewhere, a search that knows it costs a fourth less than
// one that has one price for all, whichever, and is right as often.
func TestOwnPrices(t *testing.T) {
	w := plain(64)
	w.Wide, w.NarrowPrice = 0.05, 3
	own, err := Run(w, 60, 21)
	if err != nil {
		t.Fatal(err)
	}
	if own.Right < 0.97 || own.Wrong > 0.02 {
		t.Errorf("%+v", own)
	}
	for _, w.FlatPrice = range []float64{w.NarrowPrice, w.BuildPrice} {
		flat, err := Run(w, 60, 21)
		if err != nil {
			t.Fatal(err)
		}
		if own.CostMean > 0.8*flat.CostMean || own.Right < flat.Right-0.02 {
			t.Errorf("cost %.0f, right %.3f; told %g for all %.0f, %.3f", own.CostMean, own.Right, w.FlatPrice, flat.CostMean, flat.Right)
		}
	}
}

// What a build costs depends on what lies between it and the one before.
func TestPriceOfABuild(t *testing.T) {
	w := plain(10)
	w.NarrowPrice = 3
	x := newWorld(w, shapeOf(w, 1), generator(1, 1))
	if got := x.price(2, 3); got != w.BuildPrice || x.prices(2) != nil {
		t.Errorf("all alike: %g, %v", got, x.prices(2))
	}
	w.Wide = 0.1
	x = newWorld(w, shapeOf(w, 1), generator(1, 1))
	x.wide = []int{0, 0, 0, 1, 1, 1, 1, 1, 1, 1}
	for _, c := range []struct {
		warm, i int
		want    float64
	}{{bisect.GoodEnd, 2, 3}, {bisect.GoodEnd, 3, 60}, {9, 3, 3}, {9, 2, 60}, {2, 2, 3}} {
		if got := x.prices(c.warm)[c.i]; got != c.want {
			t.Errorf("from %d to %d: %g, want %g", c.warm, c.i, got, c.want)
		}
	}
	if x.FlatPrice = 60; x.prices(2) != nil || x.prices(bisect.Nowhere) != nil {
		t.Error("a search that is told one price knows others")
	}
}

// A search that names commits without looking at the runs is wrong: the judge of
// the simulation says so.
func TestOutcomesAreJudged(t *testing.T) {
	w := plain(64)
	w.FailRate = 0 // never reproduced
	r, err := Run(w, 5, 1)
	if err != nil || r.Right != 0 || r.Inconclusive+r.Wrong < 0.99 {
		t.Errorf("%+v, %v", r, err)
	}
	s := sum(w, 1, []outcome{
		{status: kernel.Found, confidence: 0.99},              // wrong
		{status: kernel.Found, confidence: 0.99, right: true}, // right
		{status: kernel.Set, confidence: 0.99, holds: true},   // a set with the culprit
		{status: kernel.Set, confidence: 0.99},                // and one without
		{status: kernel.NoConclusion},
	})
	if s.Right < 0.19 || s.Right > 0.21 || s.Wrong < 0.39 || s.Wrong > 0.41 || s.Sets < 0.19 || s.Sets > 0.21 || s.StatedRight != 0.5 {
		t.Errorf("%+v", s)
	}
}

// The rates of every world are what its name says.
func TestWorldRates(t *testing.T) {
	for name, want := range map[string][2]float64{ // at the bad end, and at the culprit; the mean where it is drawn
		"constant": {0.5, 0.5}, "spread": {0.5, 0.5}, "drift": {0.6, 0.2}, "drop": {0.8, 0.25}, "bimodal": {0.425, 0.425}, "decay": {0.9, 0.05625},
	} {
		var ends [2]float64
		const worlds = 2000
		for i := range worlds {
			w := plain(1000)
			w.Name = name
			x := newWorld(w, shapeOf(World{Commits: 3}, 1), rand.New(rand.NewPCG(1, uint64(i))))
			x.culprit = 300
			ends[0] += x.rate(999) / worlds
			ends[1] += x.rate(300) / worlds
		}
		for k := range ends {
			if d := ends[k] - want[k]; d < -0.02 || d > 0.02 {
				t.Errorf("%s: %v, want %v", name, ends, want)
			}
		}
	}
}

func TestWorldIsChecked(t *testing.T) {
	for _, change := range []func(*World){
		func(w *World) { w.Name = "flat" }, func(w *World) { w.Commits = 0 }, func(w *World) { w.FailRate = 1.5 },
		func(w *World) { w.Skips = "all" }, func(w *World) { w.BuildPrice = -1 },
		func(w *World) { w.NarrowPrice = -1 }, func(w *World) { w.Wide = 2 }, func(w *World) { w.Wide, w.Merges = 0.1, true },
	} {
		w := plain(64)
		change(&w)
		if _, err := Run(w, 1, 1); err == nil {
			t.Errorf("%+v was accepted", w)
		}
	}
}
