package bisect

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/kernel-bisect/kbisect/internal/history"
)

// The posterior over classes must be the one over commits, computed one by one.
func TestPosteriorIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "n")
		shape := row(n)
		if rapid.Bool().Draw(t, "merges") {
			shape = randomShape(t, n)
		}
		fix := rapid.Bool().Draw(t, "fix")
		var prior []float64
		if rapid.Bool().Draw(t, "weighed") {
			for range n {
				prior = append(prior, rapid.SampledFrom([]float64{0.05, 1, 20}).Draw(t, "weight"))
			}
		}
		p := newPosterior(shape, prior, fix)
		tallies, of := map[int]*tally{}, map[int]int{} // of: of a commit with the kernel of another, that one
		for range rapid.IntRange(0, 2).Draw(t, "twins") {
			commit, other := rapid.IntRange(GoodEnd, n-1).Draw(t, "twin"), rapid.IntRange(GoodEnd, n-1).Draw(t, "of")
			if p.tally(commit) != nil || commit == other {
				continue
			}
			p.twin(commit, other)
			if first, ok := of[other]; ok {
				other = first
			}
			of[commit] = other
		}
		for range rapid.IntRange(1, 25).Draw(t, "runs") {
			commit, failed := rapid.IntRange(GoodEnd, n-1).Draw(t, "commit"), rapid.Bool().Draw(t, "failed")
			p.add(commit, failed)
			if first, ok := of[commit]; ok {
				commit = first
			}
			if tallies[commit] == nil {
				tallies[commit] = newTally(commit)
			}
			tallies[commit].add(failed)
		}
		p.update()
		want := bruteForce(shape, prior, fix, tallies, of)
		for i := range n {
			k := p.part.of(i)
			share := 1.0 / float64(n)
			if prior != nil {
				share = prior[i] / sumOf(prior)
			}
			got := p.prob[k] * share / p.part.classes()[k].prior
			if math.Abs(got-want[i]) > 1e-9 {
				t.Fatalf("commit %d: %g, one by one %g", i, got, want[i])
			}
		}
		if math.Abs(p.prob[p.older()]-want[n]) > 1e-9 || math.Abs(p.prob[p.none()]-want[n+1]) > 1e-9 {
			t.Fatalf("older %g %g, none %g %g", p.prob[p.older()], want[n], p.prob[p.none()], want[n+1])
		}
		for i := range n {
			up := 0.0
			for _, a := range shape.Ancestors(i).List() {
				up += want[a]
			}
			if got := p.part.upto(i, p.prob); math.Abs(got-up) > 1e-9 {
				t.Fatalf("upto %d: %g, one by one %g", i, got, up)
			}
		}
	})
}

// bruteForce is the probability of every commit, of "older" and of "none".
func bruteForce(shape *history.Shape, prior []float64, fix bool, tallies map[int]*tally, of map[int]int) []float64 {
	n := shape.Len()
	var logs []float64
	for c := range n + 2 {
		weight := 1 / float64(n)
		if prior != nil && c < n {
			weight = prior[c] / sumOf(prior)
		}
		weight *= 1 - priorOlder - priorNone
		switch c {
		case n:
			weight = priorOlder
		case n + 1:
			weight = priorNone
		}
		isBad := func(i int) bool {
			switch c {
			case n:
				return true
			case n + 1:
				return false
			}
			return (i != GoodEnd && shape.Ancestors(i).Has(c)) != fix
		}
		for i, j := range of {
			if isBad(i) != isBad(j) {
				weight = 0
			}
		}
		var perModel []float64
		for m := range models {
			l, fails, passes := models[m].logPrior, 0, 0
			for i, t := range tallies {
				if isBad(i) {
					own := betaBinomial(models[m].mu*models[m].kappa, (1-models[m].mu)*models[m].kappa, t)
					l += math.Log((1-models[m].stray)*own + models[m].stray*betaBinomial(strayA, strayB, t))
				} else {
					fails, passes = fails+t.fails, passes+t.passes
				}
			}
			perModel = append(perModel, l+models[m].logFalse(fails, passes))
		}
		logs = append(logs, math.Log(weight)+normalize(perModel))
	}
	normalize(logs)
	return logs
}

