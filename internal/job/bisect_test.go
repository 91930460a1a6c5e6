package job

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/bisect"
	"github.com/kernel-bisect/kbisect/internal/history"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// search bisects w with test a: commit 0 is the good end, the last one the bad.
func search(t *testing.T, w *world, l *Lab) (kernel.BisectResult, error) {
	t.Helper()
	w.mayOpen = atOnce
	g, err := history.New(w.commits[1:])
	if err != nil {
		t.Fatal(err)
	}
	var res kernel.BisectResult
	updates := 0
	err = l.Bisect(t.Context(), Range{Good: w.commits[0], Graph: g}, bisect.New(&g.Shape, bisect.Options{}), program("a"), &res, func() { updates++ })
	if updates < len(res.Steps) {
		t.Errorf("%d updates for %d steps", updates, len(res.Steps))
	}
	return res, err
}

// answer is what a bisection found, on one line.
func answer(res kernel.BisectResult) string {
	s := string(res.Status)
	for _, c := range res.Candidates {
		s += " " + strings.TrimLeft(c.SHA, "0")
	}
	return s
}

func TestBisect(t *testing.T) {
	const n = 10
	for _, c := range []struct {
		name  string
		world func(w *world)
		want  string
	}{
		{"flaky failure", func(w *world) { w.badFrom(6, "a", "fpffpfffpffffpf") }, "found 6"},
		{"false failures on good commits", func(w *world) { w.script["5 a"], w.script["2 a"] = "fp", "ppfp"; w.badFrom(6, "a", "f") }, "found 6"},
		{"a crash", func(w *world) { w.badFrom(2, "a", "c") }, "found 2"},
		{"a hang", func(w *world) { w.badFrom(2, "a", "h") }, "found 2"},
		{"never fails", func(*world) {}, "not-reproduced"},
		{"good end is bad", func(w *world) { w.badFrom(0, "a", "f") }, "older-than-good"},
		{"bad end does not build", func(w *world) { w.build[9] = kernel.BuildFailed }, "inconclusive"},
		{"good end does not boot", func(w *world) { w.noBoot[0] = true; w.badFrom(4, "a", "f") }, "inconclusive"},
		{"parent does not build", func(w *world) { w.build[5] = kernel.BuildFailed; w.badFrom(6, "a", "f") }, "set 5 6"},
		{"parent cannot be configured", func(w *world) { w.build[5] = kernel.BuildRefused; w.badFrom(6, "a", "f") }, "set 5 6"},
		{"parent does not boot", func(w *world) { w.noBoot[5] = true; w.badFrom(6, "a", "f") }, "set 5 6"},
		{"parent skips", func(w *world) { w.script["5 a"] = "s"; w.badFrom(6, "a", "f") }, "set 5 6"},
		{"the test gives up on the culprit, which has failed", func(w *world) { w.badFrom(4, "a", "f"); w.script["4 a"] = "fbf" }, "found 4"},
		{"the test gives up on the parent", func(w *world) { w.script["5 a"] = "b"; w.badFrom(6, "a", "f") }, "set 5 6"},
		{"parent fails in another way", func(w *world) { w.script["5 a"] = "o"; w.badFrom(6, "a", "f") }, "set 5 6"},
		{"other failures now and then", func(w *world) { w.script["5 a"] = "poppoppp"; w.badFrom(6, "a", "fof") }, "found 6"},
		{"untestable far away", func(w *world) { w.build[2], w.noBoot[8] = kernel.BuildFailed, true; w.badFrom(6, "a", "f") }, "found 6"},
		{"several untestable", func(w *world) {
			w.build[4], w.noBoot[5], w.script["3 a"] = kernel.BuildFailed, true, "s"
			w.badFrom(6, "a", "f")
		}, "set 3 4 5 6"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, n)
			c.world(w)
			res, err := search(t, w, w.lab("job"))
			if err != nil {
				t.Fatal(err)
			}
			x := newWorld(t, n)
			c.world(x)
			l := x.lab("job")
			l.BuildAhead = true
			if ahead, err := search(t, x, l); err != nil || answer(ahead) != answer(res) || ahead.Runs != res.Runs || ahead.Builds != res.Builds || x.builds < w.builds {
				t.Errorf("with builds ahead %s, %d runs, %d builds of %d, %v", answer(ahead), ahead.Runs, ahead.Builds, x.builds, err)
			}
			if got := answer(res); got != c.want || res.Reason == "" {
				t.Errorf("%s (%s), want %s", got, res.Reason, c.want)
			}
			found := strings.HasPrefix(c.want, "found")
			if found != (res.Culprit != nil) || found && (res.Confidence < 0.99 || res.Candidates[0].Probability < 0.99 || res.Culprit.SHA != res.Candidates[0].SHA) {
				t.Errorf("culprit %v, confidence %v", res.Culprit, res.Confidence)
			}
			if res.Runs != w.runs || res.Builds != w.builds {
				t.Errorf("%d runs, %d builds; really %d, %d", res.Runs, res.Builds, w.runs, w.builds)
			}
			for _, s := range res.Skipped {
				if !strings.Contains(stepOf(t, res, s.SHA).Reason, " ") {
					t.Errorf("%s is skipped without a reason", s.SHA)
				}
			}
		})
	}
}

