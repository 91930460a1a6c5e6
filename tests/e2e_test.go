//go:build e2e

// Package tests runs the orchestrator end to end: real git, real kernels, real
// QEMU. `make e2e` runs it; `go test ./...` does not.
package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// The planted series of tests/series.
const (
	plantedSubject = "mm/huge_memory: reuse an anonymous THP that is mapped once"
	brokenSubject  = "mm/swap_state: let the caller choose the level of the swap summary"
	plantedTest    = "cow/vmsplice-child-unmap/thp-pmd"
)

var (
	orchestrator string // the binary under test
	seriesRepo   string // repository with base, series, longterm and mutant/*
	home         string // data directory of all tests; kernels in it are kept from one make test to the next
)

func TestMain(m *testing.M) {
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "end-to-end tests:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func prepare() error {
	var err error
	if orchestrator, err = filepath.Abs("../bin/orchestrator"); err != nil {
		return err
	}
	if _, err := os.Stat(orchestrator); err != nil {
		return errors.New("bin/orchestrator is missing: run `make build`")
	}
	cmd := exec.Command("./make-series")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("tests/make-series: %w", err)
	}
	seriesRepo = strings.TrimSpace(string(out))
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	home = filepath.Join(cache, "kbisect-e2e")
	// Kernels may be old, the record may not: every run of these tests is made anew.
	old, _ := filepath.Glob(filepath.Join(home, "kbisect.db*"))
	for _, f := range old {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	return nil
}

// result is how a command ended.
type result struct {
	status         int
	stdout, stderr string
}

// command prepares an orchestrator with the tests' data directory.
func command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, orchestrator, args...)
	cmd.Env = append(os.Environ(), "KBISECT_HOME="+home)
	return cmd
}

// run runs the orchestrator to its end.
func run(t testing.TB, args ...string) result {
	t.Helper()
	return finish(t, command(t.Context(), args...))
}

func finish(t testing.TB, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	r := result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	t.Logf("%s: status %d after %.1f s", strings.Join(cmd.Args[1:], " "), r.status, time.Since(start).Seconds())
	return r
}

// decode runs a command with --format json, expects its status and decodes.
func decode[T any](t testing.TB, want int, args ...string) T {
	t.Helper()
	r := run(t, append(args, "--format", "json")...)
	var v T
	if r.status != want {
		t.Fatalf("status %d, want %d\n%s%s", r.status, want, r.stderr, r.stdout)
	}
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil {
		t.Fatalf("%v\n%s", err, r.stdout)
	}
	return v
}

// git runs git in dir and returns its output.
func git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@example.org",
		"GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@example.org")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// verdicts maps test names to verdicts.
func verdicts(tests []kernel.TestResult) map[string]kernel.Verdict {
	m := map[string]kernel.Verdict{}
	for _, t := range tests {
		m[t.Name] = t.Verdict
	}
	return m
}

// owned returns the processes that carry the tests' data directory as their
// mark: QEMU, make and git started by the orchestrator.
func owned() []string {
	var found []string
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range files {
		env, err := os.ReadFile(f)
		if err == nil && bytes.Contains(env, []byte("KBISECT_OWNER="+home+"\x00")) {
			cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "cmdline"))
			found = append(found, strings.ReplaceAll(string(cmdline), "\x00", " "))
		}
	}
	return found
}

// waitNone fails unless every owned process goes away.
func waitNone(t testing.TB) {
	t.Helper()
	var left []string
	for range 100 {
		if left = owned(); len(left) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("processes outlive the orchestrator: %q", left)
}

// killWhen starts a command and kills it with signal 9 once ready says so.
func killWhen(t testing.TB, ready func() bool, args ...string) {
	t.Helper()
	endWhen(t, syscall.SIGKILL, ready, args...)
}

// endWhen starts a command, sends it a signal when it is ready, and waits for its end.
func endWhen(t testing.TB, signal syscall.Signal, ready func() bool, args ...string) {
	t.Helper()
	cmd := command(t.Context(), args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	for !ready() {
		select {
		case <-exited:
			t.Fatalf("%s ended before it could be killed", args[0])
		case <-time.After(10 * time.Millisecond):
		}
	}
	_ = cmd.Process.Signal(signal)
	<-exited
}
