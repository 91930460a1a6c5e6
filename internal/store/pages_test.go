package store

import (
	"errors"
	"fmt"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// aLog returns a record with twelve runs, of jobs j and k, commits a and b, and
// of a program x with tests t and u or a test x/t of the same name, or y.
func aLog(t *testing.T) *Store {
	t.Helper()
	s := withJob(t)
	ok(t, s.NewJob(t.Context(), "k", "series", nil))
	for i := range 12 {
		r := kernel.Run{Test: []string{"x", "y", "x/t"}[i%3], Commit: []string{"a", "b"}[i/6], Outcome: kernel.Pass, Output: "out", Console: "con", Reason: fmt.Sprint(i)}
		if i%4 == 0 {
			r.Outcome = kernel.Crash
		}
		if r.Test == "x" {
			r.Tests = []kernel.TestOutcome{{Name: "t", Outcome: kernel.Pass}, {Name: "u", Outcome: r.Outcome}}
		}
		ok(t, s.AppendRun(t.Context(), []string{"j", "k"}[i%2], "cell", r))
	}
	return s
}

func rowReasons(t *testing.T, rows []RunRow, err error) string {
	t.Helper()
	ok(t, err)
	got := ""
	for _, r := range rows {
		if r.Run.Output != "" || r.Run.Console != "" || r.At.IsZero() || r.Job == "" {
			t.Errorf("%+v", r)
		}
		got += r.Run.Reason + " "
	}
	return got
}

func TestRunList(t *testing.T) {
	s := aLog(t)
	for _, c := range []struct {
		f    RunFilter
		want string
	}{
		{RunFilter{Limit: 99}, "11 10 9 8 7 6 5 4 3 2 1 0 "},
		{RunFilter{Limit: 3}, "11 10 9 "},
		{RunFilter{Limit: 3, Before: 10}, "8 7 6 "}, // ids count from 1
		{RunFilter{Limit: 99, Job: "j"}, "10 8 6 4 2 0 "},
		{RunFilter{Limit: 99, Commit: "a"}, "5 4 3 2 1 0 "},
		{RunFilter{Limit: 99, Job: "k", Commit: "b"}, "11 9 7 "},
		{RunFilter{Limit: 99, BadOnly: true}, "8 4 0 "},
		{RunFilter{Limit: 99, BadOnly: true, Commit: "b"}, "8 "},
		{RunFilter{Limit: 99, Test: "y"}, "10 7 4 1 "},
		{RunFilter{Limit: 99, Test: "x"}, "9 6 3 0 "},
		{RunFilter{Limit: 99, Test: "x/u"}, "9 6 3 0 "},
		{RunFilter{Limit: 99, Test: "x/u", BadOnly: true}, "0 "},
		{RunFilter{Limit: 99, Test: "x/t"}, "11 9 8 6 5 3 2 0 "},
		{RunFilter{Limit: 3, Test: "x/t", Before: 10}, "8 6 5 "},
		{RunFilter{Limit: 99, Test: "x/t", BadOnly: true}, "8 "},
		{RunFilter{Limit: 99, Test: "x/t", Job: "j", Commit: "b"}, "8 6 "},
		{RunFilter{Limit: 99, Test: "x/"}, ""},
		{RunFilter{Limit: 99, Test: "z"}, ""},
		{RunFilter{Limit: 99, Job: "nobody"}, ""},
		{RunFilter{}, ""},
	} {
		rows, err := s.RunList(t.Context(), c.f)
		if got := rowReasons(t, rows, err); got != c.want {
			t.Errorf("%+v: %s, want %s", c.f, got, c.want)
		}
	}
}

func TestRunSince(t *testing.T) {
	s := aLog(t)
	var last int64
	got := ""
	for {
		rows, err := s.RunSince(t.Context(), "k", last, 4)
		got += rowReasons(t, rows, err) + "| "
		if len(rows) == 0 {
			break
		}
		last = rows[len(rows)-1].ID
	}
	if got != "1 3 5 7 | 9 11 | | " {
		t.Error(got)
	}
	rows, err := s.RunSince(t.Context(), "", 8, 3) // of all jobs
	if got := rowReasons(t, rows, err); got != "8 9 10 " {
		t.Error(got)
	}
}

func TestRunByID(t *testing.T) {
	s := aLog(t)
	r, err := s.RunByID(t.Context(), 4)
	if err != nil || r.ID != 4 || r.Job != "k" || r.Withdrawn || r.At.IsZero() || r.Run.Reason != "3" || r.Run.Output != "out" || r.Run.Console != "con" {
		t.Errorf("%+v, %v", r, err)
	}
	for _, id := range []int64{0, 13, -1} {
		if _, err := s.RunByID(t.Context(), id); !errors.Is(err, ErrNoRun) {
			t.Errorf("%d: %v", id, err)
		}
	}
	// What was withdrawn is shown as that.
	_, err = s.Withdraw(t.Context(), "k", Selection{Last: 1})
	ok(t, err)
	if r, err := s.RunByID(t.Context(), 12); err != nil || !r.Withdrawn {
		t.Errorf("%+v, %v", r, err)
	}
	rows, err := s.RunList(t.Context(), RunFilter{Limit: 2})
	if err != nil || !rows[0].Withdrawn || rows[1].Withdrawn {
		t.Errorf("%+v, %v", rows, err)
	}
}
