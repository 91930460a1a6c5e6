// Package store is the record, in SQLite: jobs, and the append-only log of
// runs from which every verdict is computed. It must not know how a run comes
// about nor what follows from it.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver
)

//go:embed migrations/*.sql
var migrations embed.FS

// readers is how many queries are answered at once: a page has a few.
const readers = 4

// busyTimeout is how long one process waits for another one's write, in ms.
const busyTimeout = "_pragma=busy_timeout(5000)"

// maxLog is what the write-ahead log keeps, in bytes, when it starts anew. It
// grows beyond that in a migration or beside a long backup, and a service never
// closes it.
const maxLog = "67108864"

// Store is an open record.
type Store struct {
	db   *sql.DB // the writer: one connection
	read *sql.DB // what is only read, which waits for no writer
	path string  // of the file
	uri  string  // its
	enc  *zstd.Encoder
	dec  *zstd.Decoder
}

// Open opens or creates the record in dataDir. A record that a newer kbisect
// wrote is refused.
func Open(ctx context.Context, dataDir string) (*Store, error) {
	path := filepath.Join(dataDir, "kbisect.db")
	// WAL: a report can be read while a job writes. synchronous=FULL: a run
	// that was acknowledged survives a power cut; there are few per second.
	uri := "file:" + (&url.URL{Path: path}).EscapedPath() // a % ? or # in it is no syntax
	db, err := sql.Open("sqlite", uri+"?_pragma=journal_mode(WAL)&"+busyTimeout+
		"&_pragma=foreign_keys(1)&_pragma=synchronous(FULL)&_pragma=journal_size_limit("+maxLog+")&_txlock=immediate")
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	// It opens its connections when they are asked for: there is a record by then.
	read, err := sql.Open("sqlite", uri+"?mode=ro&"+busyTimeout+"&_pragma=query_only(1)")
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", path, err)
	}
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	s := &Store{db: db, read: read, path: path, uri: uri}
	if s.enc, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1)); err != nil {
		return nil, err
	}
	if s.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20)); err != nil {
		return nil, err
	}
	if err := s.migrate(ctx); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("record %s: %w", path, plain("", err))
	}
	return s, nil
}

func provider(db *sql.DB) (*goose.Provider, error) {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectSQLite3, db, dir)
}

func (s *Store) migrate(ctx context.Context) error {
	p, err := provider(s.db)
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

// inTx does what it is given as one change of the record.
func (s *Store) inTx(ctx context.Context, do func(tx *sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return s.plain(err)
	}
	defer func() { _ = tx.Rollback() }()
	if err := do(tx); err != nil {
		return s.plain(err)
	}
	return s.plain(tx.Commit())
}

// clock is what records are dated with. It may jump: jobs and runs are ordered by
// their numbers.
var clock = time.Now

func now() string { return clock().UTC().Format(time.RFC3339) }

// at reads what now wrote; "" is the zero time.
func at(text string) time.Time {
	t, _ := time.Parse(time.RFC3339, text)
	return t
}