func betaBinomial(a, b float64, t *tally) float64 {
	return math.Exp(logBeta(a+float64(t.fails), b+float64(t.passes)) - logBeta(a, b))
}

func sumOf(w []float64) float64 {
	s := 0.0
	for _, x := range w {
		s += x
	}
	return s
}

// On a history with merges the ancestors of all commits are weighed by samples;
// they must be near the exact sums.
func TestSamplesAreNear(t *testing.T) {
	shape := kernelLike(3000)
	p := newPosterior(shape, nil, false)
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 40 {
		commit := rnd.IntN(3000)
		p.add(commit, shape.Ancestors(commit).Has(1234))
	}
	p.update()
	d := p.part.(*dag)
	whole := 0.0
	for k := range d.parts {
		whole += p.prob[k]
	}
	up := d.all(p.prob)
	for i := 0; i < 3000; i += 37 {
		if exact := d.upto(i, p.prob); math.Abs(up[i]*whole-exact) > 0.02 {
			t.Errorf("commit %d: %.4f, exact %.4f", i, up[i]*whole, exact)
		}
	}
	if n := len(d.parts); n > 3*40 {
		t.Errorf("%d classes", n)
	}
}

// kernelLike is a history in which branches of about fourteen commits, forked
// some sixty merges earlier, are merged one after the other.
func kernelLike(n int) *history.Shape {
	rnd := rand.New(rand.NewPCG(5, 6))
	var s history.Shape
	s.Add()
	main := []int{0}
	for s.Len() < n {
		tip := main[max(0, len(main)-1-int(rnd.ExpFloat64()*60))]
		for range max(1, int(rnd.ExpFloat64()*14)) {
			if s.Len() >= n-1 {
				break
			}
			s.Add(tip)
			tip = s.Len() - 1
		}
		s.Add(main[len(main)-1], tip)
		main = append(main, s.Len()-1)
	}
	return &s
}

func TestPriorIsCut(t *testing.T) {
	got := clamped([]float64{0, 1, 1000})
	if !slices.Equal(got, []float64{0.05, 1, 20}) {
		t.Errorf("%v", got)
	}
}

// BenchmarkProbe is the next probe of a search that has tested so many commits.
// Own prices are for lines of 3000 commits at most (maxPriced in app).
func BenchmarkProbe(b *testing.B) {
	for _, c := range []struct {
		name  string
		shape func() *history.Shape
		tests int
		own   bool // prices
	}{
		{"line-15000", func() *history.Shape { return row(15000) }, 20, false},
		{"line-3000-own-prices", func() *history.Shape { return row(3000) }, 2, true},
		{"merges-15000", func() *history.Shape { return kernelLike(15000) }, 20, false},
		{"merges-15000-own-prices", func() *history.Shape { return kernelLike(15000) }, 2, true},
		{"merges-1300000", func() *history.Shape { return kernelLike(1_300_000) }, 20, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			shape := c.shape()
			n := shape.Len()
			has := shape.Ancestors(n / 3) // stands in for descendants: any split will do
			opt := Options{MaxRuns: 1 << 30, MaxBuilds: 1 << 30}
			if c.own {
				opt.PriceFrom = walls(n, 5, 60, n/4, n/2)
			}
			s := New(shape, opt)
			for range 5 {
				s.Observe(Observation{Commit: n - 1, Failed: true})
			}
			s.Observe(Observation{Commit: GoodEnd})
			for range c.tests {
				p := s.Next(1)[0]
				s.Observe(Observation{Commit: p.Commit, Failed: p.Commit >= 0 && !has.Has(p.Commit)})
			}
			for b.Loop() {
				s.decided, s.post.stale = false, true
				s.Next(1)
			}
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.Sys)/1e6, "MB")
		})
	}
}
