package store

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// The record of a service after some years. KBISECT_BENCH_RUNS makes another
// one; KBISECT_BENCH_STORE is a directory to keep it in.
const (
	benchRuns    = 1_000_000
	benchJobs    = 2000
	benchTests   = 300
	benchKernels = 500
)

// benchStore makes the record in SQL, as an older version would have left it,
// and has it migrated.
func benchStore(b *testing.B) *Store {
	b.Helper()
	n := benchRuns
	if text := os.Getenv("KBISECT_BENCH_RUNS"); text != "" {
		_, _ = fmt.Sscan(text, &n)
	}
	dir := os.Getenv("KBISECT_BENCH_STORE")
	if dir == "" {
		dir = b.TempDir()
	}
	if _, err := os.Stat(filepath.Join(dir, "kbisect.db")); err != nil {
		started := time.Now()
		fill(b, dir, n)
		b.Logf("%d runs made in %v", n, time.Since(started))
	}
	started := time.Now()
	s, err := Open(b.Context(), dir)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("opened and migrated in %v", time.Since(started))
	b.Cleanup(func() { _ = s.Close() })
	return s
}

func fill(b *testing.B, dir string, n int) {
	b.Helper()
	db := openAt(b, dir, 2)
	defer db.Close()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		b.Fatal(err)
	}
	// A pass has some lines of output and no console, a failure both.
	noise := make([]byte, 6000)
	for i := range noise {
		noise[i] = byte(i * i >> 3)
	}
	short, long, none := enc.EncodeAll(noise[:150], nil), enc.EncodeAll(noise, nil), enc.EncodeAll(nil, nil)
	var tests []kernel.TestOutcome
	for i := range 20 {
		tests = append(tests, kernel.TestOutcome{Name: fmt.Sprintf("[RUN] basic test %d", i), Outcome: kernel.Pass})
	}
	several, err := json.Marshal(tests)
	if err != nil {
		b.Fatal(err)
	}
	const numbers = `WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1) `
	for _, q := range []struct {
		sql  string
		args []any
	}{
		{`PRAGMA journal_mode = WAL`, nil},
		{numbers + `INSERT INTO jobs (id, kind, status, request, result, created_at)
			SELECT printf('series-%08x', i), CASE i % 3 WHEN 0 THEN 'check' WHEN 1 THEN 'series' ELSE 'bisect' END, 'done',
				printf('{"command": "orchestrator series --repo ~/linux v6.%d..topic-%d"}', i % 20, i), printf('%.*c', 40000, 'x'),
				strftime('%Y-%m-%dT%H:%M:%SZ', 1700000000 + i * 10000, 'unixepoch') FROM n`, []any{benchJobs}},
		// A job takes its runs in a row, on one kernel after the other; one run in 53
		// fails, one in 101 is skipped, and one in 211 is a kselftest with 20 results.
		{numbers + `INSERT INTO runs (job, cell, outcome, run, output, console, at)
			SELECT printf('series-%08x', i / (1 + ?1 / ?2)), printf('%064x', i % (?3 * ?4)),
				CASE WHEN i % 53 = 7 THEN 'fail' WHEN i % 101 = 3 THEN 'skip' ELSE 'pass' END,
				json_object('test', CASE WHEN i % 211 = 11 THEN 'program/mm' ELSE printf('cow/case-%d/memory-%d', i % ?3 / 10, i % 10) END, 'commit', printf('%040x', i / ?3 % ?4),
					'release', printf('6.%d.0-g%012x', i / ?3 % ?4 % 20, i / ?3 % ?4), 'kernel', printf('%064x', 7 * (i / ?3 % ?4)),
					'outcome', CASE WHEN i % 53 = 7 THEN 'fail' WHEN i % 101 = 3 THEN 'skip' ELSE 'pass' END,
					'signature', json_object('kind', 'fail', 'title', 'missed COW'), 'duration', 230000000,
					'tests', json(CASE WHEN i % 211 = 11 THEN ?8 END)),
				?5, CASE WHEN i % 53 = 7 THEN ?6 ELSE ?7 END, strftime('%Y-%m-%dT%H:%M:%SZ', 1700000000 + i * 20, 'unixepoch') FROM n`,
			[]any{n, benchJobs, benchTests, benchKernels, short, long, none, string(several)}},
	} {
		if _, err := db.Exec(q.sql, q.args...); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPages asks what pages ask while a job writes runs, and tells the
// time that 99 of 100 answers took.
//
//	go test ./internal/store -run '^$' -bench Pages -benchtime 200x
func BenchmarkPages(b *testing.B) {
	s := benchStore(b)
	ctx := b.Context()
	var job, test, commit string
	var id int64
	if err := s.read.QueryRow(`SELECT id, job, test, commit_sha FROM runs ORDER BY id DESC LIMIT 1 OFFSET 5000`).Scan(&id, &job, &test, &commit); err != nil {
		b.Fatal(err)
	}
	stop := writeRuns(b, s)
	defer stop()
	for _, q := range []struct {
		name string
		ask  func(ctx context.Context) (int, error)
	}{
		{"jobs", count1(func(ctx context.Context) ([]Job, error) { return s.JobList(ctx, JobFilter{Limit: 50}) })},
		{"jobs-text", count1(func(ctx context.Context) ([]Job, error) {
			return s.JobList(ctx, JobFilter{Text: "TOPIC-17", Limit: 50})
		})},
		{"jobs-status", count1(func(ctx context.Context) ([]Job, error) {
			return s.JobList(ctx, JobFilter{Statuses: []string{Running}, Limit: 50})
		})},
		{"job", func(ctx context.Context) (int, error) { _, err := s.Job(ctx, job); return 1, err }},
		{"runs", runList(s, RunFilter{Limit: 100})},
		{"runs-old", runList(s, RunFilter{Limit: 100, Before: id / 2})},
		{"runs-bad", runList(s, RunFilter{Limit: 100, BadOnly: true})},
		{"runs-old-bad", runList(s, RunFilter{Limit: 100, Before: id / 2, BadOnly: true})},
		{"runs-job", runList(s, RunFilter{Limit: 100, Job: job})},
		{"runs-job-bad", runList(s, RunFilter{Limit: 100, Job: job, BadOnly: true})},
		{"runs-job-test", runList(s, RunFilter{Limit: 100, Job: job, Test: test})},
		{"runs-job-commit-test", runList(s, RunFilter{Limit: 100, Job: job, Commit: commit, Test: test})},
		{"runs-commit", runList(s, RunFilter{Limit: 100, Commit: commit})},
		{"runs-commit-bad", runList(s, RunFilter{Limit: 100, Commit: commit, BadOnly: true})},
		{"runs-commit-test", runList(s, RunFilter{Limit: 100, Commit: commit, Test: test})},
		{"runs-test", runList(s, RunFilter{Limit: 100, Test: test})},
		{"runs-subtest", runList(s, RunFilter{Limit: 100, Test: "program/mm/[RUN] basic test 7"})},
		{"runs-test-bad", runList(s, RunFilter{Limit: 100, Test: test, BadOnly: true})},
		{"run", func(ctx context.Context) (int, error) { _, err := s.RunByID(ctx, id); return 1, err }},
		{"run-since", count1(func(ctx context.Context) ([]RunRow, error) { return s.RunSince(ctx, job, id-100, 100) })},
		{"tests", count1(func(ctx context.Context) ([]TestStat, error) { return s.TestStats(ctx, TestFilter{Limit: 500}) })},
		{"tests-text", count1(func(ctx context.Context) ([]TestStat, error) {
			return s.TestStats(ctx, TestFilter{Text: "case-7", Limit: 100})
		})},
		{"test-history", count1(func(ctx context.Context) ([]TestOnKernel, error) { return s.TestHistory(ctx, test, 500) })},
		{"kernels", count1(func(ctx context.Context) ([]KernelRow, error) { return s.Kernels(ctx, "", 500) })},
	} {
		b.Run(q.name, func(b *testing.B) {
			var times []time.Duration
			rows := 0
			for b.Loop() {
				started := time.Now()
				n, err := q.ask(ctx)
				if err != nil {
					b.Fatal(err)
				}
				rows, times = n, append(times, time.Since(started))
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(rows), "rows")
		})
	}
}

func count1[T any](ask func(ctx context.Context) ([]T, error)) func(ctx context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		rows, err := ask(ctx)
		return len(rows), err
	}
}

