//go:build e2e

package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Bad input gives one clear line that says what, where and what to do, and the
// exit status that scripts rely on.
func TestBadInput(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	notKernel := filepath.Join(dir, "other")
	git(t, dir, "init", "--quiet", notKernel)
	git(t, notKernel, "commit", "--quiet", "--allow-empty", "-m", "first")
	patch, err := os.ReadFile(firstPatch(t, "series/0010-*.patch"))
	if err != nil {
		t.Fatal(err)
	}
	wrong := write("wrong.mbox", strings.ReplaceAll(string(patch), " \tstruct page *page;", " \tstruct page *other;"))
	for _, c := range []struct {
		name   string
		args   []string
		status int
		want   []string // all in the one line
	}{
		{"no such revision", []string{"series", "--repo", seriesRepo, "nosuch..series"}, 2, []string{"no such revision: nosuch"}},
		{"good is no ancestor of bad", []string{"bisect", "--repo", seriesRepo, "--good", "series", "--bad", "base", "--test", plantedTest}, 2, []string{"not an ancestor", "other way round"}},
		{"side branches", []string{"series", "--repo", seriesRepo, "mutant/boot-panic..series"}, 2, []string{"not an ancestor", "merge base"}},
		{"empty range", []string{"series", "--repo", seriesRepo, "series..series"}, 2, []string{"no commits"}},
		{"not a range", []string{"series", "--repo", seriesRepo, "series"}, 2, []string{"not a range", "BASE..HEAD"}},
		{"not a kernel", []string{"check", "--repo", notKernel}, 2, []string{"not a Linux kernel"}},
		{"not a repository", []string{"check", "--repo", dir}, 2, []string{dir, "not a git repository"}},
		{"no such directory", []string{"check", "--tree", dir + "/nosuch"}, 2, []string{"no such directory"}},
		{"mbox that does not apply", []string{"series", "--repo", seriesRepo, "--mbox", wrong, "--base", "longterm"}, 2, []string{"patch 1", plantedSubject, "mm/huge_memory.c"}},
		{"mbox without patches", []string{"series", "--repo", seriesRepo, "--mbox", write("empty.mbox", ""), "--base", "base"}, 2, []string{"empty.mbox"}},
		{"config symbol refused", []string{"check", "--repo", seriesRepo, "--rev", "longterm", "--kconfig", write("my.config", "CONFIG_SMP=y\nCONFIG_NO_SUCH_THING=y\n")}, 2, []string{"CONFIG_NO_SUCH_THING=y", "my.config:2"}},
		{"bad fragment", []string{"check", "--repo", seriesRepo, "--kconfig", write("bad.config", "SMP=y\n")}, 2, []string{"bad.config:1"}},
		{"no such test", []string{"check", "--repo", seriesRepo, "--test", "cow/nosuch"}, 2, []string{"cow/nosuch", "list tests"}},
		{"no such profile", []string{"check", "--repo", seriesRepo, "--profile", "nosuch"}, 2, []string{"nosuch", "cow-debug"}},
		{"program that does not compile", []string{"check", "--repo", seriesRepo, "--program", write("bad.c", "int main(void) { return x; }\n")}, 2, []string{"bad.c", "does not compile", "'x'"}},
		{"not a kernel image", []string{"check", "--kernel", write("vmlinuz", "hello")}, 2, []string{"not an x86 kernel image"}},
		{"unknown flag", []string{"check", "--frobnicate"}, 2, []string{"frobnicate", "--help"}},
		{"unknown command", []string{"frobnicate"}, 2, []string{"frobnicate"}},
		{"no such job", []string{"report", "bisect-00000000"}, 2, []string{"no such job"}},
		{"program with a loader", []string{"check", "--repo", seriesRepo, "--program", "/usr/bin/git"}, 2, []string{"dynamically linked", "-static"}},
		{"directory that is no kernel", []string{"check", "--tree", dir}, 2, []string{"not a Linux kernel"}},
		{"no time", []string{"check", "--repo", seriesRepo, "--timeout", "1ms"}, 3, []string{"--timeout 1ms is up"}},
		{"nowhere to write", []string{"check", "--repo", seriesRepo, "--output", dir + "/no/such/file"}, 2, []string{"there is no directory"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := run(t, c.args...)
			if r.status != c.status || strings.Count(strings.TrimSpace(r.stderr), "\n") != 0 || r.stdout != "" {
				t.Errorf("status %d, want %d\nstderr: %s\nstdout: %s", r.status, c.status, r.stderr, r.stdout)
			}
			for _, w := range c.want {
				if !strings.Contains(r.stderr, w) {
					t.Errorf("%q is not in: %s", w, r.stderr)
				}
			}
		})
	}
}

