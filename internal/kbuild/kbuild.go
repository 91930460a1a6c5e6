// Package kbuild turns a commit and a profile into a kernel: it composes the
// configuration with the kernel's own scripts, runs make in a sandbox on a warm
// object tree, and keeps the result by content key. It must not know why a
// kernel is wanted, nor where the sources come from.
package kbuild

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/imagecache"
	"github.com/kernel-bisect/kbisect/internal/kconfig"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/kimage"
)

// Source provides the files of a commit.
type Source interface {
	// Checkout makes Dir hold exactly the files of the commit.
	Checkout(ctx context.Context, sha string) error
	Dir() string
	// Differ lists the files in which two trees differ.
	Differ(ctx context.Context, one, other string) ([]kernel.FileChange, error)
}

// Fragment is a piece of configuration, merged in order.
type Fragment struct {
	Name string
	Text []byte
}

// Builder builds kernels in one object tree, one at a time.
type Builder struct {
	Owner     string // data directory, marks processes as ours
	Source    Source
	Objects   string // directory of the object tree
	Cache     *imagecache.Cache
	Fragments []Fragment
	// Whole is a whole .config below the fragments. It is composed as a user's
	// own is: what nobody says has the kernel's default instead of no, and what
	// does not take effect is no refusal, but the caller's to look for.
	Whole []byte
	// Twin gives the kernel of an equal .config, by its digest, if there is one
	// of the same tree: then nothing is made. It may be nil.
	Twin func(config string) (kernel.Build, bool)
	Jobs int
	// Direct says that the machine starts a vmlinux at its PVH entry, where the
	// configuration has one: nothing is compressed, and no boot code built.
	Direct  bool
	Timeout time.Duration
	Sandbox bool
	Limits  Limits // in the sandbox; zero: LimitsOf(Jobs)
	// Apart, if not "", keeps what is built apart from what is built without it or
	// with another: kernels have keys of their own. The object tree must be another
	// one, too; where there is none yet it begins as a copy of Seed.
	Apart, Seed string
	Log         *zap.Logger
	Progress    func(Progress) // may be nil; called from one goroutine at a time

	toolchain  string   // digest, once known
	checkedOut string   // tree whose directories within are
	within     []string // see sourceDirs
	unequal    bool     // with these kernels it is not proven before the link what comes of it
	differs    map[pair][]kernel.FileChange
}

// Progress tells how far a build is.
type Progress struct {
	Phase   string // checkout, configure, compile
	Objects int    // compiled so far
	Elapsed time.Duration
}

// reproducible are the make variables that keep time, user, host and count of
// builds out of the image (Documentation/kbuild/reproducible-builds.rst), so
// that equal sources give an equal digest. An empty LOCALVERSION keeps
// setlocalversion from adding a "+".
var reproducible = []string{
	"ARCH=x86_64",
	"KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 1970",
	"KBUILD_BUILD_USER=kbisect",
	"KBUILD_BUILD_HOST=kbisect",
	"KBUILD_BUILD_VERSION=1",
	"LOCALVERSION=",
}

// Build returns the kernel of c. A commit that does not build is a Build that
// says why; an error means that we could not find out. One that changes nothing
// that builds read since the last empty object tree has the kernel of another,
// and is not built.
func (b *Builder) Build(ctx context.Context, c kernel.Commit) (kernel.Build, error) {
	key, err := b.key(ctx, c)
	if err != nil {
		return kernel.Build{}, err
	}
	if !b.Cache.Has(key) {
		if err := b.sow(ctx); err != nil {
			return kernel.Build{}, err
		}
		if same, ok, err := b.alike(ctx, c, key); ok || err != nil {
			return same, err
		}
	}
	return b.build(ctx, c, key, false)
}

// Kept returns the kernel of c if it is kept, so that Build costs nothing: with
// the seconds that it took when it was built. Of c only the tree counts.
func (b *Builder) Kept(ctx context.Context, c kernel.Commit) (kernel.Build, bool, error) {
	old, ok, err := b.Known(ctx, c)
	return old, ok && old.Status == kernel.BuildOK, err
}

