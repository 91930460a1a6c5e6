package job

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kernel-bisect/kbisect/internal/bisect"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// restless is a world with everything that a bisection can meet.
func restless(t *testing.T) *world {
	w := newWorld(t, 12)
	w.badFrom(7, "a", "fpfof")
	w.script["6 a"], w.script["3 a"], w.script["5 a"] = "pfpopp", "s", "o"
	w.build[4], w.noBoot[9] = kernel.BuildFailed, true
	w.image[8] = 7
	return w
}

// same leaves out what depends on the clock and on the cache of builds.
var same = []cmp.Option{
	cmpopts.IgnoreFields(kernel.BisectResult{}, "Seconds", "Builds"),
	cmpopts.IgnoreFields(kernel.BisectStep{}, "Seconds", "Build"),
	cmpopts.EquateEmpty(),
}

// Wherever the power goes, the job asked for again gives the answer that it
// would have given, and no run is lost or counted twice.
func TestBisectResumes(t *testing.T) {
	w := restless(t)
	want, err := search(t, w, w.lab("job"))
	if err != nil || want.Status != kernel.Found {
		t.Fatalf("%s, %v", answer(want), err)
	}
	for _, r := range w.record.runs {
		if n := r.run.Commit; n == "" || w.made[fmt.Sprintf("%d %s", number(n), r.run.Test)] == 0 {
			t.Errorf("a run is recorded for commit %q", n) // undo finds it by that
		}
	}
	total, cuts := len(w.record.runs), 0
	for cut := 0; ; cut++ {
		w := restless(t)
		w.left = cut
		part, err := search(t, w, w.lab("job"))
		if err == nil {
			break // there were not that many calls
		}
		cuts++
		if !errors.Is(err, errCut) || w.open != 0 || part.Status != kernel.NoConclusion || part.Culprit != nil || len(part.Candidates) == 0 {
			t.Fatalf("cut %d: %v, %d benches open, %s", cut, err, w.open, answer(part))
		}
		w.left = -1
		before := len(w.record.runs)
		got, err := search(t, w, w.lab("job"))
		if w.runs > len(w.record.runs) {
			// The run was made and its recording failed: it is made again, and
			// in this world comes out as the next letter. The culprit stays.
			if err != nil || got.Culprit == nil || got.Culprit.SHA != want.Culprit.SHA {
				t.Errorf("cut %d: %s, %v", cut, answer(got), err)
			}
			continue
		}
		if err != nil || len(w.record.runs) != total || w.runs != total {
			t.Errorf("cut %d: %v, %d runs before and %d after, %d made; want %d", cut, err, before, len(w.record.runs), w.runs, total)
		}
		if diff := cmp.Diff(want, got, same...); diff != "" {
			t.Errorf("cut %d: %s", cut, diff)
		}
	}
	if cuts < total {
		t.Errorf("only %d cuts for %d runs", cuts, total)
	}
}

// The power goes again and again, at most a few calls later each time.
func TestBisectResumesManyTimes(t *testing.T) {
	w := restless(t)
	want, _ := search(t, w, w.lab("job"))
	for every := 12; every < 20; every++ {
		w := restless(t)
		var got kernel.BisectResult
		for tries := 0; ; tries++ {
			// Replaying costs calls too, so every try may go a little further.
			w.left = every * (tries + 1)
			var err error
			if got, err = search(t, w, w.lab("job")); err == nil {
				break
			}
			if tries > 200 {
				t.Fatalf("every %d calls: no end", every)
			}
		}
		if got.Culprit == nil || got.Culprit.SHA != want.Culprit.SHA || len(w.record.runs) != got.Runs {
			t.Errorf("every %d calls: %s, %d runs recorded, %d counted", every, answer(got), len(w.record.runs), got.Runs)
		}
	}
}

