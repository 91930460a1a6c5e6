package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Letter is what is to be shown at one place of a forge, and what is known of
// how it got there.
type Letter struct {
	Place   string // names it: what, where
	Content []byte // JSON
	Digest  string // of what people see of it
	// Sending says that an earlier attempt may have come through: look before
	// doing it again.
	Sending  bool
	Remote   string // its id there, "" before it is there
	Attempts int
}

// Want says what is to be at a place. What is there already, or is wanted
// already, changes nothing: changed says whether there is something to send.
func (s *Store) Want(ctx context.Context, l Letter) (changed bool, err error) {
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `INSERT INTO outbox (place, seq, content, digest) VALUES (?, (SELECT COALESCE(MAX(seq), 0) + 1 FROM outbox), ?, ?)
			ON CONFLICT (place) DO UPDATE SET seq = excluded.seq, content = excluded.content, digest = excluded.digest,
				attempts = 0, not_before = '', problem = '', given_up = 0
			WHERE digest <> excluded.digest`, l.Place, string(l.Content), l.Digest)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		changed = n > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("outbox %s: %w", l.Place, err)
	}
	return changed, nil
}

// Due is the first letter that is to be sent at a time. Without one, next is
// when there will be, zero for never.
func (s *Store) Due(ctx context.Context, at time.Time) (l Letter, ok bool, next time.Time, err error) {
	const due = ` FROM outbox WHERE (sent <> digest OR sending = 1) AND given_up = 0`
	var content string
	err = s.db.QueryRowContext(ctx, `SELECT place, content, digest, sending, remote, attempts`+due+` AND not_before <= ? ORDER BY seq LIMIT 1`, stamp(at)).
		Scan(&l.Place, &content, &l.Digest, &l.Sending, &l.Remote, &l.Attempts)
	if err == nil {
		l.Content = []byte(content)
		return l, true, next, nil
	}
	var first sql.NullString
	if errors.Is(err, sql.ErrNoRows) {
		err = s.db.QueryRowContext(ctx, `SELECT MIN(not_before)`+due).Scan(&first)
	}
	if err != nil {
		return Letter{}, false, next, fmt.Errorf("outbox: %w", s.plain(err))
	}
	next, _ = time.Parse(stampForm, first.String)
	return Letter{}, false, next, nil
}

// Sending records that a letter is about to be sent. Until Sent, nobody knows
// whether it came.
func (s *Store) Sending(ctx context.Context, place string) error {
	return s.outbox(ctx, place, `sending = 1, attempts = attempts + 1`)
}

// Sent records that a content with that digest is there.
func (s *Store) Sent(ctx context.Context, place, digest, remote string) error {
	return s.outbox(ctx, place, `sending = 0, attempts = 0, problem = '', not_before = '', sent = ?, remote = ?`, digest, remote)
}

// Postpone records that an attempt did not succeed and when the next is due.
// came says that it may have come through all the same.
func (s *Store) Postpone(ctx context.Context, place string, until time.Time, problem string, came bool) error {
	return s.outbox(ctx, place, `sending = ?, not_before = ?, problem = ?`, came, stamp(until), problem)
}

// GiveUp records that a content with that digest is not taken there, and why.
// Another content may be.
func (s *Store) GiveUp(ctx context.Context, place, digest, problem string) error {
	return s.outbox(ctx, place, `sending = 0, problem = ?, given_up = (digest = ?)`, problem, digest)
}

func (s *Store) outbox(ctx context.Context, place, set string, args ...any) error {
	if _, err := s.db.ExecContext(ctx, `UPDATE outbox SET `+set+` WHERE place = ?`, append(args, place)...); err != nil {
		return fmt.Errorf("outbox %s: %w", place, s.plain(err))
	}
	return nil
}

// Reopen lets letters be tried again that were given up.
func (s *Store) Reopen(ctx context.Context, places []string) error {
	for _, place := range places {
		if err := s.outbox(ctx, place, `given_up = 0`); err != nil {
			return err
		}
	}
	return nil
}

// GivenUp counts the letters to places that were given up.
func (s *Store) GivenUp(ctx context.Context, places []string) (n int, err error) {
	for _, place := range places {
		var up int
		if err := s.read.QueryRowContext(ctx, `SELECT COALESCE(SUM(given_up), 0) FROM outbox WHERE place = ?`, place).Scan(&up); err != nil {
			return 0, fmt.Errorf("outbox: %w", err)
		}
		n += up
	}
	return n, nil
}

// OutboxLength counts the letters that wait to be sent, and those that were
// given up.
func (s *Store) OutboxLength(ctx context.Context) (waiting, givenUp int, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT COALESCE(SUM(given_up = 0), 0), COALESCE(SUM(given_up), 0) FROM outbox WHERE sent <> digest OR sending = 1`).Scan(&waiting, &givenUp)
	if err != nil {
		return 0, 0, fmt.Errorf("outbox: %w", err)
	}
	return waiting, givenUp, nil
}

// stampForm is a time that sorts as text, to the millisecond.
const stampForm = "2006-01-02T15:04:05.000Z"

func stamp(t time.Time) string { return t.UTC().Format(stampForm) }
