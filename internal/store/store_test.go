package store

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// open opens the record in a directory, a new one where there is none. It does
// not wait for the disk: these tests are not about power cuts.
func open(t *testing.T, dir string) *Store {
	t.Helper()
	path := filepath.Join(dir, "kbisect.db")
	if _, err := os.Stat(path); err != nil {
		record, err := newRecord()
		ok(t, err)
		ok(t, os.WriteFile(path, record, 0o644))
	}
	s, err := Open(t.Context(), dir)
	ok(t, err)
	t.Cleanup(func() { _ = s.Close() })
	_, err = s.db.Exec(`PRAGMA synchronous = OFF`)
	ok(t, err)
	return s
}

// newRecord is the file of an empty record: the migrations take most of the time
// of a test.
var newRecord = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "record")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	s, err := Open(context.Background(), dir)
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(dir, "kbisect.db"))
})

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// withJob returns a new record with a job "j".
func withJob(t *testing.T) *Store {
	t.Helper()
	s := open(t, t.TempDir())
	ok(t, s.NewJob(t.Context(), "j", "check", []byte("{}")))
	return s
}

func runs(t *testing.T, s *Store, cell, job string) []kernel.Run {
	t.Helper()
	rs, err := s.Runs(t.Context(), cell, job)
	ok(t, err)
	return rs
}

func TestJobLifecycle(t *testing.T) {
	s := open(t, t.TempDir())
	before := time.Now().Add(-2 * time.Second)
	request := []byte(`{"argv": ["--test", "cow/*", "ü\u0000"]}`)
	ok(t, s.NewJob(t.Context(), "b-1", "bisect", request))
	check := func(status, result string) {
		t.Helper()
		j, err := s.Job(t.Context(), "b-1")
		ok(t, err)
		if j.ID != "b-1" || j.Kind != "bisect" || j.Status != status || string(j.Request) != string(request) || string(j.Result) != result {
			t.Errorf("%+v", j)
		}
		if j.Created.Before(before) || j.Created.After(time.Now()) {
			t.Errorf("created %v", j.Created)
		}
	}
	check(Running, "")
	ok(t, s.SaveJob(t.Context(), "b-1", Interrupted, []byte(`{"half": true}`)))
	check(Interrupted, `{"half": true}`)
	ok(t, s.SaveJob(t.Context(), "b-1", Running, nil))
	check(Running, "")
	ok(t, s.SaveJob(t.Context(), "b-1", Done, []byte(`{"culprit": "x"}`)))
	check(Done, `{"culprit": "x"}`)
	if err := s.NewJob(t.Context(), "b-1", "check", nil); err == nil {
		t.Error("an id was given twice")
	}
	check(Done, `{"culprit": "x"}`)
}

func TestUnknownJob(t *testing.T) {
	s := withJob(t)
	for _, id := range []string{"nothing", "", "J", "%", "j' OR '1'='1"} {
		if _, err := s.Job(t.Context(), id); !errors.Is(err, ErrNoJob) || !strings.Contains(err.Error(), id) {
			t.Errorf("Job(%q): %v", id, err)
		}
		// A result that went nowhere would be lost without a word.
		if err := s.SaveJob(t.Context(), id, Done, nil); !errors.Is(err, ErrNoJob) {
			t.Errorf("SaveJob(%q): %v", id, err)
		}
	}
	if err := s.AppendRun(t.Context(), "nothing", "c", kernel.Run{}); err == nil {
		t.Error("a run of no job was recorded")
	}
	if err := s.AppendBoot(t.Context(), "nothing", "c", kernel.Boot{}); err == nil {
		t.Error("a boot of no job was recorded")
	}
}

// The newest come first, also when several were made in the same second.
func TestJobs(t *testing.T) {
	s := open(t, t.TempDir())
	if js, err := s.Jobs(t.Context(), 10); err != nil || len(js) != 0 {
		t.Errorf("%v (%v)", js, err)
	}
	for i := range 5 {
		ok(t, s.NewJob(t.Context(), strconv.Itoa(i), "check", nil))
	}
	for n, want := range map[int]string{10: "43210", 2: "43", 0: ""} {
		js, err := s.Jobs(t.Context(), n)
		ok(t, err)
		got := ""
		for _, j := range js {
			got += j.ID
		}
		if got != want {
			t.Errorf("the newest %d: %s, want %s", n, got, want)
		}
	}
}

