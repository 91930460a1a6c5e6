package job

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// foundWorld is one of eight commits whose culprit is 4 and whose bad end is 7.
func foundWorld(t *testing.T) (*world, Finding) {
	w := newWorld(t, 8)
	w.badFrom(4, "repro", "f")
	return w, Finding{Culprit: w.commits[4], Parent: w.commits[3], BadEnd: w.commits[7], Program: program("repro"),
		Signature: run("", 'f').Signature, FailRate: 0.9, FalseFailRate: 0.02, Confidence: 0.99}
}

func confirm(t *testing.T, w *world, f Finding) kernel.Confirmation {
	t.Helper()
	var out kernel.Confirmation
	if err := w.lab("b").Confirm(t.Context(), f, &out, func() {}); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestConfirm(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(w *world, f *Finding)
		want   kernel.Confirmation
		sure   bool
	}{
		{"as found", func(*world, *Finding) {}, kernel.Confirmation{
			Culprit: kernel.Rebuilt{SHA: sha(4), Same: true, Verdict: kernel.Bad, Runs: 2, Fails: 2},
			Parent:  kernel.Rebuilt{SHA: sha(3), Same: true, Verdict: kernel.Good, Runs: 3},
			Revert:  &kernel.Revert{Status: kernel.Cures, Runs: 3},
		}, true},
		{"a failure by chance at the parent", func(w *world, _ *Finding) { w.script["3 repro"] = "pfp" }, kernel.Confirmation{
			Culprit: kernel.Rebuilt{SHA: sha(4), Same: true, Verdict: kernel.Bad, Runs: 2, Fails: 2},
			Parent:  kernel.Rebuilt{SHA: sha(3), Same: true, Verdict: kernel.Good, Runs: 5, Fails: 1},
			Revert:  &kernel.Revert{Status: kernel.Cures, Runs: 3},
		}, true},
		{"the test gives up without it", func(w *world, _ *Finding) { w.script["900 repro"] = "b" }, kernel.Confirmation{
			Culprit: kernel.Rebuilt{SHA: sha(4), Same: true, Verdict: kernel.Bad, Runs: 2, Fails: 2},
			Parent:  kernel.Rebuilt{SHA: sha(3), Same: true, Verdict: kernel.Good, Runs: 3},
			Revert:  &kernel.Revert{Status: kernel.RevertUnclear, Reason: "the test cannot find out there: test: fork: Cannot allocate memory"},
		}, true},
		{"stale objects", func(w *world, _ *Finding) { w.clean[4] = 3 }, kernel.Confirmation{
			Culprit: kernel.Rebuilt{SHA: sha(4), Verdict: kernel.Good, Runs: 3},
			Parent:  kernel.Rebuilt{SHA: sha(3), Same: true, Verdict: kernel.Good, Runs: 3},
			Revert:  &kernel.Revert{Status: kernel.Cures, Runs: 3},
		}, false},
		{"not all of it", func(w *world, _ *Finding) { w.script["900 repro"] = "f" }, kernel.Confirmation{
			Culprit: kernel.Rebuilt{SHA: sha(4), Same: true, Verdict: kernel.Bad, Runs: 2, Fails: 2},
			Parent:  kernel.Rebuilt{SHA: sha(3), Same: true, Verdict: kernel.Good, Runs: 3},
			Revert:  &kernel.Revert{Status: kernel.DoesNotCure, Runs: 2, Fails: 2},
		}, true},
		{"another failure", func(w *world, _ *Finding) { w.script["900 repro"] = "o"; w.script["3 repro"] = "op" }, kernel.Confirmation{
			Culprit: kernel.Rebuilt{SHA: sha(4), Same: true, Verdict: kernel.Bad, Runs: 2, Fails: 2},
			Parent:  kernel.Rebuilt{SHA: sha(3), Same: true, Verdict: kernel.Good, Runs: 3, Other: 1},
			Revert:  &kernel.Revert{Status: kernel.RevertUnclear, Reason: "fails in another way: fail: corruption"},
		}, true},
		{"any failure", func(w *world, f *Finding) { w.script["900 repro"] = "o"; f.Signature = kernel.Signature{} }, kernel.Confirmation{
			Culprit: kernel.Rebuilt{SHA: sha(4), Same: true, Verdict: kernel.Bad, Runs: 2, Fails: 2},
			Parent:  kernel.Rebuilt{SHA: sha(3), Same: true, Verdict: kernel.Good, Runs: 3},
			Revert:  &kernel.Revert{Status: kernel.DoesNotCure, Runs: 2, Fails: 2},
		}, true},
		{"conflict", func(w *world, _ *Finding) { w.revert = "conflict in mm/ksm.c" }, kernel.Confirmation{
			Culprit: kernel.Rebuilt{SHA: sha(4), Same: true, Verdict: kernel.Bad, Runs: 2, Fails: 2},
			Parent:  kernel.Rebuilt{SHA: sha(3), Same: true, Verdict: kernel.Good, Runs: 3},
			Revert:  &kernel.Revert{Status: kernel.DoesNotRevert, Reason: "conflict in mm/ksm.c"},
		}, true},
		{"revert does not build", func(w *world, _ *Finding) { w.build[reverted] = kernel.BuildFailed }, kernel.Confirmation{
			Culprit: kernel.Rebuilt{SHA: sha(4), Same: true, Verdict: kernel.Bad, Runs: 2, Fails: 2},
			Parent:  kernel.Rebuilt{SHA: sha(3), Same: true, Verdict: kernel.Good, Runs: 3},
			Revert:  &kernel.Revert{Status: kernel.DoesNotBuild, Reason: "mm/memory.c: error"},
		}, true},
		{"parent does not boot, revert neither", func(w *world, _ *Finding) { w.noBoot[3], w.noBoot[reverted] = true, true }, kernel.Confirmation{
			Culprit: kernel.Rebuilt{SHA: sha(4), Same: true, Verdict: kernel.Bad, Runs: 2, Fails: 2},
			Parent:  kernel.Rebuilt{SHA: sha(3), Same: true, Verdict: kernel.Untestable, Reason: "does not boot: no agent"},
			Revert:  &kernel.Revert{Status: kernel.DoesNotBuild, Reason: "does not boot: no agent"},
		}, false},
		{"parent skips", func(w *world, _ *Finding) { w.script["3 repro"] = "s" }, kernel.Confirmation{
			Culprit: kernel.Rebuilt{SHA: sha(4), Same: true, Verdict: kernel.Bad, Runs: 2, Fails: 2},
			Parent:  kernel.Rebuilt{SHA: sha(3), Same: true, Verdict: kernel.Untestable, Reason: "the test skips there: no huge pages"},
			Revert:  &kernel.Revert{Status: kernel.Cures, Runs: 3},
		}, false},
		{"a merge", func(_ *world, f *Finding) { f.Culprit.Parents = append(f.Culprit.Parents, sha(0)) }, kernel.Confirmation{
			Culprit: kernel.Rebuilt{SHA: sha(4), Same: true, Verdict: kernel.Bad, Runs: 2, Fails: 2},
			Parent:  kernel.Rebuilt{SHA: sha(3), Same: true, Verdict: kernel.Good, Runs: 3},
			Revert:  &kernel.Revert{Status: kernel.NotReverted, Reason: "the culprit is a merge: git cannot know which of its lines to take out"},
		}, true},
		{"the bad end itself", func(_ *world, f *Finding) { f.BadEnd = f.Culprit }, kernel.Confirmation{
			Culprit: kernel.Rebuilt{SHA: sha(4), Same: true, Verdict: kernel.Bad, Runs: 2, Fails: 2},
			Parent:  kernel.Rebuilt{SHA: sha(3), Same: true, Verdict: kernel.Good, Runs: 3},
			Revert:  &kernel.Revert{Status: kernel.NotReverted, Reason: "the culprit is the bad end: without it, that is the parent"},
		}, true},
		{"a fix", func(w *world, f *Finding) {
			f.FindFix = true
			w.script["3 repro"], w.script["4 repro"] = "f", "p"
		}, kernel.Confirmation{
			Culprit: kernel.Rebuilt{SHA: sha(4), Same: true, Verdict: kernel.Good, Runs: 3},
			Parent:  kernel.Rebuilt{SHA: sha(3), Same: true, Verdict: kernel.Bad, Runs: 2, Fails: 2},
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, f := foundWorld(t)
			c.change(w, &f)
			got := confirm(t, w, f)
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if got.Confirms(f.FindFix) != c.sure {
				t.Errorf("Confirms: %v", !c.sure)
			}
		})
	}
}

