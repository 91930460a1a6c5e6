package job

import (
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

func TestShows(t *testing.T) {
	for _, tt := range []struct {
		name  string
		world func(w *world)
		shows bool
		runs  int
	}{
		{"always fails", func(w *world) { w.script["1 a"] = "f" }, true, 2},
		{"fails now and then", func(w *world) { w.script["1 a"] = "ppfppppfp" }, true, 8},
		{"never fails", func(*world) {}, false, 12},
		{"fails once", func(w *world) { w.script["1 a"] = "ppfp" }, false, 12},
		{"fails in two ways", func(w *world) { w.script["1 a"] = "fop" }, false, 12},
		{"skips", func(w *world) { w.script["1 a"] = "s" }, false, 1},
		{"cannot be run", func(w *world) { w.script["1 a"] = "i" }, false, 1},
		{"does not build", func(w *world) { w.build[1] = kernel.BuildFailed }, false, 0},
		{"does not boot", func(w *world) { w.noBoot[1] = true }, false, 0},
	} {
		w := newWorld(t, 2)
		tt.world(w)
		l := w.lab("j")
		got, err := l.Shows(t.Context(), w.commits[1], plan("a").Programs[0])
		if err != nil || got != tt.shows || w.runs != tt.runs {
			t.Errorf("%s: %v, %v after %d runs; want %v after %d", tt.name, got, err, w.runs, tt.shows, tt.runs)
		}
		// A job that asks again has the same answer from the record.
		if again, err := l.Shows(t.Context(), w.commits[1], plan("a").Programs[0]); err != nil || again != got || w.runs > tt.runs+1 {
			t.Errorf("%s, again: %v, %v after %d runs", tt.name, again, err, w.runs)
		}
	}
}
