package bisect

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
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

func row(n int) *history.Shape {
	var s history.Shape
	for i := range n {
		if i == 0 {
			s.Add()
		} else {
			s.Add(i - 1)
		}
	}
	return &s
}

// search runs a search to its end and returns the commits it tested.
func search(t testing.TB, s *Search, w world) (Result, int, []int) {
	t.Helper()
	runs, built := 0, map[int]bool{}
	for {
		ps := s.Next(1)
		if len(ps) == 0 {
			break
		}
		p := ps[0]
		if runs++; runs > s.opt.MaxRuns+maxTested {
			t.Fatal("the search does not end")
		}
		built[p.Commit] = true
		o := Observation{Commit: p.Commit, Iterations: p.Iterations, Untestable: w.untestable != nil && w.untestable(p.Commit)}
		if !o.Untestable {
			rate := w.q
			if w.bad(p.Commit) {
				rate = 1 - math.Pow(1-w.r, float64(p.Iterations))
			}
			o.Failed = w.rng.Float64() < rate
		}
		s.Observe(o)
	}
	var commits []int
	for i := range built {
		commits = append(commits, i)
	}
	slices.Sort(commits)
	return s.Result(), runs, commits
}

func from(c int) func(int) bool { return func(i int) bool { return i >= c } }

func rng() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

func positions(r Result) []int {
	var out []int
	for _, c := range r.Candidates {
		out = append(out, c.Commit)
	}
	slices.Sort(out)
	return out
}

func TestDeterministicFailureOnALine(t *testing.T) {
	for _, n := range []int{1, 2, 14, 64} {
		for c := range n {
			r, runs, built := search(t, New(row(n), Options{}), world{bad: from(c), r: 1, rng: rng()})
			if r.Status != kernel.Found || r.Culprit != c || r.Confidence < 0.99 || !slices.Equal(positions(r), []int{c}) {
				t.Errorf("%d commits, culprit %d: %+v", n, c, r)
			}
			log2 := math.Log2(float64(n))
			if len(built) > int(log2)+1+2 { // and both ends
				t.Errorf("%d commits, culprit %d: %d tested (%v)", n, c, len(built), built)
			}
			if float64(runs) > 3*log2+12 {
				t.Errorf("%d commits, culprit %d: %d runs", n, c, runs)
			}
		}
	}
}

func TestFindFix(t *testing.T) {
	const n = 20
	for c := range n {
		// The older end fails; from the fix on it passes.
		w := world{bad: func(i int) bool { return i < c }, r: 1, rng: rng()}
		r, _, _ := search(t, New(row(n), Options{Fix: true}), w)
		if r.Status != kernel.Found || r.Culprit != c {
			t.Errorf("fix %d: %+v", c, r)
		}
	}
	r, _, _ := search(t, New(row(n), Options{Fix: true}), world{bad: func(int) bool { return true }, r: 1, rng: rng()})
	if r.Status != kernel.OlderThanGood || !strings.Contains(r.Reason, "not fixed") {
		t.Errorf("never fixed: %+v", r)
	}
	r, _, _ = search(t, New(row(n), Options{Fix: true}), world{bad: func(int) bool { return false }, r: 1, rng: rng()})
	if r.Status != kernel.NotReproduced || !strings.Contains(r.Reason, "broken end") {
		t.Errorf("never broken: %+v", r)
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
		{"good end fails too, sometimes", world{bad: from(GoodEnd), r: 0.4, q: 0.01}, kernel.OlderThanGood},
		{"bad end does not build", world{bad: from(3), r: 1, untestable: func(i int) bool { return i == 7 }}, kernel.NoConclusion},
		{"good end does not build", world{bad: from(3), r: 1, untestable: func(i int) bool { return i == GoodEnd }}, kernel.NoConclusion},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.w.rng = rng()
			r, _, _ := search(t, New(row(8), Options{}), c.w)
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
			r, _, _ := search(t, New(row(16), Options{}), world{bad: from(c.culprit), untestable: c.untestable, r: 1, rng: rng()})
			want := kernel.Set
			switch len(c.want) {
			case 1:
				want = kernel.Found
			case 16:
				want = kernel.NoConclusion
			}
			if r.Status != want || !slices.Equal(positions(r), c.want) || r.Confidence < 0.98 {
				t.Errorf("%+v, want %v %v", r, want, c.want)
			}
		})
	}
}

