package bisect

import (
	"fmt"
	"math/rand"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/kernel-bisect/kbisect/internal/history"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// world answers probes: bad says which commits have the bug.
type world struct {
	bad        func(i int) bool
	untestable func(i int) bool
	r, q       float64 // failure rates of bad and good commits
	rng        *rand.Rand
}

func line(t testing.TB, n int) *history.Graph {
	var cs []kernel.Commit
	for i := range n {
		cs = append(cs, kernel.Commit{SHA: fmt.Sprint(i), Parents: []string{fmt.Sprint(i - 1)}})
	}
	return graph(t, cs)
}

func graph(t testing.TB, cs []kernel.Commit) *history.Graph {
	g, err := history.New(cs)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// search runs a search to its end and returns the commits it built.
func search(t testing.TB, h *Halving, w world) (Result, int, []int) {
	runs, built := 0, map[int]bool{}
	for {
		p, ok := h.Next()
		if !ok {
			break
		}
		if runs++; runs > (len(h.graph.Commits)+1)*3*maxRuns { // halving and verification, of every commit
			t.Fatal("the search does not end")
		}
		built[p.Commit] = true
		o := Observation{Commit: p.Commit, Untestable: w.untestable != nil && w.untestable(p.Commit)}
		if !o.Untestable {
			rate := w.q
			if w.bad(p.Commit) {
				rate = w.r
			}
			o.Failed = w.rng.Float64() < rate
		}
		h.Observe(o)
	}
	var commits []int
	for i := range built {
		commits = append(commits, i)
	}
	slices.Sort(commits)
	return h.Result(), runs, commits
}

func from(c int) func(int) bool { return func(i int) bool { return i >= c } }

func rng() *rand.Rand { return rand.New(rand.NewSource(1)) }

func TestDeterministicFailureOnALine(t *testing.T) {
	const n = 14
	for c := range n {
		r, runs, built := search(t, NewHalving(line(t, n), 0.99), world{bad: from(c), r: 1, rng: rng()})
		if r.Status != kernel.Found || r.Culprit != c || r.Confidence < 0.99 {
			t.Errorf("culprit %d: %+v", c, r)
		}
		if len(built) > 4+2 { // log2 of the candidates and both ends
			t.Errorf("culprit %d: %d commits tested (%v)", c, len(built), built)
		}
		if runs > 60 {
			t.Errorf("culprit %d: %d runs", c, runs)
		}
	}
}

func TestOneCommitRange(t *testing.T) {
	r, _, _ := search(t, NewHalving(line(t, 1), 0.99), world{bad: from(0), r: 1, rng: rng()})
	if r.Status != kernel.Found || r.Culprit != 0 {
		t.Errorf("%+v", r)
	}
}

func TestEndsAreChecked(t *testing.T) {
	for _, c := range []struct {
		name string
		w    world
		want kernel.BisectStatus
	}{
		{"bad end never fails", world{bad: from(99), r: 1}, kernel.NotReproduced},
		{"good end fails too", world{bad: from(GoodEnd), r: 1}, kernel.OlderThanGood},
		{"bad end does not build", world{bad: from(3), r: 1, untestable: func(i int) bool { return i == 7 }}, kernel.NoConclusion},
		{"good end does not build", world{bad: from(3), r: 1, untestable: func(i int) bool { return i == GoodEnd }}, kernel.NoConclusion},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.w.rng = rng()
			r, _, _ := search(t, NewHalving(line(t, 8), 0.99), c.w)
			if r.Status != c.want || r.Reason == "" {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestUntestableCommits(t *testing.T) {
	at := func(is ...int) func(int) bool { return func(i int) bool { return slices.Contains(is, i) } }
	for _, c := range []struct {
		name       string
		culprit    int
		untestable func(int) bool
		want       []int // candidates named
	}{
		{"away from the culprit", 9, at(7), []int{9}},
		{"just before the culprit: parent unknown", 9, at(8), []int{8, 9}},
		{"the culprit itself", 9, at(9), []int{9, 10}},
		{"a block around it", 9, at(7, 8, 9, 10), []int{7, 8, 9, 10, 11}},
		{"all in between", 5, func(i int) bool { return i >= 0 && i < 15 }, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, _, _ := search(t, NewHalving(line(t, 16), 0.99), world{bad: from(c.culprit), untestable: c.untestable, r: 1, rng: rng()})
			want := kernel.Set
			if len(c.want) == 1 {
				want = kernel.Found
			}
			if r.Status != want || !slices.Equal(r.Candidates, c.want) || r.Confidence < 0.98 || r.Confidence >= 1 {
				t.Errorf("%+v, want %v %v", r, want, c.want)
			}
		})
	}
}

// A merge brings a side branch with the culprit, forked below the range.
func TestSideBranch(t *testing.T) {
	// base - a - b - M - d
	//     \ x - y --/
	g := graph(t, []kernel.Commit{
		{SHA: "a", Parents: []string{"base"}}, {SHA: "b", Parents: []string{"a"}},
		{SHA: "x", Parents: []string{"base"}}, {SHA: "y", Parents: []string{"x"}},
		{SHA: "M", Parents: []string{"b", "y"}}, {SHA: "d", Parents: []string{"M"}},
	})
	for culprit := range 6 {
		has := func(i int) bool { return i != GoodEnd && g.Ancestors(i).Has(culprit) }
		r, _, _ := search(t, NewHalving(g, 0.99), world{bad: has, r: 1, rng: rng()})
		if r.Status != kernel.Found || r.Culprit != culprit {
			t.Errorf("culprit %d: %+v", culprit, r)
		}
	}
}

// Noise costs runs, not rightness: what is named with 99 % is right nearly always.
func TestNoise(t *testing.T) {
	// At a rate of .3 halving with a rate learned from five failures often stops
	// with a set; it must not stop with a wrong commit.
	for _, c := range []struct {
		r, q  float64
		right int // percent, at least
	}{{0.9, 0, 98}, {0.5, 0.01, 90}, {0.3, 0.01, 65}} {
		t.Run(fmt.Sprintf("r=%g q=%g", c.r, c.q), func(t *testing.T) {
			g, rnd, right, wrong := line(t, 64), rand.New(rand.NewSource(7)), 0, 0
			const trials = 100
			for range trials {
				culprit := rnd.Intn(64)
				r, _, _ := search(t, NewHalving(g, 0.99), world{bad: from(culprit), r: c.r, q: c.q, rng: rnd})
				switch {
				case r.Status == kernel.Found && r.Culprit == culprit:
					right++
				case r.Status == kernel.Found:
					wrong++
				}
			}
			if wrong > trials*2/100 || right < trials*c.right/100 {
				t.Errorf("%d right, %d wrong of %d", right, wrong, trials)
			}
		})
	}
}

// Whatever the answers are, the search ends, asks only for commits that exist,
// and never names a commit it saw to be untestable.
func TestAnyAnswers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 20).Draw(t, "n")
		g := randomGraph(t, n)
		h, untestable := NewHalving(g, 0.99), map[int]bool{}
		for runs := 0; ; runs++ {
			p, ok := h.Next()
			if !ok {
				break
			}
			if runs > (n+1)*3*maxRuns || p.Commit < GoodEnd || p.Commit >= n || untestable[p.Commit] {
				t.Fatalf("probe %d: %+v", runs, p)
			}
			o := Observation{Commit: p.Commit}
			switch rapid.IntRange(0, 9).Draw(t, "answer") {
			case 0:
				o.Untestable, untestable[p.Commit] = true, true
			case 1, 2, 3, 4, 5:
				o.Failed = true
			}
			h.Observe(o)
		}
		r := h.Result()
		if r.Status == kernel.Found && (untestable[r.Culprit] || len(r.Candidates) != 1) {
			t.Fatalf("%+v", r)
		}
	})
}
