package kbuild

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// A kernel whose make goes into directories as kbuild does, notes where it goes,
// and leaves lists of included files.
const (
	descending = makefile + `	@echo top >> $(O)/walked
	@$(MAKE) -s LDFLAGS= subdir=tools -C $(CURDIR)/tools/ objtool O=$(O)
	@$(MAKE) -s -f $(CURDIR)/Makefile.build obj=scripts/mod O=$(O)
	@$(MAKE) -s -f $(CURDIR)/Makefile.build obj=. need-builtin=1 need-modorder=1 O=$(O) src=$(CURDIR)
	@$(MAKE) -s -f $(CURDIR)/Makefile.build obj=init init/version.o O=$(O)
`
	buildMakefile = `all:
	@echo $(obj) $(MAKECMDGOALS) >> $(O)/walked
	@for d in $(if $(filter .,$(obj)),mm kernel) $(if $(filter kernel,$(obj)),kernel/rcu kernel/time); do \
		$(MAKE) -s -f $(CURDIR)/Makefile.build obj=$$d need-builtin=1 need-modorder=1 O=$(O) || exit 1; done
init/version.o: all
`
	toolsMakefile = ".PHONY: objtool\nobjtool:\n\t@echo tools >> $(O)/walked\n"
)

// cmdFiles are the .cmd files that its builds leave.
var cmdFiles = map[string]string{
	"mm/.gup.o.cmd":                "source_mm/gup.o := SRC/mm/gup.c\n\ndeps_mm/gup.o := \\\n  SRC/include/linux/mm.h \\\n  SRC/include/pin.h \\\n",
	"kernel/time/.tick.o.cmd":      "source_x := SRC/kernel/time/tick.c\n\ndeps_x := \\\n  SRC/kernel/time/tick.h \\\n",
	"kernel/rcu/.tree.o.cmd":       "source_x := SRC/kernel/rcu/tree.c\n\ndeps_x := \\\n  SRC/kernel/rcu/../time/tick.h \\\n  SRC/kernel/rcu/tree_stall.h \\\n",
	"kernel/.bounds.s.cmd":         "source_x := SRC/kernel/bounds.c\n\ndeps_x := \\\n  SRC/include/linux/mm.h \\\n",
	"scripts/mod/.modpost.o.cmd":   "source_x := SRC/scripts/mod/modpost.c\n",
	"tools/objtool/.check.o.cmd":   "source_x := SRC/tools/objtool/check.c\n",
	"arch/x86/kernel/.not-a-list":  "SRC/mm/gup.c\n",
	"kernel/rcu/.vmlinux.lds.cmd":  "deps_x := \\\n  SRC/include/layout.h \\\n",
	"kernel/rcu/.generated.o.cmd":  "source_x := kernel/rcu/generated.c\n",
	"kernel/rcu/.longer.o.cmd":     "source_x := SRC/kernel/rcu/not-gup.c\n SRC/mm/gup.cc SRC/other/mm/gup.c.orig\n",
	"kernel/rcu/.elsewhere.o.cmd":  "deps_x := \\\n  SRC/other/pin.h \\\n",
	"kernel/rcu/.sameplace2.o.cmd": "deps_x := \\\n  SRC/kernel/rcu/named.h \\\n",
}

func descendingTree(t *testing.T, sandbox bool) (*Builder, *tree) {
	t.Helper()
	script := goodBuild + "mkdir -p $obj/mm $obj/kernel/time $obj/kernel/rcu $obj/scripts/mod $obj/tools/objtool $obj/arch/x86/kernel\n" +
		"cat $(find $src/mm $src/kernel $src/include $src/scripts $src/tools $src/other -type f) >/dev/null\n"
	script += "(cd $src/lists; find . -type f) | while read f; do sed s=SRC=$src= $src/lists/$f > $obj/${f%.txt}; done\n[ ! -s $src/fail ]\n"
	b, src := builder(t, sandbox, script)
	for name, text := range cmdFiles {
		src.write("lists/"+name+".txt", text)
	}
	for name, text := range map[string]string{
		"Makefile": descending, "Makefile.build": buildMakefile, "tools/Makefile": toolsMakefile, "fail": "",
		"mm/Makefile": "obj-y += gup.o not-tick.o\n", "kernel/rcu/Makefile": "generated.c: named.h\n",
	} {
		src.write(name, text)
	}
	for _, f := range []string{"mm/gup.c", "include/linux/mm.h", "include/pin.h", "kernel/time/tick.c", "kernel/time/tick.h", "kernel/rcu/tree.c",
		"kernel/rcu/tree_stall.h", "kernel/rcu/named.h", "kernel/bounds.c", "scripts/mod/modpost.c", "tools/objtool/check.c", "include/layout.h", "mm/unlisted.c", "other/pin.h"} {
		src.write(f, "1\n")
	}
	return b, src
}

