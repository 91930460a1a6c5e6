package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// RunRow is a run as the log has it.
type RunRow struct {
	ID        int64 // in the order in which they were made
	Job       string
	At        time.Time
	Withdrawn bool
	Run       kernel.Run // in lists without output and console
}

// ErrNoRun says that there is no run of that id.
var ErrNoRun = errors.New("no such run")

// RunFilter says which runs are meant; what is empty does not matter.
type RunFilter struct {
	Job     string
	Commit  string // object id
	Kernel  string // digest of an image, of whatever commit
	Test    string // a program's name, or that of one of several tests in it
	BadOnly bool   // those on which the test failed
	Before  int64  // the id of a run: only older ones
	Limit   int    // how many at most
}

// bad is written as in the partial indexes, or they are not used.
const bad = `outcome IN ('fail', 'crash', 'hang')`

// RunList returns the newest runs that are meant, withdrawn ones too.
func (s *Store) RunList(ctx context.Context, f RunFilter) ([]RunRow, error) {
	if f.Test == "" {
		return s.runRows(ctx, f.where(), f.Limit, nil)
	}
	var all []RunRow
	for _, p := range programs(f.Test) {
		w := f.where()
		if f.Commit != "" && f.Job == "" {
			// A test may have a hundred times the runs of a commit: this is not to
			// be looked up by it.
			w.and("test || '' = ?", p)
		} else {
			w.and("test = ?", p)
		}
		rows, err := s.runRows(ctx, w, f.Limit, f.tells)
		if err != nil {
			return nil, err
		}
		all = append(all, rows...)
	}
	slices.SortFunc(all, func(a, b RunRow) int { return cmp.Compare(b.ID, a.ID) })
	return all[:min(len(all), f.Limit)], nil
}

func (f *RunFilter) where() *where {
	var w where
	if f.Job != "" {
		w.and("job = ?", f.Job)
	}
	if f.Commit != "" {
		w.and("commit_sha = ?", f.Commit)
	}
	if f.Kernel != "" {
		w.and("kernel = (SELECT id FROM kernels WHERE digest = ? ORDER BY id LIMIT 1)", f.Kernel)
	}
	if f.BadOnly {
		w.and(bad) // a program of which a test fails does not pass either
	}
	if f.Before > 0 {
		w.and("id < ?", f.Before)
	}
	return &w
}

// tells says whether a run tells of the test that is meant.
func (f *RunFilter) tells(r kernel.Run) bool {
	if r.Test == f.Test {
		return true
	}
	return slices.ContainsFunc(r.Tests, func(o kernel.TestOutcome) bool {
		return o.Name != "" && r.Test+"/"+o.Name == f.Test && (!f.BadOnly || o.Outcome.Bad())
	})
}

const runRowColumns = `id, job, at, EXISTS (SELECT 1 FROM withdrawn WHERE withdrawn.run = runs.id), run`

// runRows reads the newest runs until there are enough that are wanted, which
// nil means all.
func (s *Store) runRows(ctx context.Context, w *where, limit int, wanted func(kernel.Run) bool) ([]RunRow, error) {
	query, args := `SELECT `+runRowColumns+` FROM runs `+w.String()+` ORDER BY id DESC`, w.args
	if wanted == nil {
		query, args = query+` LIMIT ?`, append(args, limit)
	}
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read runs: %w", err)
	}
	defer rows.Close()
	var out []RunRow
	for len(out) < limit && rows.Next() {
		r, err := scanRunRow(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("read runs: %w", err)
		}
		if wanted == nil || wanted(r.Run) {
			out = append(out, r)
		}
	}
	return out, rows.Err()
}

// scanRunRow reads the runRowColumns.
func scanRunRow(scan scanner) (r RunRow, err error) {
	var when, text string
	if err := scan(&r.ID, &r.Job, &when, &r.Withdrawn, &text); err != nil {
		return r, err
	}
	r.At = at(when)
	return r, json.Unmarshal([]byte(text), &r.Run)
}

// RunSince returns the runs of a job, or with "" of all, that came after one, the
// oldest first, at most limit: who asks again with the last id follows them.
func (s *Store) RunSince(ctx context.Context, job string, after int64, limit int) ([]RunRow, error) {
	where, args := "id > ?", []any{after}
	if job != "" { // two queries, so that each has its index
		where, args = "job = ? AND id > ?", []any{job, after}
	}
	return list(ctx, s.read, `SELECT `+runRowColumns+` FROM runs WHERE `+where+` ORDER BY id LIMIT ?`, append(args, limit), scanRunRow)
}

// RunByID finds a run, with output and console; an unknown id is ErrNoRun.
func (s *Store) RunByID(ctx context.Context, id int64) (RunRow, error) {
	r := RunRow{ID: id}
	var when, text string
	var output, console []byte
	err := s.read.QueryRowContext(ctx, `SELECT job, at, EXISTS (SELECT 1 FROM withdrawn WHERE withdrawn.run = runs.id), run, output, console
		FROM runs WHERE id = ?`, id).Scan(&r.Job, &when, &r.Withdrawn, &text, &output, &console)
	if errors.Is(err, sql.ErrNoRows) {
		return r, fmt.Errorf("%w: %d", ErrNoRun, id)
	}
	if err == nil {
		r.At = at(when)
		r.Run, err = s.decode(text, output, console)
	}
	if err != nil {
		return r, fmt.Errorf("read run %d: %w", id, err)
	}
	return r, nil
}
