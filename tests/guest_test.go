//go:build e2e

package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// checkProgram runs a user's program or script on the sound kernel.
func checkProgram(t *testing.T, status int, args ...string) kernel.TestResult {
	t.Helper()
	all := append([]string{"check", "--repo", seriesRepo, "--rev", "longterm", "--runs", "2"}, args...)
	res := decode[kernel.CheckResult](t, status, all...)
	if len(res.Tests) == 0 {
		t.Fatal("no tests")
	}
	return res.Tests[0] // the program's own row, if it has one
}

// What a guest does to itself or to us ends as the right outcome, and the
// orchestrator goes on.
func TestGuestsThatMisbehave(t *testing.T) {
	script := func(text string) []string {
		file := filepath.Join(t.TempDir(), "s.sh")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return []string{"--script", file}
	}
	for _, c := range []struct {
		name    string
		args    []string
		verdict kernel.Verdict
		sign    string // in the signature
		reason  string
	}{
		{"passes", script("exit 0"), kernel.Good, "", ""},
		{"fails", script("echo broken; exit 1"), kernel.Bad, "fail: exit status 1", "exit status 1"},
		{"skips", script("echo no such device; exit 4"), kernel.Skipped, "", "no such device"},
		{"killed by a signal", script("kill -SEGV $$"), kernel.Bad, "fail: killed by SIGSEGV", ""},
		{"KTAP decides over the exit status", script("echo KTAP version 1; echo 1..1; echo not ok 1 x; exit 0"), kernel.Bad, "fail", "x"},
		{"KTAP that stops early", script("echo KTAP version 1; echo 1..2; echo ok 1 x; exit 0"), kernel.Bad, "fail", ""},
		{"panics", script("echo c > /proc/sysrq-trigger; sleep 60"), kernel.Bad, "crash: ", "sysrq"},
		{"resets", script("echo b > /proc/sysrq-trigger; sleep 60"), kernel.Bad, "crash: guest reset without a word", ""},
		{"warns and passes", script("echo '------------[ cut here ]------------\nWARNING: CPU: 0 PID: 1 at mm/x.c:1 f+0x1/0x2\nRIP: 0010:f+0x1/0x2\nCall Trace:\n f+0x1/0x2' > /dev/kmsg; exit 0"), kernel.Bad, "crash: WARNING in f", ""},
		{"hangs", append(script("sleep 1000"), "--test-timeout", "2s"), kernel.Bad, "hang", "2s"},
		{"ignores signals", append(script("trap '' TERM INT HUP; while :; do :; done"), "--test-timeout", "2s"), kernel.Bad, "hang", "2s"},
		{"leaves a daemon", script("(while :; do sleep 1; done) & exit 0"), kernel.Good, "", ""},
		{"kills the agent", script("kill -9 1; kill -STOP 1; exit 0"), kernel.Good, "", ""}, // PID 1 is immune
		{"floods the console", []string{"--program", "programs/flood_console.c", "--test-timeout", "5s"}, kernel.Bad, "hang", "5s"},
		{"floods its output", []string{"--program", "programs/flood_output.c"}, kernel.Good, "", ""},
		{"speaks garbage on the channel", []string{"--program", "programs/channel.c"}, kernel.Bad, "fail: exit status 1", ""},
		{"takes all memory", append(script("tail -c +0 /dev/zero | sort"), "--test-timeout", "20s"), kernel.Bad, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			status := map[kernel.Verdict]int{kernel.Good: 0, kernel.Bad: 1, kernel.Skipped: 3}[c.verdict]
			tr := checkProgram(t, status, c.args...)
			if tr.Verdict != c.verdict || !strings.Contains(tr.Signature.Kind+": "+tr.Signature.Title, c.sign) || !strings.Contains(tr.Reason, c.reason) {
				t.Errorf("%s, signature %+v, reason %q; want %s, %q, %q\n%s", tr.Verdict, tr.Signature, tr.Reason, c.verdict, c.sign, c.reason, tr.Output)
			}
			if len(tr.Output) > 128<<10 || len(tr.Console) > 128<<10 {
				t.Errorf("kept %d bytes of output and %d of console", len(tr.Output), len(tr.Console))
			}
		})
	}
	waitNone(t)
}

// A guest that boots for every run gives the same verdicts as forked ones.
func TestBootPerRun(t *testing.T) {
	args := []string{"check", "--repo", seriesRepo, "--rev", "series", "--fresh",
		"--test", "cow/vmsplice-child-unmap/base", "--test", "cow/vmsplice-child-unmap/thp-pmd"}
	forked := decode[kernel.CheckResult](t, 1, args...)
	booted := decode[kernel.CheckResult](t, 1, append(args, "--boot-per-run")...)
	for i, tr := range booted.Tests {
		if tr.Verdict != forked.Tests[i].Verdict || tr.Signature.Title != forked.Tests[i].Signature.Title {
			t.Errorf("%s: booted %s, forked %s", tr.Name, tr.Verdict, forked.Tests[i].Verdict)
		}
	}
}

// Forks of one snapshot are not the same guest over again: each has other
// random numbers and none sees what another wrote. The programs of one check
// share a snapshot; guests of several checks boot anew and differ anyway.
//
// It passes without the entropy that we bring, too: with RDRAND, or after a
// second, a fork's kernel reseeds by itself. TestWakeBringsEntropy is for that.
func TestForksAreIndependent(t *testing.T) {
	text := "#!/bin/sh\ntest ! -e /tmp/seen || exit 9\necho seen > /tmp/seen\nhead -c 16 /dev/urandom | od -An -tx1\nexit 1\n"
	dir := programIn(t, "mine", map[string]string{"a": text, "b": text, "c": text})
	res := decode[kernel.CheckResult](t, 1, "check", "--repo", seriesRepo, "--rev", "longterm", "--runs", "2", "--program", dir, "--fresh")
	if len(res.Tests) != 3 {
		t.Fatalf("%d tests", len(res.Tests))
	}
	seen := map[string]bool{}
	for _, tr := range res.Tests {
		if tr.Signature.Title != "exit status 1" || seen[tr.Output] || strings.TrimSpace(tr.Output) == "" {
			t.Errorf("%s: %s: %q, seen before: %v", tr.Name, tr.Signature.Title, tr.Output, seen)
		}
		seen[tr.Output] = true
	}
}
