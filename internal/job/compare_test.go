package job

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
)

// race is the outcomes of a test that fails at a rate, other ones for each seed.
func race(rate float64, seed int) string {
	rng := rand.New(rand.NewPCG(4, uint64(seed)))
	var b strings.Builder
	for range 200 {
		b.WriteByte("pf"[map[bool]int{true: 1}[rng.Float64() < rate]])
	}
	return b.String()
}

// changes is a series on one line: a letter for what each commit did to a test.
func changes(res kernel.SeriesResult, test string) string {
	letters := map[kernel.Change]string{"": ".", kernel.Introduced: "I", kernel.NotIntroduced: "n", kernel.Flaky: "~", kernel.Fixed: "F", kernel.Unclear: "?"}
	s := ""
	for _, row := range append([]kernel.CommitResult{*res.BaseRow}, res.Commits...) {
		i := slices.IndexFunc(row.Tests, func(t kernel.TestResult) bool { return t.Name == test })
		if i < 0 {
			s += " "
			continue
		}
		s += letters[row.Tests[i].Change]
	}
	return s
}

func TestSeriesChanges(t *testing.T) {
	for _, c := range []struct {
		name         string
		world        func(w *world)
		changes      string
		first, fixed int // 0 for none
	}{
		{"all good", func(*world) {}, "........", 0, 0},
		{"broken by 3", func(w *world) { w.badFrom(3, "a", "f") }, "...Innnn", 3, 0},
		{"bad on the base", func(w *world) { w.badFrom(0, "a", "f") }, ".nnnnnnn", 0, 0},
		{"flaky on the base", func(w *world) {
			for i := range 8 {
				w.script[fmt.Sprintf("%d a", i)] = race(0.3, i)
			}
		}, ".~~~~~~~", 0, 0},
		{"a race from 3 on", func(w *world) {
			for i := 3; i < 8; i++ {
				w.script[fmt.Sprintf("%d a", i)] = race(0.3, i)
			}
		}, "...I.n.n", 3, 0}, // 4 and 6 were lucky
		{"fixed by 2", func(w *world) { w.script["0 a"], w.script["1 a"] = "f", "f" }, ".nF.....", 0, 2},
		{"out, in, out", func(w *world) {
			for _, i := range []int{0, 1, 4} {
				w.script[fmt.Sprintf("%d a", i)] = "f"
			}
		}, ".nF.IF..", 4, 2},
		{"in, out, in", func(w *world) {
			w.badFrom(2, "a", "f")
			w.script["4 a"], w.script["5 a"] = "p", "p"
		}, "..InF.In", 2, 4},
		{"the base is not known", func(w *world) { w.build[0] = kernel.BuildFailed; w.badFrom(1, "a", "f") }, ".???????", 0, 0},
		{"the base skips", func(w *world) { w.script["0 a"] = "s"; w.badFrom(1, "a", "f") }, ".???????", 0, 0},
		{"it gets untestable", func(w *world) { w.badFrom(2, "a", "f"); w.noBoot[5] = true }, "..Inn.nn", 2, 0},
		// The host fails everything from the first run of commit 4 on.
		{"a host that gets worse", func(w *world) {
			for i := range 8 {
				w.script[fmt.Sprintf("%d a", i)] = map[bool]string{true: "ppf", false: "f"}[i < 4]
			}
		}, ".nnnnnnn", 0, 0},
		// The image of 3 is that of 2: it changes nothing. The one of 6 is the base's.
		{"equal images", func(w *world) { w.image[3], w.image[6] = 2, 0; w.script["2 a"] = "f" }, "..InF...", 2, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 8)
			c.world(w)
			l := w.lab("job")
			l.Build = func(ctx context.Context, c kernel.Commit) (kernel.Build, error) {
				if w.open > 0 {
					t.Error("a build while a kernel is up: it wants the memory")
				}
				return w.buildOne(ctx, c)
			}
			res, err := series(t, w, l, plan("a", "b"))
			if err != nil {
				t.Fatal(err)
			}
			if got := changes(res, "a"); got != c.changes {
				t.Errorf("%s, want %s: %s", got, c.changes, table(res, 0))
			}
			if got := changes(res, "b"); got != "........" {
				t.Errorf("the other test: %s", got)
			}
			first, fixed := map[string]string{}, map[string]string{}
			if c.first > 0 {
				first["a"] = sha(c.first)
			}
			if c.fixed > 0 {
				fixed["a"] = sha(c.fixed)
			}
			if diff := cmp.Diff(first, res.FirstBad); diff != "" {
				t.Errorf("first bad: %s", diff)
			}
			if diff := cmp.Diff(fixed, res.FirstFixed); diff != "" {
				t.Errorf("first fixed: %s", diff)
			}
			for i, row := range res.Commits {
				for _, r := range row.Tests {
					if failing := r.Change == kernel.Introduced || r.Change == kernel.NotIntroduced || r.Change == kernel.Flaky; failing != (r.Since != "") {
						t.Errorf("commit %d: %+v", i+1, r)
					}
				}
			}
		})
	}
}

