package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
)

// check checks commit 0 of w.
func check(t *testing.T, w *world, l *Lab, p Plan) (kernel.Boot, []kernel.TestResult, error) {
	t.Helper()
	return l.Check(t.Context(), kernel.Kernel{Digest: "0", Release: "6.12"}, kernel.Commit{}, p)
}

// verdicts is a result on one line: "good 2/0" is good by 2 runs without a fail.
func verdicts(tests []kernel.TestResult) string {
	var out []string
	for _, r := range tests {
		out = append(out, fmt.Sprintf("%s %d/%d", r.Verdict, r.Runs, r.Fails))
	}
	return strings.Join(out, ", ")
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		script string
		atLeast,
		made int
		want string
	}{
		{"p", 2, 2, "good 2/0"},
		{"p", 1, 1, "good 1/0"},
		{"p", 20, 20, "good 20/0"}, // more than maxPerTest because it was asked for
		{"f", 2, 2, "bad 2/2"},
		{"ch", 2, 2, "bad 2/2"},
		{"fp", 2, 7, "good 7/1"},                             // one failure in front takes six passes
		{"pfpff", 2, 6, "bad 6/4"},                           // disagreement takes more runs
		{"fpppfpppfpppfpppfppp", 2, 20, "inconclusive 20/5"}, // but not for ever
		{"s", 2, 1, "skipped 0/0"},                           // and a skip takes one
		{"ps", 2, 20, "good 1/0"},                            // a skip is no evidence
		{"i", 2, 1, "inconclusive 0/0"},                      // the runner has retried already
		{"pi", 2, 2, "good 1/0"},
		{"fi", 2, 2, "inconclusive 1/1"},
	} {
		t.Run(c.script, func(t *testing.T) {
			w := newWorld(t, 1)
			w.script["0 a"] = c.script
			p := plan("a")
			p.Runs = c.atLeast
			boot, got, err := check(t, w, w.lab("job"), p)
			if err != nil || boot.Status != kernel.BootOK {
				t.Fatalf("%+v, %v", boot, err)
			}
			if v := verdicts(got); v != c.want || w.runs != c.made || len(w.record.runs) != c.made {
				t.Errorf("%s by %d runs, %d recorded; want %s by %d", v, w.runs, len(w.record.runs), c.want, c.made)
			}
			if w.boots != 1 {
				t.Errorf("%d boots", w.boots)
			}
		})
	}
}

// A skip of a test that must not skip is no pass, no failure, and no skip.
func TestCheckMustRun(t *testing.T) {
	for outcomes, want := range map[string]string{
		"s": "untestable 0/0, skipped 0/0",
		"p": "good 2/0, skipped 0/0",
		"f": "bad 2/2, skipped 0/0",
		"i": "inconclusive 0/0, skipped 0/0",
	} {
		for _, share := range []bool{false, true} {
			w := newWorld(t, 1)
			w.script["0 a"], w.script["0 b"] = outcomes, "s"
			p := plan("a", "b")
			p.MustRun, p.ShareGuests = map[string]bool{"a": true, "c": true}, share
			_, got, err := check(t, w, w.lab("job"), p)
			if err != nil || verdicts(got) != want {
				t.Errorf("%s: %s, %v; want %s", outcomes, verdicts(got), err, want)
			}
			if got[0].MustRun != (got[0].Verdict == kernel.Untestable) || got[0].MustRun && got[0].Reason != "must not skip: no huge pages" {
				t.Errorf("%s: %+v", outcomes, got[0])
			}
		}
	}
}

// At most so many runs, whether they agree or not.
func TestCheckMaxRuns(t *testing.T) {
	for _, c := range []struct {
		script        string
		atLeast, most int
		want          string
	}{
		{"f", 1, 1, "inconclusive 1/1"},
		{"p", 1, 1, "good 1/0"},
		{"pfpfpf", 2, 3, "inconclusive 3/1"},
		{"p", 2, 30, "good 2/0"}, // it asks for no more than it takes
	} {
		w := newWorld(t, 1)
		w.script["0 a"] = c.script
		p := plan("a")
		p.Runs, p.MaxRuns = c.atLeast, c.most
		_, got, err := check(t, w, w.lab("job"), p)
		if v := verdicts(got); err != nil || v != c.want {
			t.Errorf("%s, %d to %d: %s, %v; want %s", c.script, c.atLeast, c.most, v, err, c.want)
		}
	}
}

