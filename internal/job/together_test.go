package job

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// sharing is a plan of n tests named 0, 1, … that may share guests.
func sharing(n, runs int) Plan {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprint(i))
	}
	p := plan(names...)
	p.Runs, p.ShareGuests = runs, true
	for i := range p.Programs {
		p.Programs[i].Several = true
	}
	return p
}

func TestShareGuests(t *testing.T) {
	for _, c := range []struct {
		name   string
		script map[string]string // outcomes; others pass
		tests  int
		runs   int
		want   map[string]string // other than good
		shared int               // guests with several tests
		own    int               // guests with one
	}{
		{"all pass", nil, 5, 2, nil, 2, 0},
		{"more than a guest takes", nil, 2*perGuest + 1, 1, nil, 2, 1},
		{"one fails", map[string]string{"3": "f"}, 5, 2, map[string]string{"3": "bad 2/2"}, 2, 2},
		{"one fails the second time", map[string]string{"3": "pf"}, 5, 2, map[string]string{"3": "bad 2/2"}, 2, 2},
		// What was seen once and not again is not forgotten: it takes more passes.
		{"one fails once", map[string]string{"3": "fp"}, 5, 2, map[string]string{"3": "good 8/0"}, 2, 8},
		{"one fails once, the second time", map[string]string{"3": "pfp"}, 5, 2, map[string]string{"3": "good 8/0"}, 2, 8},
		{"one crashes once", map[string]string{"3": "cp"}, 4, 2,
			map[string]string{"0": "good 8/0", "1": "good 8/0", "2": "good 8/0", "3": "good 8/0"}, 3, 32},
		{"one is skipped", map[string]string{"3": "s"}, 5, 2, map[string]string{"3": "skipped 0/0"}, 2, 1},
		// Halves until the one that upsets the kernel is alone: 8, 4, 2 of which
		// the others pass, but for 2 beside it, which may have been the one; then those
		// six once more.
		{"one crashes", map[string]string{"3": "c"}, 8, 2, map[string]string{"2": "good 8/0", "3": "bad 2/2"}, 6, 10},
		{"all hang", map[string]string{"0": "h", "1": "h", "2": "h", "3": "h"}, 4, 2,
			map[string]string{"0": "bad 2/2", "1": "bad 2/2", "2": "bad 2/2", "3": "bad 2/2"}, 3, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1)
			for test, outcomes := range c.script {
				w.script["0 "+test] = outcomes
			}
			_, got, err := check(t, w, w.lab("job"), sharing(c.tests, c.runs))
			if err != nil {
				t.Fatal(err)
			}
			odd := map[string]string{}
			for _, r := range got {
				if v := verdicts([]kernel.TestResult{r}); v != fmt.Sprintf("good %d/0", c.runs) {
					odd[r.Name] = v
				}
			}
			if !maps.Equal(odd, c.want) || len(got) != c.tests {
				t.Errorf("%d tests, others than good %v; want %v", len(got), odd, c.want)
			}
			if w.shared != c.shared || w.runs != c.own {
				t.Errorf("%d shared guests and %d own, want %d and %d", w.shared, w.runs, c.shared, c.own)
			}
		})
	}
}

// What needs something that the guest has not costs no guest, shared or not.
func TestPlannedOut(t *testing.T) {
	for _, share := range []bool{true, false} {
		w := newWorld(t, 1)
		p := sharing(6, 1)
		p.ShareGuests = share
		for i := range 4 {
			p.Programs[i].Needs = []string{"vfio"}
		}
		_, got, err := check(t, w, w.lab("job"), p)
		if want := "skipped 0/0, skipped 0/0, skipped 0/0, skipped 0/0, good 1/0, good 1/0"; err != nil || verdicts(got) != want || got[0].Reason != "nothing here" {
			t.Errorf("%s, %v; want %s", verdicts(got), err, want)
		}
		if share && (w.shared != 1 || w.made["0 0"] != 0 || w.made["0 4"] != 1) {
			t.Errorf("%d shared guests, runs %v", w.shared, w.made)
		}
	}
}

