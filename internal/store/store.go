// Package store is the record, in SQLite: jobs, and the append-only log of
// runs from which every verdict is computed. It must not know how a run comes
// about nor what follows from it.
package store

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

//go:embed migrations/*.sql
var migrations embed.FS

// readers is how many queries are answered at once: a page has a few.
const readers = 4

// Store is an open record.
type Store struct {
	db   *sql.DB // the writer: one connection
	read *sql.DB // what is only read, which waits for no writer
	enc  *zstd.Encoder
	dec  *zstd.Decoder
}

// Job is a piece of work somebody asked for.
type Job struct {
	ID      string
	Kind    string // check, series, bisect
	Status  string // running, interrupted, done
	Request []byte // JSON
	Result  []byte // JSON, "" before there is one
	Created time.Time
}

// The states of a job. One that is "running" while no process holds the data
// directory was killed; it resumes like an interrupted one.
const (
	Running     = "running"
	Interrupted = "interrupted"
	Done        = "done"
)

// ErrNoJob says that there is no job of that id.
var ErrNoJob = errors.New("no such job")

// Open opens or creates the record in dataDir. A record that a newer kbisect
// wrote is refused.
func Open(ctx context.Context, dataDir string) (*Store, error) {
	path := filepath.Join(dataDir, "kbisect.db")
	// WAL: a report can be read while a job writes. synchronous=FULL: a run
	// that was acknowledged survives a power cut; there are few per second.
	uri := "file:" + (&url.URL{Path: path}).EscapedPath() // a % ? or # in it is no syntax
	db, err := sql.Open("sqlite", uri+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)"+
		"&_pragma=foreign_keys(1)&_pragma=synchronous(FULL)&_txlock=immediate")
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	// It opens its connections when they are asked for: there is a record by then.
	read, err := sql.Open("sqlite", uri+"?mode=ro&_pragma=busy_timeout(5000)&_pragma=query_only(1)")
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", path, err)
	}
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	s := &Store{db: db, read: read}
	if s.enc, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1)); err != nil {
		return nil, err
	}
	if s.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20)); err != nil {
		return nil, err
	}
	if err := s.migrate(ctx); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("record %s: %w", path, err)
	}
	return s, nil
}

func (s *Store) migrate(ctx context.Context) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, s.db, dir)
	if err != nil {
		return err
	}
	have, want, err := p.GetVersions(ctx)
	if err != nil {
		return err
	}
	if have > want {
		return fmt.Errorf("written by a newer kbisect (schema %d, this one knows %d): use that one, or another --data-dir", have, want)
	}
	_, err = p.Up(ctx)
	return err
}

// Close closes the record.
func (s *Store) Close() error {
	s.dec.Close()
	return errors.Join(s.enc.Close(), s.read.Close(), s.db.Close())
}

// NewJob records a job as running.
func (s *Store) NewJob(ctx context.Context, id, kind string, request []byte) error {
	_, err := s.db.ExecContext(ctx, `INSERT INTO jobs (id, kind, status, request, created_at) VALUES (?, ?, ?, ?, ?)`,
		id, kind, Running, string(request), now())
	if err != nil {
		return fmt.Errorf("record job %s: %w", id, err)
	}
	return nil
}

// SaveJob sets a job's status and result; an unknown id is ErrNoJob.
func (s *Store) SaveJob(ctx context.Context, id, status string, result []byte) error {
	res, err := s.db.ExecContext(ctx, `UPDATE jobs SET status = ?, result = ? WHERE id = ?`, status, string(result), id)
	if err != nil {
		return fmt.Errorf("record job %s: %w", id, err)
	}
	if n, err := res.RowsAffected(); err == nil && n == 0 {
		return fmt.Errorf("%w: %s", ErrNoJob, id)
	}
	return nil
}

// Abandon marks a job as interrupted if it still counts as running.
func (s *Store) Abandon(ctx context.Context, id string) error {
	_, err := s.db.ExecContext(ctx, `UPDATE jobs SET status = ? WHERE id = ? AND status = ?`, Interrupted, id, Running)
	if err != nil {
		return fmt.Errorf("record job %s: %w", id, err)
	}
	return nil
}

// Job finds a job; an unknown id is ErrNoJob.
func (s *Store) Job(ctx context.Context, id string) (Job, error) {
	jobs, err := s.jobs(ctx, `WHERE id = ?`, id)
	if err == nil && len(jobs) == 0 {
		err = fmt.Errorf("%w: %s", ErrNoJob, id)
	}
	if err != nil {
		return Job{}, err
	}
	return jobs[0], nil
}

