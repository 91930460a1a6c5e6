package kbuild

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
)

// Dependents knows which objects of an object tree make would compile anew if a
// file of the sources were changed. It is what make itself goes by, the lists of
// included files that the compiler left (.cmd files, scripts/basic/fixdep.c), so
// that it can say what a build will cost. It says nothing of what a kernel depends
// on: see reads.
type Dependents struct {
	of map[string][]int // path in the sources -> objects
	n  int
}

// Dependents reads the lists of the object tree, as far as it is there: it may be
// deleted meanwhile.
func (b *Builder) Dependents() (*Dependents, error) {
	d := &Dependents{of: map[string][]int{}}
	src, _ := b.paths()
	err := filepath.WalkDir(b.Objects, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !e.Type().IsRegular() || !strings.HasPrefix(e.Name(), ".") || !strings.HasSuffix(e.Name(), ".o.cmd") {
			return err
		}
		name, err := filepath.Rel(b.Objects, path)
		if err != nil {
			return err
		}
		text, err := readInside(b.Objects, name)
		if err != nil {
			return nil //nolint:nilerr // whatever a build put there: it is a guess
		}
		if files := included(text, src); len(files) > 0 {
			for _, f := range files {
				d.of[f] = append(d.of[f], d.n)
			}
			d.n++
		}
		return nil
	})
	return d, err
}

// included are the files below src that a .cmd file names as included.
func included(text []byte, src string) []string {
	var out []string
	prefix, listed := []byte(src+"/"), false
	for line := range bytes.Lines(text) {
		switch {
		case bytes.HasPrefix(line, []byte("source_")):
			if _, file, ok := bytes.Cut(line, []byte(":= ")); ok {
				if rest, ok := bytes.CutPrefix(bytes.TrimSpace(file), prefix); ok {
					out = append(out, string(rest))
				}
			}
		case bytes.HasPrefix(line, []byte("deps_")):
			listed = true
		case len(bytes.TrimSpace(line)) == 0:
			listed = false
		case listed:
			file := bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(line), []byte(`\`)))
			if rest, ok := bytes.CutPrefix(file, prefix); ok {
				out = append(out, string(rest))
			}
		}
	}
	return out
}

// Counter counts the objects that depend on the files it is given, each once.
func (d *Dependents) Counter() func(path string) int {
	seen, n := make([]bool, d.n), 0
	return func(path string) int {
		for _, o := range d.of[path] {
			if !seen[o] {
				seen[o] = true
				n++
			}
		}
		return n
	}
}

// Warm is the tree of the commit that was built last in the object tree, "" where
// that is not known.
func (b *Builder) Warm() string {
	if known := b.loadReads(); len(known.Built) > 0 {
		return known.Built[len(known.Built)-1].Tree
	}
	return ""
}