// The progress line counts up to what there is, and never back.
func TestProgressOfSharedGuests(t *testing.T) {
	w := newWorld(t, 1)
	w.script["0 3"], w.script["0 150"] = "f", "c"
	p := sharing(230, 2)
	if _, _, err := check(t, w, w.lab("job"), p); err != nil {
		t.Fatal(err)
	}
	last := 0
	for _, e := range w.events {
		if e.Phase != "run" {
			continue
		}
		if e.Done < last || e.Done >= e.Of || e.Of != 460 {
			t.Fatalf("%d of %d after %d", e.Done, e.Of, last)
		}
		last = e.Done
	}
	if last < 400 {
		t.Errorf("ends at %d of 460", last)
	}
}

// Another job takes the recorded runs, in a shared guest or not; one that wants
// guests of their own does not.
func TestSharedRunsAreApart(t *testing.T) {
	w := newWorld(t, 1)
	p := sharing(3, 2)
	for _, c := range []struct {
		job    string
		share  bool
		shared int
		own    int
	}{{"one", true, 2, 0}, {"two", true, 2, 0}, {"three", false, 2, 6}, {"four", true, 2, 6}} {
		p.ShareGuests = c.share
		_, got, err := check(t, w, w.lab(c.job), p)
		if err != nil || verdicts(got) != "good 2/0, good 2/0, good 2/0" {
			t.Errorf("%s: %s, %v", c.job, verdicts(got), err)
		}
		if w.shared != c.shared || w.runs != c.own {
			t.Errorf("%s: %d shared guests and %d own, want %d and %d", c.job, w.shared, w.runs, c.shared, c.own)
		}
		if want := map[bool]int{true: 2}[c.job == "two" || c.job == "four"]; got[0].Reused != want {
			t.Errorf("%s: %d reused, want %d", c.job, got[0].Reused, want)
		}
	}
}

// What is on record costs nothing, also of tests that do not pass.
func TestShareGuestsAgain(t *testing.T) {
	w := newWorld(t, 1)
	w.script["0 b"] = "f"
	p := plan("a", "b", "c")
	for i := range p.Programs {
		p.Programs[i].Several = true
	}
	p.ShareGuests = true
	check := func() []kernel.TestResult {
		t.Helper()
		_, tests, err := w.lab("j").Check(t.Context(), kernel.Kernel{Digest: "0"}, w.commits[0], p)
		if err != nil {
			t.Fatal(err)
		}
		return tests
	}
	first := check()
	boots, runs, shared := w.boots, w.runs, w.shared
	again := check()
	if w.boots != boots || w.runs != runs || w.shared != shared {
		t.Errorf("again: %d boots, %d runs, %d shared guests more", w.boots-boots, w.runs-runs, w.shared-shared)
	}
	for i, want := range []kernel.Verdict{kernel.Good, kernel.Bad, kernel.Good} {
		if first[i].Verdict != want || again[i].Verdict != want {
			t.Errorf("%s: %s, again %s", first[i].Name, first[i].Verdict, again[i].Verdict)
		}
	}
}

// What is compared shares guests where it passes: only what fails has its own.
// Another series on the same kernels makes no run.
func TestComparedTogether(t *testing.T) {
	w := newWorld(t, 4)
	w.mayOpen = atOnce
	p := sharing(5, 2)
	for i := range 3 {
		w.badFrom(2, fmt.Sprint(i), "f")
	}
	// Somebody has tested the base, each test in a guest of its own.
	alone := p
	alone.ShareGuests = false
	if _, _, err := check(t, w, w.lab("zero"), alone); err != nil {
		t.Fatal(err)
	}
	res, err := series(t, w, w.lab("one"), p)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if got := res.FirstBad[fmt.Sprint(i)]; got != sha(2) {
			t.Errorf("test %d: first bad %q", i, got)
		}
	}
	for c := range 2 { // the base and the neighbour
		for i := range 3 {
			cell := fmt.Sprintf("%d %d", c, i)
			if w.made[cell] < 3 {
				t.Errorf("commit %d, test %d: only %d runs", c, i, w.made[cell])
			}
		}
	}
	own := map[string]bool{}
	for _, r := range w.record.runs {
		if !strings.HasSuffix(r.cell, "-shared") && r.job == "one" {
			own[r.run.Kernel] = true
		}
	}
	if own["0"] || own["1"] || !own["2"] || !own["3"] {
		t.Errorf("guests of their own on %v", own)
	}
	runs, shared, before := w.runs, w.shared, len(w.record.runs)
	again, err := series(t, w, w.lab("two"), p)
	if err != nil || w.runs != runs || w.shared != shared || len(w.record.runs) != before {
		t.Errorf("%d runs, %d shared: %v", w.runs-runs, w.shared-shared, err)
	}
	if table(again, 0) != table(res, 0) || !maps.Equal(again.FirstBad, res.FirstBad) {
		t.Errorf("%+v", again)
	}
}

