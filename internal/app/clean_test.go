package app

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/imagecache"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// What was used longest ago goes first, until the rest fits; the record stays.
func TestClean(t *testing.T) {
	home := t.TempDir()
	cache := filepath.Join(home, "cache")
	write := func(name string, bytes int, age time.Duration) {
		t.Helper()
		path := filepath.Join(cache, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, bytes), 0o644); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		for p := path; p != cache; p = filepath.Dir(p) {
			if err := os.Chtimes(p, at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	write("images/0123.cpio", 3_000_000, time.Hour)
	write("slots/aaaa/obj-cow/vmlinux", 5_000_000, 4*time.Hour)
	write("slots/aaaa/src/Makefile", 1_000_000, 3*time.Hour)
	write("slots/aaaa/ccache/0/object", 1_000_000, 3*time.Hour)
	write("slots/bbbb/src/Makefile", 1_000_000, 2*time.Hour)
	kernels, err := imagecache.Open(filepath.Join(cache, "kernels"))
	if err != nil {
		t.Fatal(err)
	}
	key := strings.Repeat("ab", 32)
	if _, err := kernels.Put(key, kernel.Build{Status: kernel.BuildFailed, Error: "x"}, "", "", make([]byte, 2_000_000)); err != nil {
		t.Fatal(err)
	}
	run := func(status int, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		o := &options{args: append([]string{"clean", "--data-dir", home}, args...), stdout: &out, stderr: &errs}
		if got := o.main(); got != status {
			t.Fatalf("%v: status %d\n%s%s", args, got, &out, &errs)
		}
		return out.String() + errs.String()
	}
	there := func(want ...string) {
		t.Helper()
		for _, name := range []string{"images/0123.cpio", "slots/aaaa/obj-cow", "slots/aaaa/src", "slots/aaaa/ccache", "slots/bbbb"} {
			_, err := os.Stat(filepath.Join(cache, name))
			if should := strings.Contains(strings.Join(want, " "), name); (err == nil) != should {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	says := func(out string, lines ...string) {
		t.Helper()
		var got []string
		for line := range strings.Lines(out) {
			got = append(got, strings.Join(strings.Fields(line), " "))
		}
		for _, line := range lines {
			if !slices.Contains(got, line) {
				t.Errorf("no line %q in\n%s", line, out)
			}
		}
	}
	says(run(exitOK), "object trees 1 5 MB", "source trees 2 2 MB", "ccache 1 1 MB", "kernels 1 2 MB", "guest images 1 3 MB", "all 6 13 MB")
	says(run(exitOK, "--max", "7.5 MB", "--dry-run"),
		"object trees 1 5 MB to delete 1, 5 MB", "source trees 2 2 MB to delete 1, 1 MB", "ccache 1 1 MB", "all 6 13 MB to delete 2, 6 MB")
	there("images/0123.cpio", "slots/aaaa/obj-cow", "slots/aaaa/src", "slots/aaaa/ccache", "slots/bbbb")
	run(exitOK, "--max", "7.5 MB")
	there("images/0123.cpio", "slots/aaaa/ccache", "slots/bbbb")
	run(exitOK, "--max", "5.5 MB")
	there("images/0123.cpio")
	if left, err := os.ReadDir(filepath.Join(cache, "slots")); err != nil || len(left) > 0 {
		t.Errorf("left of the trees: %v, %v", left, err)
	}
	if _, ok, err := kernels.Get(key); !ok || err != nil {
		t.Error("the kernel that was made last is gone", err)
	}
	run(exitOK, "--all")
	there()
	if _, ok, _ := kernels.Get(key); ok {
		t.Error("a kernel is left")
	}
	if _, err := os.Stat(filepath.Join(home, "kbisect.db")); err != nil {
		t.Error(err)
	}
	for _, args := range [][]string{{"--max", "many"}, {"--max", "-1GB"}, {"--max", "1GB", "--all"}, {"all"}} {
		if out := run(exitUsage, args...); strings.Count(out, "\n") != 1 {
			t.Errorf("%v: %q", args, out)
		}
	}
}

// What nobody asked for goes by itself when it is old.
func TestTrim(t *testing.T) {
	t.Parallel()
	w := newTestWorkspace(t)
	dir := filepath.Join(w.cache, "images")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for name, age := range map[string]time.Duration{"old": keepImages + time.Hour, "new": keepImages - time.Hour} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	w.trim(t.Context(), now, zap.NewNop())
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != "new" {
		t.Errorf("%q, %v", left, err)
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"5GB": 5e9, "1.5 g": 15e8, "500MiB": 5e8, "0": 0, "12": 12, "2tb": 2e12} {
		if got, err := parseSize(text); got != want || err != nil {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}
