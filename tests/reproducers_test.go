//go:build e2e

package tests

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

var breaks = regexp.MustCompile(`(?m)^Breaks: (\S+) \((fail|crash|hang)\)$`)

// The mutants that mutants/e2e names break what their patches say, in the way
// they say, and nothing that they do not touch: the reproducers of each family
// fail on a broken kernel and pass on the sound one. For all of the mutants,
// half a day of work, there is `make mutants`.
func TestMutants(t *testing.T) {
	names, err := os.ReadFile("mutants/e2e")
	if err != nil {
		t.Fatal(err)
	}
	killed := map[string]bool{}
	for _, name := range strings.Fields(string(names)) {
		text, err := os.ReadFile(filepath.Join("mutants/6.1", name+".patch"))
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) { checkMutant(t, name, breaks.FindAllStringSubmatch(string(text), -1), killed) })
	}
	sound := decode[kernel.CheckResult](t, 0, "check", "--repo", seriesRepo, "--rev", "longterm")
	for _, tr := range sound.Tests {
		family := strings.Split(tr.Name, "/")[1]
		if tr.Verdict != kernel.Good {
			t.Errorf("sound kernel: %s is %s: %s", tr.Name, tr.Verdict, tr.Reason)
		}
		if !killed[family] {
			t.Errorf("no mutant makes any test of %s fail", family)
		}
	}
}

func checkMutant(t *testing.T, name string, expected [][]string, killed map[string]bool) {
	// One pass is above 95 % good; a failure takes a second run anyhow.
	args := []string{"check", "--repo", seriesRepo, "--rev", "mutant/" + name, "--runs", "1"}
	if len(expected) == 0 { // it does not boot
		res := decode[kernel.CheckResult](t, 3, args...)
		if res.Build.Status != kernel.BuildOK || res.Boot.Status != kernel.BootFailed || res.Boot.Signature.Kind != "crash" {
			t.Errorf("build %s, boot %s: %s %v", res.Build.Status, res.Boot.Status, res.Boot.Reason, res.Boot.Signature)
		}
		for _, tr := range res.Tests {
			if tr.Verdict != kernel.Untestable {
				t.Errorf("%s is %s on a kernel that does not boot", tr.Name, tr.Verdict)
			}
		}
		return
	}
	if expected[0][2] == "hang" {
		checkHang(t, expected[0][1], args)
		return
	}
	res := decode[kernel.CheckResult](t, 1, args...)
	got := map[string]kernel.TestResult{}
	for _, tr := range res.Tests {
		got[tr.Name] = tr
		memory := tr.Name[strings.LastIndex(tr.Name, "/"):]
		touched := slices.ContainsFunc(expected, func(e []string) bool { return strings.HasSuffix(e[1], memory) })
		if tr.Verdict != kernel.Good && !touched {
			t.Errorf("%s is %s (%s) although the mutant breaks nothing with %s", tr.Name, tr.Verdict, tr.Reason, memory)
		}
	}
	for _, e := range expected {
		tr := got[e[1]]
		kind := tr.Signature.Kind
		if tr.Verdict != kernel.Bad || kind != e[2] {
			t.Errorf("%s: %s %v (%s), want %s", e[1], tr.Verdict, tr.Signature, tr.Reason, e[2])
		}
		if kind == "fail" {
			killed[strings.Split(e[1], "/")[1]] = true
		}
	}
}

// checkHang has one test hang, with a shorter time limit than it has of itself:
// a hang costs all of it, and twice.
func checkHang(t *testing.T, name string, args []string) {
	dir := programIn(t, "hang", map[string]string{"hang.sh": "exec /bin/repro " + name + "\n", "hang.yaml": "timeout: 10s\n"})
	res := decode[kernel.CheckResult](t, 1, append(args, "--script", filepath.Join(dir, "hang.sh"))...)
	if tr := res.Tests[0]; tr.Verdict != kernel.Bad || tr.Signature.Kind != "hang" {
		t.Errorf("%s: %s %v (%s), want a hang", name, tr.Verdict, tr.Signature, tr.Reason)
	}
}
