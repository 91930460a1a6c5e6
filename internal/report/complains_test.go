package report

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// What a kernel complains of while it boots stands in every report, once, unless
// it is a test's verdict.
func TestComplains(t *testing.T) {
	warning := kernel.Boot{Status: kernel.BootOK, Reason: "during boot: WARNING in foo", Signature: kernel.Signature{Kind: "crash", Title: "WARNING in foo"}}
	quiet := kernel.Boot{Status: kernel.BootOK}
	good := []kernel.TestResult{{Name: "cow/fork-basic/base", Verdict: kernel.Good, Runs: 2, Confidence: 0.97}}
	judged := append(good[:1:1], kernel.TestResult{Name: kernel.BootTest, Verdict: kernel.Good, Runs: 2, Confidence: 0.97},
		kernel.TestResult{Name: kernel.QuietTest, Verdict: kernel.Bad, Runs: 2, Fails: 2, Confidence: 0.99, Signature: warning.Signature})
	built := kernel.Build{Status: kernel.BuildOK}
	row := func(sha string, boot kernel.Boot, tests []kernel.TestResult) kernel.CommitResult {
		return kernel.CommitResult{SHA: strings.Repeat(sha, 40), Subject: "mm: " + sha, Build: built, Boot: boot, Tests: tests}
	}
	check := func(boot kernel.Boot, tests []kernel.TestResult) any {
		return &kernel.CheckResult{ID: "check-1", Build: &built, Boot: boot, Tests: tests}
	}
	matrix := func(boot kernel.Boot, tests []kernel.TestResult) any {
		return &kernel.MatrixResult{ID: "check-1", Status: "done", Kernels: []kernel.KernelResult{{Boot: quiet, Tests: good}, {Boot: boot, Tests: tests}}}
	}
	series := func(boot kernel.Boot, tests []kernel.TestResult) any {
		base := row("a", quiet, good)
		return &kernel.SeriesResult{ID: "series-1", Status: "done", Total: 2, Base: kernel.Commit{SHA: base.SHA}, BaseRow: &base,
			Commits: []kernel.CommitResult{row("b", boot, tests), row("c", boot, tests)}}
	}
	formats := map[string]func(io.Writer, any) error{
		"text":     func(w io.Writer, v any) error { return Text(w, v, TextOptions{Width: 100}) },
		"html":     HTML,
		"markdown": Markdown, "junit": JUnit, "kcidb": KCIDB,
	}
	for kind, make := range map[string]func(kernel.Boot, []kernel.TestResult) any{"check": check, "matrix": matrix, "series": series} {
		for name, write := range formats {
			for _, c := range []struct {
				what  string
				boot  kernel.Boot
				tests []kernel.TestResult
				want  int
			}{
				{"it complains", warning, good, 1},
				{"it does not", quiet, good, 0},
				{"a test judges it", warning, judged, 0},
			} {
				if c.want == 1 && kind == "series" && (name == "junit" || name == "kcidb") {
					c.want = 2 // each commit is for itself
				}
				var b bytes.Buffer
				if err := write(&b, make(c.boot, c.tests)); err != nil {
					t.Fatalf("%s %s: %v", kind, name, err)
				}
				if got := strings.Count(strings.Join(strings.Fields(b.String()), " "), "complains while it boots"); got != c.want {
					t.Errorf("%s as %s, %s: told %d times, want %d\n%s", kind, name, c.what, got, c.want, b.String())
				}
			}
		}
	}
}
