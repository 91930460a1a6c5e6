package job

import (
	"fmt"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Summary tells what came out for a commit: "24 good", "2 bad, 22 good",
// "untestable: …".
func Summary(row kernel.CommitResult) string {
	if row.Build.Status != kernel.BuildOK {
		return "untestable: " + row.Build.Trouble()
	}
	if row.Boot.Status != kernel.BootOK {
		return "untestable: does not boot: " + row.Boot.Reason
	}
	return Counts(row.Tests)
}

// Counts tells how many tests have each verdict, the worst first.
func Counts(tests []kernel.TestResult) string {
	n := map[kernel.Verdict]int{}
	for _, t := range tests {
		n[t.Verdict]++
	}
	var parts []string
	for _, v := range []kernel.Verdict{kernel.Bad, kernel.Inconclusive, kernel.Untestable, kernel.Good, kernel.Skipped} {
		if n[v] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[v], v))
		}
	}
	return strings.Join(parts, ", ")
}
