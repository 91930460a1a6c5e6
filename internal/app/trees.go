package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/kbuild"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// The commits of a repository are built in a directory of its own, slots/REPO,
// with its sources, an object tree for each profile, and the objects of ccache.
// What a stranger wrote has object trees and a ccache in a directory beside that,
// slots/REPO-stranger-SERIES, with the same sources: no build can write to these.
// Each of these can be made again, and is deleted on its own.

// maxTrees is how many bytes of them are kept without being asked: four
// repositories that are much in use, or eight of which little was built. Of 6.1,
// the sources take 1.5 GB, an object tree of the slim kernel 0.13 GB, and ccache
// 0.03 GB after few builds, at most 2 GB.
const maxTrees = 15e9

// treeKinds are in the order in which trees go that were used at the same time.
// Objects are of no use without their sources: what is checked out anew is newer,
// and make starts over. What ccache has is the smallest and saves the most.
var treeKinds = []struct{ what, name string }{{"object trees", "obj-*"}, {"source trees", "src"}, {"ccache", "ccache"}}

// use is what is known of a tree, kept beside it, where no build can write: one
// would have to look through 84,000 files for it.
type use struct {
	Used     time.Time `json:"used"`
	Bytes    int64     `json:"bytes"`
	Measured time.Time `json:"measured"` // zero: never
}

func useFile(tree string) string { return tree + ".use" }

// useOf is what is known of a tree; all is zero where that is nothing.
func useOf(tree string) use {
	var u use
	text, err := os.ReadFile(useFile(tree))
	if err != nil || json.Unmarshal(text, &u) != nil {
		return use{}
	}
	return u
}

// measure finds out how large a tree is.
func (u *use) measure(tree string) { u.Bytes, u.Measured = extent(tree), time.Now() }

// keep writes down what is known. That it cannot be harms nobody: it is found out
// again.
func (u use) keep(tree string) {
	text, _ := json.Marshal(u)
	_ = os.WriteFile(useFile(tree), text, 0o644)
}

// measureAgain is after how long a tree that is used is measured again: that of the
// sources takes a second, and from commit to commit it hardly changes. What ccache
// gains in a day is bounded by itself.
const measureAgain = 24 * time.Hour

// never is no time after which a tree is measured.
const never = math.MaxInt64

// touch notes that trees are in use, as far as they are there, and measures those
// that were not for so long. Only who has the slot may: see takeSlot.
func touch(after time.Duration, trees ...string) {
	now := time.Now()
	for _, tree := range trees {
		if _, err := os.Lstat(tree); err != nil {
			continue
		}
		u := useOf(tree)
		u.Used = now
		if now.Sub(u.Measured) > after {
			u.measure(tree)
		}
		u.keep(tree)
	}
}

// inTrees builds in an object tree and its sources, and notes that. An object tree
// is measured when much of it was made, which takes so long that 50 ms are nothing.
func inTrees(objects, src string, build func() (kernel.Build, error)) (kernel.Build, error) {
	trees := []string{objects, src, filepath.Join(filepath.Dir(objects), "ccache")}
	touch(never, trees...) // if we are killed
	built, err := build()
	if err != nil || built.Objects >= farObjects {
		touch(0, objects)
	}
	touch(measureAgain, trees...)
	return built, err
}

// trees are all trees in the order of treeKinds. A size that was not known is kept
// if remember says so: who has not the slot would write over what a job notes.
func (w *workspace) trees(remember bool) ([]kept, error) {
	var out []kept
	for _, kind := range treeKinds {
		paths, err := filepath.Glob(filepath.Join(w.slots(), "[^.]*", kind.name)) // not what was set aside
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			st, err := os.Lstat(path)
			if err != nil || !st.IsDir() { // deleted just now; what is known of a tree
				continue
			}
			u := useOf(path)
			if u.Used.IsZero() {
				u.Used = st.ModTime() // builds make files there
			}
			if u.Measured.IsZero() {
				u.measure(path)
				if remember {
					u.keep(path)
				}
			}
			out = append(out, kept{kind.what, path, u.Bytes, u.Used, func() error {
				gone, err := w.setAside(path)
				if err != nil {
					return err
				}
				return kbuild.Remove(gone)
			}})
		}
	}
	return out, nil
}

func (w *workspace) slots() string { return filepath.Join(w.cache, "slots") }

// asidePrefix is of directories that hold what is to be deleted.
const asidePrefix = ".gone-"

// setAside takes a tree away in one step, so that half of one is never taken for
// one, and returns what is to be deleted then. What is known of the tree goes
// first.
func (w *workspace) setAside(tree string) (string, error) {
	if err := kbuild.Forget(tree); err != nil {
		return "", err
	}
	if err := os.Remove(useFile(tree)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	dir, err := os.MkdirTemp(w.slots(), asidePrefix)
	if err != nil {
		return "", err
	}
	if err := os.Rename(tree, filepath.Join(dir, filepath.Base(tree))); err != nil {
		_ = os.Remove(dir)
		return "", err
	}
	_ = os.Remove(filepath.Dir(tree)) // if that was the last
	return dir, nil
}

// trimTrees deletes the trees that were used longest ago, but none that was used
// since, until those left are as large as may be. It waits while something is
// built.
func (w *workspace) trimTrees(ctx context.Context, since time.Time, log *zap.Logger) {
	gone, err := w.retire(ctx, since)
	var freed int64
	for _, t := range gone {
		freed += t.bytes
	}
	if len(gone) > 0 {
		log.Info("source and object trees that were used longest ago are deleted", zap.Int("trees", len(gone)), zap.Int64("bytes", freed))
	}
	// Builds go on meanwhile: sources are 84,000 files. What a process that was
	// killed had set aside goes as well.
	aside, _ := filepath.Glob(filepath.Join(w.slots(), asidePrefix+"*"))
	for _, dir := range aside {
		err = errors.Join(err, kbuild.Remove(dir))
	}
	if err != nil && ctx.Err() == nil {
		log.Warn("old source and object trees cannot be deleted", zap.Error(err))
	}
}

// retire sets aside what trimTrees is to delete.
func (w *workspace) retire(ctx context.Context, since time.Time) (gone []kept, err error) {
	free, err := w.takeSlot(ctx)
	if err != nil {
		return nil, err
	}
	defer free()
	trees, err := w.trees(true)
	if err != nil || len(trees) == 0 {
		return nil, err
	}
	// What was used last is likely used next: it stays, however large.
	last := slices.MaxFunc(trees, func(a, b kept) int { return a.used.Compare(b.used) }).used
	if last.Before(since) {
		since = last
	}
	for _, t := range overdue(trees, maxTrees) {
		if !t.used.Before(since) {
			break
		}
		if _, err := w.setAside(t.name); err != nil {
			return gone, fmt.Errorf("%s: %w", t.name, err)
		}
		gone = append(gone, t)
	}
	return gone, nil
}

// extent is how much of the disk is taken by what is below a path, as far as one
// may look: a build can take that from us. It can say that a file is larger than it
// is, too, by holes in it.
func extent(path string) (bytes int64) {
	_ = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err == nil {
			if st, err := d.Info(); err == nil {
				bytes += st.Sys().(*syscall.Stat_t).Blocks * 512
			}
		}
		return nil
	})
	return bytes
}
