//go:build e2e

package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// entryOf returns the cache entry of a build.
func entryOf(t *testing.T, b *kernel.Build) string {
	t.Helper()
	if b == nil || b.Log == "" {
		t.Fatal("no build")
	}
	return filepath.Dir(b.Log)
}

func checkRev(t *testing.T, rev string) kernel.CheckResult {
	t.Helper()
	return decode[kernel.CheckResult](t, 0, "check", "--repo", seriesRepo, "--rev", rev, "--test", "cow/fork-basic/base")
}

// A commit built again, on an object tree that has held another since, gives
// the same image to the bit.
func TestSameTreeSameDigest(t *testing.T) {
	revs := []string{"series~2", "series~3"} // one file apart
	var first []kernel.CheckResult
	for _, rev := range revs {
		first = append(first, checkRev(t, rev))
	}
	for _, r := range first {
		if err := os.RemoveAll(entryOf(t, r.Build)); err != nil {
			t.Fatal(err)
		}
	}
	for i, rev := range revs {
		again := checkRev(t, rev)
		if again.Build.Cached || again.Kernel.Digest != first[i].Kernel.Digest {
			t.Errorf("%s: cached %v, digest %s, was %s", rev, again.Build.Cached, again.Kernel.Digest, first[i].Kernel.Digest)
		}
	}
	if first[0].Kernel.Digest == first[1].Kernel.Digest {
		t.Error("two commits have one digest")
	}
}

// A comment is compiled to equal objects: what was linked of them is the kernel. Code is
// linked. Each time another comment, so that no kernel of an earlier time is found.
func TestEqualObjects(t *testing.T) {
	bare := checkRev(t, "longterm")
	lines := strings.SplitAfterN(git(t, seriesRepo, "show", "longterm:mm/gup.c"), "\n", 5)[:4]
	nonce := time.Now().UnixNano()
	for i, c := range []struct {
		add    string // to the first line, which is a comment
		linked bool
		same   bool // as without it
	}{
		{fmt.Sprintf("kbisect %d a", nonce), true, true}, // what was built before is anything
		{fmt.Sprintf("kbisect %d b", nonce), false, true},
		{fmt.Sprintf("kbisect\n+int kbisect_%d = 1;", nonce), true, false},
		{fmt.Sprintf("kbisect %d c", nonce), true, true},
	} {
		first := strings.TrimSuffix(lines[0], "\n")
		patch := fmt.Sprintf("--- a/mm/gup.c\n+++ b/mm/gup.c\n@@ -1,4 +1,%d @@\n-%s\n+%s %s\n %s %s %s", 4+strings.Count(c.add, "\n"), first, first, c.add, lines[1], lines[2], lines[3])
		file := filepath.Join(t.TempDir(), "edit.patch")
		if err := os.WriteFile(file, []byte(patch), 0o644); err != nil {
			t.Fatal(err)
		}
		got := decode[kernel.CheckResult](t, 0, "check", "--repo", seriesRepo, "--rev", "longterm", "--test", "cow/fork-basic/base", "--carry", file)
		log, err := os.ReadFile(got.Build.Log)
		if err != nil || got.Build.Cached {
			t.Fatal(err, got.Build.Cached)
		}
		if same := got.Kernel.Digest == bare.Kernel.Digest; same != c.same {
			t.Errorf("%s: the same kernel: %v", c.add, same)
		}
		linked := strings.Contains(string(log), "  LD      vmlinux.o")
		if linked != c.linked && i > 0 {
			t.Errorf("%s: linked: %v\n%s", c.add, linked, log)
		}
		t.Logf("linked %v: %.1f s", linked, got.Build.Seconds)
	}
}

