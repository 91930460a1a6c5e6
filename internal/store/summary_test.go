package store

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

func add(t *testing.T, s *Store, rs ...kernel.Run) {
	t.Helper()
	for _, r := range rs {
		ok(t, s.AppendRun(t.Context(), "j", "cell", r))
	}
}

func on(digest, test string, outcome kernel.Outcome, tests ...kernel.TestOutcome) kernel.Run {
	return kernel.Run{Test: test, Kernel: digest, Commit: "c-" + digest, Release: "6.1-" + digest, Outcome: outcome, Tests: tests}
}

// stats are the tests of a record, each as NAME runs/fails/skips kernels flaky.
func stats(t *testing.T, s *Store, f TestFilter) string {
	t.Helper()
	all, err := s.TestStats(t.Context(), f)
	ok(t, err)
	var out []string
	for _, x := range all {
		line := fmt.Sprintf("%s %d/%d/%d %d", x.Test, x.Runs, x.Fails, x.Skips, x.Kernels)
		if x.Flaky {
			line += " flaky"
		}
		if x.Last.IsZero() {
			line += " never"
		}
		out = append(out, line)
	}
	return strings.Join(out, "; ")
}

func TestTestStats(t *testing.T) {
	one := func(name string, o kernel.Outcome) kernel.TestOutcome {
		return kernel.TestOutcome{Name: name, Outcome: o}
	}
	for _, c := range []struct {
		name string
		runs []kernel.Run
		want string
	}{
		{"nothing", nil, ""},
		{"all outcomes", []kernel.Run{on("a", "x", kernel.Pass), on("b", "x", kernel.Fail), on("c", "x", kernel.Crash), on("d", "x", kernel.Hang), on("e", "x", kernel.Skip)}, "x 4/3/1 5"},
		{"infra tells nothing", []kernel.Run{on("a", "x", kernel.Infra)}, ""},
		{"flaky on one kernel", []kernel.Run{on("a", "x", kernel.Pass), on("a", "x", kernel.Fail), on("b", "x", kernel.Pass)}, "x 3/1/0 2 flaky"},
		{"regression", []kernel.Run{on("a", "x", kernel.Pass), on("b", "x", kernel.Fail), on("b", "x", kernel.Skip)}, "x 2/1/1 2"},
		{"one image of two commits", []kernel.Run{{Test: "x", Kernel: "k", Commit: "a", Outcome: kernel.Pass}, {Test: "x", Kernel: "k", Commit: "b", Outcome: kernel.Fail}}, "x 2/1/0 1 flaky"},
		{"of an older version", []kernel.Run{{Test: "x", Commit: "a", Outcome: kernel.Pass}, {Test: "x", Commit: "b", Outcome: kernel.Fail}}, "x 2/1/0 2"},
		{"kernels not known", []kernel.Run{{Test: "x", Outcome: kernel.Pass}, {Test: "x", Outcome: kernel.Fail}}, "x 2/1/0 1"},
		{"several in a program", []kernel.Run{
			on("a", "p", kernel.Fail, one("t1", kernel.Pass), one("t2", kernel.Fail), one("t3", kernel.Skip)),
			on("a", "p", kernel.Pass, one("t1", kernel.Pass), one("t2", kernel.Pass)),
			on("a", "p", kernel.Crash, one("", kernel.Crash), one("t1", kernel.Pass)),
		}, "p 1/1/0 1; p/t1 3/0/0 1; p/t2 2/1/0 1 flaky; p/t3 0/0/1 1"},
		{"a name twice", []kernel.Run{on("a", "p", kernel.Fail, one("t", kernel.Pass), one("t", kernel.Fail))}, "p/t 2/1/0 1 flaky"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := withJob(t)
			add(t, s, c.runs...)
			if got := stats(t, s, TestFilter{Limit: 9}); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
}

func TestTestFilter(t *testing.T) {
	s := withJob(t)
	for _, name := range []string{"cow/a", "cow/b_c", "COW/d", "fs%"} {
		add(t, s, on("a", name, kernel.Pass))
	}
	for f, want := range map[TestFilter]string{
		{Limit: 2}:                              "COW/d cow/a",
		{Limit: 9, After: "cow/a"}:              "cow/b_c fs%",
		{Limit: 9, Text: "Cow"}:                 "COW/d cow/a cow/b_c",
		{Limit: 9, Text: "b_"}:                  "cow/b_c",
		{Limit: 9, Text: "%"}:                   "fs%",
		{Limit: 9, Text: "cow", After: "cow/a"}: "cow/b_c",
	} {
		all, err := s.TestStats(t.Context(), f)
		ok(t, err)
		var got []string
		for _, x := range all {
			got = append(got, x.Test)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%+v: %q, want %s", f, got, want)
		}
	}
}

func TestHistoryAndKernels(t *testing.T) {
	s := withJob(t)
	add(t, s, on("a", "x", kernel.Pass), on("b", "x", kernel.Fail), on("b", "x", kernel.Pass), on("b", "y", kernel.Skip), on("c", "y", kernel.Pass),
		on("d", "y", kernel.Infra))
	for test, want := range map[string]string{"x": "b 2/1/0 a 1/0/0 ", "y": "c 1/0/0 b 0/0/1 ", "z": ""} {
		got := ""
		h, err := s.TestHistory(t.Context(), test, 9)
		ok(t, err)
		for _, k := range h {
			got += fmt.Sprintf("%s %d/%d/%d ", k.Digest, k.Runs, k.Fails, k.Skips)
			if k.Commit != "c-"+k.Digest || k.Release != "6.1-"+k.Digest || k.Last.IsZero() {
				t.Errorf("%+v", k)
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", test, got, want)
		}
	}
	if h, err := s.TestHistory(t.Context(), "x", 1); err != nil || len(h) != 1 {
		t.Errorf("%v, %v", h, err)
	}
	ks, err := s.Kernels(t.Context(), "", 9)
	ok(t, err)
	got := ""
	for _, k := range ks {
		got += fmt.Sprintf("%s %d/%d ", k.Digest, k.Runs, k.Fails)
	}
	if got != "c 1/0 b 2/1 a 1/0 " {
		t.Error(got)
	}
}

// A kernel whose first run did not know its release gets it from a later one.
func TestReleaseKnownLater(t *testing.T) {
	s := withJob(t)
	add(t, s, kernel.Run{Test: "x", Kernel: "a", Outcome: kernel.Pass}, on("a", "x", kernel.Pass), kernel.Run{Test: "x", Kernel: "a", Outcome: kernel.Pass})
	if ks, err := s.Kernels(t.Context(), "", 9); err != nil || len(ks) != 1 || ks[0].Release != "6.1-a" || ks[0].Runs != 3 {
		t.Errorf("%+v, %v", ks, err)
	}
}

// The summaries that grow with every run and shrink with every withdrawal are
// those that the migration makes of the log, and of an older version's log.
func TestSummariesFollowFromTheLog(t *testing.T) {
	for seed := range uint64(4) {
		dir := t.TempDir()
		s := open(t, dir)
		r := rand.New(rand.NewPCG(seed, 1))
		outcome := func() kernel.Outcome {
			return []kernel.Outcome{kernel.Pass, kernel.Fail, kernel.Crash, kernel.Hang, kernel.Skip, kernel.Infra}[r.IntN(6)]
		}
		for j := range 3 {
			ok(t, s.NewJob(t.Context(), fmt.Sprint(j), "check", nil))
		}
		for range 80 {
			job := fmt.Sprint(r.IntN(3))
			if r.IntN(10) == 0 {
				_, err := s.Withdraw(t.Context(), job, Selection{Last: 1 + r.IntN(3)})
				ok(t, err)
				continue
			}
			digest := fmt.Sprint(r.IntN(4))
			run := on(digest, fmt.Sprintf("test %d", r.IntN(4)), outcome())
			if digest == "0" {
				run.Kernel, run.Release = "", ""
			}
			if r.IntN(10) == 0 {
				run.Kernel, run.Release, run.Commit = "", "", ""
			}
			for range r.IntN(2) * r.IntN(4) {
				run.Tests = append(run.Tests, kernel.TestOutcome{Name: []string{"", "ü/'1", "2", "3"}[r.IntN(4)], Outcome: outcome()})
			}
			ok(t, s.AppendRun(t.Context(), job, "cell", run))
		}
		grown := summaries(t, s)
		ok(t, s.Close())
		downTo(t, dir, 3)
		if made := summaries(t, open(t, dir)); made != grown {
			t.Fatalf("seed %d: grown:\n%s\nmade from the log:\n%s", seed, grown, made)
		}
	}
}

// summaries are the tables of them, as text without ids.
func summaries(t *testing.T, s *Store) string {
	t.Helper()
	var out strings.Builder
	for _, q := range []string{
		`SELECT 'kernel', identity, release, digest, commit_sha, runs, fails, last_at FROM kernels ORDER BY identity`,
		`SELECT 'test', name, runs, fails, skips, kernels, flaky, last_at FROM tests WHERE kernels > 0 ORDER BY name`,
		`SELECT name, identity, o.runs, o.fails, o.skips, o.last_at, '', '' FROM tests_on_kernels AS o
			JOIN tests AS t ON t.id = o.test JOIN kernels AS k ON k.id = o.kernel ORDER BY name, identity`,
		`SELECT r.id, r.test, r.commit_sha, k.identity, '', '', '', '' FROM runs AS r JOIN kernels AS k ON k.id = r.kernel ORDER BY r.id`,
	} {
		rows, err := s.db.Query(q)
		ok(t, err)
		for rows.Next() {
			cells := make([]sql.NullString, 8)
			ptrs := make([]any, len(cells))
			for i := range cells {
				ptrs[i] = &cells[i]
			}
			ok(t, rows.Scan(ptrs...))
			for _, c := range cells {
				out.WriteString(c.String + " ")
			}
			out.WriteString("\n")
		}
		ok(t, rows.Close())
	}
	return out.String()
}

func downTo(t *testing.T, dir string, version int64) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "kbisect.db")+"?_pragma=foreign_keys(1)")
	ok(t, err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	p, err := provider(db)
	ok(t, err)
	_, err = p.DownTo(t.Context(), version)
	ok(t, err)
}
