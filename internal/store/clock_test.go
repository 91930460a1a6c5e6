package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// A clock that jumps a year to and fro changes no order: jobs and runs have the
// one in which they came, and each page goes on where the one before it ended.
func TestClockJumps(t *testing.T) {
	const year = 365 * 24 * time.Hour
	defer func() { clock = time.Now }()
	var jumped time.Duration
	clock = func() time.Time { return time.Now().Add(jumped) }
	s, ctx := open(t, t.TempDir()), t.Context()
	var ids, kernels []string
	for i, by := range []time.Duration{0, year, 0, -year, 0, year} {
		jumped = by
		id := fmt.Sprint("j", i)
		_, _, err := s.Enqueue(ctx, NewJob{ID: id, Kind: "check", Priority: Normal, Request: []byte("{}")})
		ok(t, err)
		ids = append(ids, id)
	}
	for i, id := range ids {
		jumped = []time.Duration{-year, year, 0}[i%3]
		j, found, err := s.Next(ctx, Nightly)
		ok(t, err)
		if !found || j.ID != id {
			t.Errorf("%d. is %s", i, j.ID)
		}
		jumped = -jumped // it ends two years before it started, or after
		f := Fenced{s, j.Attempt}
		k := fmt.Sprint("k", i)
		ok(t, f.AppendRun(ctx, id, "cell", on(k, "t", kernel.Pass)))
		ok(t, s.Finish(ctx, id, j.Attempt, Done, "", []byte("{}")))
		kernels = append(kernels, k)
	}
	runs, err := s.Runs(ctx, "cell", "")
	ok(t, err)
	var got []string
	for _, r := range runs {
		got = append(got, r.Kernel)
	}
	if d := cmp.Diff(kernels, got); d != "" {
		t.Errorf("runs of a cell:\n%s", d)
	}
	got = nil
	for after := int64(0); ; {
		rows, err := s.RunSince(ctx, "", after, 2)
		ok(t, err)
		if len(rows) == 0 {
			break
		}
		for _, r := range rows {
			got, after = append(got, r.Job), r.ID
		}
	}
	if d := cmp.Diff(ids, got); d != "" {
		t.Errorf("runs since:\n%s", d)
	}
	jobs, err := s.Jobs(ctx, 100)
	ok(t, err)
	for i, j := range jobs {
		if want := ids[len(ids)-1-i]; j.ID != want || j.Status != Done {
			t.Errorf("job %d: %s %s, not %s", i, j.ID, j.Status, want)
		}
	}
	seen := map[string]int{} // pages of kernels go by time, and show each once
	for after, pages := "", 0; pages < 10; pages++ {
		rows, err := s.Kernels(ctx, after, 2)
		ok(t, err)
		if len(rows) == 0 {
			break
		}
		for _, r := range rows {
			seen[r.Digest]++
			after = r.Digest
		}
	}
	for _, k := range kernels {
		if seen[k] != 1 {
			t.Errorf("kernel %s is on %d pages", k, seen[k])
		}
	}
}
