package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Withdrawn is a run that was taken back.
type Withdrawn struct {
	Run kernel.Run // without output and console
	At  string     // when it was made
}

// Selection says which of a job's runs are meant.
type Selection struct {
	Commit string // object id, or its beginning; "" is any
	Last   int    // the newest ones only; 0 is all
}

// Withdraw takes back runs that a job made, and returns them, newest first. What
// was wrong for one job is for all: Runs gives them to nobody any more. The log
// keeps them. The job's result rested on them and is dropped; it counts as
// interrupted, unless it is queued: an attempt that is under way has used the
// runs and writes no more. Where nothing is meant, nothing is changed.
func (s *Store) Withdraw(ctx context.Context, job string, which Selection) ([]Withdrawn, error) {
	if _, err := s.Job(ctx, job); err != nil {
		return nil, err
	}
	var runs []Withdrawn
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		var err error
		if runs, err = withdraw(ctx, tx, job, which); err != nil || len(runs) == 0 {
			return err
		}
		if _, err = tx.ExecContext(ctx, `DELETE FROM results WHERE job = ?`, job); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE jobs SET status = ?, ended_at = ?, cancel_wanted = 0 WHERE id = ? AND status <> ?`,
			Interrupted, now(), job, Queued)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("withdraw runs of %s: %w", job, err)
	}
	return runs, nil
}

func withdraw(ctx context.Context, tx *sql.Tx, job string, which Selection) ([]Withdrawn, error) {
	rows, err := tx.QueryContext(ctx, `SELECT id, kernel, run, at FROM runs WHERE job = ? AND id NOT IN (SELECT run FROM withdrawn) ORDER BY id DESC`, job)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids, kernels []int64
	var runs []Withdrawn
	for rows.Next() && (which.Last == 0 || len(runs) < which.Last) {
		var id, kern int64
		var text string
		var w Withdrawn
		if err := rows.Scan(&id, &kern, &text, &w.At); err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(text), &w.Run); err != nil {
			return nil, err
		}
		if which.Commit == "" || strings.HasPrefix(w.Run.Commit, which.Commit) {
			ids, runs = append(ids, id), append(runs, w)
			if !slices.Contains(kernels, kern) {
				kernels = append(kernels, kern)
			}
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	_ = rows.Close() // there is one connection
	for _, id := range ids {
		if _, err := tx.ExecContext(ctx, `INSERT INTO withdrawn (run, at) VALUES (?, ?)`, id, now()); err != nil {
			return nil, err
		}
	}
	return runs, recount(ctx, tx, kernels)
}
