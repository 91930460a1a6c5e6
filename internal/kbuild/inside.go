package kbuild

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// The source and the object tree hold what a stranger's patch put there, and
// we read and write them outside the sandbox. A link there must not lead us to
// the user's files, nor a pipe hold us up: these functions stay inside dir.

// makeSlot makes the directory of the object tree and what is beside it. Nobody
// else may go in there: a build can leave a program that runs as us (setuid).
func (b *Builder) makeSlot() error {
	slot := filepath.Dir(b.Objects)
	err := os.MkdirAll(slot, 0o700)
	if err == nil {
		err = os.Chmod(slot, 0o700)
	}
	if err != nil {
		return fmt.Errorf("object tree: %w", err)
	}
	return nil
}

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
	if _, err := os.Stat(dir); err != nil {
		return err
	}
	return Remove(dir, "-mindepth", "1")
}

// Remove deletes a directory with what a build left there, however deep and
// unreadable that is: os.RemoveAll wants a descriptor for each level, and the right
// to look into what is not empty. It takes further arguments of find(1).
func Remove(dir string, which ...string) error {
	find := append([]string{dir}, which...)
	rm := func() *exec.Cmd { return exec.Command("find", append(find, "-delete")...) }
	if rm().Run() == nil {
		return nil
	}
	_ = exec.Command("chmod", "-R", "u+rwx", dir).Run()
	if out, err := rm().CombinedOutput(); err != nil {
		line, _, _ := strings.Cut(string(out), "\n")
		return fmt.Errorf("delete %s: %w: %.200q", dir, err, line)
	}
	return nil
}
