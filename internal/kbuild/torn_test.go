package kbuild

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// A kernel with an object that takes its time, if it is to be slow.
const slowly = makefile + `bzImage: $(O)/half.o
$(O)/half.o: $(CURDIR)/half.c
	@echo half > $@
	@if grep -q slow $<; then $(TRAP) echo "  CC      half.o"; sleep 100; fi
	@cat $< > $@
`

// wantedNoMore begins a build and cancels it when the object is half written.
func wantedNoMore(t *testing.T, b *Builder, src *tree) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b.Progress = func(p Progress) {
		if p.Objects > 0 {
			cancel()
		}
	}
	if got, err := b.Build(ctx, src.commit()); !errors.Is(err, context.Canceled) {
		t.Fatalf("%+v, %v: want Canceled", got, err)
	}
	b.Progress = nil
	waitGone(t, b.Owner)
}

// slow is a builder of such a kernel, built once and with an edit that takes long.
func slow(t *testing.T, sandbox bool, trap string) (*Builder, *tree) {
	t.Helper()
	b, src := builder(t, sandbox, goodBuild+"cat $obj/half.o >> $obj/arch/x86/boot/bzImage\n[ -e $obj/old ] || touch $obj/old\n")
	src.write("Makefile", strings.ReplaceAll(slowly, "$(TRAP)", trap))
	src.write("half.c", "1\n")
	if got := build(t, b, src); read(t, got.Kernel.Image) != "image\n1\n" {
		t.Fatalf("%+v", got)
	}
	time.Sleep(20 * time.Millisecond) // a tick
	src.write("half.c", "slow\n")
	return b, src
}

func (b *Builder) has(name string) bool {
	_, err := os.Lstat(filepath.Join(b.Objects, name))
	return err == nil
}

// What a build was writing when nobody wanted it any more is not taken for done.
func TestInterruptedBuild(t *testing.T) {
	was := grace
	grace = time.Minute // what it takes is not the test's concern
	defer func() { grace = was }()
	for name, trap := range map[string]string{
		"at once":                     "",
		"the second time it is asked": "trap 'trap - INT; sleep 100' INT; ",
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, sandbox bool) {
				b, src := slow(t, sandbox, trap)
				wantedNoMore(t, b, src)
				if b.has("half.o") || !b.has("old") {
					t.Error("make has not deleted what it was writing, or all is deleted")
				}
				if b.loadReads().Trees == nil { // as after a kill
					t.Error("it is not known what is in the tree")
				}
				src.write("half.c", "2\n")
				if got := build(t, b, src); got.Status != kernel.BuildOK || read(t, got.Kernel.Image) != "image\n2\n" {
					t.Errorf("%+v: %q", got, read(t, got.Kernel.Image))
				}
			})
		})
	}
}

// A build that does not let itself be interrupted is killed, and what it made deleted.
func TestKilledBuild(t *testing.T) {
	was := grace
	grace = 300 * time.Millisecond
	defer func() { grace = was }()
	both(t, func(t *testing.T, sandbox bool) {
		b, src := slow(t, sandbox, "trap '' INT TERM; ")
		wantedNoMore(t, b, src)
		if b.has("half.o") || !b.has("old") || !b.has(".config") {
			t.Error("what it made is there, or what it did not")
		}
		if r := b.loadReads(); r.Trees != nil {
			t.Errorf("it is known what is in the tree: %q", r.Trees)
		}
		// One that was configuring may have left anything.
		b.Fragments = b.Fragments[:1]
		wantedNoMore(t, b, src)
		if b.has("old") {
			t.Error("something is left")
		}
		src.write("half.c", "2\n")
		if got := build(t, b, src); got.Status != kernel.BuildOK || read(t, got.Kernel.Image) != "image\n2\n" {
			t.Errorf("%+v: %q", got, read(t, got.Kernel.Image))
		}
	})
}

// Nor is it when we were killed ourselves.
func TestMend(t *testing.T) {
	for _, c := range []struct {
		name           string
		marked, known  bool
		half, old, dir bool // what is left
	}{
		{"a build came to its end", false, true, true, true, true},
		{"we were killed while one made files", true, true, false, true, true},
		{"we were killed while one was configuring", false, false, false, false, false},
		{"somebody deleted what is known", true, false, false, false, false},
		{"it was an older kbisect's", false, false, false, false, false},
	} {
		b, _ := builder(t, false, goodBuild)
		put := func(path string) {
			t.Helper()
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		put(filepath.Join(b.Objects, "mm/old.o"))
		if c.known {
			known := &reads{Toolchain: b.toolchain, Complete: true, Files: set{"mm/old.c": true}, Trees: []string{"a tree"}}
			if err := known.save(b.readsFile()); err != nil {
				t.Fatal(err)
			}
		}
		if strings.Contains(c.name, "older") {
			if err := os.WriteFile(b.readsFile(), []byte(`{"toolchain": "test", "complete": true, "files": ["mm/old.c"], "trees": ["a tree"]}`), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(20 * time.Millisecond) // a tick
		if c.marked {
			if err := b.mark(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		put(filepath.Join(b.Objects, "mm/half.o"))
		if err := b.mend(); err != nil {
			t.Fatal(err)
		}
		if b.has("mm/half.o") != c.half || b.has("mm/old.o") != c.old || b.has("mm") != c.dir {
			t.Errorf("%s: left are half.o %v, old.o %v, mm %v", c.name, b.has("mm/half.o"), b.has("mm/old.o"), b.has("mm"))
		}
		if known := b.loadReads(); !known.Complete || known.Files["mm/old.c"] != c.known || (len(known.Trees) > 0) != (c.known && !c.marked) {
			t.Errorf("%s: known is %+v", c.name, known)
		}
		if _, err := os.Lstat(markFile(b.Objects)); err == nil {
			t.Errorf("%s: the mark is there", c.name)
		}
	}
}

// An object tree begins as a copy of another only where that is of builds that came to
// an end.
func TestTornSeed(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(b *Builder) error
		want bool
	}{
		{"sound", func(*Builder) error { return nil }, true},
		{"sound, and in the tree is what nobody knows", func(b *Builder) error {
			return os.MkdirAll(filepath.Join(b.Owner, "slots", "his", "obj", "half"), 0o755)
		}, true},
		{"a build is under way there, or was killed", (*Builder).mark, false},
		{"nobody knows", func(b *Builder) error { return os.Remove(b.readsFile()) }, false},
	} {
		b, src := builder(t, false, goodBuild)
		build(t, b, src)
		if err := c.do(b); err != nil {
			t.Fatal(err)
		}
		his := *b
		his.Apart, his.Seed, his.Objects = "stranger", b.Objects, filepath.Join(b.Owner, "slots", "his", "obj")
		if err := his.sow(t.Context()); err != nil {
			t.Fatal(err)
		}
		if his.has(configFile) != c.want || his.has("half") {
			t.Errorf("%s: copied: %v", c.name, !c.want)
		}
		if got := build(t, &his, src); got.Status != kernel.BuildOK || (got.SameAs != "") != c.want {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}
