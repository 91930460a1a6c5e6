package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// writesOf are all the ways to write into a record.
func writesOf(s *Store, ctx context.Context) map[string]error {
	_, _, enqueue := s.Enqueue(ctx, NewJob{ID: "new", Request: make([]byte, 100_000)})
	_, _, next := s.Next(ctx, Nightly)
	_, requeue := s.Requeue(ctx)
	_, withdraw := s.Withdraw(ctx, "j", Selection{})
	return map[string]error{
		"NewJob":     s.NewJob(ctx, "new", "check", make([]byte, 100_000)),
		"SaveJob":    s.SaveJob(ctx, "j", Done, make([]byte, 100_000)),
		"Abandon":    s.Abandon(ctx, "j"),
		"AppendRun":  s.AppendRun(ctx, "j", "cell", kernel.Run{Reason: strings.Repeat("x", 100_000)}),
		"AppendBoot": s.AppendBoot(ctx, "j", "cell", kernel.Boot{Console: strings.Repeat("x", 100_000)}),
		"Enqueue":    enqueue,
		"Next":       next,
		"Requeue":    requeue,
		"Withdraw":   withdraw,
		"Cancel":     s.Cancel(ctx, "j"),
		"Finish":     s.Finish(ctx, "j", 0, Done, "", make([]byte, 100_000)),
	}
}

func oneLine(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%q does not say %q", err, p)
		}
	}
	if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "SQL logic") {
		t.Errorf("%q", err)
	}
}

// A record that has no room takes nothing, loses nothing, and goes on when there
// is room again.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	ok(t, s.NewJob(t.Context(), "j", "check", nil))
	add(t, s, on("a", "x", kernel.Pass))
	before := summaries(t, s)
	_, err := s.db.Exec(`PRAGMA max_page_count = 1`) // means as many as there are
	ok(t, err)
	for name, err := range writesOf(s, t.Context()) {
		switch name {
		case "NewJob", "SaveJob", "AppendRun", "AppendBoot", "Enqueue":
			if !errors.Is(err, ErrFull) {
				t.Errorf("%s: %v", name, err)
				continue
			}
			oneLine(t, err, dir, "disk full", "free some space")
		}
	}
	_, err = s.db.Exec(`PRAGMA max_page_count = 100000`)
	ok(t, err)
	j, err := s.Job(t.Context(), "j")
	if err != nil || len(j.Result) != 0 {
		t.Errorf("%+v, %v", j, err)
	}
	if js, err := s.Jobs(t.Context(), 9); err != nil || len(js) != 1 {
		t.Errorf("%v, %v", js, err)
	}
	// Withdraw had room enough.
	if after := summaries(t, s); after == before {
		t.Error("the run was not withdrawn")
	}
	add(t, s, on("a", "x", kernel.Pass))
	if got := stats(t, s, TestFilter{Limit: 9}); got != "x 1/0/0 1" {
		t.Error(got)
	}
}

// All that writes says so when it cannot, in a line; what only reads goes on.
func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	ok(t, s.NewJob(t.Context(), "j", "check", nil))
	add(t, s, on("a", "x", kernel.Pass))
	_, err := s.db.Exec(`PRAGMA query_only = 1`) // a mode of the file says nothing to root
	ok(t, err)
	for name, err := range writesOf(s, t.Context()) {
		if name == "Finish" { // refused before: it is nobody's attempt
			continue
		}
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		oneLine(t, err, dir, "read-only", "--data-dir")
	}
	if got := stats(t, s, TestFilter{Limit: 9}); got != "x 1/0/0 1" {
		t.Error(got)
	}
	ok(t, s.Backup(t.Context(), filepath.Join(t.TempDir(), "backup")))
}

func TestPlaceOfTheRecord(t *testing.T) {
	_, err := Open(t.Context(), filepath.Join(t.TempDir(), "missing"))
	oneLine(t, err, "missing", "directory must be there", "--data-dir")

	dir := t.TempDir()
	ok(t, os.WriteFile(filepath.Join(dir, "kbisect.db"), []byte(strings.Repeat("no database ", 1000)), 0o644))
	_, err = Open(t.Context(), dir)
	oneLine(t, err, dir, "restore a backup")
	if !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
	if err := plain("", fmt.Errorf("x: %w", context.Canceled)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