// A merge brings a side branch with the culprit, forked below the range.
func TestSideBranch(t *testing.T) {
	// base - 0 - 1 - 4 - 5
	//     \ 2 - 3 --/
	var g history.Shape
	g.Add()
	g.Add(0)
	g.Add()
	g.Add(2)
	g.Add(1, 3)
	g.Add(4)
	for culprit := range 6 {
		has := func(i int) bool { return i != GoodEnd && g.Ancestors(i).Has(culprit) }
		for name, opt := range map[string]Options{"search": {}, "fix": {Fix: true}} {
			w := world{bad: has, r: 1, rng: rng()}
			if opt.Fix {
				w.bad = func(i int) bool { return !has(i) }
			}
			r, _, _ := search(t, New(&g, opt), w)
			if r.Status != kernel.Found || r.Culprit != culprit {
				t.Errorf("%s, culprit %d: %+v", name, culprit, r)
			}
		}
	}
}

// A history in which the failure comes, goes and comes again is not blamed on
// one commit, unless each change is where a search for a single one looks.
func TestSeveralChanges(t *testing.T) {
	bad := func(i int) bool { return i >= 5 && i < 30 || i >= 60 }
	r, _, _ := search(t, New(row(100), Options{}), world{bad: bad, r: 1, rng: rng()})
	if r.Status == kernel.Found && r.Culprit != 5 && r.Culprit != 60 {
		t.Errorf("%+v", r)
	}
	// Every other commit of the older half is bad.
	bad = func(i int) bool { return i >= 0 && i%2 == 0 && i < 50 || i == 99 }
	r, _, _ = search(t, New(row(100), Options{}), world{bad: bad, r: 1, rng: rng()})
	if r.Status == kernel.Found && (!bad(r.Culprit) || bad(r.Culprit-1)) {
		t.Errorf("%+v", r)
	}
	// Runs that no single change explains.
	s := New(row(100), Options{})
	feed := func(commit int, outcomes string) {
		for _, o := range outcomes {
			s.Observe(Observation{Commit: commit, Failed: o == 'f'})
		}
	}
	feed(99, "fffff")
	feed(GoodEnd, strings.Repeat("p", 55)) // and so 15 times disorderEvery in the end
	for _, c := range []int{10, 30, 50, 70} {
		feed(c, strings.Repeat("f", 20))
		feed(c+10, strings.Repeat("p", 40))
	}
	r = s.Result()
	if r.Status != kernel.NotSingleChange || len(r.Changes) != 9 || r.Changes[0] != (Change{GoodEnd, 10, true, 10}) || r.Changes[1] != (Change{10, 20, false, 9}) {
		t.Errorf("%+v", r)
	}
}