func firstPatch(t *testing.T, glob string) string {
	t.Helper()
	files, err := filepath.Glob(glob)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v", glob, err)
	}
	return files[0]
}

// Without QEMU, or with a bwrap that does not work, the one line says so.
func TestMissingTools(t *testing.T) {
	bin := t.TempDir()
	link := func(names ...string) {
		for _, n := range names {
			if p, err := exec.LookPath(n); err == nil {
				_ = os.Symlink(p, filepath.Join(bin, n))
			}
		}
	}
	try := func(want string) {
		t.Helper()
		cmd := command(t.Context(), "check", "--repo", seriesRepo, "--rev", "longterm", "--test", "cow/fork-basic/base")
		cmd.Env = append(cmd.Env, "PATH="+bin)
		if r := finish(t, cmd); r.status != 4 || !strings.Contains(r.stderr, want) {
			t.Errorf("status %d: %s, want %q", r.status, r.stderr, want)
		}
	}
	link("git", "gcc", "ld", "as", "make", "flex", "bison", "sh")
	try("qemu-system-x86_64 is not installed")
	link("qemu-system-x86_64")
	try("bubblewrap (bwrap) is not installed")
	if err := os.WriteFile(filepath.Join(bin, "bwrap"), []byte("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	try("No permissions to create new namespace")
}

// The user's checkout may be dirty: kbisect tests commits, changes nothing, and
// --tree tests the files as they are.
func TestDirtyCheckout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "linux")
	git(t, ".", "clone", "--quiet", "--shared", "--no-checkout", seriesRepo, dir)
	git(t, dir, "sparse-checkout", "set", "mm")
	git(t, dir, "checkout", "--quiet", "longterm")
	for name, text := range map[string]string{"mm/gup_test.c": "not C any more\n", "mm/untracked.txt": "mine\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	git(t, dir, "add", "--force", "mm/gup_test.c")
	before := digestDir(t, dir)
	r := run(t, "check", "--repo", dir, "--rev", "HEAD", "--test", "cow/fork-basic/base")
	if r.status != 0 {
		t.Errorf("status %d: %s", r.status, r.stderr)
	}
	if digestDir(t, dir) != before {
		t.Error("the checkout, its index or its repository was changed")
	}
}

// Only one orchestrator works in a data directory.
func TestTwoOrchestrators(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s.sh")
	if err := os.WriteFile(file, []byte("sleep 600\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	first := command(t.Context(), "check", "--repo", seriesRepo, "--rev", "longterm", "--script", file, "--test-timeout", "10m")
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	for len(owned()) == 0 {
		time.Sleep(20 * time.Millisecond)
	}
	r := run(t, "check", "--repo", seriesRepo, "--rev", "longterm", "--test", "cow/fork-basic/base")
	if r.status != 4 || !strings.Contains(r.stderr, "in use by another kbisect (pid ") || !strings.Contains(r.stderr, "--data-dir") {
		t.Errorf("status %d: %s", r.status, r.stderr)
	}
	if r := run(t, "report"); r.status != 0 { // reading is always possible
		t.Errorf("report: status %d: %s", r.status, r.stderr)
	}
	_ = first.Process.Signal(os.Interrupt)
	if err := first.Wait(); first.ProcessState.ExitCode() != 3 {
		t.Errorf("interrupted: %v", err)
	}
	waitNone(t)
}