func TestRunTimes(t *testing.T) {
	s := withJob(t)
	if times, err := s.RunTimes(t.Context(), 3); err != nil || len(times) != 0 {
		t.Errorf("%v, %v", times, err)
	}
	for i := range 5 {
		ok(t, s.AppendRun(t.Context(), "j", "cell", kernel.Run{Outcome: kernel.Pass, Duration: time.Duration(i)}))
	}
	if times, err := s.RunTimes(t.Context(), 3); err != nil || !slices.Equal(times, []time.Duration{4, 3, 2}) {
		t.Errorf("%v, %v", times, err)
	}
}

func TestRunsKeepEverythingInOrder(t *testing.T) {
	s := withJob(t)
	ok(t, s.NewJob(t.Context(), "k", "series", nil))
	all := []kernel.Run{
		{Test: "cow/a/base", Outcome: kernel.Pass, Duration: time.Second},
		{Test: "cow/a/base", Outcome: kernel.Crash, Reason: "BUG", Output: "line\n\x00\xff\x1b[0m", Console: "[    1.0] BUG\r\n",
			Signature: kernel.Signature{Kind: "crash", Title: "KASAN", Frames: []string{"f", "g"}}},
		{Test: "cow/a/base", Outcome: kernel.Infra, Reason: "no \"disk\"", Console: "only a console"},
		{Test: "cow/a/base", Outcome: kernel.Pass, Output: "only output"},
	}
	for i, r := range all {
		ok(t, s.AppendRun(t.Context(), []string{"j", "k"}[i%2], "cell", r))
		ok(t, s.AppendRun(t.Context(), "j", "cell2", kernel.Run{Outcome: kernel.Skip}))
	}
	for _, c := range []struct {
		cell, job string
		want      []kernel.Run
	}{
		{"cell", "", all},
		{"cell", "j", []kernel.Run{all[0], all[2]}},
		{"cell", "k", []kernel.Run{all[1], all[3]}},
		{"cell", "nobody", nil},
		{"cell2", "k", nil},
		{"nothing", "", nil},
	} {
		if d := cmp.Diff(c.want, runs(t, s, c.cell, c.job)); d != "" {
			t.Errorf("cell %q, job %q (-want +got):\n%s", c.cell, c.job, d)
		}
	}
}

// Consoles are long and compress well; one that does not is kept as well.
func TestLargeConsole(t *testing.T) {
	s := withJob(t)
	noise := make([]byte, 3<<20)
	r := rand.NewChaCha8([32]byte{})
	_, _ = r.Read(noise)
	big := kernel.Run{Outcome: kernel.Hang, Output: string(noise), Console: strings.Repeat("[    1.234567] the same again\n", 300_000)}
	ok(t, s.AppendRun(t.Context(), "j", "cell", big))
	got := runs(t, s, "cell", "")
	if len(got) != 1 || got[0].Output != big.Output || got[0].Console != big.Console {
		t.Error("a large run came back changed")
	}
	var stored int
	ok(t, s.db.QueryRow(`SELECT length(console) FROM runs`).Scan(&stored))
	if stored > len(big.Console)/100 {
		t.Errorf("%d bytes for a console that says the same over and over", stored)
	}
}

func TestBoot(t *testing.T) {
	s := withJob(t)
	ok(t, s.NewJob(t.Context(), "k", "series", nil))
	if _, found, err := s.Boot(t.Context(), "cell", ""); found || err != nil {
		t.Errorf("%v, %v", found, err)
	}
	failed := kernel.Boot{Status: kernel.BootFailed, Seconds: 1.5, Reason: "panic", Console: "…\x1b\n",
		Signature: kernel.Signature{Kind: "crash", Title: "panic"}}
	fine := kernel.Boot{Status: kernel.BootOK}
	ok(t, s.AppendBoot(t.Context(), "j", "cell", fine))
	ok(t, s.AppendBoot(t.Context(), "k", "cell", fine))
	ok(t, s.AppendBoot(t.Context(), "j", "cell", failed))
	ok(t, s.AppendBoot(t.Context(), "j", "cell2", fine))
	for _, c := range []struct {
		cell, job string
		want      kernel.Boot
		found     bool
	}{
		{"cell", "", failed, true},
		{"cell", "j", failed, true},
		{"cell", "k", fine, true},
		{"cell", "nobody", kernel.Boot{}, false},
		{"cell2", "", fine, true},
	} {
		got, found, err := s.Boot(t.Context(), c.cell, c.job)
		ok(t, err)
		if d := cmp.Diff(c.want, got); d != "" || found != c.found {
			t.Errorf("cell %q, job %q: %v (-want +got):\n%s", c.cell, c.job, found, d)
		}
	}
}

