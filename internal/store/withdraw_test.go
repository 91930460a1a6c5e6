package store

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// twoJobs returns a record with jobs "j" and "k", which made runs in turn in one
// cell, on commits aa0, aa0, ab1, ab1, aa2, aa2; the i-th run has the reason i.
func twoJobs(t *testing.T) *Store {
	t.Helper()
	s := withJob(t)
	ok(t, s.NewJob(t.Context(), "k", "bisect", nil))
	for i := range 6 {
		r := kernel.Run{Outcome: kernel.Fail, Commit: []string{"aa0", "ab1", "aa2"}[i/2], Reason: fmt.Sprint(i), Output: "text"}
		ok(t, s.AppendRun(t.Context(), []string{"j", "k"}[i%2], "cell", r))
	}
	ok(t, s.SaveJob(t.Context(), "j", Done, []byte("{}")))
	ok(t, s.SaveJob(t.Context(), "k", Done, []byte("{}")))
	return s
}

func reasons(rs []kernel.Run) (out string) {
	for _, r := range rs {
		out += r.Reason
	}
	return out
}

func TestWithdraw(t *testing.T) {
	for _, c := range []struct {
		name        string
		which       Selection
		gone        string // newest first
		left, leftK string
	}{
		{"newest", Selection{Last: 1}, "4", "01235", "135"},
		{"newest two", Selection{Last: 2}, "42", "0135", "135"},
		{"more than there are", Selection{Last: 9}, "420", "135", "135"},
		{"of a commit", Selection{Commit: "ab1"}, "2", "01345", "135"},
		{"by a beginning", Selection{Commit: "aa"}, "40", "1235", "135"},
		{"newest of a commit", Selection{Commit: "aa", Last: 1}, "4", "01235", "135"},
		{"none", Selection{Commit: "b1"}, "", "012345", "135"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := twoJobs(t)
			got, err := s.Withdraw(t.Context(), "j", c.which)
			ok(t, err)
			var gone []kernel.Run
			for _, w := range got {
				gone = append(gone, w.Run)
			}
			if reasons(gone) != c.gone || reasons(runs(t, s, "cell", "")) != c.left || reasons(runs(t, s, "cell", "k")) != c.leftK {
				t.Errorf("withdrew %q, left %q, of k %q", reasons(gone), reasons(runs(t, s, "cell", "")), reasons(runs(t, s, "cell", "k")))
			}
			j, err := s.Job(t.Context(), "j")
			ok(t, err)
			if changed := j.Status == Interrupted && len(j.Result) == 0; changed != (c.gone != "") {
				t.Errorf("job %s, result %q", j.Status, j.Result)
			}
			if k, err := s.Job(t.Context(), "k"); err != nil || k.Status != Done {
				t.Errorf("the other job: %+v, %v", k, err)
			}
		})
	}
}

// What was withdrawn stays so and is not withdrawn again; what comes after counts.
func TestWithdrawTwice(t *testing.T) {
	s := twoJobs(t)
	for i, want := range []int{1, 1, 1, 0} {
		if got, err := s.Withdraw(t.Context(), "j", Selection{Last: 1}); err != nil || len(got) != want {
			t.Errorf("time %d: %v, %v", i, got, err)
		}
	}
	ok(t, s.AppendRun(t.Context(), "j", "cell", kernel.Run{Reason: "new"}))
	if got := reasons(runs(t, s, "cell", "")); got != "135new" {
		t.Errorf("%q", got)
	}
	if _, err := s.Withdraw(t.Context(), "nothing", Selection{}); !errors.Is(err, ErrNoJob) {
		t.Errorf("of no job: %v", err)
	}
	// The log itself is as it was.
	var all []string
	rows, err := s.db.Query(`SELECT json_extract(run, '$.reason') FROM runs ORDER BY id`)
	ok(t, err)
	defer rows.Close()
	for rows.Next() {
		var r string
		ok(t, rows.Scan(&r))
		all = append(all, r)
	}
	if !slices.Equal(all, []string{"0", "1", "2", "3", "4", "5", "new"}) {
		t.Errorf("the log has %q", all)
	}
}

// An attempt that is under way has used what is taken back: it writes no more. A
// queued job has used nothing.
func TestWithdrawFromJobsOfTheQueue(t *testing.T) {
	s := open(t, t.TempDir())
	enqueue(t, s, NewJob{ID: "a"})
	for i, c := range []struct{ before, after string }{{Running, Interrupted}, {Queued, Queued}} {
		next(t, s)
		ok(t, Fenced{s, i + 1}.AppendRun(t.Context(), "a", "cell", kernel.Run{Outcome: kernel.Fail}))
		if c.before == Queued {
			_, err := s.Requeue(t.Context())
			ok(t, err)
		}
		if got, err := s.Withdraw(t.Context(), "a", Selection{}); err != nil || len(got) != 1 {
			t.Errorf("%v, %v", got, err)
		}
		if j, err := s.Job(t.Context(), "a"); err != nil || j.Status != c.after {
			t.Errorf("%s: %+v, %v", c.before, j, err)
		}
		if err := (Fenced{s, i + 1}).AppendRun(t.Context(), "a", "cell", kernel.Run{}); !errors.Is(err, ErrStale) {
			t.Errorf("%s: %v", c.before, err)
		}
		if c.after != Queued {
			ok(t, s.Retry(t.Context(), "a"))
		}
	}
}