// A disk that fills up during a build is nobody's fault: exit 4, one line, no
// entry in the cache, and the next build works.
func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	first := checkRev(t, "series~2")
	entry := entryOf(t, first.Build)
	if err := os.RemoveAll(entry); err != nil {
		t.Fatal(err)
	}
	objects, _ := filepath.Glob(filepath.Join(home, "cache/slots/*/obj-cow"))
	if len(objects) == 0 {
		t.Fatal("no object tree")
	}
	var script strings.Builder
	script.WriteString("set -e\n")
	for _, o := range objects {
		script.WriteString("mount -t tmpfs -o size=6m tmpfs '" + o + "'\n")
	}
	script.WriteString(`exec "$0" "$@"`)
	cmd := command(t.Context(), "check", "--repo", seriesRepo, "--rev", "series~2", "--test", "cow/fork-basic/base")
	sh := exec.Command("sh", append([]string{"-c", script.String()}, cmd.Args...)...)
	sh.Env = cmd.Env
	sh.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Unshareflags: syscall.CLONE_NEWNS}
	if r := finish(t, sh); r.status != 4 || !strings.Contains(r.stderr, "disk is full") || strings.Count(strings.TrimSpace(r.stderr), "\n") != 0 {
		t.Errorf("status %d: %s", r.status, r.stderr)
	}
	if _, err := os.Stat(entry); err == nil {
		t.Error("a half build is in the cache")
	}
	if again := checkRev(t, "series~2"); again.Build.Cached || again.Kernel.Digest != first.Kernel.Digest {
		t.Errorf("after the disk has space again: cached %v, digest %s, was %s", again.Build.Cached, again.Kernel.Digest, first.Kernel.Digest)
	}
}

// kill -9 during a build: no make and no compiler outlives it, with the sandbox
// or without, and the next start builds to the same image, also where a linker had
// half written what make would take for done. So it is after an interruption.
func TestKillDuringBuild(t *testing.T) {
	compiles := func(p string) bool {
		return strings.Contains(p, "cc1") || strings.Contains(p, "make") && strings.Contains(p, " vmlinux")
	}
	links := func(p string) bool { return strings.HasPrefix(p, "ld ") && strings.Contains(p, "-o vmlinux.o") }
	for _, c := range []struct {
		name   string
		during func(process string) bool
		signal syscall.Signal
		more   []string
	}{
		{"killed while it compiles", compiles, syscall.SIGKILL, nil},
		{"killed without a sandbox", compiles, syscall.SIGKILL, []string{"--no-sandbox"}},
		{"killed while it links", links, syscall.SIGKILL, nil},
		{"interrupted while it links", links, syscall.SIGINT, nil},
	} {
		first, other := checkRev(t, "series~3"), checkRev(t, "series~2") // one file apart
		for _, r := range []kernel.CheckResult{first, other} {
			if err := os.RemoveAll(entryOf(t, r.Build)); err != nil {
				t.Fatal(err)
			}
		}
		checkRev(t, "series~2") // so that something is to be made
		args := append([]string{"check", "--repo", seriesRepo, "--rev", "series~3", "--test", "cow/fork-basic/base"}, c.more...)
		endWhen(t, c.signal, func() bool { return slices.ContainsFunc(owned(), c.during) }, args...)
		if len(c.more) == 0 {
			waitNone(t)
		}
		// Without a sandbox the next start sweeps up.
		again := checkRev(t, "series~3")
		waitNone(t)
		if again.Build.Cached || again.Build.Status != kernel.BuildOK || again.Kernel.Digest != first.Kernel.Digest {
			t.Errorf("%s: %+v, the digest was %s", c.name, again.Build, first.Kernel.Digest)
		}
	}
}

// --tree tests the files of a directory as they are, here without git; equal
// files are the same kernel as the commit's.
func TestTree(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "src")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	archive := exec.Command("sh", "-c", "git -C '"+seriesRepo+"' archive longterm | tar -x -C '"+dir+"'")
	if out, err := archive.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	res := decode[kernel.CheckResult](t, 0, "check", "--tree", dir, "--test", "cow/fork-basic/base")
	if want := checkRev(t, "longterm"); !res.Build.Cached || res.Kernel.Digest != want.Kernel.Digest {
		t.Errorf("cached %v, digest %s, the commit's is %s", res.Build.Cached, res.Kernel.Digest, want.Kernel.Digest)
	}
}

// The lists and doctor answer in JSON with their schema.
func TestListsAndDoctor(t *testing.T) {
	for schema, args := range map[string][]string{
		"kbisect/tests/v1":    {"list", "tests"},
		"kbisect/profiles/v1": {"list", "profiles"},
		"kbisect/doctor/v1":   {"doctor"},
		"kbisect/jobs/v1":     {"report"},
	} {
		checkRev(t, "longterm") // so that there is a job to list
		var v struct{ Schema string }
		r := run(t, append(args, "--format", "json")...)
		if err := json.Unmarshal([]byte(r.stdout), &v); err != nil || v.Schema != schema || r.status != 0 {
			t.Errorf("%v: status %d, schema %q, %v", args, r.status, v.Schema, err)
		}
	}
}