// Known returns what building c came to, if that is kept: a kernel, or why there is
// none.
func (b *Builder) Known(ctx context.Context, c kernel.Commit) (kernel.Build, bool, error) {
	key, err := b.key(ctx, c)
	if err != nil {
		return kernel.Build{}, false, err
	}
	return b.Cache.Get(key)
}

// BuildClean is Build from an empty object tree, for what is to be published:
// objects of other commits cannot have got into it. It is kept apart from what
// Build makes.
func (b *Builder) BuildClean(ctx context.Context, c kernel.Commit) (kernel.Build, error) {
	key, err := b.Key(ctx, c, true)
	if err != nil {
		return kernel.Build{}, err
	}
	return b.build(ctx, c, key, true)
}

func (b *Builder) build(ctx context.Context, c kernel.Commit, key string, clean bool) (kernel.Build, error) {
	if old, ok, err := b.Cache.Get(key); ok || err != nil {
		return old, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, b.Timeout, fmt.Errorf("build of %s: not through after %s", c.Short(), b.Timeout))
	defer cancel()
	start := time.Now()
	b.report(Progress{Phase: "checkout"})
	if err := b.Source.Checkout(ctx, c.SHA); err != nil {
		var bad unbuildable
		if errors.As(err, &bad) && ctx.Err() == nil {
			return b.Cache.Put(key, kernel.Build{Status: kernel.BuildFailed, Error: bad.Unbuildable(), Seconds: time.Since(start).Seconds()}, "", "", nil)
		}
		return kernel.Build{}, cause(ctx, err)
	}
	b.forgetDirs(ctx, c)
	if clean {
		if err := Forget(b.Objects); err != nil {
			return kernel.Build{}, err
		}
		if err := emptyDir(b.Objects); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return kernel.Build{}, fmt.Errorf("object tree: %w", err)
		}
	}
	m, err := b.newMake(start)
	if err != nil {
		return kernel.Build{}, err
	}
	defer m.close()
	build, err := b.watched(ctx, c, key, clean, m)
	if err != nil {
		return kernel.Build{}, cause(ctx, fmt.Errorf("build of %s: %w", c.Short(), err))
	}
	build.Seconds, build.Objects = time.Since(start).Seconds(), m.objects
	build.Kernel.Key = key
	image, config := filepath.Join(b.Objects, m.image), filepath.Join(b.Objects, configFile)
	switch {
	case build.Status != kernel.BuildOK:
		image, config = "", ""
	case m.twin != nil:
		image, config = m.twin.Kernel.Image, m.twin.Kernel.Config
	case m.equal != nil:
		image, config = m.equal.Kernel.Image, m.equal.Kernel.Config
	}
	log, err := m.logText()
	if err != nil {
		return kernel.Build{}, err
	}
	return b.Cache.Put(key, build, image, config, log)
}

// unbuildable is an error of a Source for which the commit itself is the reason: its
// files cannot be those of a directory.
type unbuildable interface{ Unbuildable() string }

// watched compiles a commit and keeps what that opens.
func (b *Builder) watched(ctx context.Context, c kernel.Commit, key string, clean bool, m *makeRun) (kernel.Build, error) {
	recipe, err := b.recipe(ctx)
	if err != nil {
		return kernel.Build{}, err
	}
	if err := b.mend(); err != nil {
		return kernel.Build{}, err
	}
	known := b.loadReads()
	if clean {
		known = &reads{Toolchain: b.toolchain, Complete: true, Files: set{}}
	}
	build, err := b.compile(ctx, m, c, recipe, known)
	var s *stopped
	if errors.As(err, &s) {
		if err := b.discard(s.disk); err != nil {
			return kernel.Build{}, err
		}
		if s.own {
			build, err = kernel.Build{Status: kernel.BuildFailed, Error: s.Error()}, nil
		}
	}
	if m.torn {
		known.Trees = nil
		if merr := b.mend(); merr != nil {
			return kernel.Build{}, merr
		}
	}
	done := err == nil && build.Status == kernel.BuildOK && m.twin == nil
	known.into(c.Tree, done)
	if done && !clean {
		known.add(made{c.SHA, c.Tree, key, recipe})
	}
	serr := known.save(b.readsFile())
	if serr == nil { // until now what is in the tree was not what is known
		serr = unmark(b.Objects)
	}
	if err == nil {
		err = serr
	}
	return build, err
}

