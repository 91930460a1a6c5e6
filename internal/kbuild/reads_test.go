package kbuild

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// readingBuild opens mm/read.c, and mm/first.c as long as there is no object of it.
const readingBuild = goodBuild + `cat $src/mm/read.c >> $obj/arch/x86/boot/bzImage
test -e $obj/first.o || cp $src/mm/first.c $obj/first.o
test -e $src/mm/stat.c
for f in $src/mm/listed*; do :; done
`

func readingTree(t *testing.T, sandbox bool) (*Builder, *tree) {
	t.Helper()
	b, src := builder(t, sandbox, readingBuild)
	for _, f := range []string{"mm/read.c", "mm/first.c", "mm/stat.c", "drivers/unread.c"} {
		src.write(f, "1\n")
	}
	return b, src
}

func TestUnreadIsNotBuilt(t *testing.T) {
	both(t, func(t *testing.T, sandbox bool) {
		b, src := readingTree(t, sandbox)
		base := src.commit()
		first := build(t, b, src)
		for _, tt := range []struct {
			name, path string
			built      bool
		}{
			{"not opened", "drivers/unread.c", false},
			{"asked whether it is there", "mm/stat.c", false},
			{"opened", "mm/read.c", true},
			{"opened by an earlier build alone", "mm/first.c", true},
			{"opened by make", "Makefile", true},
			{"new", "drivers/new.c", true},
			{"new where a directory is listed", "mm/listed.c", true},
		} {
			src.write(tt.path, "# 2\n"+map[string]string{"Makefile": makefile}[tt.path])
			checkouts := src.checkouts
			got := build(t, b, src)
			if got.Status != kernel.BuildOK || got.Cached == tt.built || (src.checkouts > checkouts) != tt.built {
				t.Errorf("%s: %+v", tt.name, got)
			}
			if !tt.built && (got.SameAs != base.SHA || got.Kernel.Digest != first.Kernel.Digest || got.Seconds != 0) {
				t.Errorf("%s: %+v", tt.name, got)
			}
			if again := build(t, b, src); !again.Cached || again.SameAs != got.SameAs {
				t.Errorf("%s, again: %+v", tt.name, again)
			}
		}
		if got, err := b.BuildClean(t.Context(), src.commit()); err != nil || got.Cached {
			t.Errorf("clean: %+v, %v", got, err)
		}
		src.write("drivers/new.c", "3\n")
		build(t, b, src)
		src.write("drivers/unread.c", "3\n")
		if got := build(t, b, src); !got.Cached {
			t.Errorf("after a clean build: %+v", got)
		}
	})
}

