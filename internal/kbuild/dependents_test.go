package kbuild

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// cmdFile is what kbuild 6.1 leaves beside mm/mlock.o, shortened.
const cmdFile = `cmd_mm/mlock.o := gcc -Wp,-MMD,mm/.mlock.o.d -I/build/src/include -include /build/src/include/linux/kconfig.h -c -o mm/mlock.o /build/src/mm/mlock.c

source_mm/mlock.o := /build/src/mm/mlock.c

deps_mm/mlock.o := \
  /build/src/include/linux/kconfig.h \
    $(wildcard include/config/FOO) \
  /build/src/include/linux/mm.h \
  arch/x86/include/generated/asm/rwonce.h \
  /usr/lib/gcc/x86_64-linux-gnu/12/include/stdarg.h \

mm/mlock.o: $(deps_mm/mlock.o)

$(deps_mm/mlock.o):
`

func TestIncluded(t *testing.T) {
	var got []string
	for file := range included([]byte(cmdFile), "/build/src") {
		got = append(got, string(file))
	}
	if want := []string{"mm/mlock.c", "include/linux/kconfig.h", "include/linux/mm.h"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// An object tree may be deleted while somebody reads the lists in it.
func TestDependentsOfNoTree(t *testing.T) {
	d := (&Builder{Objects: filepath.Join(t.TempDir(), "gone"), Sandbox: true}).Dependents()
	if d.Counter()("mm/mlock.c") != 0 {
		t.Errorf("%+v", d)
	}
}

func FuzzIncluded(f *testing.F) {
	f.Add([]byte(cmdFile))
	f.Add([]byte("deps_x := \\\n/build/src/"))
	f.Add([]byte("source_:= /build/src/\\"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for file := range included(text, "/build/src") {
			if len(file) > len(text) {
				t.Errorf("%q is not of the file", file)
			}
		}
	})
}

func TestDependents(t *testing.T) {
	b := &Builder{Objects: t.TempDir(), Sandbox: true}
	for name, text := range map[string]string{
		"mm/.a.o.cmd": "source_a := /build/src/mm/a.c\n\ndeps_a := \\\n /build/src/include/mm.h \\\n /build/src/include/list.h \\\n\n",
		"mm/.b.o.cmd": "source_b := /build/src/mm/b.c\n\ndeps_b := \\\n /build/src/include/mm.h \\\n\n",
		"fs/.c.o.cmd": "source_c := /build/src/fs/c.c\n\ndeps_c := \\\n /build/src/include/list.h \\\n\n",
		"fs/.d.o.cmd": "\x00 nonsense",
		"fs/c.o":      "source_c := /build/src/mm/a.c\n",
	} {
		path := filepath.Join(b.Objects, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(b.Objects, "fs/.e.o.cmd")); err != nil {
		t.Fatal(err)
	}
	d := b.Dependents()
	if n := d.Objects(); n != 3 {
		t.Errorf("%d objects", n)
	}
	// b depends on mm.h alone, c on list.h, and a on both.
	sizes, of := d.Classes([]string{"include/mm.h", "drivers/x.c", "include/list.h"})
	if len(sizes) != 3 || len(of) != 3 || len(of[0]) != 2 || len(of[1]) != 0 || len(of[2]) != 2 {
		t.Errorf("%v %v", sizes, of)
	}
	if sizes, of := d.Classes([]string{"include/mm.h"}); !slices.Equal(sizes, []int{2}) || !slices.Equal(of[0], []int{0}) {
		t.Errorf("%v %v", sizes, of)
	}
	count, last := d.Counter(), 0
	for _, tt := range []struct {
		path string
		n    int
	}{{"drivers/x.c", 0}, {"mm/a.c", 1}, {"include/mm.h", 2}, {"mm/b.c", 2}, {"include/list.h", 3}} {
		if last = count(tt.path); last != tt.n {
			t.Errorf("with %s %d objects, want %d", tt.path, last, tt.n)
		}
	}
}

// What classes make stale together is what their files make stale.
func TestClassesCountObjects(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := &Dependents{of: map[string]*[]int{}, n: rapid.IntRange(0, 12).Draw(t, "objects")}
		names := []string{"a", "b", "c", "d", "e"}
		for _, f := range names {
			if d.n > 0 {
				objects := rapid.SliceOfN(rapid.IntRange(0, d.n-1), 0, 14).Draw(t, f)
				d.of[f] = &objects
			}
		}
		sizes, of := d.Classes(names)
		count, seen, sum := d.Counter(), map[int]bool{}, 0
		for _, i := range rapid.Permutation([]int{0, 1, 2, 3, 4}).Draw(t, "order") {
			for _, k := range of[i] {
				if !seen[k] {
					seen[k] = true
					sum += sizes[k]
				}
			}
			if want := count(names[i]); sum != want {
				t.Fatalf("with %s %d objects, want %d; %v %v", names[i], sum, want, sizes, of)
			}
		}
		alike := map[string]bool{}
		for o := range d.n {
			on := ""
			for _, f := range names {
				if slices.Contains(d.on(f), o) {
					on += f
				}
			}
			alike[on] = true
		}
		if delete(alike, ""); len(sizes) != len(alike) {
			t.Fatalf("%d classes, want %d", len(sizes), len(alike))
		}
		if len(seen) != len(sizes) || slices.Contains(sizes, 0) {
			t.Fatalf("%v %v", sizes, of)
		}
	})
}
