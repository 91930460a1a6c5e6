package store

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// What is wrong with the place of a record, and not with what was asked of it.
var (
	ErrFull     = errors.New("disk full")
	ErrReadOnly = errors.New("read-only")
	ErrDamaged  = errors.New("damaged")
	ErrDisk     = errors.New("disk error")
)

// plain says of an error of SQLite what the user can do about it, on one line.
// where stands in front: the file, unless the caller names it.
func plain(where string, err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff { // the rest is the detail
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%s%w: free some space there; what was recorded before is safe", where, ErrFull)
	case sqlite3.SQLITE_READONLY:
		return fmt.Errorf("%s%w: make the file and its directory writable, or use another --data-dir", where, ErrReadOnly)
	case sqlite3.SQLITE_CANTOPEN:
		return fmt.Errorf("%scannot be opened: its directory must be there and writable, or use another --data-dir (%w)", where, err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%s%w: restore a backup, or use another --data-dir (%w)", where, ErrDamaged, err)
	case sqlite3.SQLITE_IOERR: // a quota that is used up is one, and a file system that went read-only
		return fmt.Errorf("%s%w: look at the disk and the kernel's log; what was recorded before is safe (%w)", where, ErrDisk, err)
	case sqlite3.SQLITE_BUSY:
		return fmt.Errorf("%sin use by another process for too long: find and end that one (%w)", where, err)
	}
	return err
}

// plain is plain of an error on the record.
func (s *Store) plain(err error) error { return plain(s.path+": ", err) }
