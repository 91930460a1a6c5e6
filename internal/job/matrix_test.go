package job

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
)

// kernels are the images of a world's commits, as ready kernels.
func kernels(w *world) []kernel.Kernel {
	var out []kernel.Kernel
	for i := range w.commits {
		out = append(out, kernel.Kernel{Digest: fmt.Sprint(i), Image: fmt.Sprintf("/boot/vmlinuz-%d", i)})
	}
	return out
}

// columns is a matrix with a word for each kernel: a letter for each verdict.
func columns(res kernel.MatrixResult) string {
	letters := map[kernel.Verdict]string{kernel.Good: "g", kernel.Bad: "b", kernel.Untestable: "u", kernel.Skipped: "s", kernel.Inconclusive: "i"}
	var words []string
	for _, k := range res.Kernels {
		s := ""
		for _, t := range k.Tests {
			s += letters[t.Verdict]
		}
		words = append(words, s)
	}
	return strings.Join(words, " ")
}

func TestMatrix(t *testing.T) {
	for _, c := range []struct {
		name  string
		world func(w *world)
		want  string
	}{
		{"all good", func(*world) {}, "gg gg gg"},
		{"fixed on the way", func(w *world) { w.script["0 a"] = "f" }, "bg gg gg"},
		{"one does not boot", func(w *world) { w.noBoot[1] = true; w.badFrom(2, "b", "f") }, "gg uu gb"},
		{"one lacks something", func(w *world) { w.script["1 b"] = "s" }, "gg gs gg"},
		{"infra on one", func(w *world) { w.script["1 a"] = "i" }, "gg ig gg"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 3)
			c.world(w)
			var res kernel.MatrixResult
			updates := 0
			err := w.lab("job").Matrix(t.Context(), kernels(w), plan("a", "b"), &res, func() { updates++ })
			if err != nil || updates != 3 || columns(res) != c.want {
				t.Errorf("%s, %d updates, %v; want %s", columns(res), updates, err, c.want)
			}
			if res.Kernels[0].Kernel.Image != "/boot/vmlinuz-0" || w.boots != 3 {
				t.Errorf("%+v, %d boots", res.Kernels[0].Kernel, w.boots)
			}
		})
	}
}

// What we cannot find out about one kernel does not keep the others from their
// tests, and is no verdict.
func TestMatrixGoesOnAfterTrouble(t *testing.T) {
	w := newWorld(t, 3)
	l := w.lab("job")
	boot, runs := l.Boot, 0
	l.Boot = func(ctx context.Context, k kernel.Kernel) (Bench, kernel.Boot, error) {
		if k.Digest == "1" {
			return nil, kernel.Boot{}, errors.New("qemu: cannot load the kernel")
		}
		return boot(ctx, k)
	}
	var res kernel.MatrixResult
	if err := l.Matrix(t.Context(), kernels(w), plan("a", "b"), &res, func() {}); err != nil || columns(res) != "gg ii gg" {
		t.Fatalf("%s, %v", columns(res), err)
	}
	bad := res.Kernels[1]
	if !strings.Contains(bad.Error, "cannot load") || bad.Tests[0].Runs != 0 || bad.Tests[0].Reason != bad.Error || bad.Tests[0].Name != "a" {
		t.Errorf("%+v", bad)
	}
	// In the middle of the tests: what is through stays.
	w = newWorld(t, 2)
	l = w.lab("job")
	inner := l.Boot
	l.Boot = func(ctx context.Context, k kernel.Kernel) (Bench, kernel.Boot, error) {
		b, boot, err := inner(ctx, k)
		if runs++; runs == 1 {
			w.left = 7 // two reads, two runs, two records of them, and a read
		} else {
			w.left = -1
		}
		return b, boot, err
	}
	if err := l.Matrix(t.Context(), kernels(w)[:1], plan("a", "b"), &res, func() {}); err != nil || columns(res) != "gi" {
		t.Errorf("%s, %v", columns(res), err)
	}
}

// An interrupt ends the job; what was seen is in the result and in the record,
// and the same job asked for again makes only the rest.
func TestMatrixIsInterrupted(t *testing.T) {
	w := newWorld(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	l := w.lab("one")
	l.Notify = func(e Event) {
		if e.Index == 2 && e.Text == "b" {
			cancel()
		}
	}
	boot := l.Boot
	l.Boot = func(c context.Context, k kernel.Kernel) (Bench, kernel.Boot, error) {
		b, info, err := boot(c, k)
		return dying{b}, info, err
	}
	var res kernel.MatrixResult
	updates := 0
	err := l.Matrix(ctx, kernels(w), plan("a", "b"), &res, func() { updates++ })
	if !errors.Is(err, context.Canceled) || columns(res) != "gg g " || updates != 2 {
		t.Fatalf("%q, %v, %d updates", columns(res), err, updates)
	}
	made := w.runs
	if err := w.lab("two").Matrix(t.Context(), kernels(w), plan("a", "b"), &res, func() {}); err != nil || columns(res) != "gg gg gg" {
		t.Fatalf("%s, %v", columns(res), err)
	}
	if made != 6 || w.runs != 12 {
		t.Errorf("%d runs before and %d in all", made, w.runs)
	}
	// Between two kernels as well.
	ctx, cancel = context.WithCancel(t.Context())
	err = w.lab("three").Matrix(ctx, kernels(w), plan("a", "b"), &res, func() { cancel() })
	if !errors.Is(err, context.Canceled) || columns(res) != "gg  " {
		t.Errorf("%q, %v", columns(res), err)
	}
}

// dying is a bench whose guests end with their context.
type dying struct{ Bench }

func (d dying) Run(ctx context.Context, p runner.Program) (kernel.Run, error) {
	if ctx.Err() != nil {
		return kernel.Run{}, ctx.Err()
	}
	return d.Bench.Run(ctx, p)
}

func TestMatrixEvents(t *testing.T) {
	w := newWorld(t, 3)
	w.noBoot[1] = true
	w.script["2 a"] = "f"
	var res kernel.MatrixResult
	if err := w.lab("job").Matrix(t.Context(), kernels(w), plan("a"), &res, func() {}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range w.events {
		got = append(got, fmt.Sprintf("%d/%d %s %s %s", e.Index, e.Total, e.Label, e.Phase, e.Text))
	}
	want := []string{
		"1/3 vmlinuz-0 boot ", "1/3 vmlinuz-0 run a", "1/3 vmlinuz-0 done 1 good",
		"2/3 vmlinuz-1 boot ", "2/3 vmlinuz-1 done untestable: does not boot: no agent",
		"3/3 vmlinuz-2 boot ", "3/3 vmlinuz-2 run a", "3/3 vmlinuz-2 done 1 bad",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
}