// discard empties the object tree after a build that was stopped: what it was
// making is half made, and the disk may be full of it.
func (b *Builder) discard(ccache bool) error {
	err := emptyDir(b.Objects)
	if ccache {
		if cerr := emptyDir(b.ccacheDir()); err == nil && !errors.Is(cerr, fs.ErrNotExist) {
			err = cerr
		}
	}
	if err != nil {
		return fmt.Errorf("object tree: %w", err)
	}
	return nil
}

// cause prefers the reason of a cancelled context to its consequences.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

// Names in the object tree.
const (
	bzImageFile = "arch/x86/boot/bzImage"
	vmlinuxFile = "vmlinux"
	packedFile  = "kbisect-vmlinux" // ours
	configFile  = ".config"
	releaseFile = "include/config/kernel.release"
)

// compile configures and makes.
func (b *Builder) compile(ctx context.Context, m *makeRun, c kernel.Commit, recipe string, known *reads) (kernel.Build, error) {
	b.report(Progress{Phase: "configure"})
	var stale dirs
	var edited []string
	if b.configured(ctx, c, known.Config, recipe) {
		stale, edited = b.stale(ctx, c, known)
		if err := b.mark(); err != nil {
			return kernel.Build{}, fmt.Errorf("object tree: %w", err)
		}
	} else {
		// If we are killed, nobody will know what is in the tree.
		if err := Forget(b.Objects); err != nil {
			return kernel.Build{}, err
		}
		refusal := ""
		known.Config, known.Trees = settings{}, nil
		opened, err := known.during(b, func() (err error) {
			refusal, err = b.configure(ctx, m)
			return err
		})
		if err != nil {
			return kernel.Build{}, err
		}
		if refusal != "" {
			return kernel.Build{Status: kernel.BuildRefused, Error: refusal}, nil
		}
		if digest, err := fileDigest(b.Objects, configFile); err == nil && opened != nil {
			known.Config = settings{c.Tree, recipe, digest, opened}
		}
	}
	config, err := readInside(b.Objects, configFile)
	if err != nil {
		return b.odd("configuration", err)
	}
	if b.Twin != nil {
		if same, ok := b.Twin(digestOf(config)); ok {
			m.twin = &same
			return kernel.Build{Status: kernel.BuildOK, Kernel: same.Kernel}, nil
		}
	}
	target := "bzImage"
	if b.Direct && hasPVH(config) {
		target = vmlinuxFile
	}
	before := b.compare(known, recipe, config, stale, edited)
	var ok bool
	_, err = known.during(b, func() (err error) {
		ok, err = m.makeIn(ctx, stale, before, fmt.Sprintf("-j%d", b.Jobs), target)
		if !ok && err == nil && before.proven(ctx, b, stale) {
			ok, m.equal = true, &before.last
		}
		if !ok && err == nil && stale != nil {
			// Before a commit is blamed: somebody may have deleted objects.
			ok, err = m.makeIn(ctx, nil, nil, fmt.Sprintf("-j%d", b.Jobs), target)
		}
		return err
	})
	if err != nil {
		return kernel.Build{}, err
	}
	if m.equal != nil {
		return kernel.Build{Status: kernel.BuildOK, Kernel: m.equal.Kernel}, nil
	}
	if !ok {
		return kernel.Build{Status: kernel.BuildFailed, Error: m.firstError()}, nil
	}
	k := kernel.Kernel{}
	if m.image, k.Digest, err = b.image(target); err != nil {
		return b.odd("kernel image", err)
	}
	if config, err = readInside(b.Objects, configFile); err != nil { // make may have put something else there
		return b.odd("configuration", err)
	}
	k.ConfigDigest, k.ConfigCRC = digestOf(config), fmt.Sprintf("%08x", crc32.ChecksumIEEE(config))
	release, err := readInside(b.Objects, releaseFile)
	if err != nil {
		return b.odd("kernel release", err)
	}
	k.Release = strings.TrimSpace(string(release))
	return kernel.Build{Status: kernel.BuildOK, Kernel: k}, nil
}

