package app

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/bisect"
	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/job"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
	"github.com/kernel-bisect/kbisect/internal/store"
)

// The commit that is tried before the newer end becomes the bad end if it fails,
// and the newer end is then never built. If it passes, or what lies below it
// explains nothing, the whole range is searched.
func TestNearEnd(t *testing.T) {
	t.Parallel()
	dir, shas := smallKernel(t, 12)
	home := t.TempDir()
	repo, err := gitrepo.Open(t.Context(), home, dir)
	if err != nil {
		t.Fatal(err)
	}
	older, err := repo.Commit(t.Context(), shas[0])
	if err != nil {
		t.Fatal(err)
	}
	newer, err := repo.Commit(t.Context(), shas[11])
	if err != nil {
		t.Fatal(err)
	}
	p := runner.Program{Name: "a", Argv: []string{"a"}}
	for _, tt := range []struct {
		name    string
		nearer  string
		culprit int
		end     string
		reason  string
	}{
		{"it fails", shas[6], 3, shas[6], "fails already"},
		{"it is the culprit", shas[6], 6, shas[6], "fails already"},
		{"it passes", shas[6], 9, "", ""},
		{"there is none", "", 3, "", ""},
	} {
		records, err := store.Open(t.Context(), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if err := records.NewJob(t.Context(), "j", "bisect", []byte("{}")); err != nil {
			t.Fatal(err)
		}
		req := request{Base: older.SHA, Head: newer.SHA, Search: defaultSearch()}
		req.Search.Nearer = tt.nearer
		b := &bench{lab: &job.Lab{Job: "j", Record: records, Fresh: true}, req: req}
		newSimulation(func(sha string) bool { return slices.Index(shas, sha) >= tt.culprit }, true, 0).lab(b.lab)
		built, build := map[string]bool{}, b.lab.Build
		b.lab.Build = func(ctx context.Context, c kernel.Commit) (kernel.Build, error) {
			built[c.SHA] = true
			return build(ctx, c)
		}
		whole, err := newHunt(t.Context(), repo, req, older, newer)
		if err != nil {
			t.Fatal(err)
		}
		var res kernel.BisectResult
		end, err := whole.near(t.Context(), repo, req, b, p, &res, func() {})
		if err != nil || end.SHA != tt.end {
			t.Fatalf("%s: %+v, %v", tt.name, end, err)
		}
		if tt.end == "" {
			if res.Status != "" || len(res.Steps) > 0 || built[shas[11]] {
				t.Errorf("%s: it leaves %+v", tt.name, res)
			}
			if err := whole.search(t.Context(), b, p, &res, func() {}); err != nil {
				t.Fatal(err)
			}
		}
		if res.Status != kernel.Found || res.Culprit.SHA != shas[tt.culprit] || !strings.Contains(res.Reason, tt.reason) || built[shas[11]] != (tt.end == "") {
			t.Errorf("%s: %s %+v (%s), newer end built: %v", tt.name, res.Status, res.Culprit, res.Reason, built[shas[11]])
		}
		if err := records.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A search stays on one side of a commit that makes everything stale as long as
// that tells more for its price, and takes the same way when it is resumed.
func TestForecastIsFollowed(t *testing.T) {
	t.Parallel()
	const n, culprit, wall = 40, 30, 27
	dir, ids := smallKernel(t, n+1)
	repo, err := gitrepo.Open(t.Context(), t.TempDir(), dir)
	if err != nil {
		t.Fatal(err)
	}
	older, err := repo.Commit(t.Context(), ids[0])
	if err != nil {
		t.Fatal(err)
	}
	newer, err := repo.Commit(t.Context(), ids[n])
	if err != nil {
		t.Fatal(err)
	}
	f := &forecast{Classes: []int{600}, Files: [][]int{{0}}, Commits: make([][]int, n), Warm: bisect.Nowhere, Kept: true, Any: 60, Object: 2}
	f.Commits[wall-1] = []int{0}
	way := func(records *store.Store, f *forecast) (built []int) {
		req := request{Base: older.SHA, Head: newer.SHA, Search: defaultSearch()}
		req.Search.Forecast = f
		b := &bench{lab: &job.Lab{Job: "j", Record: records}, req: req}
		newSimulation(func(sha string) bool { return slices.Index(ids, sha) >= culprit }, true, 0).lab(b.lab)
		build := b.lab.Build
		b.lab.Build = func(ctx context.Context, c kernel.Commit) (kernel.Build, error) {
			built = append(built, slices.Index(ids, c.SHA))
			return build(ctx, c)
		}
		h, err := newHunt(t.Context(), repo, req, older, newer)
		if err != nil {
			t.Fatal(err)
		}
		var res kernel.BisectResult
		if err := h.search(t.Context(), b, runner.Program{Name: "a", Argv: []string{"a"}}, &res, func() {}); err != nil {
			t.Fatal(err)
		}
		if res.Status != kernel.Found || res.Culprit.SHA != ids[culprit] {
			t.Errorf("%s %+v (%s)", res.Status, res.Culprit, res.Reason)
		}
		return built
	}
	crossed := func(built []int) (times int) {
		for i, c := range built[1:] {
			if c > 0 && (c < wall) != (built[i] < wall) { // the older end is kept
				times++
			}
		}
		return times
	}
	open := func() *store.Store {
		records, err := store.Open(t.Context(), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = records.Close() })
		if err := records.NewJob(t.Context(), "j", "bisect", []byte("{}")); err != nil {
			t.Fatal(err)
		}
		return records
	}
	if flat := way(open(), nil); crossed(flat) == 0 {
		t.Errorf("one price for all does not cross it: %v", flat)
	}
	records := open()
	own := way(records, f)
	if slices.Min(own[2:]) < wall {
		t.Errorf("it is crossed in vain: %v", own)
	}
	if again := way(records, f); !slices.Equal(again, own) {
		t.Errorf("resumed: %v, before %v", again, own)
	}
}