// stepOf returns the step that gave a commit up.
func stepOf(t *testing.T, res kernel.BisectResult, sha string) kernel.BisectStep {
	t.Helper()
	for _, s := range res.Steps {
		if s.SHA == sha && s.Outcome == "skip" {
			return s
		}
	}
	t.Errorf("no step gives %s up", sha)
	return kernel.BisectStep{}
}

func TestBisectFindsEveryCulprit(t *testing.T) {
	for i := range 2 * 15 {
		culprit := i/2 + 1
		w := newWorld(t, 16)
		w.badFrom(culprit, "a", "f")
		l := w.lab("job")
		l.BuildAhead = i%2 == 1 // of runs that are all alike none is built for nothing
		res, err := search(t, w, l)
		if err != nil || answer(res) != fmt.Sprintf("found %d", culprit) || res.Signature.Title != "missed COW" || len(res.Skipped) > 0 {
			t.Errorf("culprit %d: %s, %v, signature %q", culprit, answer(res), err, res.Signature)
		}
		if w.builds > 4+2 { // log2 of the candidates and both ends
			t.Errorf("culprit %d: %d builds", culprit, w.builds)
		}
	}
}

// An end that cannot be configured as the profile wants is the user's to mend.
func TestRefusedEnd(t *testing.T) {
	for _, end := range []int{0, 5} {
		w := newWorld(t, 6)
		w.build[end] = kernel.BuildRefused
		w.badFrom(3, "a", "f")
		res, err := search(t, w, w.lab("job"))
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Commit != w.commits[end].Short() || refused.Reason == "" {
			t.Errorf("end %d: %v", end, err)
		}
		if res.Status != kernel.NoConclusion || res.Culprit != nil {
			t.Errorf("end %d: %+v", end, res)
		}
	}
}

// Infra is an error, not a verdict, and the job goes on where it was.
func TestBisectInfra(t *testing.T) {
	w := newWorld(t, 6)
	w.badFrom(3, "a", "f")
	w.script["2 a"] = "ppip"
	_, err := search(t, w, w.lab("job"))
	if !errors.Is(err, errInfra) || !strings.Contains(err.Error(), "qemu died") {
		t.Fatalf("error %v", err)
	}
	if res, err := search(t, w, w.lab("job")); err != nil || answer(res) != "found 3" || res.Runs != w.runs-1 {
		t.Errorf("resumed: %s, %v, %d of %d runs", answer(res), err, res.Runs, w.runs)
	}
}