// hasPVH says whether a kernel of a configuration has a PVH entry.
func hasPVH(config []byte) bool { return kconfig.ParseConfig(config)["PVH"] == "y" }

// image finds what a make of target left, as a file of the object tree to keep, and
// its digest.
func (b *Builder) image(target string) (file, digest string, err error) {
	if target != vmlinuxFile {
		digest, err = fileDigest(b.Objects, bzImageFile)
		return bzImageFile, digest, err
	}
	whole, err := readInside(b.Objects, vmlinuxFile)
	if err != nil {
		return "", "", err
	}
	packed, err := kimage.Pack(whole)
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", errOdd, err)
	}
	return packedFile, digestOf(packed), writeInside(b.Objects, packedFile, packed)
}

// odd is the outcome of a make that ended well without leaving what. Where
// something else is in its place the object tree goes with it: it would be in
// the way of the next commit, and make does not always replace it.
func (b *Builder) odd(what string, err error) (kernel.Build, error) {
	if !errors.Is(err, errOdd) {
		return kernel.Build{}, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		if err := emptyDir(b.Objects); err != nil {
			return kernel.Build{}, fmt.Errorf("object tree: %w", err)
		}
	}
	return kernel.Build{Status: kernel.BuildFailed, Error: fmt.Sprintf("the build left no %s: %v", what, err)}, nil
}

// configure composes the .config with merge_config.sh and olddefconfig and
// asserts every request. It returns why the tree refuses, "" if it does not.
func (b *Builder) configure(ctx context.Context, m *makeRun) (string, error) {
	makefile, err := readInside(b.Source.Dir(), "Makefile")
	if err != nil {
		return "kernel Makefile: " + err.Error(), nil //nolint:nilerr // a tree without one is the commit's doing
	}
	v, err := kconfig.TreeVersion(makefile)
	if err != nil {
		return err.Error(), nil //nolint:nilerr // a tree without a version is the commit's doing
	}
	var reqs []kconfig.Request
	var names []string
	base := "allnoconfig"
	if b.Whole != nil {
		base = "alldefconfig"
		names = append(names, "kbisect-whole.config")
		if err := writeInside(b.Objects, names[0], b.Whole); err != nil {
			return "", err
		}
	}
	for i, f := range b.Fragments {
		r, err := kconfig.ParseFragment(f.Name, f.Text)
		if err != nil {
			return "", err
		}
		reqs = append(reqs, r...)
		name := fmt.Sprintf("kbisect-%d.config", i)
		if err := writeInside(b.Objects, name, f.Text); err != nil {
			return "", err
		}
		names = append(names, name)
	}
	path := filepath.Join(b.Objects, configFile)
	before, _ := readInside(b.Objects, configFile)
	stat, statErr := os.Stat(path)
	ok, err := m.mergeConfig(ctx, base, names)
	if err != nil {
		return "", err
	}
	if !ok {
		return "kconfig: " + m.firstError(), nil
	}
	after, err := readInside(b.Objects, configFile)
	if err != nil {
		left, err := b.odd("configuration", err)
		return left.Error, err
	}
	// An equal configuration keeps its time, or make would start over.
	if statErr == nil && string(before) == string(after) {
		_ = os.Chtimes(path, stat.ModTime(), stat.ModTime())
	}
	if refused := kconfig.Refused(reqs, kconfig.ParseConfig(after), v); len(refused) > 0 {
		msg := fmt.Sprintf("kconfig: on %s %s: a dependency is missing there", v, refused[0])
		if n := len(refused) - 1; n > 0 {
			msg += fmt.Sprintf(" (and %d more)", n)
		}
		return msg, nil
	}
	return "", nil
}

func (b *Builder) report(p Progress) {
	if b.Progress != nil {
		b.Progress(p)
	}
}

func fileDigest(dir, name string) (string, error) {
	data, err := readInside(dir, name)
	if err != nil {
		return "", err
	}
	return digestOf(data), nil
}
