package job

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
)

func verdictList(tests []kernel.TestResult) string {
	var out []string
	for _, t := range tests {
		out = append(out, fmt.Sprintf("%s %s %d/%d", t.Name, t.Verdict, t.Fails, t.Runs))
	}
	return strings.Join(out, ", ")
}

// A program's tests have verdicts of their own; the program has one only where
// something is wrong with itself.
func TestProgramWithSeveralTests(t *testing.T) {
	w := newWorld(t, 1)
	w.several["0 a"], w.several["0 b"] = "pfs", "pp:c"
	_, tests, err := w.lab("j").Check(t.Context(), kernel.Kernel{Digest: "0"}, kernel.Commit{}, plan("a", "b", "c"))
	want := "a/1 good 0/2, a/2 bad 2/2, a/3 skipped 0/0, b bad 2/2, b/1 good 0/2, b/2 good 0/2, c good 0/2"
	if got := verdictList(tests); err != nil || got != want {
		t.Errorf("%s, %v\nwant %s", got, err, want)
	}
	// The record has the same.
	_, again, err := w.lab("k").Check(t.Context(), kernel.Kernel{Digest: "0"}, kernel.Commit{}, plan("a", "b", "c"))
	if got := verdictList(again); err != nil || got != want || again[0].Reused != 2 || again[2].Reused != 0 {
		t.Errorf("%s, reused %d and %d, %v", got, again[0].Reused, again[2].Reused, err)
	}
}

// The commit that breaks one of a program's tests is found, and so is the one
// that crashes it, which no commit before has a verdict for.
func TestFirstBadOfSeveral(t *testing.T) {
	w := newWorld(t, 6)
	for i, s := range []string{"pp", "pp", "pf", "pf", "p:c", "pf"} {
		w.several[fmt.Sprintf("%d a", i)] = s
	}
	res, err := series(t, w, w.lab("j"), plan("a"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"a/2": sha(2), "a": sha(4)}, res.FirstBad); diff != "" {
		t.Error(diff)
	}
	// Where a commit does not build, every test of the next bad one is in doubt.
	w.build[1] = kernel.BuildFailed
	if res, err = series(t, w, w.lab("k"), plan("a")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string][]string{"a/2": {sha(1), sha(2)}}, res.OneOf); diff != "" {
		t.Error(diff)
	}
}

// When we cannot go on, the programs that were not reached are told, and those
// that were are not told again.
func TestMatrixLostAfterSeveral(t *testing.T) {
	w := newWorld(t, 1)
	w.several["0 a"] = "ppp"
	l := w.lab("j")
	boot := l.Boot
	l.Boot = func(ctx context.Context, k kernel.Kernel) (Bench, kernel.Boot, error) {
		b, boot, err := boot(ctx, k)
		return lostAt{b, "b"}, boot, err
	}
	var res kernel.MatrixResult
	if err := l.Matrix(t.Context(), []kernel.Kernel{{Digest: "0"}}, plan("a", "b", "c"), &res, func() {}); err != nil {
		t.Fatal(err)
	}
	want := "a/1 good 0/2, a/2 good 0/2, a/3 good 0/2, b inconclusive 0/0, c inconclusive 0/0"
	if got := verdictList(res.Kernels[0].Tests); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// lostAt is a bench that we cannot go on with at one program.
type lostAt struct {
	Bench
	program string
}

func (l lostAt) Run(ctx context.Context, p runner.Program) (kernel.Run, error) {
	if p.Name == l.program {
		return kernel.Run{}, errors.New("the host is out of memory")
	}
	return l.Bench.Run(ctx, p)
}
