package kbuild

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

// The source and the object tree hold what a stranger's patch put there, and
// we read and write them outside the sandbox. A link there must not lead us to
// the user's files, nor a pipe hold us up: these functions stay inside dir.

// maxFile is more than any kernel image.
const maxFile = 1 << 30

// readInside reads the regular file dir/name.
func readInside(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxFile {
		return nil, fmt.Errorf("%s: not a file of a kernel (%s, %d bytes)", f.Name(), st.Mode(), st.Size())
	}
	return io.ReadAll(f)
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