// The builds in the object tree are known with what they took, the latest last:
// neither what failed nor what was not built.
func TestPast(t *testing.T) {
	b, src := readingTree(t, false)
	if past, err := b.Past(); err != nil || len(past) != 0 {
		t.Errorf("%+v, %v", past, err)
	}
	var want []string
	for _, c := range []struct {
		path, text string
		built      bool
	}{{"mm/read.c", "1\n", true}, {"drivers/unread.c", "2\n", false}, {"build.sh", "exit 1\n", false}, {"build.sh", readingBuild + "# again\n", true}} {
		src.write(c.path, c.text)
		if k := build(t, b, src); c.built {
			want = append(want, k.Kernel.Key)
		}
	}
	past, err := b.Past()
	var got []string
	for _, k := range past {
		if got = append(got, k.Kernel.Key); k.Seconds <= 0 {
			t.Errorf("%+v", k)
		}
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if err := b.Cache.Remove(want[0]); err != nil {
		t.Fatal(err)
	}
	if past, err := b.Past(); err != nil || len(past) != 1 {
		t.Errorf("one is not kept any more: %+v, %v", past, err)
	}
}

// Where it is not known what is in the object tree, all is built.
func TestReadsAreNotKnown(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, b *Builder){
		"interrupted": func(t *testing.T, b *Builder) {
			if err := os.Remove(b.readsFile()); err != nil {
				t.Fatal(err)
			}
		},
		"damaged": func(t *testing.T, b *Builder) {
			if err := os.WriteFile(b.readsFile(), []byte("{"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
		"another compiler": func(_ *testing.T, b *Builder) { b.toolchain = "another" },
		"other settings":   func(_ *testing.T, b *Builder) { b.Fragments = b.Fragments[:1] },
	} {
		t.Run(name, func(t *testing.T) {
			b, src := readingTree(t, false)
			build(t, b, src)
			spoil(t, b)
			src.write("drivers/unread.c", "2\n")
			if got := build(t, b, src); got.Cached {
				t.Errorf("%+v", got)
			}
			// It is known again after a clean build.
			if _, err := b.BuildClean(t.Context(), src.commit()); err != nil {
				t.Fatal(err)
			}
			src.write("mm/read.c", "3\n")
			build(t, b, src)
			src.write("drivers/unread.c", "3\n")
			if got := build(t, b, src); !got.Cached {
				t.Errorf("%+v", got)
			}
		})
	}
}

// A build that is given up keeps what it has opened: half of it is in the tree.
func TestReadsOfACancelledBuild(t *testing.T) {
	b, src := readingTree(t, false)
	build(t, b, src)
	src.write("build.sh", "cat $src/drivers/unread.c; touch $src/../reached; sleep 60")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(filepath.Join(src.dir, "../reached")); err == nil {
				cancel()
			}
		}
	}()
	if _, err := b.Build(ctx, src.commit()); err == nil {
		t.Fatal("it was not cancelled")
	}
	src.write("build.sh", readingBuild)
	build(t, b, src)
	src.write("drivers/unread.c", "2\n")
	if got := build(t, b, src); got.Cached {
		t.Errorf("%+v", got)
	}
}

// A clean build that ends while it empties the object tree leaves half of one, of
// which nothing may be known.
func TestReadsGoBeforeTheObjects(t *testing.T) {
	b, src := readingTree(t, false)
	build(t, b, src)
	if err := os.RemoveAll(b.Objects); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.Objects, nil, 0o644); err != nil { // it cannot be emptied
		t.Fatal(err)
	}
	if _, err := b.BuildClean(t.Context(), src.commit()); err == nil {
		t.Error("built in a file")
	}
	if _, err := os.Stat(b.readsFile()); err == nil {
		t.Error("something is known of half an object tree")
	}
}

// A commit that changes nothing that the configuration is made of is not
// configured anew.
func TestConfiguredOnce(t *testing.T) {
	b, src := readingTree(t, false)
	build(t, b, src)
	for _, tt := range []struct {
		path string
		made bool
	}{
		{"mm/read.c", false},
		{"absent", true},
		{"scripts/kconfig/conf.c", true},
		{"mm/Kconfig", true},
	} {
		before := makes(t, b)
		src.write(tt.path, "2\n")
		if build(t, b, src); (makes(t, b) > before) != tt.made {
			t.Errorf("%s: configured %d times, before %d", tt.path, makes(t, b), before)
		}
	}
	// What a build did to its .config does not stay.
	if err := os.WriteFile(filepath.Join(b.Objects, ".config"), []byte("CONFIG_EVIL=y\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := makes(t, b)
	src.write("mm/read.c", "3\n")
	if build(t, b, src); makes(t, b) == before {
		t.Error("a .config that is not ours was taken")
	}
	b.Fragments = b.Fragments[:1]
	if build(t, b, src); makes(t, b) != before+2 {
		t.Error("other settings have the same .config")
	}
}

// A directory that comes with a commit is watched from its build on.
func TestNewDirectoriesAreWatched(t *testing.T) {
	b, src := readingTree(t, false)
	build(t, b, src)
	src.write("new/deep/read.c", "1\n")
	src.write("build.sh", readingBuild+"cat $src/new/deep/read.c >> $obj/arch/x86/boot/bzImage\n")
	first := build(t, b, src)
	src.write("new/deep/read.c", "2\n")
	if got := build(t, b, src); got.Cached || got.Kernel.Digest == first.Kernel.Digest {
		t.Errorf("%+v", got)
	}
}