func TestCheckOfAKernelThatDoesNotBoot(t *testing.T) {
	w := newWorld(t, 1)
	w.noBoot[0] = true
	boot, got, err := check(t, w, w.lab("job"), plan("a", "b"))
	if err != nil || boot.Status != kernel.BootFailed || verdicts(got) != "untestable 0/0, untestable 0/0" || !strings.Contains(got[0].Reason, "no agent") {
		t.Errorf("%+v, %s, %v", boot, verdicts(got), err)
	}
	// Another job tries again: hosts differ.
	w.noBoot[0] = false
	if _, got, err := check(t, w, w.lab("job2"), plan("a")); err != nil || verdicts(got) != "good 2/0" {
		t.Errorf("%s, %v", verdicts(got), err)
	}
}

// A second job on the same kernel and setting makes no boots and no runs.
func TestRunsAreReused(t *testing.T) {
	w := newWorld(t, 1)
	w.script["0 b"] = "fpff"
	_, first, err := check(t, w, w.lab("one"), plan("a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	boots, made := w.boots, w.runs
	_, again, err := check(t, w, w.lab("two"), plan("a", "b"))
	if err != nil || verdicts(again) != verdicts(first) || w.boots != boots || w.runs != made || len(w.record.runs) != made {
		t.Errorf("%s, %v, %d boots, %d runs; first %s, %d, %d", verdicts(again), err, w.boots, w.runs, verdicts(first), boots, made)
	}
	if first[0].Reused != 0 || again[0].Reused != 2 || again[1].Reused != again[1].Runs {
		t.Errorf("reused %d, then %d and %d", first[0].Reused, again[0].Reused, again[1].Reused)
	}
	// More runs than there are: only the missing ones are made.
	more := plan("a")
	more.Runs = 5
	if _, got, err := check(t, w, w.lab("three"), more); err != nil || got[0].Reused != 2 || w.runs != made+3 {
		t.Errorf("%+v, %v, %d runs", got, err, w.runs)
	}
	for name, change := range map[string]func(*Lab, *Plan){
		"setting": func(l *Lab, _ *Plan) { l.Setting = "kvm" },
		"argv":    func(_ *Lab, p *Plan) { p.Programs[0].Argv = []string{"/other"} },
		"limit":   func(_ *Lab, p *Plan) { p.Programs[0].Limit++ },
		"fresh":   func(l *Lab, _ *Plan) { l.Fresh = true },
	} {
		before := w.runs
		l, p := w.lab("other "+name), plan("a")
		change(l, &p)
		if _, got, err := check(t, w, l, p); err != nil || got[0].Reused != 0 || w.runs != before+2 {
			t.Errorf("another %s: reused %d, %d fresh runs, %v", name, got[0].Reused, w.runs-before, err)
		}
		// The same job, resumed, uses its own even if it wants fresh ones.
		l.Notify = nil
		if _, got, err := check(t, w, l, p); err != nil || got[0].Reused != 2 || w.runs != before+2 {
			t.Errorf("another %s, resumed: reused %d, %v", name, got[0].Reused, err)
		}
	}
}

// Other modules are another guest: runs are not shared.
func TestModulesAreAPartOfTheCell(t *testing.T) {
	w := newWorld(t, 1)
	k := kernel.Kernel{Digest: "0"}
	for i, m := range []*kernel.Modules{nil, {Digest: "x"}, {Digest: "y"}, {Digest: "x", Initrd: "elsewhere"}} {
		k.Modules = m
		before := w.runs
		_, got, err := w.lab(fmt.Sprint(i)).Check(t.Context(), k, kernel.Commit{}, plan("a"))
		made := 2
		if i == 3 { // a path says nothing
			made = 0
		}
		if err != nil || w.runs-before != made || got[0].Reused != 2-made {
			t.Errorf("modules %+v: %d runs, %v", m, w.runs-before, err)
		}
	}
}

// Infra says nothing about the kernel and must not be remembered against it.
func TestInfraIsNotReused(t *testing.T) {
	w := newWorld(t, 1)
	w.script["0 a"] = "ip"
	_, got, err := check(t, w, w.lab("one"), plan("a"))
	if err != nil || verdicts(got) != "inconclusive 0/0" || got[0].Reason != "qemu died" {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, got, err := check(t, w, w.lab("two"), plan("a")); err != nil || verdicts(got) != "good 2/0" || got[0].Reused != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

// What is through when the power goes is returned with the error, and the
// second time nothing is made twice.
func TestCheckResumes(t *testing.T) {
	program := plan("a", "b")
	for cut := 0; ; cut++ {
		w := newWorld(t, 1)
		w.script["0 b"] = "fpff"
		w.left = cut
		_, _, err := check(t, w, w.lab("job"), program)
		if err == nil {
			return // there were not that many calls
		}
		if !errors.Is(err, errCut) || w.open != 0 {
			t.Fatalf("cut %d: %v, %d benches open", cut, err, w.open)
		}
		w.left = -1
		_, got, err := check(t, w, w.lab("job"), program)
		// A run whose recording failed is made again: one letter further on.
		lost := w.runs - len(w.record.runs)
		if err != nil || !strings.HasPrefix(verdicts(got), "good 2/0, ") || lost == 0 && verdicts(got) != "good 2/0, bad 4/3" {
			t.Errorf("cut %d: %s, %v", cut, verdicts(got), err)
		}
		if lost > 1 || len(w.record.runs) != got[0].Runs+got[1].Runs {
			t.Errorf("cut %d: %d runs made, %d recorded, %s", cut, w.runs, len(w.record.runs), verdicts(got))
		}
	}
}

func TestKernelThatBootsOnlyOnce(t *testing.T) {
	w := newWorld(t, 1)
	if _, _, err := check(t, w, w.lab("one"), plan("a")); err != nil {
		t.Fatal(err)
	}
	w.noBoot[0] = true
	_, got, err := check(t, w, w.lab("two"), plan("a", "b"))
	if err != nil || verdicts(got) != "good 2/0, inconclusive 0/0" || !strings.Contains(got[1].Reason, "kernel 6.12 booted before and does not now: no agent") {
		t.Errorf("%s, %v", verdicts(got), err)
	}
}

// A kernel that booted before has more than one try.
func TestKernelThatBootsNowAndThen(t *testing.T) {
	w := newWorld(t, 1)
	w.script["0 boot"] = "pnnp"
	if _, _, err := check(t, w, w.lab("one"), plan("a")); err != nil {
		t.Fatal(err)
	}
	if _, got, err := check(t, w, w.lab("two"), plan("a", "b")); err != nil || verdicts(got) != "good 2/0, good 2/0" {
		t.Errorf("%s, %v", verdicts(got), err)
	}
}

// Another job may record a boot while this one has the kernel up.
func TestBootRecordedMeanwhile(t *testing.T) {
	w := newWorld(t, 1)
	s := w.lab("one").subject(kernel.Kernel{Digest: "0"}, "")
	defer s.close()
	if _, err := s.boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = w.record.AppendBoot(t.Context(), "two", s.cell(nil), kernel.Boot{Status: kernel.BootFailed})
	if boot, err := s.boot(t.Context()); err != nil || boot.Status != kernel.BootOK || w.open != 1 {
		t.Errorf("%+v, %v, %d benches open", boot, err, w.open)
	}
}

// Runs recorded by an older kbisect stay in use: their key must not change. It is
// that of commit dbee7bc.
func TestCell(t *testing.T) {
	s := newWorld(t, 1).lab("one").subject(kernel.Kernel{Digest: "0"}, "")
	cell := func(iterations int) string {
		return s.cell(&runner.Program{Name: "cow/a/base", Argv: []string{"/bin/repro", "cow/a/base"}, Limit: time.Minute, Iterations: iterations})
	}
	if got := cell(0); got != "b75baed38b456f31bc26c61fd283c1dd20a01e7406ef3f28d69602b7be60d812" {
		t.Errorf("the key of a plain run is now %s", got)
	}
	if cell(1) != cell(0) {
		t.Error("once is not the same as nothing said")
	}
	if cell(2) == cell(0) || cell(2) == cell(3) {
		t.Error("runs of different numbers of iterations count as the same")
	}
}

func TestCheckEvents(t *testing.T) {
	w := newWorld(t, 1)
	if _, _, err := check(t, w, w.lab("job"), plan("a", "b")); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range w.events {
		got = append(got, fmt.Sprintf("%s %s %d/%d", e.Phase, e.Text, e.Done, e.Of))
	}
	if want := []string{"boot  0/0", "run a 0/4", "run b 2/4"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	l := w.lab("quiet")
	l.Notify = nil
	if _, _, err := check(t, w, l, plan("a")); err != nil {
		t.Error(err)
	}
}

// A run says which kernel it was on, also where the image did not say what it is.
func TestRunsSayWhichKernel(t *testing.T) {
	for _, share := range []bool{false, true} {
		w := newWorld(t, 1)
		l := w.lab("job")
		boot := l.Boot
		l.Boot = func(ctx context.Context, k kernel.Kernel) (Bench, kernel.Boot, error) {
			bench, b, err := boot(ctx, k)
			b.Release = "6.12.1"
			return bench, b, err
		}
		p := plan("a", "b")
		p.ShareGuests = share
		for i := range p.Programs {
			p.Programs[i].Several = share
		}
		if _, _, err := l.Check(t.Context(), kernel.Kernel{Digest: "0"}, kernel.Commit{SHA: "c"}, p); err != nil {
			t.Fatal(err)
		}
		if len(w.record.runs) < 4 {
			t.Errorf("%d runs", len(w.record.runs))
		}
		for _, r := range w.record.runs {
			if r.run.Kernel != "0" || r.run.Release != "6.12.1" || r.run.Commit != "c" {
				t.Errorf("sharing %v: %+v", share, r.run)
			}
		}
	}
}