// walk builds and returns where make went.
func walk(t *testing.T, b *Builder, src *tree) (kernel.Build, string) {
	t.Helper()
	_ = os.Remove(filepath.Join(b.Objects, "walked"))
	got := build(t, b, src)
	text, _ := os.ReadFile(filepath.Join(b.Objects, "walked"))
	var at []string
	for l := range strings.Lines(string(text)) {
		at = append(at, strings.TrimSpace(l))
	}
	slices.Sort(at)
	return got, strings.Join(at, ", ")
}

const everywhere = "., init init/version.o, kernel, kernel/rcu, kernel/time, mm, scripts/mod, tools, top"

func TestDescend(t *testing.T) {
	both(t, func(t *testing.T, sandbox bool) {
		b, src := descendingTree(t, sandbox)
		if got, at := walk(t, b, src); at != everywhere || got.Status != kernel.BuildOK {
			t.Fatalf("at first into %s: %+v", at, got)
		}
		for _, tt := range []struct{ name, path, want string }{
			{"an object", "mm/gup.c", "., init init/version.o, mm, top"},
			{"a header of one", "include/pin.h", "., init init/version.o, mm, top"},
			{"a header that another includes by a way around", "kernel/time/tick.h", "., init init/version.o, kernel, kernel/rcu, kernel/time, top"},
			{"what a generated header is made of", "include/linux/mm.h", everywhere},
			{"a linker script", "include/layout.h", everywhere},
			{"a Makefile", "mm/Makefile", everywhere},
			{"a file that a Makefile names", "kernel/rcu/named.h", everywhere},
			{"a program of the build", "scripts/mod/modpost.c", everywhere},
			{"another", "tools/objtool/check.c", everywhere},
			{"a file that no list has", "mm/unlisted.c", everywhere},
			{"a new file", "mm/new.c", everywhere},
		} {
			text := "2\n"
			if strings.HasSuffix(tt.path, "Makefile") {
				text = "# 2\n"
			}
			src.write(tt.path, text)
			if got, at := walk(t, b, src); at != tt.want || got.Status != kernel.BuildOK {
				t.Errorf("%s: into %s, want %s", tt.name, at, tt.want)
			}
		}
	})
}

// After a build that failed there may be objects of its files, too.
func TestDescendAfterFailures(t *testing.T) {
	b, src := descendingTree(t, false)
	walk(t, b, src)
	src.write("fail", "x")
	src.write("kernel/time/tick.c", "2\n")
	if got, _ := walk(t, b, src); got.Status != kernel.BuildFailed {
		t.Fatalf("%+v", got)
	}
	src.write("fail", "")
	src.write("kernel/time/tick.c", "1\n")
	src.write("mm/gup.c", "2\n")
	if known := b.loadReads(); len(known.Trees) != 2 {
		t.Errorf("trees: %v", known.Trees)
	}
	if got, at := walk(t, b, src); at != "., init init/version.o, kernel, kernel/time, mm, top" || got.Status != kernel.BuildOK {
		t.Errorf("into %s", at)
	}
	// A .config that is another wants all objects made, and so it is until that was done.
	src.write("fail", "x")
	src.write("kernel/time/tick.c", "3\n")
	b.Fragments = b.Fragments[:1]
	if got, _ := walk(t, b, src); got.Status != kernel.BuildFailed {
		t.Fatalf("%+v", got)
	}
	src.write("fail", "")
	src.write("mm/gup.c", "3\n")
	if got, at := walk(t, b, src); at != everywhere || got.Status != kernel.BuildOK {
		t.Errorf("after a failure with another .config: into %s", at)
	}
	if known := b.loadReads(); len(known.Trees) != 1 {
		t.Errorf("trees: %v", known.Trees)
	}
}

func TestFailuresInARow(t *testing.T) {
	r := &reads{}
	if r.into("a", false); r.Trees != nil {
		t.Errorf("nothing is known and then %v", r.Trees)
	}
	r.into("a", true)
	for range maxTrees - 1 {
		r.into("b", false)
	}
	if len(r.Trees) != maxTrees {
		t.Errorf("%v", r.Trees)
	}
	if r.into("c", false); r.Trees != nil {
		t.Errorf("%v", r.Trees)
	}
	if r.into("d", true); len(r.Trees) != 1 {
		t.Errorf("%v", r.Trees)
	}
}

// What make does not go into may be damaged: then it goes there before the commit
// is blamed.
func TestDescendIntoADamagedTree(t *testing.T) {
	b, src := descendingTree(t, false)
	src.write("Makefile", descending+"\t@test -e $(O)/kernel.o || { echo kernel.o is missing; exit 1; }\n")
	src.write("Makefile.build", strings.Replace(buildMakefile, "all:\n", "all:\n\t@[ $(obj) != kernel ] || touch $(O)/kernel.o\n", 1))
	walk(t, b, src)
	if err := os.Remove(filepath.Join(b.Objects, "kernel.o")); err != nil {
		t.Fatal(err)
	}
	src.write("mm/gup.c", "2\n")
	if got, at := walk(t, b, src); got.Status != kernel.BuildOK || !strings.Contains(at, "kernel, kernel/rcu") {
		t.Errorf("into %s: %+v", at, got)
	}
}
