package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// A backup of a record that a job writes into is a record as it was at one
// moment: the runs up to then, and the summaries of these.
func TestBackupWhileWritesGoOn(t *testing.T) {
	s := withJob(t)
	ctx, cancel := context.WithCancel(t.Context())
	written := make(chan int, 1000)
	done := make(chan error, 1)
	go func() {
		for i := 0; ctx.Err() == nil; i++ {
			r := on(fmt.Sprint(i%3), fmt.Sprintf("test %d", i%5), kernel.Pass)
			r.Reason, r.Console = fmt.Sprint(i), strings.Repeat("a line\n", 100)
			if err := s.AppendRun(t.Context(), "j", "cell", r); err != nil {
				done <- err
				return
			}
			select {
			case written <- i:
			default:
			}
		}
		done <- nil
	}()
	for i := range 3 {
		for range 20 {
			<-written
		}
		dir := t.TempDir()
		file := filepath.Join(dir, "a 100% #backup?")
		ok(t, s.Backup(ctx, file))
		if got := files(t, dir); got != "a 100% #backup?" {
			t.Errorf("left behind: %s", got)
		}
		restored := t.TempDir()
		ok(t, os.Rename(file, filepath.Join(restored, "kbisect.db")))
		b := open(t, restored)
		var check string
		if err := b.db.QueryRow(`PRAGMA integrity_check`).Scan(&check); err != nil || check != "ok" {
			t.Errorf("%s, %v", check, err)
		}
		rs := runs(t, b, "cell", "j")
		if len(rs) < 20*(i+1) {
			t.Errorf("%d runs after %d were written", len(rs), 20*(i+1))
		}
		for i, r := range rs {
			if r.Reason != fmt.Sprint(i) {
				t.Fatalf("run %d is run %s", i, r.Reason)
			}
		}
		counted := 0
		all, err := b.TestStats(t.Context(), TestFilter{Limit: 9})
		ok(t, err)
		for _, x := range all {
			counted += x.Runs
		}
		if counted != len(rs) {
			t.Errorf("the summaries count %d runs of %d", counted, len(rs))
		}
		// It is a record to go on with.
		ok(t, b.AppendRun(t.Context(), "j", "cell", kernel.Run{Outcome: kernel.Pass}))
	}
	cancel()
	ok(t, <-done)
}

func files(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	ok(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func TestBackupRefuses(t *testing.T) {
	s := withJob(t)
	dir := t.TempDir()
	there := filepath.Join(dir, "there")
	ok(t, os.WriteFile(there, []byte("precious"), 0o644))
	if err := s.Backup(t.Context(), there); err == nil || !strings.Contains(err.Error(), there+": it exists") {
		t.Errorf("%v", err)
	}
	if b, err := os.ReadFile(there); err != nil || string(b) != "precious" {
		t.Errorf("%q, %v", b, err)
	}
	dangling := filepath.Join(dir, "dangling")
	ok(t, os.Symlink("nowhere", dangling))
	if err := s.Backup(t.Context(), dangling); err == nil {
		t.Error("wrote through a link")
	}
	if err := s.Backup(t.Context(), filepath.Join(dir, "missing", "b")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Backup(ctx, filepath.Join(dir, "b")); err == nil {
		t.Error("a cancelled backup succeeded")
	}
	if got := files(t, dir); got != "dangling there" {
		t.Errorf("left behind: %s", got)
	}
	// Somebody was faster.
	part := filepath.Join(dir, "part")
	ok(t, os.WriteFile(part, nil, 0o644))
	if err := publish(part, there); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
}