// The runs of the search must not stand in for those of the new kernels,
// although the images are the same.
func TestConfirmRunsAgain(t *testing.T) {
	w, f := foundWorld(t)
	s := w.lab("b").subject(kernel.Kernel{Digest: "4"}, "")
	for range 10 {
		if _, _, err := s.run(t.Context(), f.Program); err != nil {
			t.Fatal(err)
		}
	}
	s.close()
	before := w.runs
	confirm(t, w, f)
	if made := w.runs - before; made != 8 {
		t.Errorf("%d runs were made, want 2 and 3 and 3", made)
	}
	// But the same job, asked again, has them.
	before = w.runs
	confirm(t, w, f)
	if made := w.runs - before; made != 0 {
		t.Errorf("asked again it made %d runs", made)
	}
}

// After a kill at any moment the same job ends with the same answer, and makes
// no run twice.
func TestConfirmSurvives(t *testing.T) {
	w, f := foundWorld(t)
	want := confirm(t, w, f)
	whole := w.runs
	for cut := 0; ; cut++ {
		w, f := foundWorld(t)
		w.left = cut
		var out kernel.Confirmation
		err := w.lab("b").Confirm(t.Context(), f, &out, func() {})
		if err == nil {
			if cut < 10 {
				t.Errorf("it was through after %d steps", cut)
			}
			break
		}
		if !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		w.left = -1
		got := confirm(t, w, f)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("cut after %d steps (-want +got):\n%s", cut, d)
		}
		// The run under way when the power went was not recorded.
		if w.runs > whole+1 {
			t.Errorf("cut after %d steps: %d runs, want %d", cut, w.runs, whole)
		}
	}
}