func TestReopen(t *testing.T) {
	// Characters that mean something in a URI, which is how SQLite is told the path.
	for _, name := range []string{"plain", "with space", "100%25", "what?", "a#b", "ü&x=y", "a;b:c"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), name)
			ok(t, os.Mkdir(dir, 0o755))
			s := open(t, dir)
			ok(t, s.NewJob(t.Context(), "j", "check", nil))
			ok(t, s.AppendRun(t.Context(), "j", "cell", kernel.Run{Outcome: kernel.Fail, Output: "out"}))
			ok(t, s.AppendBoot(t.Context(), "j", "cell", kernel.Boot{Status: kernel.BootOK}))
			ok(t, s.SaveJob(t.Context(), "j", Done, []byte("{}")))
			ok(t, s.Close())
			if _, err := os.Stat(filepath.Join(dir, "kbisect.db")); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir)
			if j, err := s.Job(t.Context(), "j"); err != nil || j.Status != Done {
				t.Errorf("%+v (%v)", j, err)
			}
			if rs := runs(t, s, "cell", "j"); len(rs) != 1 || rs[0].Output != "out" {
				t.Errorf("%+v", rs)
			}
			if _, found, err := s.Boot(t.Context(), "cell", "j"); !found || err != nil {
				t.Errorf("boot: %v, %v", found, err)
			}
		})
	}
}

// An old binary on a new record would write rows that the new one misreads.
func TestNewerSchemaIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	_, err := s.db.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)`)
	ok(t, err)
	ok(t, s.Close())
	_, err = Open(t.Context(), dir)
	if err == nil {
		t.Fatal("opened")
	}
	for _, part := range []string{dir, "newer kbisect", "schema 99", "--data-dir"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

func TestOpenRejects(t *testing.T) {
	if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("opened in a directory that does not exist")
	}
	dir := t.TempDir()
	ok(t, os.WriteFile(filepath.Join(dir, "kbisect.db"), []byte(strings.Repeat("no database ", 1000)), 0o644))
	if _, err := Open(t.Context(), dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a file that is no database: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// What an older kbisect wrote is there after the migration.
func TestMigrateJobs(t *testing.T) {
	dir := t.TempDir()
	old := openAt(t, dir, 2)
	_, err := old.Exec(`INSERT INTO jobs (id, kind, status, request, result, created_at) VALUES
		('b', 'check', 'done', '{"command": "orchestrator check"}', '{"x": 1}', '2026-01-02T03:04:05Z'),
		('a', 'bisect', 'running', '', '', '2026-01-02T03:04:05Z')`)
	ok(t, err)
	ok(t, old.Close())
	s := open(t, dir)
	js, err := s.Jobs(t.Context(), 9)
	ok(t, err)
	if len(js) != 2 || js[0].ID != "a" || js[1].ID != "b" || js[1].Title != "orchestrator check" || js[1].Owner != CLI {
		t.Errorf("%+v", js)
	}
	b, err := s.Job(t.Context(), "b")
	if err != nil || string(b.Result) != `{"x": 1}` || b.Created.Year() != 2026 || b.Started != b.Created {
		t.Errorf("%+v, %v", b, err)
	}
	ok(t, s.NewJob(t.Context(), "c", "check", []byte(`{"command": "new"}`)))
	if js, err := s.Jobs(t.Context(), 1); err != nil || js[0].ID != "c" || js[0].Title != "new" {
		t.Errorf("%+v, %v", js, err)
	}
}

// openAt makes a record of an older schema.
func openAt(t testing.TB, dir string, version int64) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "kbisect.db")+"?_pragma=foreign_keys(1)&_pragma=synchronous(OFF)")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	p, err := provider(db)
	if err == nil {
		_, err = p.UpTo(t.Context(), version)
	}
	if err != nil {
		t.Fatal(err)
	}
	return db
}
