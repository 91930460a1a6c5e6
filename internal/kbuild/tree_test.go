package kbuild

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/imagecache"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// A kernel tree as far as kbuild knows kernels. `make bzImage` runs build.sh,
// which every test writes; symbols listed in absent do not exist.
const (
	makefile = `VERSION = 6
PATCHLEVEL = 12
allnoconfig:
	@echo made >> $(O)/makes
	@grep -v -x -F -f $(CURDIR)/absent $(KCONFIG_ALLCONFIG) > $(O)/.config
alldefconfig:
	@echo made >> $(O)/makes
	@(cat $(KCONFIG_ALLCONFIG); echo CONFIG_DEFAULT=y) | grep -v -x -F -f $(CURDIR)/absent > $(O)/.config
olddefconfig:
	@echo '# done' >> $(O)/.config
bzImage:
	@src=$(CURDIR) obj=$(O) sh $(CURDIR)/build.sh
`
	mergeScript = `while [ $# -gt 0 ]; do
	case $1 in -m) ;; -O) shift ;; *) cat "$1" ;; esac
	shift
done > "$KCONFIG_CONFIG"
`
	// goodBuild leaves what a finished kernel build leaves.
	goodBuild = `mkdir -p $obj/arch/x86/boot $obj/include/config
echo image > $obj/arch/x86/boot/bzImage
echo 6.12.0-fake > $obj/include/config/kernel.release
`
)

// tree is a Source whose one commit is the files of its directory.
type tree struct {
	t         *testing.T
	dir       string
	checkouts int
	commits   map[string]map[string]string // of each its files
}

// Differ compares commits that were made before.
func (s *tree) Differ(_ context.Context, one, other string) ([]kernel.FileChange, error) {
	a, b := s.commits[one], s.commits[other]
	if a == nil || b == nil {
		return nil, fmt.Errorf("no commits %s, %s", one, other)
	}
	var out []kernel.FileChange
	for _, path := range slices.Sorted(maps.Keys(s.commits[other])) {
		if a[path] != b[path] {
			_, had := a[path]
			out = append(out, kernel.FileChange{Path: path, Edited: had, Regular: true})
		}
	}
	for path := range a {
		if _, has := b[path]; !has {
			out = append(out, kernel.FileChange{Path: path, Regular: true})
		}
	}
	return out, nil
}

func (s *tree) Dir() string { return s.dir }

func (s *tree) Checkout(ctx context.Context, _ string) error {
	s.checkouts++
	return ctx.Err()
}

func (s *tree) write(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// commit is a commit with the files as they are.
func (s *tree) commit() kernel.Commit {
	s.t.Helper()
	h := sha256.New()
	files := map[string]string{}
	_ = filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, _ error) error {
		if d.Type().IsRegular() {
			text, _ := os.ReadFile(path)
			h.Write([]byte(path))
			h.Write(text)
			files[strings.TrimPrefix(path, s.dir+"/")] = string(text)
		}
		return nil
	})
	id := hex.EncodeToString(h.Sum(nil))[:40]
	if s.commits == nil {
		s.commits = map[string]map[string]string{}
	}
	s.commits[id] = files
	return kernel.Commit{SHA: id, Tree: id}
}

// builder returns a Builder of a fresh tree whose bzImage is made by script.
// The toolchain is given, so that neither a compiler nor flex is needed.
func builder(t *testing.T, sandbox bool, script string) (*Builder, *tree) {
	t.Helper()
	top := t.TempDir()
	src := &tree{t: t, dir: filepath.Join(top, "src")}
	src.write("Makefile", makefile)
	src.write("scripts/kconfig/merge_config.sh", mergeScript)
	src.write("absent", "CONFIG_GONE=y\n")
	src.write("build.sh", script)
	cache, err := imagecache.Open(filepath.Join(top, "cache"))
	if err != nil {
		t.Fatal(err)
	}
	return &Builder{
		Owner: top, Source: src, Objects: filepath.Join(top, "obj"), Cache: cache,
		Fragments: []Fragment{{"base.config", []byte("CONFIG_MMU=y\n")}, {"extra.config", []byte("# why\nCONFIG_KSM=y\n")}},
		Jobs:      1, Timeout: 10 * time.Minute, Sandbox: sandbox, Log: zap.NewNop(), toolchain: "test",
	}, src
}

// both runs a test without and, where it works, with the sandbox.
func both(t *testing.T, f func(t *testing.T, sandbox bool)) {
	t.Helper()
	t.Run("plain", func(t *testing.T) { f(t, false) })
	t.Run("sandbox", func(t *testing.T) {
		needSandbox(t)
		f(t, true)
	})
}

func needSandbox(t *testing.T) {
	t.Helper()
	if err := CheckSandbox(t.Context()); err != nil {
		t.Skipf("no build sandbox here: %v", err)
	}
}

func build(t *testing.T, b *Builder, src *tree) kernel.Build {
	t.Helper()
	got, err := b.Build(t.Context(), src.commit())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// noEntry fails the test if the cache keeps anything.
func noEntry(t *testing.T, b *Builder, src *tree) {
	t.Helper()
	key, err := b.key(t.Context(), src.commit())
	if err != nil {
		t.Fatal(err)
	}
	if old, ok, err := b.Cache.Get(key); ok || err != nil {
		t.Errorf("the cache keeps %+v (%v)", old, err)
	}
}

// makes is how often the tree was configured.
func makes(t *testing.T, b *Builder) int {
	t.Helper()
	text, _ := os.ReadFile(filepath.Join(b.Objects, "makes"))
	return strings.Count(string(text), "\n")
}
