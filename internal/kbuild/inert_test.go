package kbuild

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// A commit that changes only what no build sees has the kernel of the one
// before, and costs nothing; one that changes anything else is built.
func TestInertCommits(t *testing.T) {
	needSandbox(t)
	b, src := builder(t, true, goodBuild+"ls $src $src/Documentation $src/tools $src/tools/testing; cat $src/CREDITS || true\n")
	for _, f := range []string{"Documentation/mm/cow.rst", "Documentation/Kconfig", "Documentation/Makefile", "tools/testing/x.c", "tools/objtool/x.c", "CREDITS", "MAINTAINERS", "LICENSES/GPL"} {
		src.write(f, "one of "+f+"\n")
	}
	first := build(t, b, src)
	log := read(t, first.Log)
	if first.Status != kernel.BuildOK || first.Cached || !strings.Contains(log, "objtool") || !strings.Contains(log, "Kconfig\nMakefile\n") {
		t.Fatalf("%+v\n%s", first, log)
	}
	for _, hidden := range []string{"x.c", "one of CREDITS", "cow.rst", "mm\n"} {
		if strings.Contains(log, hidden) {
			t.Errorf("the build sees %q:\n%s", hidden, log)
		}
	}
	for _, f := range []string{"Documentation/mm/cow.rst", "Documentation/new.rst", "tools/testing/x.c", "tools/testing/new/y.c", "CREDITS", "MAINTAINERS", "LICENSES/MIT"} {
		src.write(f, "another\n")
		checkouts := src.checkouts
		got := build(t, b, src)
		if !got.Cached || got.Kernel.Digest != first.Kernel.Digest || src.checkouts != checkouts {
			t.Errorf("%s: %+v", f, got)
		}
		kept, ok, err := b.Kept(t.Context(), src.commit())
		if err != nil || !ok || kept.Kernel.Digest != first.Kernel.Digest {
			t.Errorf("%s is not kept as the commit's own: %v, %v", f, ok, err)
		}
	}
	for _, f := range []string{"Documentation/new/Kconfig", "Documentation/x", "Documentation"} {
		if isInert(f) != (f != "Documentation") {
			t.Errorf("%s is taken for something else", f)
		}
	}
	for _, f := range []string{"Documentation/Kconfig", "tools/objtool/new.c", "mm/CREDITS", "mm/Documentation/x"} {
		src.write(f, "another\n")
		if got := build(t, b, src); got.Cached && f != "Documentation/Kconfig" {
			t.Errorf("%s: not built", f)
		}
	}
	// What is a link is not what it is taken for: it stays, and counts.
	if err := os.Remove(filepath.Join(src.dir, "CREDITS")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(src.dir, "CREDITS")); err != nil {
		t.Fatal(err)
	}
	src.write("mm/new.c", "x")
	if got := build(t, b, src); got.Cached || strings.Contains(read(t, got.Log), "root:") {
		t.Errorf("a link: %+v", got)
	}
}

// A build that wants what it must not see fails, and says so.
func TestInertIsWanted(t *testing.T) {
	needSandbox(t)
	b, src := builder(t, true, "cat $src/Documentation/version >&2 || exit 1\n"+goodBuild)
	src.write("Documentation/version", "1\n")
	if got := build(t, b, src); got.Status != kernel.BuildFailed {
		t.Errorf("%+v", got)
	}
}

// Without the sandbox builds see everything.
func TestInertNeedsTheSandbox(t *testing.T) {
	b, src := builder(t, false, goodBuild)
	src.write("CREDITS", "one\n")
	build(t, b, src)
	src.write("Documentation/new.rst", "two\n")
	if got := build(t, b, src); got.Cached {
		t.Errorf("%+v", got)
	}
}
