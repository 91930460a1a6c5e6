package store

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// `report` reads the record while a `bisect` in another process writes it. The
// reader sees whole runs, in order, and never fewer than before.
func TestReadWhileAnotherConnectionWrites(t *testing.T) {
	dir := t.TempDir()
	writer, reader := open(t, dir), open(t, dir)
	ok(t, writer.NewJob(t.Context(), "j", "check", nil))
	const n = 100
	done := make(chan error, 1)
	go func() {
		for range n {
			if err := writer.AppendRun(t.Context(), "j", "cell", kernel.Run{Outcome: kernel.Pass, Console: "console"}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	seen := 0
	for writing := true; writing; {
		select {
		case err := <-done:
			ok(t, err)
			writing = false
		default:
		}
		rs := runs(t, reader, "cell", "")
		if len(rs) < seen {
			t.Fatalf("%d runs, and before %d", len(rs), seen)
		}
		for _, r := range rs {
			if r.Console != "console" {
				t.Fatalf("a half run: %+v", r)
			}
		}
		seen = len(rs)
	}
	if seen != n {
		t.Errorf("%d runs at the end, want %d", seen, n)
	}
}

// Several processes, and several goroutines of each, write: all runs arrive.
func TestWritersWaitForEachOther(t *testing.T) {
	dir := t.TempDir()
	stores := []*Store{open(t, dir), open(t, dir)}
	ok(t, stores[0].NewJob(t.Context(), "j", "check", nil))
	var wg sync.WaitGroup
	const each = 25
	for i := range 4 {
		wg.Go(func() {
			s := stores[i%len(stores)]
			for range each {
				if err := s.AppendRun(t.Context(), "j", "cell", kernel.Run{Outcome: kernel.Pass, Output: "x"}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := len(runs(t, stores[0], "cell", "")); got != 4*each {
		t.Errorf("%d runs, want %d", got, 4*each)
	}
}

// A page is answered while a job's write is under way, from the record as it was
// before; and what was written is there for the next one.
func TestReadersDoNotWaitForTheWriter(t *testing.T) {
	s := withJob(t)
	ok(t, s.AppendRun(t.Context(), "j", "cell", kernel.Run{Outcome: kernel.Pass}))
	tx, err := s.db.Begin()
	ok(t, err)
	_, err = tx.Exec(`UPDATE jobs SET status = ?`, Done)
	ok(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // waiting would be for ever
	defer cancel()
	for range 2 * readers {
		if j, err := s.Job(ctx, "j"); err != nil || j.Status != Running {
			t.Fatalf("%+v, %v", j, err)
		}
		if rs, err := s.Runs(ctx, "cell", ""); err != nil || len(rs) != 1 {
			t.Fatalf("%v, %v", rs, err)
		}
	}
	ok(t, tx.Commit())
	if j, err := s.Job(ctx, "j"); err != nil || j.Status != Done {
		t.Errorf("%+v, %v", j, err)
	}
}

func TestReadersCannotWrite(t *testing.T) {
	s := withJob(t)
	if _, err := s.read.Exec(`UPDATE jobs SET status = 'x'`); err == nil {
		t.Error("a reader wrote")
	}
}

// One large change does not leave its log behind for as long as a service runs.
func TestLogShrinks(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	ok(t, s.NewJob(t.Context(), "j", "check", nil))
	limit, err := strconv.ParseInt(maxLog, 10, 64)
	ok(t, err)
	size := func() int64 {
		t.Helper()
		fi, err := os.Stat(filepath.Join(dir, "kbisect.db-wal"))
		ok(t, err)
		return fi.Size()
	}
	ok(t, s.SaveJob(t.Context(), "j", Running, make([]byte, limit+1)))
	if size() <= limit {
		t.Fatalf("the log has %d bytes only", size())
	}
	ok(t, s.SaveJob(t.Context(), "j", Done, nil))
	if size() > limit {
		t.Errorf("%d bytes are left", size())
	}
}
