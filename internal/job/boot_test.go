package job

import (
	"maps"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/bisect"
	"github.com/kernel-bisect/kbisect/internal/history"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Whether a kernel boots, and what it says meanwhile, are tests like others, for which
// a kernel that does not boot is bad and not untestable. A warning that was there before
// does not hide that it comes up no longer.
func TestSeriesOfBoots(t *testing.T) {
	for _, c := range []struct {
		name               string
		world              func(w *world)
		other, boot, quiet string         // verdicts of another test, and of the boot
		first              map[string]int // by test
	}{
		{"all boot", func(*world) {}, "ggggg", "ggggg", "ggggg", nil},
		{"one complains", func(w *world) { w.badFrom(3, "boot", "c") }, "ggggg", "ggggg", "gggbb", map[string]int{kernel.QuietTest: 3}},
		{"now and then", func(w *world) { w.badFrom(3, "boot", "cppcpcccpcpcccpcccpccccpcccp") }, "ggggg", "ggggg", "gggbb", map[string]int{kernel.QuietTest: 3}},
		{"the base complains", func(w *world) { w.badFrom(0, "boot", "c") }, "ggggg", "ggggg", "bbbbb", nil},
		{"one does not boot", func(w *world) { w.noBoot[2] = true }, "ggugg", "ggbgg", "ggsgg", map[string]int{kernel.BootTest: 2}},
		{"none boots any more", func(w *world) { w.noBoot[2], w.noBoot[3], w.noBoot[4] = true, true, true }, "gguuu", "ggbbb", "ggsss", map[string]int{kernel.BootTest: 2}},
		{"all complain and two do not boot", func(w *world) { w.badFrom(0, "boot", "c"); w.badFrom(3, "boot", "n") }, "ggguu", "gggbb", "bbbss", map[string]int{kernel.BootTest: 3}},
		{"one boots like the one before", func(w *world) { w.noBoot[2], w.image[3] = true, 2 }, "gguug", "ggbbg", "ggssg", map[string]int{kernel.BootTest: 2}},
		// What does not come up at once has failed once, although its tests can be run.
		{"one boots at the second try", func(w *world) { w.badFrom(2, "boot", "N") }, "ggggg", "ggbbb", "gggss", map[string]int{kernel.BootTest: 2}},
		{"one boots seldom", func(w *world) { w.badFrom(3, "boot", "pnnnpnn") }, "ggggg", "gggbb", "ggggg", map[string]int{kernel.BootTest: 3}},
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
			want := map[string]string{}
			for test, first := range c.first {
				want[test] = sha(first)
			}
			same := func(job string, res kernel.SeriesResult) {
				t.Helper()
				if other, boot, quiet := table(res, 0), table(res, 1), table(res, 2); boot != c.boot || quiet != c.quiet || other != c.other {
					t.Errorf("%s: boot %s, want %s; quiet %s, want %s; another test %s, want %s", job, boot, c.boot, quiet, c.quiet, other, c.other)
				}
				if !maps.Equal(res.FirstBad, want) {
					t.Errorf("%s: first bad %q, want %q", job, res.FirstBad, want)
				}
			}
			same("the first", res)
			// Each kernel boots for its other test anyway, and that counts.
			if c.name == "all boot" && w.boots != 2*len(w.commits) {
				t.Errorf("%d boots of %d kernels for two runs each", w.boots, len(w.commits))
			}
			if res.BaseRow.Tests[1].Reused != 0 {
				t.Errorf("%d of its own boots are from elsewhere", res.BaseRow.Tests[1].Reused)
			}
			if again, err := series(t, w, w.lab("k"), p); err != nil {
				t.Error(err)
			} else if c.name != "one boots seldom" { // it has to boot for another test, and may not
				same("the second", again)
			}
		})
	}
}

// A boot that is on record counts, also of a job in which nobody asked for it.
func TestBootsOnRecord(t *testing.T) {
	w := newWorld(t, 1)
	w.script["0 boot"] = "cp"
	if boot, _, err := check(t, w, w.lab("one"), plan("a")); err != nil || boot.Signature.Kind != "crash" {
		t.Fatalf("%+v, %v", boot, err)
	}
	p := plan("a")
	p.Programs = append(p.Programs, bootProgram)
	for _, job := range []string{"two", "three"} {
		_, got, err := check(t, w, w.lab(job), p)
		if want := "good 2/0, good 7/0, good 7/1"; err != nil || verdicts(got) != want {
			t.Errorf("%s: %s, %v; want %s", job, verdicts(got), err, want)
		}
	}
	if w.boots != 7 {
		t.Errorf("%d boots", w.boots)
	}
}

// Wherever the power goes, boots come to what they would have come to.
func TestBootsResume(t *testing.T) {
	world := func() *world {
		w := newWorld(t, 1)
		w.script["0 boot"] = "pncpNp"
		return w
	}
	p := plan("a", "b")
	p.Programs = append(p.Programs, bootProgram)
	w := world()
	_, all, err := check(t, w, w.lab("job"), p)
	if err != nil {
		t.Fatal(err)
	}
	want, compared := verdicts(all[2:]), 0
	for cut := 0; ; cut++ {
		w := world()
		w.left = cut
		if _, _, err := check(t, w, w.lab("job"), p); err == nil {
			break
		}
		recorded := 0
		for _, r := range w.record.runs {
			if r.run.Test == kernel.BootTest {
				recorded++
			}
		}
		if made := w.made["0 boot"]; made < 5 && recorded < made || made >= 5 && recorded < made+1 {
			continue // what was not recorded is the next letter
		}
		compared++
		w.left = -1
		if _, got, err := check(t, w, w.lab("job"), p); err != nil || verdicts(got[2:]) != want {
			t.Errorf("cut %d: %v %s, want %s", cut, err, verdicts(got[2:]), want)
		}
	}
	if compared < 5 {
		t.Errorf("only %d cuts", compared)
	}
}

func TestBisectBoots(t *testing.T) {
	for name, make := range map[string]func(w *world){
		"does not boot":        func(w *world) { w.noBoot[6], w.noBoot[7], w.noBoot[8], w.noBoot[9] = true, true, true, true },
		"is tried twice":       func(w *world) { w.badFrom(6, "boot", "D") },
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
			// One that is down is tried once more: one boot of each kernel may be left over.
			if n := len(w.record.runs); n != w.boots || n < res.Runs || n > res.Runs+len(w.built) {
				t.Errorf("%d boots are %d runs on record, of which %d were wanted", w.boots, n, res.Runs)
			}
		})
	}
}
