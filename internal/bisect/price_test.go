package bisect

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/kernel-bisect/kbisect/internal/history"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// walls are prices of builds in a row of commits, some of which change what
// everything includes: across one of them a build is dear.
func walls(n int, cheap, dear float64, at ...int) func(warm int) []float64 {
	side := func(i int) (k int) {
		for _, w := range at {
			if i >= w {
				k++
			}
		}
		return k
	}
	return func(warm int) []float64 {
		if warm == Nowhere {
			return nil
		}
		out := make([]float64, n)
		for i := range out {
			if out[i] = cheap; side(i) != side(warm) {
				out[i] = dear
			}
		}
		return out
	}
}

// paid carries a search out and returns what its builds cost, both ends having
// been built.
func paid(t *testing.T, s *Search, w world, price func(warm int) []float64) (Result, float64) {
	t.Helper()
	n := s.shape.Len()
	cost, warm, built := 0.0, s.passing(), map[int]bool{GoodEnd: true, n - 1: true} // which is asked for second
	for runs := 0; ; runs++ {
		ps := s.Next(1)
		if len(ps) == 0 {
			return s.Result(), cost
		}
		if runs > s.opt.MaxRuns {
			t.Fatal("the search does not end")
		}
		i := ps[0].Commit
		if !built[i] {
			cost, built[i], warm = cost+price(warm)[i], true, i
		}
		s.Observe(Observation{Commit: i, Iterations: 1, Failed: w.bad(i) && w.rng.Float64() < w.r})
	}
}

// A search that knows which builds are dear makes fewer of those, and answers no
// worse.
func TestDearBuildsAreFew(t *testing.T) {
	const n = 64
	for _, fix := range []bool{false, true} {
		price := walls(n, 3, 60, 20, 41)
		flat, own := 0.0, 0.0
		for c := range n {
			w := world{bad: from(c), r: 1, rng: rng()}
			if fix {
				w.bad = func(i int) bool { return i < c }
			}
			r, cost := paid(t, New(row(n), Options{Fix: fix}), w, price)
			flat += cost / n
			if r.Status != kernel.Found || r.Culprit != c {
				t.Errorf("one price, culprit %d: %+v", c, r)
			}
			r, cost = paid(t, New(row(n), Options{Fix: fix, PriceFrom: price}), w, price)
			own += cost / n
			if r.Status != kernel.Found || r.Culprit != c {
				t.Errorf("own prices, culprit %d: %+v", c, r)
			}
		}
		// The way over a wall and back is left out.
		if own > 0.7*flat {
			t.Errorf("fix %v: builds cost %.0f runs, and %.0f with one price for all", fix, own, flat)
		}
	}
}

// Where nothing is known of the prices, a search goes the way of one price for all.
func TestUnknownPricesAreOne(t *testing.T) {
	const n = 200
	for c := 0; c < n; c += 7 {
		var ways [2][]int
		for k, from := range []func(int) []float64{nil, func(int) []float64 { return nil }} {
			s := New(row(n), Options{PriceFrom: from})
			rnd := rng()
			for ps := s.Next(1); len(ps) > 0; ps = s.Next(1) {
				ways[k] = append(ways[k], ps[0].Commit)
				s.Observe(Observation{Commit: ps[0].Commit, Iterations: 1, Failed: ps[0].Commit >= c && rnd.Float64() < 0.6})
			}
		}
		if !slices.Equal(ways[0], ways[1]) {
			t.Fatalf("culprit %d: %v, with prices %v", c, ways[0], ways[1])
		}
	}
}

// The object tree has what was built last: not what was kept, nor what turned out
// to be the kernel of another.
func TestWarmCommit(t *testing.T) {
	s := New(row(64), Options{Free: []int{GoodEnd, 30}})
	for k, c := range []struct {
		o    Observation
		warm int
	}{
		{Observation{Commit: GoodEnd}, Nowhere}, // kept
		{Observation{Commit: 63, Failed: true}, 63},
		{Observation{Commit: 30}, 63}, // kept
		{Observation{Commit: 40}, 40},
		{Observation{Commit: 63, Failed: true}, 40}, // it is there
		{Observation{Commit: 50, Twin: true, Of: 40}, 40},
		{Observation{Commit: 50}, 40},
		{Observation{Commit: 20, Untestable: true}, 20},
		{Observation{Commit: 25, Other: true}, 25},
	} {
		if s.Observe(c.o); s.warm.at != c.warm {
			t.Errorf("after %d observations: %d, want %d", k+1, s.warm.at, c.warm)
		}
	}
	for range 2 {
		s.Undo()
	}
	if s.warm.at != 40 {
		t.Errorf("taken back: %d", s.warm.at)
	}
}