// A test that fails in a shared guest while it is compared has a guest of its own
// from then on.
func TestComparedAloneAfterAFailure(t *testing.T) {
	w := newWorld(t, 3)
	w.mayOpen = atOnce
	p := sharing(3, 2)
	for i := range 3 {
		w.badFrom(2, fmt.Sprint(i), "f")
	}
	w.script["0 1"] = "ppf" // the base: its third run
	res, err := series(t, w, w.lab("one"), p)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, r := range w.record.runs {
		if r.run.Kernel == "0" && !strings.HasSuffix(r.cell, "-shared") {
			if n++; r.run.Test != "1" {
				t.Errorf("test %s has its own guest", r.run.Test)
			}
		}
	}
	if n == 0 {
		t.Error("what failed in a shared guest was not tried alone")
	}
	// Its passes in shared guests count no longer: it starts anew.
	if got := res.BaseRow.Tests[1]; got.Runs != n || got.Fails != n {
		t.Errorf("%d of %d runs fail, by %d of its own", got.Fails, got.Runs, n)
	}
}

// Wherever the power goes, a test that did not pass in a shared guest has no second
// chance, nor have those of which one upset it: what they came to is what they would
// have come to, and another job says so as well.
func TestSharedGuestsResume(t *testing.T) {
	for _, c := range []struct {
		name   string
		script map[string]string
		upset  bool // a guest, and so all eight tests are marked
		least  int  // cuts that leave nothing out of the record
	}{
		{"some do not pass", map[string]string{"1": "fp", "3": "pfp", "5": "fpf", "6": "s"}, false, 40},
		{"one upsets its guest once, and fails later", map[string]string{"3": "pcpff"}, true, 40},
		{"one upsets its guest always", map[string]string{"3": "c"}, true, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			world := func() *world {
				w := newWorld(t, 1)
				for test, outcomes := range c.script {
					w.script["0 "+test] = outcomes
				}
				return w
			}
			w := world()
			_, all, err := check(t, w, w.lab("job"), sharing(8, 2))
			if err != nil {
				t.Fatal(err)
			}
			made := len(w.record.runs)
			if _, again, err := check(t, w, w.lab("another"), sharing(8, 2)); err != nil || verdicts(again) != verdicts(all) || len(w.record.runs) != made {
				t.Errorf("another job: %v, %d runs more\n%s, want\n%s", err, len(w.record.runs)-made, verdicts(again), verdicts(all))
			}
			compared := 0
			for cut := 0; ; cut++ {
				w := world()
				w.left = cut
				if _, _, err := check(t, w, w.lab("job"), sharing(8, 2)); err == nil {
					break
				}
				// What was run and not recorded is run again, and comes out as the next letter.
				lost := 0
				for _, n := range w.made {
					lost += n
				}
				for _, r := range w.record.runs {
					if r.run.Outcome != kernel.Infra {
						lost--
					}
				}
				marked := 0 // what did not pass in shared guests is on record as a mark
				for _, r := range w.record.runs {
					if r.run.Reason == didNotPass {
						marked++
					}
				}
				if c.upset && marked < 8 || !c.upset && lost > marked {
					continue
				}
				compared++
				w.left = -1
				_, got, err := check(t, w, w.lab("job"), sharing(8, 2))
				if err != nil {
					t.Fatal(err)
				}
				for i := range got {
					if got[i].Verdict != all[i].Verdict {
						t.Errorf("cut %d: test %d is %s, want %s", cut, i, verdicts(got[i:i+1]), verdicts(all[i:i+1]))
					}
				}
			}
			if compared < c.least {
				t.Errorf("only %d cuts leave nothing out of the record", compared)
			}
		})
	}
}
