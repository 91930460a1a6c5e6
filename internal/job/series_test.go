package job

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// series tests the commits of w, the first of which is the base.
func series(t *testing.T, w *world, l *Lab, p Plan) (kernel.SeriesResult, error) {
	t.Helper()
	var res kernel.SeriesResult
	updates := 0
	w.mayOpen = atOnce
	err := l.Series(t.Context(), w.commits[0], w.commits[1:], p, &res, func() { updates++ })
	if rows := len(res.Commits); err == nil && (updates != rows+1 || rows != len(w.commits)-1) {
		t.Errorf("%d updates, %d rows", updates, rows)
	}
	return res, err
}

// table is a series on one line: a letter for each verdict of a test.
func table(res kernel.SeriesResult, test int) string {
	letters := map[kernel.Verdict]string{kernel.Good: "g", kernel.Bad: "b", kernel.Untestable: "u", kernel.Skipped: "s", kernel.Inconclusive: "i"}
	s := letters[res.BaseRow.Tests[test].Verdict]
	for _, row := range res.Commits {
		s += letters[row.Tests[test].Verdict]
	}
	return s
}

func TestSeries(t *testing.T) {
	for _, c := range []struct {
		name  string
		world func(w *world)
		table string
		first int   // -1 for none
		oneOf []int // with the first bad, nil for certain
	}{
		{"all good", func(*world) {}, "gggggg", -1, nil},
		{"broken in the middle", func(w *world) { w.badFrom(3, "a", "f") }, "gggbbb", 3, nil},
		{"broken by the first commit", func(w *world) { w.badFrom(1, "a", "c") }, "gbbbbb", 1, nil},
		{"flaky failure", func(w *world) { w.badFrom(3, "a", "fpffff") }, "gggbbb", 3, nil},
		{"one false failure", func(w *world) { w.script["2 a"] = "fp" }, "gggggg", -1, nil},
		{"base already bad", func(w *world) { w.badFrom(0, "a", "f") }, "bbbbbb", -1, nil},
		{"fixed", func(w *world) { w.script["0 a"], w.script["1 a"] = "f", "f" }, "bbgggg", -1, nil},
		{"fixed and broken again", func(w *world) { w.script["0 a"] = "f"; w.badFrom(4, "a", "f") }, "bgggbb", 4, nil},
		{"broken and fixed again", func(w *world) { w.script["2 a"] = "f" }, "ggbggg", 2, nil},
		{"a neighbour does not build", func(w *world) { w.build[2] = kernel.BuildFailed; w.badFrom(3, "a", "f") }, "ggubbb", 3, []int{2, 3}},
		{"neighbours do not build, boot or run", func(w *world) {
			w.build[2], w.noBoot[3], w.script["4 a"] = kernel.BuildRefused, true, "s"
			w.badFrom(5, "a", "f")
		}, "gguusb", 5, []int{2, 3, 4, 5}},
		{"a good commit clears those before it", func(w *world) {
			w.build[2], w.build[4] = kernel.BuildFailed, kernel.BuildFailed
			w.badFrom(5, "a", "f")
		}, "ggugub", 5, []int{4, 5}},
		{"untestable behind the first bad", func(w *world) { w.badFrom(2, "a", "f"); w.build[3] = kernel.BuildFailed }, "ggbubb", 2, nil},
		{"infra", func(w *world) { w.script["2 a"] = "i"; w.badFrom(3, "a", "f") }, "ggibbb", 3, []int{2, 3}},
		{"base does not build", func(w *world) { w.build[0] = kernel.BuildFailed; w.badFrom(1, "a", "f") }, "ubbbbb", -1, nil},
		{"base skips", func(w *world) { w.script["0 a"] = "s"; w.badFrom(1, "a", "f") }, "sbbbbb", -1, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 6)
			c.world(w)
			l := w.lab("job")
			l.BuildAhead = true // the verdicts are the same
			res, err := series(t, w, l, plan("a", "b"))
			if err != nil {
				t.Fatal(err)
			}
			if got := table(res, 0); got != c.table {
				t.Errorf("%s, want %s", got, c.table)
			}
			first, oneOf := map[string]string{}, map[string][]string{}
			if c.first >= 0 {
				first["a"] = sha(c.first)
			}
			for _, i := range c.oneOf {
				oneOf["a"] = append(oneOf["a"], sha(i))
			}
			if diff := cmp.Diff(first, res.FirstBad); diff != "" {
				t.Errorf("first bad: %s", diff)
			}
			if diff := cmp.Diff(oneOf, res.OneOf); diff != "" {
				t.Errorf("one of: %s", diff)
			}
			if !res.BaseRow.Base || res.Commits[0].Base {
				t.Error("the base is not marked, or a commit is")
			}
		})
	}
}

