package job

import (
	"context"
	"slices"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Matrix tests kernels one after the other. res has a column for each before
// anything is done, and update is called with it as it grows. A kernel that
// does not boot, or about which we cannot find out, does not keep the others
// from their tests; only the end of ctx does.
func (l *Lab) Matrix(ctx context.Context, kernels []kernel.Kernel, plan Plan, res *kernel.MatrixResult, update func()) error {
	res.Kernels = make([]kernel.KernelResult, len(kernels))
	for i, k := range kernels {
		res.Kernels[i] = kernel.KernelResult{Kernel: k, Boot: kernel.Boot{Status: kernel.BootNone}}
	}
	for i := range res.Kernels {
		if err := ctx.Err(); err != nil {
			return err
		}
		col := &res.Kernels[i]
		e := Event{Label: col.Kernel.Name(), Index: i + 1, Total: len(kernels)}
		err := l.column(ctx, e, plan, col)
		if err != nil && ctx.Err() != nil {
			update() // the tests that are through
			return err
		}
		if err != nil {
			col.Error = err.Error()
			col.Tests = append(col.Tests, plan.unknown(col.Tests, col.Error)...)
		}
		update()
		e.Phase, e.Text = "done", columnSummary(*col)
		l.notify(e)
	}
	return nil
}

// column boots and tests one kernel; after an error it has the tests that are
// through.
func (l *Lab) column(ctx context.Context, e Event, plan Plan, col *kernel.KernelResult) error {
	s := l.subject(col.Kernel, "", plan.Programs...)
	defer s.close()
	e.Phase = "boot"
	l.notify(e)
	var err error
	if col.Boot, err = s.boot(ctx); err != nil {
		return err
	}
	if col.Kernel.Release == "" { // the image did not say
		col.Kernel.Release = col.Boot.Release
	}
	col.Tests, err = s.tests(ctx, e, col.Boot, plan)
	return err
}

// unknown is the verdict of the programs of the plan that we could not run:
// those without a test among the ones that are through.
func (plan Plan) unknown(through []kernel.TestResult, why string) []kernel.TestResult {
	var out []kernel.TestResult
	for _, p := range plan.Programs {
		if !slices.ContainsFunc(through, func(t kernel.TestResult) bool { return isOf(t.Name, p.Name) }) {
			out = append(out, kernel.TestResult{Name: p.Name, Verdict: kernel.Inconclusive, Reason: why})
		}
	}
	return out
}

// columnSummary tells what came out for a kernel: "1 bad, 25 good".
func columnSummary(col kernel.KernelResult) string {
	switch {
	case col.Error != "":
		return "could not find out: " + col.Error
	case col.Boot.Status != kernel.BootOK:
		return "untestable: does not boot: " + col.Boot.Reason
	}
	return Counts(col.Tests)
}
