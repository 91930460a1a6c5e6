package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Job is a piece of work somebody asked for.
type Job struct {
	ID       string
	Kind     string // check, matrix, series, bisect
	Status   string
	Title    string // a short text for lists
	Owner    string // who asked: CLI, or the name of a token
	Dedup    string // digest of the request, "" for none
	Priority Priority
	Attempt  int    // how often a service started it: the fence
	Error    string // why it failed, on one line
	Request  []byte // JSON
	Result   []byte // JSON, "" before there is one
	Created  time.Time
	Started  time.Time // the last time; zero before the first
	Ended    time.Time // zero before that
}

// The states of a job. One that is "running" while no process holds the data
// directory was killed; it resumes like an interrupted one.
const (
	Queued      = "queued" // a service will take it
	Running     = "running"
	Interrupted = "interrupted"
	Done        = "done"
	Failed      = "failed" // it could not be carried out
	Cancelled   = "cancelled"
)

// Priority says which of two queued jobs is started first: the lower one.
type Priority int

// The priorities.
const (
	Waiting Priority = iota // a person waits for it
	Normal
	Nightly
)

// CLI is the owner of jobs that were started on a terminal: no service took
// them from the queue.
const CLI = "cli"

// ErrNoJob says that there is no job of that id.
var ErrNoJob = errors.New("no such job")

// ended says whether nobody works on a job of that status, or will.
func ended(status string) bool { return status != Queued && status != Running }

// NewJob records a job as running, in this process and not from the queue.
func (s *Store) NewJob(ctx context.Context, id, kind string, request []byte) error {
	var asked struct{ Command string }
	_ = json.Unmarshal(request, &asked) // it is only the title
	_, err := s.db.ExecContext(ctx, insertJob, id, kind, Running, asked.Command, CLI, "", Normal, string(request), now(), now())
	if err != nil {
		return fmt.Errorf("record job %s: %w", id, s.plain(err))
	}
	return nil
}

const insertJob = `INSERT INTO jobs (id, kind, status, title, owner, dedup, priority, request, created_at, started_at, seq)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT COALESCE(MAX(seq), 0) + 1 FROM jobs))`

// SaveJob sets a job's status and result; an unknown id is ErrNoJob.
func (s *Store) SaveJob(ctx context.Context, id, status string, result []byte) error {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		if err := setStatus(ctx, tx, id, status, ""); err != nil {
			return err
		}
		return setResult(ctx, tx, id, result)
	})
	if errors.Is(err, ErrNoJob) {
		return err
	}
	if err != nil {
		return fmt.Errorf("record job %s: %w", id, err)
	}
	return nil
}

// setStatus changes a job's status; nothing is left of a wish to cancel it.
func setStatus(ctx context.Context, tx *sql.Tx, id, status, problem string) error {
	end := ""
	if ended(status) {
		end = now()
	}
	res, err := tx.ExecContext(ctx, `UPDATE jobs SET status = ?, error = ?, ended_at = ?, cancel_wanted = 0 WHERE id = ?`, status, problem, end, id)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err == nil && n == 0 {
		return fmt.Errorf("%w: %s", ErrNoJob, id)
	}
	return nil
}

func setResult(ctx context.Context, tx *sql.Tx, id string, result []byte) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO results (job, result) VALUES (?, ?)
		ON CONFLICT (job) DO UPDATE SET result = excluded.result`, id, string(result))
	return err
}

// Abandon marks a job as interrupted if it still counts as running.
func (s *Store) Abandon(ctx context.Context, id string) error {
	_, err := s.db.ExecContext(ctx, `UPDATE jobs SET status = ?, ended_at = ?, cancel_wanted = 0 WHERE id = ? AND status = ?`,
		Interrupted, now(), id, Running)
	if err != nil {
		return fmt.Errorf("record job %s: %w", id, s.plain(err))
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
	j := jobs[0]
	err = s.read.QueryRowContext(ctx, `SELECT result FROM results WHERE job = ?`, id).Scan(&j.Result)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return Job{}, fmt.Errorf("read job %s: %w", id, err)
	}
	return j, nil
}

// Jobs returns the newest jobs, at most n, without their results.
func (s *Store) Jobs(ctx context.Context, n int) ([]Job, error) {
	return s.jobs(ctx, `ORDER BY seq DESC LIMIT ?`, n)
}

// JobFilter says which jobs are meant; what is empty does not matter.
type JobFilter struct {
	Kinds    []string
	Statuses []string
	Text     string // part of the id, title or owner, in any case
	Before   string // the id of a job: only older ones
	Limit    int    // how many at most
}

// JobList returns the newest jobs that are meant, without their results.
func (s *Store) JobList(ctx context.Context, f JobFilter) ([]Job, error) {
	var w where
	w.in("kind", f.Kinds)
	w.in("status", f.Statuses)
	if f.Text != "" {
		like := contains(f.Text)
		w.and(`(lower(id) LIKE lower(?) ESCAPE '!' OR lower(title) LIKE lower(?) ESCAPE '!' OR lower(owner) LIKE lower(?) ESCAPE '!')`, like, like, like)
	}
	if f.Before != "" {
		var seq int64
		err := s.read.QueryRowContext(ctx, `SELECT seq FROM jobs WHERE id = ?`, f.Before).Scan(&seq)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, fmt.Errorf("%w: %s", ErrNoJob, f.Before)
		}
		if err != nil {
			return nil, fmt.Errorf("read jobs: %w", err)
		}
		w.and("seq < ?", seq)
	}
	return s.jobs(ctx, w.String()+` ORDER BY seq DESC LIMIT ?`, append(w.args, f.Limit)...)
}

const jobColumns = `id, kind, status, title, owner, dedup, priority, attempt, error, request, created_at, started_at, ended_at`

func (s *Store) jobs(ctx context.Context, where string, args ...any) ([]Job, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT `+jobColumns+` FROM jobs `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read jobs: %w", err)
	}
	defer rows.Close()
	var jobs []Job
	for rows.Next() {
		j, err := scanJob(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("read jobs: %w", err)
		}
		jobs = append(jobs, j)
	}
	return jobs, rows.Err()
}

// scanJob reads the jobColumns.
func scanJob(scan func(dest ...any) error) (Job, error) {
	var j Job
	var created, started, ended string
	err := scan(&j.ID, &j.Kind, &j.Status, &j.Title, &j.Owner, &j.Dedup, &j.Priority, &j.Attempt, &j.Error, &j.Request, &created, &started, &ended)
	j.Created, j.Started, j.Ended = at(created), at(started), at(ended)
	return j, err
}

// where is a condition that grows.
type where struct {
	text strings.Builder
	args []any
}

func (w *where) and(condition string, args ...any) {
	if w.text.Len() == 0 {
		w.text.WriteString("WHERE ")
	} else {
		w.text.WriteString(" AND ")
	}
	w.text.WriteString(condition)
	w.args = append(w.args, args...)
}

// in restricts a column to values, where there are any.
func (w *where) in(column string, values []string) {
	if len(values) == 0 {
		return
	}
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = v
	}
	w.and(column+" IN (?"+strings.Repeat(", ?", len(values)-1)+")", args...)
}

func (w *where) String() string { return w.text.String() }

// contains is the LIKE pattern of all that contains a text, with ! as its escape.
func contains(text string) string {
	return "%" + strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(text) + "%"
}
