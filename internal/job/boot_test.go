package job

import (
	"testing"

	"github.com/kernel-bisect/kbisect/internal/bisect"
	"github.com/kernel-bisect/kbisect/internal/history"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
)

var bootProgram = runner.Program{Name: kernel.BootTest, Boot: true}

// What a kernel says while it boots, and whether it does, is a test like others,
// for which a kernel that does not boot is bad and not untestable.
func TestSeriesOfBoots(t *testing.T) {
	for _, c := range []struct {
		name        string
		world       func(w *world)
		other, boot string // verdicts of another test, and of the boot
		first       int    // -1 for none
	}{
		{"all boot", func(*world) {}, "ggggg", "ggggg", -1},
		{"one complains", func(w *world) { w.badFrom(3, "boot", "c") }, "ggggg", "gggbb", 3},
		{"now and then", func(w *world) { w.badFrom(3, "boot", "cppcpcccpcpcccpcccpccccpcccp") }, "ggggg", "gggbb", 3},
		{"the base complains", func(w *world) { w.badFrom(0, "boot", "c") }, "ggggg", "bbbbb", -1},
		{"one does not boot", func(w *world) { w.noBoot[2] = true }, "ggugg", "ggbgg", 2},
		{"none boots any more", func(w *world) { w.noBoot[2], w.noBoot[3], w.noBoot[4] = true, true, true }, "gguuu", "ggbbb", 2},
		{"one boots like the one before", func(w *world) { w.noBoot[2], w.image[3] = true, 2 }, "gguug", "ggbbg", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 5)
			c.world(w)
			p := plan("a")
			p.Programs = append(p.Programs, bootProgram)
			res, err := series(t, w, w.lab("j"), p)
			if err != nil {
				t.Fatal(err)
			}
			if got := table(res, 0); got != c.other {
				t.Errorf("another test: %s, want %s", got, c.other)
			}
			if got := table(res, 1); got != c.boot {
				t.Errorf("boot: %s, want %s", got, c.boot)
			}
			want := ""
			if c.first >= 0 {
				want = sha(c.first)
			}
			if res.FirstBad[kernel.BootTest] != want || res.FirstBad["a"] != "" {
				t.Errorf("first bad %q, want boot %s", res.FirstBad, want)
			}
			// Each kernel boots for its other test anyway, and that counts.
			if c.name == "all boot" && w.boots != 2*len(w.commits) {
				t.Errorf("%d boots of %d kernels for two runs each", w.boots, len(w.commits))
			}
			again, err := series(t, w, w.lab("k"), p)
			if err != nil || table(again, 1) != c.boot || again.FirstBad[kernel.BootTest] != want {
				t.Errorf("again: %s, %q, %v", table(again, 1), again.FirstBad, err)
			}
		})
	}
}

func TestBisectBoots(t *testing.T) {
	for name, make := range map[string]func(w *world){
		"does not boot":        func(w *world) { w.noBoot[6], w.noBoot[7], w.noBoot[8], w.noBoot[9] = true, true, true, true },
		"complains":            func(w *world) { w.badFrom(6, "boot", "c") },
		"complains mostly":     func(w *world) { w.badFrom(6, "boot", "ccpccpcpccccpccccpccpcccp") },
		"hangs for a while":    func(w *world) { w.badFrom(6, "boot", "h") },
		"is untestable for us": func(w *world) { w.badFrom(6, "boot", "c"); w.build[2] = kernel.BuildFailed },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 10)
			make(w)
			w.mayOpen = atOnce
			g, err := history.New(w.commits[1:])
			if err != nil {
				t.Fatal(err)
			}
			var res kernel.BisectResult
			r := Range{Good: w.commits[0], Graph: g}
			if err := w.lab("j").Bisect(t.Context(), r, bisect.New(&g.Shape, bisect.Options{}), bootProgram, &res, func() {}); err != nil {
				t.Fatal(err)
			}
			if got := answer(res); got != "found 6" {
				t.Errorf("%s: %s", got, res.Reason)
			}
		})
	}
}
