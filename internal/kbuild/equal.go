package kbuild

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/kconfig"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// An edit of a comment, of what is configured away or of a macro that nobody uses
// has make compile objects that come out as they were, and link the kernel anew: two
// thirds of such a build. Where the objects in the directories that make goes into
// have the same contents as before, and nothing else that is linked was made, the
// kernel is the one that was linked of them last. So the objects are compared before
// the link, in the middle of make; where that does not prove it, make goes on.
//
// From 6.1 on the link begins with a make of its own (scripts/Makefile.vmlinux_o);
// older kernels are linked always.

// comparison is what the object tree had before a build.
type comparison struct {
	last    kernel.Build      // that was linked of it
	objects map[string]string // by their paths in the object tree, their digests
	edited  []string          // those that are compiled of what was edited
	began   time.Time         // the mark's: what is made from now on is not older
}

// Names in the object tree, and beside it.
const (
	equalFile   = "kbisect-equal" // made by submake where the sums are as they were
	sandboxSums = "/build/sums"
)

func (b *Builder) sumsFile() string { return sumsFile(b.Objects) }

func sumsFile(objects string) string { return objects + ".sums" }

// compare notes what is to be compared if make goes into d only, for edited objects;
// nil where there is nothing, or nothing to compare it with. Checksums of symbols
// (MODVERSIONS) are linked, too, and are in no object.
func (b *Builder) compare(known *reads, recipe string, config []byte, d dirs, edited []string) *comparison {
	n := len(known.Built)
	if b.unequal || d == nil || n == 0 || len(known.Trees) != 1 || known.Trees[0] != known.Built[n-1].Tree || known.Built[n-1].Recipe != recipe {
		return nil
	}
	if kconfig.ParseConfig(config)["MODVERSIONS"] == "y" {
		return nil
	}
	last, ok, err := b.Cache.Get(known.Built[n-1].Key)
	if err != nil || !ok || last.Status != kernel.BuildOK {
		return nil
	}
	objects, err := b.objectsIn(d)
	if err != nil || len(objects) == 0 {
		return nil
	}
	st, err := os.Lstat(markFile(b.Objects))
	if err != nil || os.RemoveAll(filepath.Join(b.Objects, equalFile)) != nil {
		return nil
	}
	_, obj := b.paths()
	obj, _ = filepath.Abs(obj)
	var sums strings.Builder
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		if strings.ContainsAny(name, "\\\n\r") { // sha256sum would quote them
			return nil
		}
		fmt.Fprintf(&sums, "%s  %s/%s\n", objects[name], obj, name)
	}
	if os.WriteFile(b.sumsFile(), []byte(sums.String()), 0o644) != nil {
		return nil
	}
	return &comparison{last: last, objects: objects, edited: edited, began: st.ModTime()}
}

// objectsIn are the objects in directories of the object tree, but those of the top,
// which are linked.
func (b *Builder) objectsIn(d dirs) (map[string]string, error) {
	objects := map[string]string{}
	for dir := range d {
		if dir == "." {
			continue
		}
		entries, err := os.ReadDir(filepath.Join(b.Objects, dir))
		if err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		for _, e := range entries {
			if !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), ".o") {
				continue
			}
			name := path.Join(dir, e.Name())
			if objects[name], err = fileDigest(b.Objects, name); err != nil {
				return nil, err
			}
		}
	}
	return objects, nil
}

// env is what has submake compare, for a make with this comparison.
func (c *comparison) env(b *Builder) []string {
	if c == nil {
		return nil
	}
	sums, obj := b.sumsFile(), b.Objects
	if b.Sandbox {
		sums, obj = sandboxSums, sandboxObj
	}
	// make is in another directory.
	sums, _ = filepath.Abs(sums)
	obj, _ = filepath.Abs(obj)
	return []string{"KBISECT_SUMS=" + sums, "KBISECT_EQUAL=" + path.Join(obj, equalFile)}
}

// proven says, after a make that submake has ended, whether the kernel is the last
// one. What a build does not have in the list of objects must be as it was.
func (c *comparison) proven(ctx context.Context, b *Builder, d dirs) bool {
	if c == nil || ctx.Err() != nil {
		return false
	}
	equal := filepath.Join(b.Objects, equalFile)
	st, err := os.Lstat(equal)
	if err != nil || !st.Mode().IsRegular() || os.Remove(equal) != nil {
		return false
	}
	now, err := b.objectsIn(d)
	if err != nil || !maps.Equal(now, c.objects) {
		return false
	}
	// Some are compiled after this link: init/version-timestamp.o, and what a bzImage
	// starts with.
	for _, name := range c.edited {
		st, err := os.Lstat(filepath.Join(b.Objects, name))
		if _, compared := now[name]; !compared || err != nil || st.ModTime().Before(c.began) {
			return false
		}
	}
	err = filepath.WalkDir(b.Objects, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(b.Objects, file)
		if err != nil {
			return err
		}
		if _, compared := now[name]; compared || passing(name) {
			return nil
		}
		st, err := e.Info()
		if err == nil && !st.ModTime().Before(c.began) {
			return fmt.Errorf("%s was made", name)
		}
		return err
	})
	if err != nil {
		b.unequal = true // with this kernel it costs two makes each time
		b.Log.Debug("the objects are equal, and the kernel is linked all the same", zap.Error(err))
	}
	return err == nil
}

// passing says whether a file of the object tree is made in each build, of objects
// only or for make itself: archives are thin, and name objects.
func passing(name string) bool {
	base := path.Base(name)
	switch path.Ext(base) {
	case ".a":
		return true
	case ".cmd", ".d":
		return base[0] == '.'
	}
	return base == "modules.order" || name == "Makefile" || name == "source" || name == ".gitignore"
}