func runList(s *Store, f RunFilter) func(ctx context.Context) (int, error) {
	return count1(func(ctx context.Context) ([]RunRow, error) { return s.RunList(ctx, f) })
}

// writeRuns is a job at work: 20 runs a second.
func writeRuns(b *testing.B, s *Store) (stop func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	id := fmt.Sprintf("writer-%d", time.Now().UnixNano())
	if err := s.NewJob(ctx, id, "check", nil); err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			r := kernel.Run{Test: fmt.Sprintf("cow/case-%d/memory-%d", i%30, i%10), Commit: "c", Kernel: "k", Release: "6.20", Outcome: kernel.Pass}
			if err := s.AppendRun(ctx, id, "cell", r); err != nil && ctx.Err() == nil {
				b.Error(err)
				return
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// BenchmarkAppendRun adds runs to a record: one of one test, and one of a
// kselftest with 761.
func BenchmarkAppendRun(b *testing.B) {
	many := kernel.Run{Test: "program/cow", Kernel: "k", Outcome: kernel.Pass}
	for i := range 761 {
		many.Tests = append(many.Tests, kernel.TestOutcome{Name: fmt.Sprintf("[RUN] test %d with a long name", i), Outcome: kernel.Pass})
	}
	for name, r := range map[string]kernel.Run{"one": {Test: "cow/a", Kernel: "k", Outcome: kernel.Pass}, "several": many} {
		b.Run(name, func(b *testing.B) {
			s, err := Open(b.Context(), b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			if err := s.NewJob(b.Context(), "j", "check", nil); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if err := s.AppendRun(b.Context(), "j", "cell", r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
