package kbuild

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// A build that finds the same content in every file that it opens makes the same
// kernel. So what the builds in an object tree have opened since it was empty is
// kept, and a commit that edits none of these files needs no build: it has the
// kernel of the commit that it is compared with.
//
// That holds for what make leaves alone too: an object that is not made again was
// made by opening files that are among those. It does not hold for files that come
// or go, for a build may look for names and list directories (__has_include,
// $(wildcard)), which nobody tells us of; nor for links. Commits with such changes
// are built, unless builds do not see the place (see inert).

// reads is what is known of the builds in an object tree, kept beside it.
type reads struct {
	Form      int    `json:"form"`
	Toolchain string `json:"toolchain"`
	// Complete says that Files has all that builds have opened since the object
	// tree was empty.
	Complete bool `json:"complete"`
	Files    set  `json:"files"`
	// Built are kernels of which no build has opened anything that is not among
	// Files, the latest at the end.
	Built  []made   `json:"built"`
	Config settings `json:"config"`
	// Trees are those of whose files there may be objects: the one that was built
	// last, and what failed since. None where it is not known.
	Trees []string `json:"trees"`
}

// made is a kernel that was built in an object tree.
type made struct {
	SHA    string `json:"sha"`
	Tree   string `json:"tree"`
	Key    string `json:"key"`
	Recipe string `json:"recipe"` // all of the key but the tree
}

// settings is how the .config came about that is in an object tree.
type settings struct {
	Tree   string `json:"tree"`
	Recipe string `json:"recipe"`
	Digest string `json:"digest"` // of the .config
	Files  set    `json:"files"`  // opened for it
}

// maxMade is how many kernels a commit is compared with, each with a git
// diff-tree that takes some 10 ms: as many as a bisection of 256 commits builds.
const maxMade = 8

// set is a set of strings, in JSON a sorted list.
type set map[string]bool

func (s set) MarshalJSON() ([]byte, error) { return json.Marshal(slices.Sorted(maps.Keys(s))) }

func (s *set) UnmarshalJSON(text []byte) error {
	var list []string
	err := json.Unmarshal(text, &list)
	*s = make(set, len(list))
	for _, x := range list {
		(*s)[x] = true
	}
	return err
}

func (b *Builder) readsFile() string { return readsFile(b.Objects) }

func readsFile(objects string) string { return objects + ".reads" }

// Forget removes what is known of an object tree, and what else is beside it,
// before that is changed or deleted: of what is left if we are killed nobody knows
// anything.
func Forget(objects string) error {
	for _, file := range []string{readsFile(objects), readsFile(objects) + ".new", submakeFile(objects), sumsFile(objects), markFile(objects)} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("object tree: %w", err)
		}
	}
	return nil
}

// form is that of reads, and of the tree that they are about. Before 2 a build that was
// given up could leave half of a file.
const form = 2

// kept is what was saved of the object tree; false if that is nothing.
func (b *Builder) kept() (*reads, bool) { return keptOf(b.Objects) }

func keptOf(objects string) (*reads, bool) {
	r := &reads{}
	text, err := os.ReadFile(readsFile(objects))
	return r, err == nil && json.Unmarshal(text, r) == nil && r.Form == form
}

// loadReads returns what is known of the object tree. A tree that is empty or not
// there is known; one that was left by an interrupted process, or was built with
// other programs, is not.
func (b *Builder) loadReads() *reads {
	r, ok := b.kept()
	if !ok || r.Toolchain != b.toolchain {
		r = &reads{Toolchain: b.toolchain}
		left, _ := os.ReadDir(b.Objects)
		r.Complete = len(left) == 0
	}
	if r.Files == nil {
		r.Files = set{}
	}
	return r
}