// Commits with equal images share their runs, and only one of them is booted.
func TestIdenticalImagesShareRuns(t *testing.T) {
	w := newWorld(t, 4)
	w.image[2] = 1 // commit 2 changes a comment
	res, err := series(t, w, w.lab("job"), plan("a"))
	if err != nil {
		t.Fatal(err)
	}
	if w.boots != 3 || w.runs != 6 || res.Commits[1].Tests[0].Reused != 2 {
		t.Errorf("%d boots, %d runs, reused %d", w.boots, w.runs, res.Commits[1].Tests[0].Reused)
	}
	if _, err := series(t, w, w.lab("again"), plan("a")); err != nil || w.boots != 3 || w.runs != 6 || w.builds != 4 {
		t.Errorf("again: %v, %d boots, %d runs, %d builds", err, w.boots, w.runs, w.builds)
	}
}

func TestSeriesResumes(t *testing.T) {
	set := func(t *testing.T) *world {
		w := newWorld(t, 4)
		w.build[1], w.script["0 b"] = kernel.BuildFailed, "s"
		w.badFrom(2, "a", "f")
		return w
	}
	w := set(t)
	want, err := series(t, w, w.lab("job"), plan("a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	total := len(w.record.runs)
	for cut := 0; ; cut++ {
		w := set(t)
		w.left = cut
		part, err := series(t, w, w.lab("job"), plan("a", "b"))
		if err == nil {
			return // there were not that many calls
		}
		if !errors.Is(err, errCut) || w.open != 0 {
			t.Fatalf("cut %d: %v, %d benches open", cut, err, w.open)
		}
		w.left = -1
		got, err := series(t, w, w.lab("job"), plan("a", "b"))
		if err != nil || len(w.record.runs) != total {
			t.Errorf("cut %d: %v, %d runs, want %d", cut, err, len(w.record.runs), total)
		}
		same := []cmp.Option{cmpopts.IgnoreFields(kernel.TestResult{}, "Reused"), cmpopts.IgnoreFields(kernel.Build{}, "Cached"), cmpopts.EquateEmpty()}
		if diff := cmp.Diff(want, got, same...); diff != "" {
			t.Errorf("cut %d: %s", cut, diff)
		}
		// What is through when the power goes stays in the result.
		if part.BaseRow != nil {
			if diff := cmp.Diff(want.Commits[:len(part.Commits)], part.Commits, same...); diff != "" {
				t.Errorf("cut %d, rows before it: %s", cut, diff)
			}
		}
	}
}

func TestSeriesEvents(t *testing.T) {
	w := newWorld(t, 3)
	w.build[1] = kernel.BuildFailed
	if _, err := series(t, w, w.lab("job"), plan("a")); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range w.events {
		got = append(got, fmt.Sprintf("%s %d/%d %s", e.Phase, e.Index, e.Total, e.Text))
		if e.Commit.SHA != sha(e.Index-1) {
			t.Errorf("%+v names another commit", e)
		}
	}
	want := []string{
		"build 1/3 ", "boot 1/3 ", "run 1/3 a", "done 1/3 1 good",
		"build 2/3 ", "done 2/3 untestable: does not build: mm/memory.c: error",
		"build 3/3 ", "boot 3/3 ", "run 3/3 a", "done 3/3 1 good",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}

func TestSummary(t *testing.T) {
	ok := kernel.CommitResult{Build: kernel.Build{Status: kernel.BuildOK}, Boot: kernel.Boot{Status: kernel.BootOK}}
	for i, v := range []kernel.Verdict{kernel.Skipped, kernel.Good, kernel.Bad, kernel.Good, kernel.Untestable, kernel.Inconclusive} {
		ok.Tests = append(ok.Tests, kernel.TestResult{Name: fmt.Sprint(i), Verdict: v})
	}
	if got := Summary(ok); got != "1 bad, 1 inconclusive, 1 untestable, 2 good, 1 skipped" {
		t.Errorf("%q", got)
	}
	ok.Boot = kernel.Boot{Status: kernel.BootFailed, Reason: "panic"}
	if got := Summary(ok); !strings.Contains(got, "does not boot: panic") {
		t.Errorf("%q", got)
	}
}
