package kbuild

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// The source and the object tree hold what a stranger's patch put there, and
// we read and write them outside the sandbox. A link there must not lead us to
// the user's files, nor a pipe hold us up: these functions stay inside dir.

// maxFile is more than any kernel image.
const maxFile = 1 << 30

// errOdd: what a build left is no file as a kernel has it. Its own doing,
// unlike an error in reading it.
var errOdd = errors.New("not a file of a kernel")

// ours are the failures to open a file that no build can cause.
var ours = []syscall.Errno{syscall.EIO, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ESTALE}

// readInside reads the regular file dir/name. The error is errOdd if there is
// none: nothing, a pipe, a directory, a link that leads out.
func readInside(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		if slices.ContainsFunc(ours, func(e syscall.Errno) bool { return errors.Is(err, e) }) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", errOdd, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxFile {
		return nil, fmt.Errorf("%w: %s (%s, %d bytes)", errOdd, name, st.Mode(), st.Size())
	}
	// Of its size at once: growing to that of a vmlinux copies it several times.
	text := make([]byte, st.Size())
	n, err := io.ReadFull(f, text)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return text[:n], err
}

// writeInside makes the file dir/name anew, in place of whatever has the name.
func writeInside(dir, name string, text []byte) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	if err := root.RemoveAll(name); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// emptyDir removes what is in dir, not dir: it may be a mount.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if rerr := os.RemoveAll(filepath.Join(dir, e.Name())); err == nil {
			err = rerr
		}
	}
	return err
}
