package bisect

import (
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kernel-bisect/kbisect/internal/history"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// next is Next with an end: a search that spins fails the test instead of
// hanging it.
func next(t interface{ Fatalf(string, ...any) }, h *Halving) (Probe, bool) {
	type answer struct {
		p  Probe
		ok bool
	}
	c := make(chan answer, 1)
	go func() { p, ok := h.Next(); c <- answer{p, ok} }()
	select {
	case a := <-c:
		return a.p, a.ok
	case <-time.After(5 * time.Second):
		t.Fatalf("Next does not return")
		return Probe{}, false
	}
}

// The good end passes while it is calibrated and fails when it is run again.
func TestGoodEndFailsInVerification(t *testing.T) {
	h := NewHalving(line(t, 1), 0.99)
	for runs := 0; ; runs++ {
		p, ok := next(t, h)
		if !ok {
			break
		}
		if runs > 3*maxRuns {
			t.Fatal("the search does not end")
		}
		h.Observe(Observation{Commit: p.Commit, Failed: p.Commit == 0 || p.Why == WhyVerify})
	}
	r := h.Result()
	if r.Status != kernel.OlderThanGood || !strings.Contains(r.Reason, "runs") {
		t.Errorf("%+v", r)
	}
}

// Whatever the answers are and however they change, Next comes back with a
// probe or the end after few changes of phase, and what it names is sure.
func TestNextReturns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "n")
		g := randomGraph(t, n)
		h, rnd := NewHalving(g, 0.99), rand.New(rand.NewSource(rapid.Int64().Draw(t, "seed")))
		rates := rapid.SliceOfN(rapid.SampledFrom([]float64{0, 0, 0.02, 0.1, 0.3, 1, 1}), 4*(n+1), 4*(n+1)).Draw(t, "rates")
		period := rapid.IntRange(5, 400).Draw(t, "runs between changes") // of each commit's rate
		lost := rapid.SampledFrom([]float64{0, 0, 0.002, 0.05}).Draw(t, "untestable")
		seen := map[int]int{}
		for runs := 0; ; runs++ {
			p, ok := bounded(t, h)
			if !ok {
				break
			}
			if runs > (n+1)*3*maxRuns {
				t.Fatalf("the search does not end: %+v", p)
			}
			rate := rates[4*(p.Commit+1)+min(3, seen[p.Commit]/period)]
			seen[p.Commit]++
			h.Observe(Observation{Commit: p.Commit, Failed: rnd.Float64() < rate, Untestable: rnd.Float64() < lost})
		}
		r := h.Result()
		if r.Status == kernel.Found && (r.Confidence < 0.99 || h.tally(r.Culprit).untestable) || r.Reason == "" {
			t.Fatalf("%+v", r)
		}
	})
}

// bounded is Next, step by step: from calibration through halving and
// verification, once back, and to the end is at most six changes.
func bounded(t *rapid.T, h *Halving) (Probe, bool) {
	for range 7 {
		if p, ok := h.step(); ok || h.phase == done {
			return p, ok
		}
	}
	t.Fatalf("Next does not return: phase %d, candidates %v", h.phase, h.candidates.List())
	return Probe{}, false
}

func randomGraph(t *rapid.T, n int) *history.Graph {
	var cs []kernel.Commit
	for i := range n {
		p := []string{fmt.Sprint(i - 1)}
		if i > 1 && rapid.Bool().Draw(t, "merge") {
			p = append(p, fmt.Sprint(rapid.IntRange(0, i-2).Draw(t, "second parent")))
		}
		cs = append(cs, kernel.Commit{SHA: fmt.Sprint(i), Parents: p})
	}
	g, err := history.New(cs)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// A culprit is named with the confidence asked for or not at all, and that
// confidence is kept.
func TestFoundIsSure(t *testing.T) {
	const want = 0.99
	rnd, found, wrong := rand.New(rand.NewSource(3)), 0, 0
	for i := range 500 {
		n := 1 + rnd.Intn(16)
		culprit := rnd.Intn(n)
		w := world{bad: from(culprit), r: []float64{1, .5, .2, .1}[i%4], q: rnd.Float64() * 0.1, rng: rnd}
		r, _, _ := search(t, NewHalving(line(t, n), want), w)
		if r.Status != kernel.Found {
			continue
		}
		found++
		if r.Confidence < want {
			t.Errorf("world %d: %+v", i, r)
		}
		if r.Culprit != culprit {
			wrong++
		}
	}
	if found < 200 || wrong*100 > found {
		t.Errorf("%d found, %d of them wrong", found, wrong)
	}
}

// A parent that the allowed runs leave undecided is not good.
func TestUndecidedParent(t *testing.T) {
	h := NewHalving(line(t, 1), 0.99)
	for i := 0; ; i++ {
		p, ok := next(t, h)
		if !ok {
			break
		}
		// The good end fails only when it is verified, at a rate between good
		// and bad: 15 % where the bad end shows some 30 %.
		failed := i%3 == 0
		if p.Commit == GoodEnd {
			failed = p.Why == WhyVerify && i%20 < 3
		}
		h.Observe(Observation{Commit: p.Commit, Failed: failed})
	}
	if r := h.Result(); h.state(GoodEnd) != skipped || r.Status != kernel.NoConclusion || !strings.Contains(r.Reason, "not told from") {
		t.Errorf("%+v", r)
	}
}

// A parent that could not be judged, and is good only because its descendant
// is, stays in the set.
func TestParentLeftInDoubt(t *testing.T) {
	// base - a - g -- M   a cannot be tested
	//         \-- c --/
	g := graph(t, []kernel.Commit{
		{SHA: "a", Parents: []string{"base"}}, {SHA: "g", Parents: []string{"a"}},
		{SHA: "c", Parents: []string{"a"}}, {SHA: "M", Parents: []string{"g", "c"}},
	})
	h := NewHalving(g, 0.99)
	for {
		p, ok := next(t, h)
		if !ok {
			break
		}
		h.Observe(Observation{Commit: p.Commit, Failed: p.Commit >= 2, Untestable: p.Commit == 0})
	}
	if r := h.Result(); r.Status != kernel.Set || fmt.Sprint(r.Candidates) != "[0 2]" {
		t.Errorf("%+v", r)
	}
}

// A culprit seen to fail too rarely is run until it is sure.
func TestWeakCulpritIsRunAgain(t *testing.T) {
	h, seen := NewHalving(line(t, 1), 0.99), 0
	for {
		p, ok := next(t, h)
		if !ok {
			break
		}
		if p.Commit == 0 {
			seen++
		}
		h.Observe(Observation{Commit: p.Commit, Failed: p.Commit == 0 && seen > 15}) // calibrated with 5 of 20
	}
	if r := h.Result(); r.Status != kernel.Found || r.Confidence < 0.99 || seen <= 20 {
		t.Errorf("%d runs: %+v", seen, r)
	}
}

// A parent that verification leaves undecided says nothing of its ancestors
// any more: they are candidates again, and looked at.
func TestDoubtInParentOpensAncestors(t *testing.T) {
	h, i := NewHalving(line(t, 4), 0.99), 0
	for {
		p, ok := next(t, h)
		if !ok {
			break
		}
		failed := p.Commit >= 2 && i%3 == 0
		if p.Commit == 1 {
			failed = p.Why == WhyVerify && i%20 < 3
		}
		i++
		h.Observe(Observation{Commit: p.Commit, Failed: failed})
	}
	if r := h.Result(); r.Status != kernel.Set || fmt.Sprint(r.Candidates) != "[1 2]" || h.state(1) != skipped || h.state(0) != good {
		t.Errorf("%+v", r)
	}
}