// One failure is chased. Another one on the way is no evidence either way, and
// a commit that shows little else is given up.
func TestSignatureIsChased(t *testing.T) {
	w := newWorld(t, 8)
	w.badFrom(4, "a", "f")
	w.script["3 a"] = "o"
	res, err := search(t, w, w.lab("job"))
	if err != nil || answer(res) != "set 3 4" {
		t.Fatalf("%s, %v", answer(res), err)
	}
	s := stepOf(t, res, sha(3))
	if w.made["3 a"] != maxOther || s.Runs != 0 || s.Fails != 0 || s.Signature.Title != "corruption" || !strings.Contains(s.Reason, "another way: fail: corruption") {
		t.Errorf("%d runs made, %+v", w.made["3 a"], s)
	}
	if len(res.Skipped) != 1 || res.Skipped[0].SHA != sha(3) || res.Signature.Title != "missed COW" {
		t.Errorf("skipped %v, signature %v", res.Skipped, res.Signature)
	}
	// Other failures behind the one that is chased, of a bug with several faces: it has
	// shown that, and is not given up.
	w = newWorld(t, 8)
	w.badFrom(4, "a", "f")
	w.script["4 a"] = "foooooof"
	if res, err = search(t, w, w.lab("job")); err != nil || answer(res) != "found 4" || len(res.Skipped) != 0 {
		t.Fatalf("%s, skipped %v, %v", answer(res), res.Skipped, err)
	}
	// Four of another kind before the evidence: not given up, and not counted.
	w = newWorld(t, 8)
	w.badFrom(4, "a", "f")
	w.script["3 a"] = "oooop"
	res, err = search(t, w, w.lab("job"))
	if err != nil || answer(res) != "found 4" {
		t.Fatalf("%s, %v", answer(res), err)
	}
	for _, s := range res.Steps {
		if s.SHA == sha(3) && s.Fails != 0 {
			t.Errorf("another failure was counted: %+v", s)
		}
	}
	// The bad end gives the signature, even where its first runs pass.
	w = newWorld(t, 4)
	w.badFrom(2, "a", "ppc")
	if res, err := search(t, w, w.lab("job")); err != nil || res.Signature.Title != "NULL pointer dereference" {
		t.Errorf("%+v, %v", res.Signature, err)
	}
}

// The failure that is chased is the usual one of the bad end, not the first.
func TestUsualSignatureIsChased(t *testing.T) {
	for name, script := range map[string]string{
		"always":      "o" + strings.Repeat("f", 300),
		"every other": "o" + strings.Repeat("pf", 300),
		"false again": "opofpfpf" + strings.Repeat("pf", 300),
	} {
		for _, iterations := range []int{1, 32} {
			w := newWorld(t, 8)
			w.badFrom(4, "a", "f")
			w.script["7 a"] = script
			res := searchOver(t, w, Range{}, bisect.Options{MaxIterations: iterations})
			if answer(res) != "found 4" || res.Signature.Title != "missed COW" || res.Steps[0].Other == 0 || res.Steps[0].Signature.Title != "missed COW" {
				t.Errorf("%s, %d iterations: %s (%s), signature %v, %+v", name, iterations, answer(res), res.Reason, res.Signature, res.Steps[0])
			}
		}
	}
}

// A commit with the image of another one is said to be identical and is not run:
// what the other showed holds, and is counted once.
func TestIdenticalImagesInABisection(t *testing.T) {
	w := newWorld(t, 9)
	w.image[3], w.image[7], w.noBoot[6] = 2, 6, true
	w.badFrom(4, "a", "f")
	res, err := search(t, w, w.lab("job"))
	if err != nil || answer(res) != "found 4" {
		t.Fatalf("%s, %v", answer(res), err)
	}
	how := map[string]string{} // sha -> where its kernel came from
	for _, s := range res.Steps {
		how[s.SHA] += s.Build + " "
		if s.Build == "identical" && s.Why == bisect.WhySearch && (s.Runs != 0 || s.Reason == "") || s.Outcome == string(kernel.Inconclusive) {
			t.Errorf("%+v", s)
		}
	}
	if how[sha(2)] != "built " || how[sha(3)] != "identical identical " {
		t.Errorf("kernels: %v", how)
	}
	if res.Runs != w.runs || len(w.record.runs) != w.runs {
		t.Errorf("%d runs in the result, %d made, %d recorded", res.Runs, w.runs, len(w.record.runs))
	}
}

