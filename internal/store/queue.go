package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// A job of the queue goes
//
//	queued -> running -> done | failed | cancelled | interrupted
//
// and back to queued when the process that ran it died (Requeue), or when
// somebody wants it again (Retry). Each start is an attempt of its own; what an
// earlier one still writes is refused.

// What is refused without a change of the record.
var (
	ErrStale  = errors.New("not this attempt's job any more")
	ErrEnded  = errors.New("the job has ended")
	ErrActive = errors.New("the job is queued or running")
)

// NewJob is a job to be queued.
type NewJob struct {
	ID, Kind, Title, Owner string
	Priority               Priority
	Dedup                  string // digest of the request, "" for none
	Request                []byte // JSON
}

// Enqueue queues a job. If one that asks for the same is queued or running, and
// is not being cancelled, its id is returned instead.
func (s *Store) Enqueue(ctx context.Context, n NewJob) (id string, existing bool, err error) {
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		if n.Dedup != "" {
			err := tx.QueryRowContext(ctx, `SELECT id FROM jobs WHERE dedup = ? AND dedup <> '' AND status IN (?, ?) AND cancel_wanted = 0
				ORDER BY seq LIMIT 1`, n.Dedup, Queued, Running).Scan(&id)
			if err == nil { // the more urgent of the two wishes holds
				existing = true
				_, err = tx.ExecContext(ctx, `UPDATE jobs SET priority = MIN(priority, ?) WHERE id = ?`, n.Priority, id)
			}
			if !errors.Is(err, sql.ErrNoRows) {
				return err
			}
		}
		id = n.ID
		_, err := tx.ExecContext(ctx, insertJob, n.ID, n.Kind, Queued, n.Title, n.Owner, n.Dedup, n.Priority, string(n.Request), now(), "")
		return err
	})
	if err != nil {
		return "", false, fmt.Errorf("queue job %s: %w", n.ID, err)
	}
	return id, existing, nil
}

// Next takes the first queued job that is at least so urgent, by priority and
// then by age, and counts the attempt; false when there is none.
func (s *Store) Next(ctx context.Context, least Priority) (Job, bool, error) {
	row := s.db.QueryRowContext(ctx, `UPDATE jobs SET status = ?, attempt = attempt + 1, started_at = ?, ended_at = '', error = ''
		WHERE seq = (SELECT seq FROM jobs WHERE status = ? AND priority <= ? ORDER BY priority, seq LIMIT 1) AND status = ?
		RETURNING `+jobColumns, Running, now(), Queued, least, Queued)
	j, err := scanJob(row.Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Job{}, false, nil
	}
	if err != nil {
		return Job{}, false, fmt.Errorf("take a job from the queue: %w", s.plain(err))
	}
	return j, true, nil
}

// QueueLength counts the jobs that wait for their turn.
func (s *Store) QueueLength(ctx context.Context) (n int, err error) {
	if err := s.read.QueryRowContext(ctx, `SELECT COUNT(*) FROM jobs WHERE status = ?`, Queued).Scan(&n); err != nil {
		return 0, fmt.Errorf("count the queue: %w", err)
	}
	return n, nil
}

// Requeue is for the start of a service, when nobody works on any job: what
// still counts as running goes back to its place in the queue, and n is how many
// did. Those that were to be cancelled are; those that a terminal started and
// no service are interrupted.
func (s *Store) Requeue(ctx context.Context) (n int, err error) {
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE jobs SET status = ?, ended_at = ?, cancel_wanted = 0 WHERE status = ? AND cancel_wanted = 1`,
			Cancelled, now(), Running); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE jobs SET status = ?, ended_at = ? WHERE status = ? AND owner = ? AND attempt = 0`,
			Interrupted, now(), Running, CLI); err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, `UPDATE jobs SET status = ? WHERE status = ?`, Queued, Running)
		if err != nil {
			return err
		}
		back, err := res.RowsAffected()
		n = int(back)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("put jobs back into the queue: %w", err)
	}
	return n, nil
}