// Cheap builds may be more than dear ones, but not more than the user allows.
func TestCheapBuildsAreMany(t *testing.T) {
	const n = 64
	price := func(runs float64) func(int) []float64 {
		return func(int) []float64 { return slices.Repeat([]float64{runs}, n) }
	}
	for _, c := range []struct {
		opt  Options
		want int
	}{
		{Options{}, 26}, // 2 log2 of the range, and a few
		{Options{PriceFrom: price(DefaultPrice)}, 26},
		{Options{PriceFrom: price(3 * DefaultPrice)}, 26},
		{Options{PriceFrom: price(DefaultPrice / 2)}, 2 * 26},
		{Options{PriceFrom: price(DefaultPrice / 2), MaxBuilds: 5}, 5},
	} {
		s := New(row(n), c.opt)
		s.Observe(Observation{Commit: n - 1, Failed: true})
		for i := 0; i < n-1 && !s.builtOut(); i++ {
			s.Observe(Observation{Commit: i, Untestable: true})
		}
		if s.builds != c.want {
			t.Errorf("%d builds, want %d", s.builds, c.want)
		}
	}
}

// every finds what looking at each commit by itself finds.
func TestEveryCommitIsLookedAt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "n")
		prior := rapid.SliceOfN(rapid.Float64Range(0.05, 20), n, n).Draw(t, "prior")
		price := rapid.SliceOfN(rapid.Float64Range(1, 100), n, n).Draw(t, "price")
		p := newPosterior(row(n), prior, false)
		for range rapid.IntRange(0, 5).Draw(t, "tests") {
			p.add(rapid.IntRange(0, n-1).Draw(t, "commit"), rapid.Bool().Draw(t, "failed"))
		}
		p.update()
		usable := func(i int) bool { return p.tally(i) == nil }
		value := func(i int, upto float64) float64 { return entropy(upto) / price[i] }
		commit, worth, ok := p.part.every(p.prob, usable, value)
		top := 0.0
		for i := range n {
			if usable(i) && p.prob[p.part.of(i)] >= negligible {
				top = max(top, value(i, p.part.upto(i, p.prob)))
			}
		}
		if ok != (top > 0) || math.Abs(worth-top) > 1e-9 || ok && math.Abs(value(commit, p.part.upto(commit, p.prob))-top) > 1e-9 {
			t.Fatalf("commit %d at %g, want %g", commit, worth, top)
		}
	})
}

// A search that is resumed takes the way that it took, whatever the prices are.
func TestPricedSearchIsRepeated(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 20).Draw(t, "n")
		var shape *history.Shape
		if shape = row(n); rapid.Bool().Draw(t, "merges") {
			shape = randomShape(t, n)
		}
		table := map[int][]float64{}
		for warm := Nowhere; warm < n; warm++ {
			if rapid.IntRange(0, 3).Draw(t, "known") > 0 {
				table[warm] = rapid.SliceOfN(rapid.Float64Range(0.5, 500), n, n).Draw(t, "prices")
			}
		}
		opt := Options{
			PriceFrom: func(warm int) []float64 { return table[warm] }, Fix: rapid.Bool().Draw(t, "fix"), MaxIterations: 8, MaxRuns: 200,
			Free: rapid.SliceOfN(rapid.IntRange(GoodEnd, n-1), 0, 3).Draw(t, "free"),
		}
		s, again := New(shape, opt), New(shape, opt)
		for ps := s.Next(1); len(ps) > 0; ps = s.Next(1) {
			p := ps[0]
			if p.Commit < GoodEnd || p.Commit >= n || s.zones.skipped[p.Commit] {
				t.Fatalf("%+v", p)
			}
			o := Observation{Commit: p.Commit, Iterations: p.Iterations}
			switch rapid.IntRange(0, 7).Draw(t, "answer") {
			case 0:
				o.Untestable = true
			case 1, 2, 3:
				o.Failed = true
			}
			s.Observe(o)
		}
		for _, o := range s.log {
			if ps := again.Next(1); len(ps) == 0 || ps[0].Commit != o.Commit {
				t.Fatalf("%+v, and before %d", ps, o.Commit)
			}
			again.Observe(o)
		}
		if ps := again.Next(1); len(ps) > 0 || again.Result().Status != s.Result().Status {
			t.Fatalf("%+v, %+v, before %+v", ps, again.Result(), s.Result())
		}
	})
}