// searchOver bisects with a range and options of the test's own.
func searchOver(t *testing.T, w *world, r Range, o bisect.Options) kernel.BisectResult {
	t.Helper()
	res, err := trySearch(t, w, r, o)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func trySearch(t *testing.T, w *world, r Range, o bisect.Options) (kernel.BisectResult, error) {
	t.Helper()
	w.mayOpen = atOnce
	g, err := history.New(w.commits[1:])
	if err != nil {
		t.Fatal(err)
	}
	r.Good, r.Graph = w.commits[0], g
	var res kernel.BisectResult
	err = w.lab("job").Bisect(t.Context(), r, bisect.New(&g.Shape, o), program("a"), &res, func() {})
	return res, err
}

// Any failure counts where that was asked for: commit 3 fails in another way.
func TestAnyFailure(t *testing.T) {
	w := newWorld(t, 8)
	w.badFrom(4, "a", "f")
	w.script["3 a"] = "o"
	if res := searchOver(t, w, Range{AnyFailure: true}, bisect.Options{}); answer(res) != "found 3" || len(res.Skipped) > 0 {
		t.Errorf("%s, skipped %v", answer(res), res.Skipped)
	}
}

func TestFixIsFound(t *testing.T) {
	w := newWorld(t, 12)
	for i := range 7 {
		w.script[fmt.Sprintf("%d a", i)] = "f"
	}
	res := searchOver(t, w, Range{}, bisect.Options{Fix: true})
	if answer(res) != "found 7" || res.Doubt != "" {
		t.Errorf("%s, doubt %q", answer(res), res.Doubt)
	}
}

// When the time is over the search ends with what it has, and says so.
func TestTimeIsOver(t *testing.T) {
	w := newWorld(t, 8)
	w.badFrom(4, "a", "f")
	res := searchOver(t, w, Range{Until: time.Now().Add(-time.Second)}, bisect.Options{})
	if res.Status != kernel.NoConclusion || !strings.Contains(res.Reason, "time") || w.runs != 0 {
		t.Errorf("%s (%s) after %d runs", res.Status, res.Reason, w.runs)
	}
}

// The details of a commit are asked for once, when it is met.
func TestDetails(t *testing.T) {
	w := newWorld(t, 64)
	w.badFrom(40, "a", "f")
	asked := map[string]int{}
	res := searchOver(t, w, Range{Details: func(_ context.Context, c kernel.Commit) (kernel.Commit, error) {
		asked[c.SHA]++
		c.Subject = "details of " + c.SHA
		return c, nil
	}}, bisect.Options{})
	if res.Culprit == nil || res.Culprit.Subject != "details of "+sha(40) || len(asked) > 12 || len(asked) == 0 {
		t.Errorf("%+v, %d asked for", res.Culprit, len(asked))
	}
	for c, n := range asked {
		if n > 1 {
			t.Errorf("%s was asked for %d times", c, n)
		}
	}
	if len(res.Steps) == 0 || len(res.Steps[0].Posterior) == 0 || res.Steps[0].Bin == 0 || res.Release == "" || res.Iterations != 1 {
		t.Errorf("%+v", res)
	}
	if !strings.Contains(res.Doubt, kernel.Abbrev(sha(39))) {
		t.Errorf("doubt %q", res.Doubt)
	}
}

// A commit that was left undecided is judged in the end by all that is known.
func TestUndecidedCommitsAreSettled(t *testing.T) {
	w := newWorld(t, 15)
	w.badFrom(10, "a", "fppfppffppfpppfpppffpppfppfpppfppppfppfppfpppppfpp")
	var free []int
	for i := range 14 {
		free = append(free, i)
	}
	res := searchOver(t, w, Range{}, bisect.Options{Free: free})
	if answer(res) != "found 10" {
		t.Fatal(answer(res))
	}
	left := false
	for _, s := range res.Steps {
		if s.Outcome == string(kernel.Inconclusive) {
			t.Errorf("%s stays undecided: %d of %d", s.SHA, s.Fails, s.Runs)
		}
	}
	for _, e := range w.events {
		left = left || e.Phase == "done" && strings.Contains(e.Text, "inconclusive")
	}
	if !left {
		t.Error("no commit was left undecided on the way: the test is too easy")
	}
}
