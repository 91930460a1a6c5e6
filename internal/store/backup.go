package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Backup writes the record as it is now into a new file, while others go on
// writing. The file is a record of its own: copied to kbisect.db in an empty
// data directory it is restored. A file that exists is not overwritten, and a
// backup that did not succeed leaves none.
func (s *Store) Backup(ctx context.Context, path string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("back up the record to %s: %w", path, err)
		}
	}()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = errors.New("it exists: remove it, or name another file")
		}
		return err
	}
	part, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".part-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(part.Name()) }()
	defer part.Close()
	if err := s.copyTo(ctx, part.Name()); err != nil {
		return plain("", err)
	}
	if err := part.Sync(); err != nil {
		return err
	}
	return publish(part.Name(), path)
}

// copyTo writes what a reader sees into an empty file. Its connection is its
// own, as those of pages must not wait for it.
func (s *Store) copyTo(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite", s.uri+"?mode=ro&"+busyTimeout)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(ctx, `VACUUM INTO ?`, path)
	return err
}

// publish gives a whole file its name unless there is one of that name by now.
func publish(part, path string) error {
	err := os.Link(part, path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		err = os.Rename(part, path) // a file system without links
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