// Of two branches that are merged, one is not a change of the other.
func TestChangesOfBranches(t *testing.T) {
	var shape history.Shape
	for _, parents := range [][]int{{}, {0}, {1}, {0}, {3}, {2, 4}, {5}} {
		shape.Add(parents...)
	}
	s := New(&shape, Options{})
	for commit, outcome := range map[int]string{GoodEnd: "p", 0: "p", 2: "f", 4: "p", 6: "f"} {
		for range 10 {
			s.Observe(Observation{Commit: commit, Iterations: 1, Failed: outcome == "f"})
		}
	}
	s.post.update()
	want := []Change{{0, 2, true, 1}, {4, 6, true, 3}}
	if got := s.severalChanges().Changes; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Runs that fail in another way tell nothing, and are counted.
func TestOtherFailuresAreCounted(t *testing.T) {
	s := New(row(64), Options{MaxRuns: 40})
	ps := s.Next(1)
	for runs := 0; len(ps) > 0; ps = s.Next(1) {
		if runs++; runs > 40 {
			t.Fatal("more runs than allowed")
		}
		s.Observe(Observation{Commit: ps[0].Commit, Iterations: 1, Other: runs%5 > 0, Failed: ps[0].Commit >= 20})
	}
	if r := s.Result(); r.Status == kernel.Found || !strings.Contains(r.Reason, "runs") {
		t.Errorf("%+v", r)
	}
}

// A rare failure is repeated within each run, and what was seen before that
// counts no more.
func TestAmplification(t *testing.T) {
	w := world{bad: from(40), r: 0.1, q: 0.005, rng: rng()}
	s := New(row(64), Options{MaxIterations: 32})
	r, _, _ := search(t, s, w)
	if r.Status != kernel.Found || r.Culprit != 40 || s.Iterations() < 8 || s.Iterations() > 32 {
		t.Errorf("%d iterations: %+v", s.Iterations(), r)
	}
	bad, good := s.Rates()
	if bad.Mean < 0.5 || bad.Low > bad.Mean || bad.High < bad.Mean || good.Mean > 0.1 {
		t.Errorf("rates %+v %+v", bad, good)
	}
}

// An end that failed is not said to pass, also if it never fails when the test
// is repeated within a run.
func TestRepeatingHidesTheFailure(t *testing.T) {
	s := New(row(64), Options{MaxIterations: 32})
	for i := 0; ; i++ {
		ps := s.Next(1)
		if len(ps) == 0 {
			break
		}
		s.Observe(Observation{Commit: ps[0].Commit, Iterations: ps[0].Iterations, Failed: i%12 == 0 && ps[0].Iterations == 1})
	}
	if r := s.Result(); s.Iterations() == 1 || r.Status != kernel.NoConclusion || !strings.Contains(r.Reason, "repeat the test") {
		t.Errorf("%d iterations: %+v", s.Iterations(), r)
	}
}

// Budgets end with a set that holds the culprit, never with a guess.
func TestBudgets(t *testing.T) {
	for _, opt := range []Options{{MaxBuilds: 3}, {MaxRuns: 18}} {
		r, runs, built := search(t, New(row(64), opt), world{bad: from(37), r: 0.8, q: 0.01, rng: rng()})
		if r.Status != kernel.Set || !slices.Contains(positions(r), 37) || len(r.Candidates) > 40 || !strings.Contains(r.Reason, "budget") {
			t.Errorf("%+v: %+v", opt, r)
		}
		if opt.MaxBuilds > 0 && len(built) > 3+2 || opt.MaxRuns > 0 && runs > opt.MaxRuns {
			t.Errorf("%+v: %d runs of %v", opt, runs, built)
		}
	}
	s := New(row(64), Options{MaxRuns: 3})
	if r, _, _ := search(t, s, world{bad: from(3), r: 1, rng: rng()}); r.Status != kernel.NoConclusion || !strings.Contains(r.Reason, "before the ends") {
		t.Errorf("%+v", r)
	}
	s = New(row(64), Options{})
	s.Stop("the time is over")
	if r := s.Result(); r.Status != kernel.NoConclusion || r.Reason != "the time is over" || s.Next(1) != nil {
		t.Errorf("%+v", r)
	}
}

// No budget makes a search name a commit that it has not verified.
func TestBudgetsNameNothingUnverified(t *testing.T) {
	random := rng()
	for most := 20; most < 80; most++ {
		for _, opt := range []Options{{MaxRuns: most}, {MaxBuilds: most / 8}} {
			s := New(row(64), opt)
			r, runs, _ := search(t, s, world{bad: from(37), r: 0.6, q: 0.01, rng: random})
			if opt.MaxRuns > 0 && runs > most || opt.MaxBuilds > 0 && s.builds > opt.MaxBuilds {
				t.Errorf("%+v: %d runs, %d builds", opt, runs, s.builds)
			}
			if r.Status != kernel.Found {
				continue
			}
			culprit, below := s.post.tally(r.Culprit), s.post.tally(r.Culprit-1)
			if culprit.fails < minCulprit || below.runs() < s.verifyRuns() {
				t.Errorf("%+v: %s", opt, r.Reason)
			}
		}
	}
}

// What is assumed beforehand is no answer: nothing was run.
func TestStopBeforeTheFirstRun(t *testing.T) {
	s := New(row(1), Options{Confidence: 0.9})
	s.Stop("the time is over")
	if r := s.Result(); r.Status != kernel.NoConclusion {
		t.Errorf("%+v", r)
	}
}

// A search that has its answer when the time is over keeps it.
func TestStopAfterTheAnswer(t *testing.T) {
	s := New(row(64), Options{})
	search(t, s, world{bad: from(40), r: 1, rng: rng()})
	if s.Stop("the time is over"); s.Result().Status != kernel.Found {
		t.Errorf("%+v", s.Result())
	}
}

// An observation taken back leaves the search as it was before.
func TestUndo(t *testing.T) {
	w := world{bad: from(40), r: 0.6, q: 0.01, rng: rng()}
	s := New(row(64), Options{MaxIterations: 16})
	for range 40 {
		ps := s.Next(1)
		if len(ps) == 0 {
			break
		}
		before := ps[0]
		s.Observe(Observation{Commit: before.Commit, Iterations: before.Iterations, Failed: w.rng.Float64() < 0.5})
		s.Undo()
		if after := s.Next(1)[0]; after != before {
			t.Fatalf("%+v, before %+v", after, before)
		}
		s.Observe(Observation{Commit: before.Commit, Iterations: before.Iterations, Failed: w.bad(before.Commit)})
	}
	for s.Undo() {
	}
	if s.runs != 0 || s.Next(1)[0] != New(row(64), Options{}).Next(1)[0] {
		t.Error("not at the beginning")
	}
}

// A commit that cannot be tested any more is not asked for its verification
// runs for ever.
func TestVerificationOfTheUntestableEnds(t *testing.T) {
	s := New(row(64), Options{})
	for seen := 0; ; {
		ps := s.Next(1)
		if len(ps) == 0 {
			break
		}
		if len(s.log) > 200 {
			t.Fatal("the search does not end")
		}
		i := ps[0].Commit
		if i == 39 {
			seen++
		}
		s.Observe(Observation{Commit: i, Failed: i >= 40, Untestable: i == 39 && seen > 1})
	}
	if r := s.Result(); r.Status != kernel.Found || r.Culprit != 40 {
		t.Errorf("%+v", r)
	}
}

// Where two branches that fail tell the commit below them from all others, it is
// run itself before it is named, and not named if it cannot be.
func TestCulpritIsRunItself(t *testing.T) {
	for _, untestable := range []bool{false, true} {
		for _, fix := range []bool{false, true} {
			var shape history.Shape
			for _, parents := range [][]int{{}, {0}, {0}, {1, 2}} {
				shape.Add(parents...)
			}
			s := New(&shape, Options{Fix: fix})
			for _, i := range []int{3, GoodEnd, 1, 2} { // 0 is below all of them
				for range 20 {
					s.Observe(Observation{Commit: i, Failed: (i >= 0) != fix})
				}
			}
			asked := false
			for range 100 {
				ps := s.Next(1)
				if len(ps) == 0 {
					break
				}
				i := ps[0].Commit
				asked = asked || i == 0
				s.Observe(Observation{Commit: i, Failed: (i >= 0) != fix, Untestable: i == 0 && untestable})
			}
			want := kernel.Found
			if untestable {
				want = kernel.Set
			}
			if r := s.Result(); !asked || r.Status != want || !slices.Equal(positions(r), []int{0}) {
				t.Errorf("fix %v, untestable %v: asked %v, %+v", fix, untestable, asked, r)
			}
		}
	}
}

// Several workers get work that differs where that helps.
func TestSeveralProbes(t *testing.T) {
	s := New(row(1000), Options{})
	if ps := s.Next(3); len(ps) != 3 || ps[0] != ps[1] || ps[2].Commit != 999 {
		t.Errorf("%+v", ps)
	}
	for range 5 {
		s.Observe(Observation{Commit: 999, Failed: true})
	}
	s.Observe(Observation{Commit: GoodEnd})
	ps := s.Next(3)
	if len(ps) != 3 || ps[0].Commit == ps[1].Commit || ps[1].Commit == ps[2].Commit || ps[0].Commit == ps[2].Commit {
		t.Errorf("%+v", ps)
	}
	for _, p := range ps {
		if p.Commit < 100 || p.Commit > 900 {
			t.Errorf("%+v is far from dividing", p)
		}
	}
}

// Kernels that are there are tested before others are built, where they tell as
// much for their price, and count as no builds.
func TestFreeCommits(t *testing.T) {
	free := []int{100, 300, 480, 640, 900}
	s := New(row(1000), Options{Free: free})
	r, _, built := search(t, s, world{bad: from(700), r: 1, rng: rng()})
	if r.Status != kernel.Found || r.Culprit != 700 {
		t.Fatalf("%+v", r)
	}
	for _, want := range []int{640, 900} { // they bound the culprit
		if !slices.Contains(built, want) {
			t.Errorf("%d was free and is not among %v", want, built)
		}
	}
	if s.builds > 9 { // log2 of the 260 between them, and one
		t.Errorf("%d builds (%v)", s.builds, built)
	}
	// They may be tested when the builds are spent.
	s = New(row(1000), Options{Free: free, MaxBuilds: 1})
	r, _, _ = search(t, s, world{bad: from(700), r: 1, rng: rng()})
	if r.Status != kernel.Set || len(r.Candidates) > 260 || !slices.Contains(positions(r), 700) {
		t.Errorf("%s: %d candidates", r.Status, len(r.Candidates))
	}
}

func TestDoubt(t *testing.T) {
	s := New(row(64), Options{})
	search(t, s, world{bad: from(40), r: 1, rng: rng()})
	if commit, fails, ok := s.Doubt(); !ok || commit != 39 || fails < 1 || fails > 3 {
		t.Errorf("%d %d %v", commit, fails, ok)
	}
}

func TestBins(t *testing.T) {
	for _, n := range []int{7, 200} {
		s := New(row(n), Options{})
		search(t, s, world{bad: from(n / 2), r: 1, rng: rng()})
		bins, sum := s.Bins(60), 0.0
		for _, b := range bins {
			sum += b
		}
		if len(bins) != min(n, 60) || sum < 0.98 || sum > 1.0001 || bins[n/2*len(bins)/n] < 0.98 {
			t.Errorf("%d: %v", n, bins)
		}
	}
}

// Commits that change nothing are never named, and are not run.
func TestTwins(t *testing.T) {
	const n, step = 60, 4 // every fourth commit changes the kernel
	for _, r := range []float64{0.4, 1} {
		for c := 0; c < n; c += step {
			s, runs, twins := New(row(n), Options{}), map[int]int{}, 0
			rnd := rng()
			for {
				ps := s.Next(1)
				if len(ps) == 0 {
					break
				}
				o := Observation{Commit: ps[0].Commit, Iterations: 1}
				image := GoodEnd
				if o.Commit != GoodEnd {
					image = o.Commit - o.Commit%step
				}
				for of := range runs {
					if of-of%step == image && of != GoodEnd && s.post.tally(o.Commit) == nil {
						o.Twin, o.Of = true, of
					}
				}
				if o.Twin {
					twins++
				} else {
					runs[o.Commit]++
					o.Failed = image >= c && rnd.Float64() < r
				}
				s.Observe(o)
			}
			res := s.Result()
			if res.Status != kernel.Found || res.Culprit != c {
				t.Errorf("rate %g, culprit %d: %+v", r, c, res)
			}
			if c > 0 && twins == 0 {
				t.Errorf("rate %g, culprit %d: no twin was met", r, c)
			}
		}
	}
}

// Ends with one kernel: no commit between them changes anything.
func TestEndsAreTwins(t *testing.T) {
	for _, fix := range []bool{false, true} {
		s := New(row(30), Options{Fix: fix})
		for ps := s.Next(1); len(ps) > 0; ps = s.Next(1) {
			if ps[0].Commit == s.passing() {
				s.Observe(Observation{Commit: s.passing(), Twin: true, Of: s.failing()})
				continue
			}
			s.Observe(Observation{Commit: ps[0].Commit, Iterations: 1, Failed: true})
		}
		if r := s.Result(); r.Status != kernel.OlderThanGood || r.Confidence < 0.99 || s.runs > 6 {
			t.Errorf("fix %v: %+v after %d runs", fix, r, s.runs)
		}
	}
}

// Whatever the answers are, the search ends, asks only for commits that exist,
// and never names a commit it saw to be untestable.
func TestAnyAnswers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 20).Draw(t, "n")
		s := New(randomShape(t, n), Options{Fix: rapid.Bool().Draw(t, "fix"), MaxIterations: 8, MaxRuns: 300})
		untestable := map[int]bool{}
		var asked []int
		for runs := 0; ; runs++ {
			ps := s.Next(1)
			if len(ps) == 0 {
				break
			}
			p := ps[0]
			if runs > 300+n+1 || p.Commit < GoodEnd || p.Commit >= n || untestable[p.Commit] || p.Iterations < 1 {
				t.Fatalf("probe %d: %+v", runs, p)
			}
			o := Observation{Commit: p.Commit, Iterations: p.Iterations}
			fresh := !slices.Contains(asked, p.Commit)
			asked = append(asked, p.Commit)
			switch rapid.IntRange(0, 9).Draw(t, "answer") {
			case 0:
				o.Untestable, untestable[p.Commit] = true, true
			case 9:
				if of := rapid.SampledFrom(asked).Draw(t, "of"); fresh && of != p.Commit && !untestable[of] {
					o.Twin, o.Of = true, of
				}
			case 1, 2, 3, 4, 5:
				o.Failed = true
			}
			s.Observe(o)
		}
		r := s.Result()
		if r.Status == kernel.Found && (untestable[r.Culprit] || len(r.Candidates) != 1 || r.Confidence < 0.99) {
			t.Fatalf("%+v", r)
		}
		if s.Left() < 1 || r.Confidence < 0 || r.Confidence > 1 || math.IsNaN(r.Confidence) {
			t.Fatalf("%d left, %+v", s.Left(), r)
		}
	})
}

// randomShape draws a history with merges and roots.
func randomShape(t *rapid.T, n int) *history.Shape {
	var s history.Shape
	for i := range n {
		var parents []int
		for range rapid.IntRange(0, 2).Draw(t, fmt.Sprintf("parents of %d", i)) {
			if i == 0 {
				break
			}
			if p := rapid.IntRange(0, i-1).Draw(t, "parent"); !slices.Contains(parents, p) {
				parents = append(parents, p)
			}
		}
		s.Add(parents...)
	}
	return &s
}
