package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Delivery is something that a forge told us.
type Delivery struct {
	ID    string // the forge's: X-GitHub-Delivery
	Event string
	Body  []byte
	// Anew takes one that came to nothing once more: somebody may have asked the
	// forge to deliver it again.
	Anew bool
}

// Deliver keeps what a forge told us until it is dealt with; false if that id
// was there before.
func (s *Store) Deliver(ctx context.Context, d Delivery) (fresh bool, err error) {
	res, err := s.db.ExecContext(ctx, `INSERT INTO deliveries (id, event, body, at) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET done = 0, body = excluded.body, at = excluded.at, problem = '' WHERE done = 1 AND problem <> '' AND ?`,
		d.ID, d.Event, s.enc.EncodeAll(d.Body, nil), now(), d.Anew)
	if err != nil {
		return false, fmt.Errorf("record delivery %s: %w", d.ID, s.plain(err))
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// Undelivered are the oldest deliveries that are not dealt with, at most n.
func (s *Store) Undelivered(ctx context.Context, n int) ([]Delivery, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT id, event, body FROM deliveries WHERE done = 0 ORDER BY seq LIMIT ?`, n)
	if err != nil {
		return nil, fmt.Errorf("read deliveries: %w", err)
	}
	defer rows.Close()
	var out []Delivery
	for rows.Next() {
		var d Delivery
		var body []byte
		if err := rows.Scan(&d.ID, &d.Event, &body); err != nil {
			return nil, fmt.Errorf("read deliveries: %w", err)
		}
		if d.Body, err = s.dec.DecodeAll(body, nil); err != nil {
			return nil, fmt.Errorf("read delivery %s: %w", d.ID, err)
		}
		out = append(out, d)
	}
	return out, rows.Err()
}

// DeliveriesOpen counts the deliveries that are not dealt with.
func (s *Store) DeliveriesOpen(ctx context.Context) (n int, err error) {
	if err := s.read.QueryRowContext(ctx, `SELECT COUNT(*) FROM deliveries WHERE done = 0`).Scan(&n); err != nil {
		return 0, fmt.Errorf("count deliveries: %w", err)
	}
	return n, nil
}

// DealtWith records that a delivery is done with; problem is why it came to
// nothing, on one line.
func (s *Store) DealtWith(ctx context.Context, id, problem string) error {
	if _, err := s.db.ExecContext(ctx, `UPDATE deliveries SET done = 1, body = x'', problem = ? WHERE id = ?`, problem, id); err != nil {
		return fmt.Errorf("record delivery %s: %w", id, s.plain(err))
	}
	return nil
}

// ForgetDeliveries deletes what was dealt with before a time: nobody delivers it
// again.
func (s *Store) ForgetDeliveries(ctx context.Context, before time.Time) error {
	if _, err := s.db.ExecContext(ctx, `DELETE FROM deliveries WHERE done = 1 AND at < ?`, before.UTC().Format(time.RFC3339)); err != nil {
		return fmt.Errorf("forget deliveries: %w", s.plain(err))
	}
	return nil
}

// SavePull keeps what is known of a pull request, as JSON, and which jobs are its.
func (s *Store) SavePull(ctx context.Context, name string, open bool, pull []byte, jobs []string) error {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO pulls (name, open, pull) VALUES (?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET open = excluded.open, pull = excluded.pull`, name, open, string(pull))
		for _, j := range jobs {
			if err == nil {
				_, err = tx.ExecContext(ctx, `INSERT INTO pull_jobs (job, pull) VALUES (?, ?) ON CONFLICT DO NOTHING`, j, name)
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("record pull request %s: %w", name, err)
	}
	return nil
}

// Pull is what SavePull kept, nil for nothing.
func (s *Store) Pull(ctx context.Context, name string) ([]byte, error) {
	all, err := s.pulls(ctx, `SELECT pull FROM pulls WHERE name = ?`, name)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all[0], nil
}

// PullsOf are the pull requests that a job is of: two with the same commits share
// it.
func (s *Store) PullsOf(ctx context.Context, job string) ([][]byte, error) {
	return s.pulls(ctx, `SELECT p.pull FROM pulls AS p JOIN pull_jobs AS j ON j.pull = p.name WHERE j.job = ? ORDER BY p.name`, job)
}

// OpenPulls are the pull requests that were saved as open.
func (s *Store) OpenPulls(ctx context.Context) ([][]byte, error) {
	return s.pulls(ctx, `SELECT pull FROM pulls WHERE open = 1 ORDER BY name`)
}

func (s *Store) pulls(ctx context.Context, query string, args ...any) ([][]byte, error) {
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read pull requests: %w", err)
	}
	defer rows.Close()
	var out [][]byte
	for rows.Next() {
		var text []byte
		if err := rows.Scan(&text); err != nil {
			return nil, fmt.Errorf("read pull requests: %w", err)
		}
		out = append(out, text)
	}
	return out, rows.Err()
}

// Cursor is how far a repository of a forge has been read, as JSON; nil for one
// that never was.
func (s *Store) Cursor(ctx context.Context, repo string) ([]byte, error) {
	var text []byte
	err := s.read.QueryRowContext(ctx, `SELECT cursor FROM cursors WHERE repo = ?`, repo).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read cursor: %w", err)
	}
	return text, nil
}

// SaveCursor keeps it.
func (s *Store) SaveCursor(ctx context.Context, repo string, cursor []byte) error {
	_, err := s.db.ExecContext(ctx, `INSERT INTO cursors (repo, cursor) VALUES (?, ?) ON CONFLICT (repo) DO UPDATE SET cursor = excluded.cursor`, repo, string(cursor))
	if err != nil {
		return fmt.Errorf("record cursor of %s: %w", repo, s.plain(err))
	}
	return nil
}