// Runs to compare are made by turns, of all tests together, and only when a
// commit has failed.
func TestSeriesComparesByTurns(t *testing.T) {
	w := newWorld(t, 6)
	w.badFrom(4, "a", "f")
	w.badFrom(4, "b", "c")
	var log []string
	l := w.lab("job")
	boot := l.Boot
	l.Boot = func(ctx context.Context, k kernel.Kernel) (Bench, kernel.Boot, error) {
		b, boot, err := boot(ctx, k)
		return logged{b, k.Digest, &log}, boot, err
	}
	if _, err := series(t, w, l, plan("a", "b", "c")); err != nil {
		t.Fatal(err)
	}
	// Commits 3 and 4, and the base when it is behind: there and back.
	want := []string{"0 aabbcc", "1 aabbcc", "2 aabbcc", "3 aabbcc", "4 aabbcc", "3 ab", "4 abab", "3 ab", "0 abab", "3 ab", "4 ab", "5 abcc"}
	if !slices.Equal(log, want) {
		t.Errorf("%q\nwant %q", log, want)
	}
	if w.made["0 c"]+w.made["4 c"] != 4 || w.made["1 a"] != 2 || w.made["2 a"] != 2 || w.made["5 a"] != 1 {
		t.Errorf("runs %v", w.made)
	}
}

// logged tells which programs ran on which kernel.
type logged struct {
	Bench
	kernel string
	log    *[]string
}

func (l logged) Run(ctx context.Context, p runner.Program) (kernel.Run, error) {
	n := len(*l.log) - 1
	if n < 0 || !strings.HasPrefix((*l.log)[n], l.kernel+" ") {
		*l.log = append(*l.log, l.kernel+" ")
		n++
	}
	(*l.log)[n] += p.Name
	return l.Bench.Run(ctx, p)
}

// A series without a failure costs what it did: so many runs, and one boot, of
// each commit. What failed before fails once on each commit.
func TestSeriesCostsNoMore(t *testing.T) {
	for _, outcomes := range []string{"p", "f", "s"} {
		w := newWorld(t, 8)
		w.badFrom(0, "a", outcomes)
		if _, err := series(t, w, w.lab("job"), plan("a", "b")); err != nil {
			t.Fatal(err)
		}
		each := map[string]int{"p": 4, "f": 3, "s": 3}[outcomes]
		first := map[string]int{"f": 1}[outcomes] // twice on the base
		if w.boots != 8 || w.runs != 8*each+first {
			t.Errorf("%s: %d boots, %d runs", outcomes, w.boots, w.runs)
		}
	}
}

// What passed in shared guests is compared with guests of its own.
func TestSeriesComparesSharedGuests(t *testing.T) {
	w := newWorld(t, 5)
	w.badFrom(3, "1", "f")
	res, err := series(t, w, w.lab("job"), sharing(4, 2))
	if err != nil || changes(res, "1") != "...In" || changes(res, "0") != "....." {
		t.Errorf("%s, %s, %v", changes(res, "1"), changes(res, "0"), err)
	}
	boots, runs := w.boots, w.runs
	again, err := series(t, w, w.lab("again"), sharing(4, 2))
	if err != nil || changes(again, "1") != "...In" || w.runs != runs || again.Commits[2].Tests[1].Reused != again.Commits[2].Tests[1].Runs {
		t.Errorf("%s, %v, %d more boots, %d more runs", changes(again, "1"), err, w.boots-boots, w.runs-runs)
	}
}

