package kbuild

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// A kernel whose objects are its sources without comments, and whose image is its
// objects. FAIL and HEADER in a source are what they say.
const (
	linking = makefile + `	@$(MAKE) -s -f $(CURDIR)/Makefile.build obj=. need-builtin=1 O=$(O)
	@$(MAKE) -s -f $(CURDIR)/scripts/Makefile.vmlinux_o O=$(O)
`
	objectMakefile = `all:
	@for d in $(if $(filter .,$(obj)),mm kernel); do $(MAKE) -s -f $(CURDIR)/Makefile.build obj=$$d need-builtin=1 O=$(O) || exit 1; done
	@for f in $(wildcard $(CURDIR)/$(obj)/*.c); do \
		o=$(O)/$(obj)/$$(basename $$f .c).o; \
		if grep -q FAIL $$f; then echo "$$f:1:1: error: FAIL"; exit 1; fi; \
		if grep -q HEADER $$f; then echo x > $(O)/include/generated.h; fi; \
		sed 's, *//.*,,' $$f > $$o; echo "source_x := $$f" > $(O)/$(obj)/.$$(basename $$o).cmd; \
	done
`
	linkMakefile = `all:
	@cat $(O)/mm/*.o $(O)/kernel/*.o > $(O)/arch/x86/boot/bzImage
	@echo linked
`
)

// What is compiled to equal objects is not linked, and has the kernel that was linked
// of them.
func TestEqualObjects(t *testing.T) {
	both(t, func(t *testing.T, sandbox bool) {
		b, src := builder(t, sandbox, "[ -e $obj/mm ] || {\n"+goodBuild+"mkdir -p $obj/mm $obj/kernel\n}\ncat $src/mm/*.c $src/kernel/*.c > /dev/null\n")
		src.write("Makefile", linking)
		src.write("Makefile.build", objectMakefile)
		src.write("scripts/Makefile.vmlinux_o", linkMakefile)
		src.write("mm/gup.c", "1\n")
		src.write("mm/ksm.c", "ksm\n")
		src.write("kernel/fork.c", "fork\n")
		var last kernel.Build
		for _, c := range []struct {
			name, file, text string
			linked           bool
			status           kernel.BuildStatus
			image            string
		}{
			{"at first", "mm/gup.c", "1\n", true, kernel.BuildOK, "1\nksm\nfork\n"},
			{"a comment", "mm/gup.c", "1 // x\n", false, kernel.BuildOK, "1\nksm\nfork\n"},
			{"another", "kernel/fork.c", "fork // x\n", false, kernel.BuildOK, "1\nksm\nfork\n"},
			{"code, after what was not linked", "mm/gup.c", "2 // x\n", true, kernel.BuildOK, "2\nksm\nfork\n"},
			{"a comment again", "mm/gup.c", "2 // y\n", false, kernel.BuildOK, "2\nksm\nfork\n"},
			{"a comment, and something that is no object", "mm/ksm.c", "ksm // HEADER\n", true, kernel.BuildOK, "2\nksm\nfork\n"},
			{"a comment, where that is not to be hoped for", "mm/ksm.c", "ksm // w\n", true, kernel.BuildOK, "2\nksm\nfork\n"},
			{"a comment that does not compile", "mm/ksm.c", "ksm // FAIL\n", false, kernel.BuildFailed, ""},
			{"a comment after that", "mm/ksm.c", "ksm // z\n", true, kernel.BuildOK, "2\nksm\nfork\n"},
			{"code and back in one", "kernel/fork.c", "fork\n", false, kernel.BuildOK, "2\nksm\nfork\n"},
		} {
			src.write(c.file, c.text)
			got := build(t, b, src)
			b.unequal = b.unequal && strings.Contains(c.name, "no object") // for one time
			log := read(t, got.Log)
			linked := strings.Contains(log, "\nlinked\n")
			if got.Status != c.status || got.Cached || linked != c.linked {
				t.Errorf("%s: %+v, linked: %v\n%s", c.name, got, linked, log)
			}
			if c.status != kernel.BuildOK {
				continue
			}
			if image := read(t, got.Kernel.Image); image != c.image || got.Kernel.Digest != digestOf([]byte(image)) || read(t, got.Kernel.Config) == "" {
				t.Errorf("%s: %+v with the image %q", c.name, got, image)
			}
			if got.Kernel.Key == last.Kernel.Key || got.SameAs != "" {
				t.Errorf("%s: %+v counts as %+v", c.name, got, last)
			}
			last = got
			r := b.loadReads()
			if n := len(r.Trees); n != 1 || r.Trees[0] != src.commit().Tree || r.Built[len(r.Built)-1].Key != got.Kernel.Key {
				t.Errorf("%s: known afterwards: %+v", c.name, r)
			}
		}
	})
}

// Objects that a build makes no more, or that it makes beside, are not as they were.
func TestComparison(t *testing.T) {
	b, _ := builder(t, false, goodBuild)
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(b.Objects, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d := dirs{".": true, "mm": true, "gone": true}
	for _, c := range []struct {
		name   string
		do     func()
		want   bool
		edited []string
	}{
		{"all is equal", func() { put("mm/a.o", "a") }, true, []string{"mm/a.o"}},
		{"the object is compiled later", func() {}, false, []string{"mm/a.o"}},
		{"it is not where it could be compared", func() {}, false, []string{"kernel/a.o"}},
		{"no word of submake", func() { _ = os.Remove(filepath.Join(b.Objects, equalFile)) }, false, nil},
		{"a word that is a link", func() {
			_ = os.Remove(filepath.Join(b.Objects, equalFile))
			_ = os.Symlink("mm/a.o", filepath.Join(b.Objects, equalFile))
		}, false, nil},
		{"another object", func() { put("mm/a.o", "b") }, false, nil},
		{"one more", func() { put("mm/b.o", "b") }, false, nil},
		{"one less", func() { _ = os.Remove(filepath.Join(b.Objects, "mm/a.o")) }, false, nil},
		{"one in another directory", func() { put("kernel/c.o", "c") }, false, nil},
		{"a header", func() { put("include/generated/x.h", "x") }, false, nil},
		{"what each build makes", func() { put("mm/built-in.a", "x"); put("mm/.a.o.cmd", "x"); put("modules.order", "") }, true, nil},
	} {
		if err := os.RemoveAll(b.Objects); err != nil {
			t.Fatal(err)
		}
		put("mm/a.o", "a")
		objects, err := b.objectsIn(d)
		if err != nil || len(objects) != 1 {
			t.Fatal(objects, err)
		}
		time.Sleep(20 * time.Millisecond) // a tick
		if err := b.mark(); err != nil {
			t.Fatal(err)
		}
		st, err := os.Lstat(markFile(b.Objects))
		if err != nil {
			t.Fatal(err)
		}
		before := &comparison{objects: objects, edited: c.edited, began: st.ModTime()}
		put(equalFile, "")
		if c.do(); before.proven(t.Context(), b, d) != c.want {
			t.Errorf("%s: not %v", c.name, c.want)
		}
	}
}