// save keeps what is known, whole or not at all; without it everything is built.
func (r *reads) save(file string) error {
	r.Form = form
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// during adds to what is known what f opens, and returns that.
func (r *reads) during(b *Builder, f func() error) (set, error) {
	var w *watch
	within, err := b.sourceDirs()
	if err == nil {
		w, err = watchReads(b.Source.Dir(), within)
	}
	if err != nil {
		r.lost(b, err)
		return nil, f()
	}
	ferr := f()
	opened, err := w.stop()
	if err != nil {
		r.lost(b, err)
	}
	maps.Copy(r.Files, opened)
	return opened, ferr
}

// sourceDirs lists the directories of what is checked out. To find them takes 80 ms of
// a kernel, so they are kept until a commit has others.
func (b *Builder) sourceDirs() ([]string, error) {
	if b.within == nil {
		all, err := dirsOf(b.Source.Dir())
		if err != nil {
			return nil, err
		}
		b.within = all
	}
	return b.within, nil
}

// forgetDirs is to be called when the sources become those of c. Only where all that
// differs are edits the directories are the same; another builder may have moved the
// sources in between, but to a tree and back.
func (b *Builder) forgetDirs(ctx context.Context, c kernel.Commit) {
	if b.within == nil { // none are kept
		b.checkedOut = c.Tree
		return
	}
	changes, err := b.differ(ctx, b.checkedOut, c.Tree)
	if err != nil || slices.ContainsFunc(changes, func(x kernel.FileChange) bool { return !x.Edited }) {
		b.within = nil
	}
	b.checkedOut = c.Tree
}

func (r *reads) lost(b *Builder, err error) {
	r.Complete, r.Config = false, settings{}
	b.Log.Warn("what the build reads is not known, so that every commit will be built", zap.Error(err))
}

// unread says whether nothing that differs between two trees can have been found
// by builds that opened files.
func (b *Builder) unread(ctx context.Context, one, other string, opened func(path string) bool) (bool, error) {
	changes, err := b.differ(ctx, one, other)
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(changes, func(c kernel.FileChange) bool {
		hidden := b.Sandbox && c.Regular && isInert(c.Path)
		return !hidden && (!c.Edited || opened(c.Path))
	}), nil
}

// pair is two trees.
type pair struct{ one, other string }

// maxPairs bounds what is remembered of trees that were compared: those of a build.
const maxPairs = 4 * maxMade

// differ is Source's. A build asks several times for the same trees.
func (b *Builder) differ(ctx context.Context, one, other string) ([]kernel.FileChange, error) {
	if got, ok := b.differs[pair{one, other}]; ok {
		return got, nil
	}
	got, err := b.Source.Differ(ctx, one, other)
	if err != nil {
		return nil, err
	}
	if b.differs == nil || len(b.differs) >= maxPairs {
		b.differs = map[pair][]kernel.FileChange{}
	}
	b.differs[pair{one, other}] = got
	return got, nil
}

// alike finds a kernel that must be that of c, and keeps it as c's.
func (b *Builder) alike(ctx context.Context, c kernel.Commit, key string) (kernel.Build, bool, error) {
	known := b.loadReads()
	opened := func(path string) bool { return !known.Complete || known.Files[path] }
	recipe, err := b.recipe(ctx)
	if err != nil {
		return kernel.Build{}, false, err
	}
	for _, m := range slices.Backward(known.Built) {
		if m.Recipe != recipe {
			continue
		}
		if same, err := b.unread(ctx, m.Tree, c.Tree, opened); err != nil || !same {
			if err != nil { // git may have lost the other commit
				b.Log.Debug("commits cannot be compared", zap.String("with", m.SHA), zap.Error(err))
			}
			continue
		}
		old, ok, err := b.Cache.Get(m.Key)
		if err != nil {
			return old, false, err
		}
		if !ok || old.Status != kernel.BuildOK { // evicted
			continue
		}
		log, err := os.ReadFile(old.Log)
		if err != nil {
			return old, false, err
		}
		if old.SameAs == "" {
			old.SameAs = m.SHA
		}
		old.Seconds, old.Objects, old.Kernel.Key = 0, 0, key
		b.Log.Debug("not built", zap.String("commit", c.SHA), zap.String("same as", old.SameAs))
		got, err := b.Cache.Put(key, old, old.Kernel.Image, old.Kernel.Config, log)
		return got, err == nil, err
	}
	return kernel.Build{}, false, nil
}

// configured says whether the .config in the object tree is what c would get.
func (b *Builder) configured(ctx context.Context, c kernel.Commit, s settings, recipe string) bool {
	if s.Tree == "" || s.Recipe != recipe {
		return false
	}
	config, err := readInside(b.Objects, configFile)
	if err != nil || digestOf(config) != s.Digest {
		return false
	}
	// The programs of kconfig are compiled once, so that their sources are not
	// opened each time.
	same, err := b.unread(ctx, s.Tree, c.Tree, func(path string) bool { return s.Files[path] || strings.HasPrefix(path, "scripts/") })
	return err == nil && same
}

// add notes a kernel that was built.
func (r *reads) add(m made) {
	r.Built = append(slices.DeleteFunc(r.Built, func(o made) bool { return o.Key == m.Key }), m)
	r.Built = r.Built[max(0, len(r.Built)-maxMade):]
}

// maxTrees is how many failed builds in a row leave it known what is in the tree.
const maxTrees = 4

// into notes that make has made, or begun to make, the objects of a tree.
func (r *reads) into(tree string, done bool) {
	switch {
	case done:
		r.Trees = []string{tree}
	case len(r.Trees) == 0 || len(r.Trees) >= maxTrees:
		r.Trees = nil
	default:
		r.Trees = append(r.Trees, tree)
	}
}

// Opens tells which files of the sources the builds have opened since the object
// tree was empty; nil where that is not known.
func (b *Builder) Opens(ctx context.Context) (func(path string) bool, error) {
	if _, err := b.recipe(ctx); err != nil {
		return nil, err
	}
	known := b.loadReads()
	if !known.Complete || len(known.Built) == 0 {
		return nil, nil
	}
	return func(path string) bool { return known.Files[path] }, nil
}

func digestOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