func TestConfirmInfra(t *testing.T) {
	w, f := foundWorld(t)
	w.script["3 repro"] = "i"
	var out kernel.Confirmation
	updates := 0
	err := w.lab("b").Confirm(t.Context(), f, &out, func() { updates++ })
	if err == nil || !strings.Contains(err.Error(), "qemu died") || updates != 1 || out.Culprit.Verdict != kernel.Bad {
		t.Errorf("%v, %d updates, %+v", err, updates, out)
	}
}

// The test says bad of a kernel that fails at the good rate, and the other way
// round, about as rarely as it promises, and always ends.
func TestJudgeKeepsItsPromise(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, rate := range []float64{0.1, 0.3, 0.9} {
		f := Finding{FailRate: rate, FalseFailRate: 0.01, Confidence: 0.99}
		for _, c := range []struct {
			rate float64
			want kernel.Verdict
		}{{rate, kernel.Bad}, {f.FalseFailRate, kernel.Good}} {
			const trials = 2000
			wrong, open, runs := 0, 0, 0
			for range trials {
				v, n, fails := kernel.Inconclusive, 0, 0
				for v == kernel.Inconclusive && n < maxConfirmRuns {
					n++
					if rnd.Float64() < c.rate {
						fails++
					}
					v = f.judge(n, fails)
				}
				runs += n
				switch v {
				case c.want:
				case kernel.Inconclusive:
					open++
				default:
					wrong++
				}
			}
			if wrong > trials*15/1000 || open > trials/50 {
				t.Errorf("rate %g, kernel at %g: wrong %d, open %d of %d, %.1f runs", rate, c.rate, wrong, open, trials, float64(runs)/trials)
			}
		}
	}
	for _, f := range []Finding{{}, {FailRate: 1, Confidence: 1}, {FailRate: math.NaN(), FalseFailRate: math.NaN(), Confidence: 0.9}, {FailRate: 0.1, FalseFailRate: 0.9, Confidence: 0.99}} {
		if v := f.judge(1, 1); v != kernel.Inconclusive {
			t.Errorf("%+v: one run is %s", f, v)
		}
		if v := f.judge(maxConfirmRuns, 0); v == kernel.Bad {
			t.Errorf("%+v: passes are bad", f)
		}
	}
}