// A commit with the kernel of another has its runs too, those to compare among
// them, and has made none.
func TestComparedIdenticalImages(t *testing.T) {
	w := newWorld(t, 5)
	w.image[2], w.image[4] = 1, 3
	w.badFrom(3, "a", "f")
	res, err := series(t, w, w.lab("job"), plan("a"))
	if err != nil || changes(res, "a") != "...In" || w.builds != 5 {
		t.Fatalf("%s, %v", changes(res, "a"), err)
	}
	for i, r := range res.Commits {
		if x := r.Tests[0]; x.Runs < 3 || (x.Reused == x.Runs) != (i == 1 || i == 3) {
			t.Errorf("commit %d: %d runs, %d of them reused", i+1, x.Runs, x.Reused)
		}
	}
}

// --max-runs bounds these runs too; what they do not show is not told.
func TestSeriesMaxRuns(t *testing.T) {
	w := newWorld(t, 4)
	w.badFrom(2, "a", "f")
	p := plan("a")
	p.MaxRuns = 2
	res, err := series(t, w, w.lab("job"), p)
	if err != nil || len(res.FirstBad) != 0 || changes(res, "a") != "..??" {
		t.Errorf("%v, %s, %v", res.FirstBad, changes(res, "a"), err)
	}
	for key, n := range w.made {
		if n > 2 {
			t.Errorf("%s: %d runs", key, n)
		}
	}
}

// Where we cannot find out nobody asks for ever; the base can still tell.
func TestSeriesComparesWithoutAnswer(t *testing.T) {
	w := newWorld(t, 4)
	w.script["1 a"] = "ppi"
	w.badFrom(2, "a", "f")
	res, err := series(t, w, w.lab("job"), plan("a"))
	if err != nil || w.made["1 a"] != 3 || changes(res, "a") != "..In" {
		t.Errorf("%v, %s, runs %v", err, changes(res, "a"), w.made)
	}
}

// Wherever the power goes, the series asked for again makes the runs that are
// missing and gives the same answer.
func TestComparedSeriesResumes(t *testing.T) {
	set := func(t *testing.T) *world {
		w := newWorld(t, 7)
		w.build[1], w.image[5] = kernel.BuildFailed, 3
		w.badFrom(3, "a", "f")
		for i := range 7 {
			w.script[fmt.Sprintf("%d b", i)] = race(0.4, i)
		}
		w.script["0 c"], w.script["2 c"] = "f", "f"
		return w
	}
	w := set(t)
	want, err := series(t, w, w.lab("job"), plan("a", "b", "c"))
	if err != nil || changes(want, "a") != "...Innn" || changes(want, "b") != "..~~~~~" || changes(want, "c") != "..nF..." {
		t.Fatalf("%s %s %s, %v", changes(want, "a"), changes(want, "b"), changes(want, "c"), err)
	}
	total := len(w.record.runs)
	step := 1
	if testing.Short() {
		step = 7
	}
	for cut := 0; ; cut += step {
		w := set(t)
		w.left = cut
		if _, err := series(t, w, w.lab("job"), plan("a", "b", "c")); err == nil {
			break // there were not that many calls
		} else if !errors.Is(err, errCut) || w.open != 0 {
			t.Fatalf("cut %d: %v, %d benches open", cut, err, w.open)
		}
		w.left = -1
		got, err := series(t, w, w.lab("job"), plan("a", "b", "c"))
		if err != nil {
			t.Fatalf("cut %d: %v", cut, err)
		}
		if w.runs > len(w.record.runs) {
			// The run was made and its recording failed: it is made again, and
			// in this world comes out as the next letter.
			if diff := cmp.Diff(want.FirstBad, got.FirstBad); diff != "" {
				t.Errorf("cut %d: %s", cut, diff)
			}
			continue
		}
		if len(w.record.runs) != total {
			t.Errorf("cut %d: %d runs, want %d", cut, len(w.record.runs), total)
		}
		same := []cmp.Option{cmpopts.IgnoreFields(kernel.TestResult{}, "Reused"), cmpopts.IgnoreFields(kernel.Build{}, "Cached"), cmpopts.EquateEmpty()}
		if diff := cmp.Diff(want, got, same...); diff != "" {
			t.Errorf("cut %d: %s", cut, diff)
		}
	}
}
