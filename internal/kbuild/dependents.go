package kbuild

import (
	"bytes"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Dependents knows which objects of an object tree make would compile anew if a
// file of the sources were changed. It is what make itself goes by, the lists of
// included files that the compiler left (.cmd files, scripts/basic/fixdep.c), so
// that it can say what a build will cost. It says nothing of what a kernel depends
// on: see reads.
type Dependents struct {
	of map[string]*[]int // path in the sources -> objects
	n  int
}

// Dependents reads the lists of the object tree, as far as it is there: it may be
// deleted meanwhile.
func (b *Builder) Dependents() *Dependents {
	d := &Dependents{of: map[string]*[]int{}}
	src, _ := b.paths()
	buf := make([]byte, maxCmd)
	_ = filepath.WalkDir(b.Objects, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || !strings.HasPrefix(e.Name(), ".") || !strings.HasSuffix(e.Name(), ".o.cmd") {
			return nil //nolint:nilerr // whatever a build put there: it is a guess
		}
		text, err := readShort(path, buf)
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		d.add(text, src)
		return nil
	})
	return d
}

// add takes in the list of an object. A tree's lists name some hundred thousand
// files, the same ones over and over: asking for one that is known makes no copy.
func (d *Dependents) add(text []byte, src string) {
	lists := false
	for file := range included(text, src) {
		objects := d.of[string(file)]
		if objects == nil {
			objects = &[]int{}
			d.of[string(file)] = objects
		}
		*objects, lists = append(*objects, d.n), true
	}
	if lists {
		d.n++
	}
}

// included are the files below src that a .cmd file names as included.
func included(text []byte, src string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		prefix, listed := []byte(src+"/"), false
		for line := range bytes.Lines(text) {
			var file []byte
			switch {
			case bytes.HasPrefix(line, []byte("source_")):
				_, file, _ = bytes.Cut(line, []byte(":= "))
				file = bytes.TrimSpace(file)
			case bytes.HasPrefix(line, []byte("deps_")):
				listed = true
			case len(bytes.TrimSpace(line)) == 0:
				listed = false
			case listed:
				file = bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(line), []byte(`\`)))
			}
			if rest, ok := bytes.CutPrefix(file, prefix); ok && !yield(rest) {
				return
			}
		}
	}
}

// on are the objects that depend on a file.
func (d *Dependents) on(path string) []int {
	if objects := d.of[path]; objects != nil {
		return *objects
	}
	return nil
}

// Counter counts the objects that depend on the files it is given, each once.
func (d *Dependents) Counter() func(path string) int {
	seen, n := make([]bool, d.n), 0
	return func(path string) int {
		for _, o := range d.on(path) {
			if !seen[o] {
				seen[o] = true
				n++
			}
		}
		return n
	}
}

// Objects is how many there are.
func (d *Dependents) Objects() int { return d.n }

// Has says whether any object depends on a file.
func (d *Dependents) Has(path string) bool { return len(d.on(path)) > 0 }

// Classes sorts the objects by which of some files they depend on: those that
// depend on the same ones need not be told apart. It returns how many objects each
// class has, and for each file the classes that depend on it. Objects that depend
// on none are in no class.
func (d *Dependents) Classes(files []string) (objects []int, of [][]int) {
	class := make([]int, d.n) // of each object
	sizes := []int{d.n}       // class 0 depends on none of the files so far
	for _, f := range files {
		split := map[int]int{} // class -> what becomes of its objects that depend on f
		for _, o := range slices.Compact(slices.Sorted(slices.Values(d.on(f)))) {
			to, ok := split[class[o]]
			if !ok {
				to = len(sizes)
				split[class[o]], sizes = to, append(sizes, 0)
			}
			sizes[class[o]]--
			sizes[to]++
			class[o] = to
		}
	}
	number := make([]int, len(sizes)) // of those that are left
	for k, n := range sizes[1:] {
		if n > 0 {
			number[k+1], objects = len(objects), append(objects, n)
		}
	}
	for _, f := range files {
		var classes []int
		for _, o := range d.on(f) {
			classes = append(classes, number[class[o]])
		}
		slices.Sort(classes)
		of = append(of, slices.Compact(classes))
	}
	return objects, of
}

// Warm is the tree of the commit that was built last in the object tree, "" where
// that is not known.
func (b *Builder) Warm() string {
	if known := b.loadReads(); len(known.Built) > 0 {
		return known.Built[len(known.Built)-1].Tree
	}
	return ""
}

// Past are the latest builds in the object tree of which the kernels are kept, the
// last one at the end.
func (b *Builder) Past() ([]kernel.Build, error) {
	var out []kernel.Build
	for _, m := range b.loadReads().Built {
		k, ok, err := b.Cache.Get(m.Key)
		if err != nil {
			return nil, err
		}
		if ok && k.Status == kernel.BuildOK {
			out = append(out, k)
		}
	}
	return out, nil
}
