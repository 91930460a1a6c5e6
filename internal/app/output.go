package app

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// checkOutput finds out whether --output can be written.
func (o *options) checkOutput() error {
	if st, err := os.Stat(o.output); err == nil && st.IsDir() {
		return usagef("--output %s: a directory", o.output)
	} else if err == nil && !st.Mode().IsRegular() {
		return nil // a device or a pipe: written to as it is
	}
	dir := filepath.Dir(o.target())
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return usagef("--output %s: there is no directory %s", o.output, dir)
	}
	f, err := os.CreateTemp(dir, ".kbisect-")
	if err != nil {
		return usagef("--output %s: %v", o.output, err)
	}
	_ = f.Close()
	return os.Remove(f.Name())
}

// target is the file behind --output: a link is written through, not replaced.
func (o *options) target() string {
	if real, err := filepath.EvalSymlinks(o.output); err == nil {
		return real
	}
	if to, err := os.Readlink(o.output); err == nil { // to a file that is yet to be
		if filepath.IsAbs(to) {
			return to
		}
		return filepath.Join(filepath.Dir(o.output), to)
	}
	return o.output
}

// writeOutput writes the file of --output; a regular one appears whole or not
// at all.
func (o *options) writeOutput(data []byte) error {
	target := o.target()
	if st, err := os.Stat(target); err == nil && !st.Mode().IsRegular() {
		f, err := os.OpenFile(target, os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("report: %w", err)
		}
		_, err = f.Write(data)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(target), ".kbisect-")
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // in vain once it is renamed
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(fs.FileMode(0o644))
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return os.Rename(f.Name(), target)
}
