package kbuild

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// Whatever way a file is opened, it is seen; what is only looked at is not.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"cat", "run.sh", "mm/linked", "mm/deep/mapped", "mm/stat", "mm/untouched", "Makefile", "before", ".git/config", "copied"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("mm/linked", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	read(t, filepath.Join(dir, "before"))
	within, err := dirsOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	w, err := watchReads(dir, within)
	if err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{
		{"cat", dir + "/cat", dir + "/.git/config"}, {dir + "/run.sh"}, {"cat", dir + "/link"}, {"sh", "-c", "exec < " + dir + "/mm/deep/mapped"},
		{"stat", dir + "/mm/stat"}, {"ls", "-l", dir + "/mm"}, {"test", "-e", dir + "/absent"}, {"make", "-C", dir, "-n", "-q"}, {"cp", dir + "/copied", "/dev/null"},
	} {
		_, _ = exec.Command(argv[0], argv[1:]...).CombinedOutput()
	}
	got, err := w.stop()
	want := []string{"Makefile", "cat", "copied", "mm/deep/mapped", "mm/linked", "run.sh"}
	if files := slices.Sorted(maps.Keys(got)); err != nil || !slices.Equal(files, want) {
		t.Errorf("got %v, %v; want %v", files, err, want)
	}
}

// A reader that does not keep up says so, instead of leaving files out.
func TestWatchThatLosesEvents(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	within, err := dirsOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	w, err := watchReads(dir, within)
	if err != nil {
		t.Fatal(err)
	}
	w.take([]byte{0xff, 0xff, 0xff, 0xff, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}) // IN_Q_OVERFLOW
	if files, err := w.stop(); !errors.Is(err, errLost) {
		t.Errorf("%v, %v", files, err)
	}
}
