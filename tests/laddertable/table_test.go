package main

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const predicted = `# a comment
cow/a/thp* R03 bad 5.18 good
cow/a/*   R03 good
cow/pin/* R10,section-4 skipped
cow/b/*   R04 good

explain cow/b/base 5.10,6.1 the page | was split
`

func matrix() kernel.MatrixResult {
	col := func(release string, verdicts ...kernel.Verdict) kernel.KernelResult {
		k := kernel.KernelResult{Kernel: kernel.Kernel{Release: release, Modules: &kernel.Modules{Load: []string{"virtio", "zram"}}},
			Boot: kernel.Boot{Status: kernel.BootOK, Seconds: 3.14}}
		for i, v := range verdicts {
			t := kernel.TestResult{Name: []string{"cow/a/base", "cow/a/thp", "cow/pin/base", "cow/b/base", "cow/new/base", "cow/a/thp-pmd", "cow/a/swap", "alone"}[i], Verdict: v}
			switch v {
			case kernel.Skipped:
				t.Reason = "no gup_test"
			case kernel.Bad, kernel.Untestable:
				t.Reason = "it | is\nbad <b>"
			}
			k.Tests = append(k.Tests, t)
		}
		return k
	}
	g, b, s, u := kernel.Good, kernel.Bad, kernel.Skipped, kernel.Untestable
	m := kernel.MatrixResult{Schema: "kbisect/matrix/v1", Status: "done", Profile: "stock", Started: time.Date(2026, 11, 22, 19, 0, 0, 0, time.UTC),
		Host: kernel.Host{QEMU: "QEMU 7.2", Accelerator: "tcg"},
		Kernels: []kernel.KernelResult{
			col("5.10.0-46-cloud-amd64", g, b, s, b, g, b, g, g),      // as predicted but for b
			col("6.1.0-56-cloud-amd64", g, g, s, g, b, g, g, g),       // as predicted
			col("6.12.117+deb12-cloud-amd64", b, g, g, s, g, g, b, g), // four differences
			col("7.3.4+deb13-cloud-amd64", u, u, u, u, u, u, u),
		}}
	m.Kernels[1].Tests[0].Runs, m.Kernels[1].Tests[0].Fails = 7, 1
	m.Kernels[1].Kernel.Modules.Missing = []string{"module zram is neither there nor built in"}
	m.Kernels[1].Boot.Problems = []string{"swap: no such file"}
	m.Kernels[3].Boot = kernel.Boot{Status: kernel.BootFailed, Reason: "the agent did not speak"}
	return m
}

func TestTable(t *testing.T) {
	p, err := parsePredictions(predicted)
	if err != nil {
		t.Fatal(err)
	}
	out, unexplained := table(matrix(), p)
	if unexplained != 4+6 { // of 7.3 all but what has no prediction
		t.Errorf("%d unexplained", unexplained)
	}
	const golden = "testdata/table.md"
	if *update {
		if err := os.WriteFile(golden, []byte(out), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), out); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestFoldSizes(t *testing.T) {
	var f folded
	for _, m := range []string{"base", "mthp-16k-pte", "mthp-32k-pte", "mthp-16k-single", "mthp-64k-pte"} {
		f.add("cow/a/"+m, " good |")
	}
	f.add("cow/a/mthp-32k-single", " bad |")
	f.add("cow/b/mthp-16k-pte", " good |")
	want := "| `cow/a/*` base, mthp-*-pte, mthp-16k-single | good |\n" +
		"| `cow/a/mthp-32k-single` | bad |\n" +
		"| `cow/b/mthp-16k-pte` | good |\n"
	if d := cmp.Diff(want, f.String()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestParsePredictions(t *testing.T) {
	for text, want := range map[string]string{
		"cow/*":                             "line 1: want: GLOB",
		"\n# x\ncow/* R1":                   "line 3: want: GLOB",
		"cow/* R1 good 6.1":                 "line 1: want: GLOB",
		"cow/* R1 good 6.1 bad 5.10 good":   "5.10 does not come after 6.1",
		"cow/* R1 fine":                     `"fine" is no verdict`,
		"cow/* R1 good six bad":             `"six" is no kernel release`,
		"explain cow/* 6.1":                 "want: explain",
		"explain cow/* 6.1,x because it is": `"x" is no kernel release`,
	} {
		if _, err := parsePredictions(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestPrediction(t *testing.T) {
	p, err := parsePredictions("cow/x R1 bad 5.8 good 5.9 bad 5.18 good")
	if err != nil {
		t.Fatal(err)
	}
	for release, want := range map[string]kernel.Verdict{
		"5.7": "bad", "5.8.1": "good", "5.10.0-46-cloud-amd64": "bad", "5.18": "good", "6.1.0": "good", "10.2": "good",
	} {
		v, err := parseVersion(release)
		if err != nil || p.of("cow/x").on(v) != want {
			t.Errorf("%s: %s, %v", release, p.of("cow/x").on(v), err)
		}
	}
	if got := p.of("cow/x").String(); got != "bad, good from 5.8, bad from 5.9, good from 5.18" {
		t.Error(got)
	}
	if p.of("cow/y") != nil {
		t.Error("a prediction for everything")
	}
}

// The committed predictions are sound.
func TestLadderPredictions(t *testing.T) {
	text, err := os.ReadFile("../ladder.predictions")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parsePredictions(string(text)); err != nil {
		t.Error(err)
	}
}
