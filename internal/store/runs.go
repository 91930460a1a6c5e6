package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// AppendRun adds a run to the log.
func (s *Store) AppendRun(ctx context.Context, job, cell string, r kernel.Run) error {
	return s.appendRun(ctx, job, unfenced, cell, r)
}

func (s *Store) appendRun(ctx context.Context, job string, attempt int, cell string, r kernel.Run) error {
	output, console := s.enc.EncodeAll([]byte(r.Output), nil), s.enc.EncodeAll([]byte(r.Console), nil)
	r.Output, r.Console = "", ""
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("record run: %w", err)
	}
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		if err := fence(ctx, tx, job, attempt); err != nil {
			return err
		}
		kern, err := kernelOf(ctx, tx, r)
		if err != nil {
			return err
		}
		when := now()
		_, err = tx.ExecContext(ctx, `INSERT INTO runs (job, cell, outcome, run, output, console, at, test, commit_sha, kernel)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, job, cell, string(r.Outcome), string(text), output, console, when, r.Test, r.Commit, kern)
		if err != nil {
			return err
		}
		var add tallies
		add.add(r, when)
		return count(ctx, tx, kern, add)
	})
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
	return s.appendBoot(ctx, job, unfenced, cell, b)
}

func (s *Store) appendBoot(ctx context.Context, job string, attempt int, cell string, b kernel.Boot) error {
	text, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("record boot: %w", err)
	}
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		if err := fence(ctx, tx, job, attempt); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO boots (job, cell, boot, at) VALUES (?, ?, ?, ?)`, job, cell, string(text), now())
		return err
	})
	if err != nil {
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