// Jobs returns the newest jobs, at most n.
func (s *Store) Jobs(ctx context.Context, n int) ([]Job, error) {
	return s.jobs(ctx, `ORDER BY created_at DESC, rowid DESC LIMIT ?`, n)
}

func (s *Store) jobs(ctx context.Context, where string, args ...any) ([]Job, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT id, kind, status, request, result, created_at FROM jobs `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read jobs: %w", err)
	}
	defer rows.Close()
	var jobs []Job
	for rows.Next() {
		var j Job
		var created string
		if err := rows.Scan(&j.ID, &j.Kind, &j.Status, &j.Request, &j.Result, &created); err != nil {
			return nil, fmt.Errorf("read jobs: %w", err)
		}
		j.Created, _ = time.Parse(time.RFC3339, created)
		jobs = append(jobs, j)
	}
	return jobs, rows.Err()
}

// AppendRun adds a run to the log.
func (s *Store) AppendRun(ctx context.Context, job, cell string, r kernel.Run) error {
	output, console := s.enc.EncodeAll([]byte(r.Output), nil), s.enc.EncodeAll([]byte(r.Console), nil)
	r.Output, r.Console = "", ""
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("record run: %w", err)
	}
	_, err = s.db.ExecContext(ctx, `INSERT INTO runs (job, cell, outcome, run, output, console, at) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		job, cell, string(r.Outcome), string(text), output, console, now())
	if err != nil {
		return fmt.Errorf("record run: %w", err)
	}
	return nil
}

// Runs returns the runs of a cell in the order they were made; job restricts
// them to one job's, "" does not. Withdrawn runs are left out.
func (s *Store) Runs(ctx context.Context, cell, job string) ([]kernel.Run, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT run, output, console FROM runs WHERE cell = ? AND (? = '' OR job = ?)
		AND id NOT IN (SELECT run FROM withdrawn) ORDER BY id`, cell, job, job)
	if err != nil {
		return nil, fmt.Errorf("read runs: %w", err)
	}
	defer rows.Close()
	var runs []kernel.Run
	for rows.Next() {
		var text string
		var output, console []byte
		if err := rows.Scan(&text, &output, &console); err != nil {
			return nil, fmt.Errorf("read runs: %w", err)
		}
		r, err := s.decode(text, output, console)
		if err != nil {
			return nil, fmt.Errorf("read runs: %w", err)
		}
		runs = append(runs, r)
	}
	return runs, rows.Err()
}

// RunTimes are the durations of the latest runs, at most n: what a run costs on
// this host.
func (s *Store) RunTimes(ctx context.Context, n int) ([]time.Duration, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT run FROM runs ORDER BY id DESC LIMIT ?`, n)
	if err != nil {
		return nil, fmt.Errorf("read runs: %w", err)
	}
	defer rows.Close()
	var times []time.Duration
	for rows.Next() {
		var text string
		var r kernel.Run
		if err := rows.Scan(&text); err != nil {
			return nil, fmt.Errorf("read runs: %w", err)
		}
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			return nil, fmt.Errorf("read runs: %w", err)
		}
		times = append(times, r.Duration)
	}
	return times, rows.Err()
}

func (s *Store) decode(text string, output, console []byte) (kernel.Run, error) {
	var r kernel.Run
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, err
	}
	o, err := s.dec.DecodeAll(output, nil)
	if err != nil {
		return r, err
	}
	c, err := s.dec.DecodeAll(console, nil)
	r.Output, r.Console = string(o), string(c)
	return r, err
}

// AppendBoot records how a kernel booted.
func (s *Store) AppendBoot(ctx context.Context, job, cell string, b kernel.Boot) error {
	text, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("record boot: %w", err)
	}
	if _, err := s.db.ExecContext(ctx, `INSERT INTO boots (job, cell, boot, at) VALUES (?, ?, ?, ?)`, job, cell, string(text), now()); err != nil {
		return fmt.Errorf("record boot: %w", err)
	}
	return nil
}

// Boot returns the latest boot of a cell; job restricts it to one job's.
func (s *Store) Boot(ctx context.Context, cell, job string) (kernel.Boot, bool, error) {
	var text string
	err := s.read.QueryRowContext(ctx, `SELECT boot FROM boots WHERE cell = ? AND (? = '' OR job = ?) ORDER BY id DESC LIMIT 1`, cell, job, job).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return kernel.Boot{}, false, nil
	}
	var b kernel.Boot
	if err == nil {
		err = json.Unmarshal([]byte(text), &b)
	}
	if err != nil {
		return kernel.Boot{}, false, fmt.Errorf("read boot: %w", err)
	}
	return b, true, nil
}

func now() string { return time.Now().UTC().Format(time.RFC3339) }