// Cancel ends a queued job. For one that runs it leaves the wish, which
// CancelWanted tells; whoever runs the job ends it. Other jobs are ErrEnded.
func (s *Store) Cancel(ctx context.Context, id string) error {
	return s.inState(ctx, "cancel", id, func(tx *sql.Tx, status string) error {
		switch status {
		case Queued:
			return setStatus(ctx, tx, id, Cancelled, "")
		case Running:
			_, err := tx.ExecContext(ctx, `UPDATE jobs SET cancel_wanted = 1 WHERE id = ?`, id)
			return err
		}
		return ErrEnded
	})
}

// CancelWanted are the ids of the running jobs that are to be cancelled, the
// oldest first.
func (s *Store) CancelWanted(ctx context.Context) ([]string, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT id FROM jobs WHERE status = ? AND cancel_wanted = 1 ORDER BY seq`, Running)
	if err != nil {
		return nil, fmt.Errorf("read jobs: %w", err)
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("read jobs: %w", err)
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// Retry queues a job that has ended, at its old place; others are ErrActive. It
// keeps its result until there is a new one.
func (s *Store) Retry(ctx context.Context, id string) error {
	return s.inState(ctx, "retry", id, func(tx *sql.Tx, status string) error {
		if !ended(status) {
			return ErrActive
		}
		return setStatus(ctx, tx, id, Queued, "")
	})
}

// inState does something to a job as one change, knowing its status.
func (s *Store) inState(ctx context.Context, what, id string, do func(tx *sql.Tx, status string) error) error {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		var status string
		err := tx.QueryRowContext(ctx, `SELECT status FROM jobs WHERE id = ?`, id).Scan(&status)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNoJob
		}
		if err != nil {
			return err
		}
		return do(tx, status)
	})
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, id, err)
	}
	return nil
}

// unfenced stands for the attempt of who holds the data directory and needs no
// fence.
const unfenced = -1

// fence refuses what an attempt writes that is not the running one.
func fence(ctx context.Context, tx *sql.Tx, id string, attempt int) error {
	if attempt == unfenced {
		return nil
	}
	var n int
	err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM jobs WHERE id = ? AND attempt = ? AND status = ?`, id, attempt, Running).Scan(&n)
	if err == nil && n == 0 {
		err = ErrStale
	}
	return err
}

// Finish ends an attempt: status is Done, Failed, Cancelled or Interrupted, and
// problem is why, on one line. A nil result leaves the one that was saved. Of an
// attempt that is not the running one it is ErrStale.
func (s *Store) Finish(ctx context.Context, id string, attempt int, status, problem string, result []byte) error {
	if !slices.Contains([]string{Done, Failed, Cancelled, Interrupted}, status) {
		return fmt.Errorf("record job %s: %q is no end of a job", id, status)
	}
	return s.write(ctx, id, attempt, func(tx *sql.Tx) error {
		if err := setStatus(ctx, tx, id, status, problem); err != nil || result == nil {
			return err
		}
		return setResult(ctx, tx, id, result)
	})
}

// SaveResult keeps what there is of a running job's result.
func (s *Store) SaveResult(ctx context.Context, id string, attempt int, result []byte) error {
	return s.write(ctx, id, attempt, func(tx *sql.Tx) error { return setResult(ctx, tx, id, result) })
}

// write changes the record on behalf of an attempt.
func (s *Store) write(ctx context.Context, id string, attempt int, do func(tx *sql.Tx) error) error {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		if err := fence(ctx, tx, id, attempt); err != nil {
			return err
		}
		return do(tx)
	})
	if err != nil {
		return fmt.Errorf("record job %s: %w", id, err)
	}
	return nil
}

// Fenced is the record in the hands of one attempt at a job: a run or boot that
// it writes after it was replaced, cancelled or ended is ErrStale.
type Fenced struct {
	*Store
	Attempt int // from Next
}

// AppendRun adds a run to the log.
func (f Fenced) AppendRun(ctx context.Context, job, cell string, r kernel.Run) error {
	return f.appendRun(ctx, job, f.Attempt, cell, r)
}

// AppendBoot records how a kernel booted.
func (f Fenced) AppendBoot(ctx context.Context, job, cell string, b kernel.Boot) error {
	return f.appendBoot(ctx, job, f.Attempt, cell, b)
}