// A search that goes to and fro between kernels of which some are one, all there
// for free, takes the same way again from the record alone.
func TestNoisySearchResumes(t *testing.T) {
	const n = 20
	toAndFro := 0
	for seed := range uint64(4) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		letters := func(rate float64) string {
			b := make([]byte, 400)
			for i := range b {
				b[i] = 'p'
				if rnd.Float64() < rate {
					b[i] = 'f'
				}
			}
			return string(b)
		}
		kept := func() *world {
			w := newWorld(t, n)
			for i := range n {
				w.built[i] = true
				if i%3 > 0 && i != 13 { // two commits of three change nothing
					w.image[i] = i - i%3
				}
			}
			w.image[14] = 13
			return w
		}
		scripts := map[string]string{}
		for i := range n {
			rate := 0.01
			if i >= 13 {
				rate = 0.3
			}
			scripts[fmt.Sprintf("%d a", i)] = letters(rate)
		}
		var free []int
		for i := range n - 1 {
			free = append(free, i)
		}
		w := kept()
		w.script = scripts
		want := searchOver(t, w, Range{}, bisect.Options{Free: free})
		if len(w.record.runs) != want.Runs {
			t.Errorf("seed %d: %d runs recorded, %d counted", seed, len(w.record.runs), want.Runs)
		}
		if w.boots > len(want.Steps) {
			toAndFro++
		}
		for cut := 10; cut < want.Runs; cut += 1 + want.Runs/4 {
			w := kept()
			w.script, w.left = scripts, cut
			if _, err := trySearch(t, w, Range{}, bisect.Options{Free: free}); !errors.Is(err, errCut) {
				t.Fatalf("seed %d, cut %d: %v", seed, cut, err)
			}
			w.left = -1
			clear(w.made) // a run that was made and not recorded never was
			for _, r := range w.record.runs {
				i := number(r.run.Commit)
				if j, ok := w.image[i]; ok {
					i = j
				}
				w.made[fmt.Sprintf("%d a", i)]++
			}
			got := searchOver(t, w, Range{}, bisect.Options{Free: free})
			if diff := cmp.Diff(want, got, same...); diff != "" || len(w.record.runs) != want.Runs {
				t.Fatalf("seed %d, cut %d: %d runs recorded, %d counted at first\n%s", seed, cut, len(w.record.runs), want.Runs, diff)
			}
		}
	}
	if toAndFro == 0 {
		t.Error("no search ever came back to a kernel that was down: the test is too easy")
	}
}

// A second job with the same question makes no boots and no runs; one that
// wants fresh runs makes its own and touches no others.
func TestBisectReusesRuns(t *testing.T) {
	w := newWorld(t, 8)
	w.badFrom(5, "a", "fpff")
	first, err := search(t, w, w.lab("one"))
	if err != nil {
		t.Fatal(err)
	}
	boots, runs := w.boots, w.runs
	again, err := search(t, w, w.lab("two"))
	if err != nil || w.boots != boots || w.runs != runs || again.Builds != 0 {
		t.Errorf("%v, %d more boots, %d more runs, %d builds", err, w.boots-boots, w.runs-runs, again.Builds)
	}
	if diff := cmp.Diff(first, again, same...); diff != "" {
		t.Error(diff)
	}
	l := w.lab("three")
	l.Fresh = true
	fresh, err := search(t, w, l)
	if err != nil || answer(fresh) != "found 5" || w.runs != runs+fresh.Runs {
		t.Errorf("%s, %v: %d of %d runs made", answer(fresh), err, w.runs-runs, fresh.Runs)
	}
}

// Every visit of a commit is announced, run and done, in this order.
func TestBisectEvents(t *testing.T) {
	w := restless(t)
	res, err := search(t, w, w.lab("job"))
	if err != nil {
		t.Fatal(err)
	}
	var phases []string
	done := map[string]string{} // sha and why -> text of the last visit
	under := ""
	for _, e := range w.events {
		switch e.Phase {
		case "build":
			under = e.Commit.SHA
			phases = append(phases, "")
		case "done":
			why, _, _ := strings.Cut(e.Text, ":")
			done[e.Commit.SHA+why] = e.Text
		}
		if e.Commit.SHA != under || e.Text == "" {
			t.Errorf("%+v during the step on %s", e, under)
		}
		phases[len(phases)-1] += e.Phase + " "
	}
	if len(done) != len(res.Steps) || len(phases) < len(done) {
		t.Fatalf("%d visits announced, %d steps done, of %d", len(phases), len(done), len(res.Steps))
	}
	for i, p := range phases {
		if want := "build " + strings.Repeat("run ", strings.Count(p, "run ")) + "done "; p != want {
			t.Errorf("visit %d: %s", i, p)
		}
	}
	for i, s := range res.Steps {
		if got := done[s.SHA+s.Why]; got != StepSummary(s) {
			t.Errorf("step %d: %q, want %q", i, got, StepSummary(s))
		}
		if !slices.Contains([]string{"good", "bad", "skip"}, s.Outcome) || s.Build == "" || s.Why == "" {
			t.Errorf("step %d: %+v", i, s)
		}
	}
	if left := res.Steps[len(res.Steps)-1].Left; left != 1 {
		t.Errorf("%d candidates left at the last step", left)
	}
}
