package kbuild

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

func TestBuild(t *testing.T) {
	both(t, func(t *testing.T, sandbox bool) {
		b, src := builder(t, sandbox, goodBuild)
		var phases []string
		b.Progress = func(p Progress) { phases = append(phases, p.Phase) }
		got := build(t, b, src)
		if got.Status != kernel.BuildOK || got.Cached || got.Error != "" || got.Kernel.Release != "6.12.0-fake" {
			t.Errorf("%+v", got)
		}
		if want := fmt.Sprintf("%x", sha256.Sum256([]byte("image\n"))); got.Kernel.Digest != want {
			t.Errorf("digest %s, want %s", got.Kernel.Digest, want)
		}
		config := read(t, got.Kernel.Config)
		if want := fmt.Sprintf("%x", sha256.Sum256([]byte(config))); got.Kernel.ConfigDigest != want {
			t.Errorf("config digest %s, want %s", got.Kernel.ConfigDigest, want)
		}
		if config != "CONFIG_MMU=y\n# why\nCONFIG_KSM=y\n# done\n" {
			t.Errorf("config: %q", config)
		}
		if image := read(t, got.Kernel.Image); image != "image\n" {
			t.Errorf("image: %q", image)
		}
		if log := read(t, got.Log); !strings.Contains(log, "+ make ") {
			t.Errorf("log: %q", log)
		}
		if strings.Join(phases, " ") != "checkout configure" {
			t.Errorf("phases: %v", phases)
		}

		again := build(t, b, src)
		if n := makes(t, b); !again.Cached || n != 1 || src.checkouts != 1 {
			t.Errorf("the second time: cached %v, made %d times, checked out %d times", again.Cached, n, src.checkouts)
		}
		if again.Kernel != got.Kernel {
			t.Errorf("%+v, want %+v", again.Kernel, got.Kernel)
		}

		// A new tree on the warm objects.
		src.write("new", "file")
		if next := build(t, b, src); next.Cached || next.Kernel.Key == got.Kernel.Key || next.Kernel.Digest != got.Kernel.Digest {
			t.Errorf("%+v", next)
		}
	})
}

func TestKept(t *testing.T) {
	b, src := builder(t, false, goodBuild)
	if _, has, err := b.Kept(t.Context(), src.commit()); has || err != nil {
		t.Errorf("before the build: %v, %v", has, err)
	}
	build(t, b, src)
	if k, has, err := b.Kept(t.Context(), kernel.Commit{Tree: src.commit().Tree}); !has || err != nil || k.Seconds <= 0 {
		t.Errorf("after it: %v, %v, %g s", has, err, k.Seconds)
	}
	src.write("another", "file")
	if _, has, _ := b.Kept(t.Context(), src.commit()); has {
		t.Error("another tree is said to be there")
	}
	bad, src := builder(t, false, "exit 1\n")
	build(t, bad, src)
	if _, has, _ := bad.Kept(t.Context(), src.commit()); has {
		t.Error("a failed build is said to be a kernel")
	}
	if got, known, err := bad.Known(t.Context(), src.commit()); !known || err != nil || got.Status != kernel.BuildFailed {
		t.Errorf("a failed build is not known: %+v, %v", got, err)
	}
}

// What an earlier commit left in the object tree gets into a kernel when make
// does not see that it is stale; not into a clean one.
func TestBuildClean(t *testing.T) {
	both(t, func(t *testing.T, sandbox bool) {
		b, src := builder(t, sandbox, goodBuild+`if test -e $obj/stale; then echo stale >$obj/arch/x86/boot/bzImage; fi; touch $obj/stale
`)
		first, err := b.BuildClean(t.Context(), src.commit()) // there is no object tree yet
		if err != nil || first.Status != kernel.BuildOK || first.Cached {
			t.Fatalf("%+v, %v", first, err)
		}
		warm := build(t, b, src)
		if warm.Cached || warm.Kernel.Digest == first.Kernel.Digest || warm.Kernel.Key == first.Kernel.Key {
			t.Errorf("the clean kernel stands in for a common one: %+v", warm)
		}
		if again := build(t, b, src); !again.Cached || again.Kernel != warm.Kernel {
			t.Errorf("%+v, want %+v", again, warm)
		}
		made := makes(t, b)
		if again, err := b.BuildClean(t.Context(), src.commit()); err != nil || !again.Cached || again.Kernel != first.Kernel || makes(t, b) != made {
			t.Errorf("the second time: %+v, %v", again, err)
		}
		src.write("new", "file")
		if next, err := b.BuildClean(t.Context(), src.commit()); err != nil || next.Kernel.Digest != first.Kernel.Digest {
			t.Errorf("on a warm tree it is not clean: %+v, %v", next, err)
		}
	})
}

// make compares times: a new .config with the old text would compile everything.
func TestEqualConfigKeepsItsTime(t *testing.T) {
	b, src := builder(t, false, goodBuild)
	build(t, b, src)
	config := filepath.Join(b.Objects, ".config")
	before, err := os.Stat(config)
	if err != nil {
		t.Fatal(err)
	}
	src.write("new", "file")
	build(t, b, src)
	after, err := os.Stat(config)
	if err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("time %v became %v (%v)", before.ModTime(), after.ModTime(), err)
	}
}

func TestCompileFailure(t *testing.T) {
	for _, c := range []struct{ name, script, want string }{
		{"compiler", `echo "  CC      lib/error-inject.o"
echo "error: something earlier"
echo "$src/mm/memory.c:12:3: warning: error-prone"
echo "$src/mm/memory.c:34:5: error: 'x' undeclared"
echo "../src/mm/other.c:1:1: error: a later one"
echo "make[2]: *** [scripts/Makefile.build:1: mm/memory.o] Error 1"; exit 1`, "mm/memory.c:34:5: error: 'x' undeclared"},
		{"fatal", `echo "$obj/include/x.h:1:10: fatal error: y.h: No such file or directory"; exit 1`,
			"include/x.h:1:10: fatal error: y.h: No such file or directory"},
		{"linker", `echo "make: *** noise"
echo "ld: mm/gup.o: in function f: gup.c:(.text+0x1): undefined reference to 'g'"; exit 1`,
			"ld: mm/gup.o: in function f: gup.c:(.text+0x1): undefined reference to 'g'"},
		{"make only", `echo "  CC      lib/error-inject.o"; echo "make[1]: *** [x] Error 3"; exit 3`, "make[1]: *** [x] Error 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, sandbox bool) {
				b, src := builder(t, sandbox, c.script)
				got := build(t, b, src)
				if got.Status != kernel.BuildFailed || got.Error != c.want || got.Kernel.Digest != "" || got.Kernel.Image != "" {
					t.Errorf("%+v, want %q", got, c.want)
				}
				if log := read(t, got.Log); !strings.Contains(log, c.want[len(c.want)-8:]) {
					t.Errorf("the log lacks the error: %q", log)
				}
				// It will not compile the second time either.
				if again := build(t, b, src); !again.Cached || again.Status != kernel.BuildFailed || again.Error != c.want || makes(t, b) != 1 {
					t.Errorf("the second time: %+v", again)
				}
			})
		})
	}
	b, src := builder(t, false, "exit 1")
	src.write("Makefile", strings.Replace(makefile, "bzImage:\n\t@", "bzImage:\n\t-@", 1))
	if got := build(t, b, src); got.Status != kernel.BuildFailed || !strings.HasPrefix(got.Error, "the build left no kernel image: ") {
		t.Errorf("make ended well without an image: %+v", got)
	}
}

// A symbol that merge_config.sh drops without a word would make tests skip or
// pass for nothing.
func TestRefused(t *testing.T) {
	for _, c := range []struct{ name, fragment, says string }{
		{"one", "CONFIG_MMU=y\n\nCONFIG_GONE=y\n", "CONFIG_GONE=y (my.config:3)"},
		{"two", "CONFIG_GONE=y\nCONFIG_GONE2=y\n", "CONFIG_GONE=y (my.config:1) became n: a dependency is missing there (and 1 more)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, sandbox bool) {
				b, src := builder(t, sandbox, goodBuild)
				src.write("absent", "CONFIG_GONE=y\nCONFIG_GONE2=y\n")
				b.Fragments = append(b.Fragments, Fragment{"my.config", []byte(c.fragment)})
				got := build(t, b, src)
				if got.Status != kernel.BuildRefused || !strings.Contains(got.Error, c.says) || !strings.Contains(got.Error, "6.12") {
					t.Errorf("%+v, want %q", got, c.says)
				}
				if again := build(t, b, src); !again.Cached || again.Status != kernel.BuildRefused {
					t.Errorf("the second time: %+v", again)
				}
			})
		})
	}
}

// Trees that are no proper kernels are the commit's doing, not ours.
func TestTreeThatCannotBeConfigured(t *testing.T) {
	for name, damage := range map[string]func(*tree){
		"no version":      func(s *tree) { s.write("Makefile", "all:\n") },
		"no Makefile":     func(s *tree) { _ = os.Remove(filepath.Join(s.dir, "Makefile")) },
		"no merge script": func(s *tree) { _ = os.RemoveAll(filepath.Join(s.dir, "scripts")) },
		"syntax":          func(s *tree) { s.write("Makefile", makefile+"\nendif\n") },
	} {
		t.Run(name, func(t *testing.T) {
			b, src := builder(t, false, goodBuild)
			damage(src)
			if got := build(t, b, src); got.Status != kernel.BuildRefused || got.Error == "" {
				t.Errorf("%+v", got)
			}
		})
	}
}

// A fragment of the user with a mistake is an error before anything is made.
func TestBrokenFragment(t *testing.T) {
	b, src := builder(t, false, goodBuild)
	b.Fragments = []Fragment{{"my.config", []byte("CONFIG_OK=y\nnonsense\n")}}
	if got, err := b.Build(t.Context(), src.commit()); err == nil || !strings.Contains(err.Error(), "my.config:2") {
		t.Errorf("%+v, %v", got, err)
	}
	noEntry(t, b, src)
}

// What the machine lacks says nothing about the commit: never a result, never
// kept.
func TestTroubleOfTheHost(t *testing.T) {
	for _, c := range []struct{ name, script, says string }{
		{"disk", `echo "mm/x.c:1:1: fatal error: error writing to /tmp/x.s: No space left on device"; exit 1`, "disk is full"},
		{"disk, make", `echo "make: write error: stdout: No space left on device"; exit 1`, "disk is full"},
		{"quota", `echo "ld: final link failed: Disk quota exceeded"; exit 1`, "quota"},
		{"compiler killed", `echo "gcc: fatal error: Killed signal terminated program cc1"; exit 1`, "--jobs"},
		{"step killed", `sh -c 'kill -9 $$'`, "--jobs"},
		{"step killed under make", `echo "make[1]: *** [Makefile:9: vmlinux] Killed"; exit 1`, "--jobs"},
		{"make killed", `p=$PPID
grep -q make /proc/$p/comm || p=$(sed -n 's/^PPid:\s*//p' /proc/$p/status)
kill -9 $p; sleep 1`, "make was killed"},
		{"linker killed in a script", `echo "scripts/link-vmlinux.sh: line 49:  1234 Killed                  ld"; exit 1`, "--jobs"},
		{"memory", `echo "cc1: out of memory allocating 1 bytes"; echo "virtual memory exhausted: Cannot allocate memory"; exit 1`, "memory"},
		{"processes", `echo "make: vfork: Resource temporarily unavailable"; exit 1`, "limit"},
		{"sandbox", `echo "bwrap: No permissions to create new namespace"; exit 1`, "doctor"},
		{"after many errors", `for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22; do
echo "error $i"; done; echo "ld: final link failed: No space left on device"; exit 1`, "disk is full"},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, sandbox bool) {
				b, src := builder(t, sandbox, c.script)
				got, err := b.Build(t.Context(), src.commit())
				if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), src.commit().Short()) {
					t.Errorf("%+v, %v: want an error that says %q", got, err, c.says)
				}
				noEntry(t, b, src)
				src.write("build.sh", goodBuild)
				if got := build(t, b, src); got.Status != kernel.BuildOK {
					t.Errorf("after the trouble: %+v", got)
				}
			})
		})
	}
	// A word in the output of a good build is no trouble.
	b, src := builder(t, false, goodBuild+`echo "warning: No space left on device"; echo "step Killed"`)
	if got := build(t, b, src); got.Status != kernel.BuildOK {
		t.Errorf("%+v", got)
	}
}

type brokenSource struct{ *tree }

func (brokenSource) Checkout(context.Context, string) error { return errors.New("git is broken") }

func TestCheckoutFails(t *testing.T) {
	b, src := builder(t, false, goodBuild)
	b.Source = brokenSource{src}
	if got, err := b.Build(t.Context(), src.commit()); err == nil || !strings.Contains(err.Error(), "git is broken") {
		t.Errorf("%+v, %v", got, err)
	}
	noEntry(t, b, src)
}

type badCommit struct{ *tree }

func (badCommit) Checkout(context.Context, string) error { return fmt.Errorf("x: %w", badTree{}) }

type badTree struct{}

func (badTree) Error() string       { return "git says no" }
func (badTree) Unbuildable() string { return "it has a .git" }

// A commit that no directory can hold does not build, and the job goes on.
func TestCommitThatCannotBeCheckedOut(t *testing.T) {
	b, src := builder(t, false, goodBuild)
	b.Source = badCommit{src}
	for range 2 {
		got, err := b.Build(t.Context(), src.commit())
		if err != nil || got.Status != kernel.BuildFailed || got.Error != "it has a .git" {
			t.Errorf("%+v, %v", got, err)
		}
	}
	b.Source = src
	src.write("a.c", "another")
	if got, err := b.Build(t.Context(), src.commit()); err != nil || got.Status != kernel.BuildOK {
		t.Errorf("the next: %+v, %v", got, err)
	}
}

// Equal inputs share a build; whatever gets into the image parts them.
func TestKey(t *testing.T) {
	base := func() *Builder {
		return &Builder{Owner: "/a", Objects: "/a/obj", Jobs: 1, toolchain: "gcc 14",
			Fragments: []Fragment{{"one", []byte("A")}, {"two", []byte("B")}}}
	}
	c := kernel.Commit{SHA: "s1", Tree: "t1", Subject: "x"}
	key := func(change func(b *Builder, c *kernel.Commit)) string {
		t.Helper()
		b, c := base(), c
		change(b, &c)
		k, err := b.key(t.Context(), c)
		if err != nil || len(k) != 64 {
			t.Fatalf("key %q, %v", k, err)
		}
		return k
	}
	want := key(func(*Builder, *kernel.Commit) {})
	for name, change := range map[string]func(b *Builder, c *kernel.Commit){
		"paths": func(b *Builder, _ *kernel.Commit) {
			b.Owner, b.Objects, b.Source = "/b", "/b/obj", &tree{dir: "/b/src"}
		},
		"jobs":    func(b *Builder, _ *kernel.Commit) { b.Jobs = 8 },
		"message": func(_ *Builder, c *kernel.Commit) { c.SHA, c.Subject = "s2", "y" },
	} {
		if key(change) != want {
			t.Errorf("%s changes the key", name)
		}
	}
	seen := map[string]string{want: "nothing"}
	for name, change := range map[string]func(b *Builder, c *kernel.Commit){
		"tree":      func(_ *Builder, c *kernel.Commit) { c.Tree = "t2" },
		"toolchain": func(b *Builder, _ *kernel.Commit) { b.toolchain = "gcc 15" },
		"text":      func(b *Builder, _ *kernel.Commit) { b.Fragments[0].Text = []byte("C") },
		"order":     func(b *Builder, _ *kernel.Commit) { b.Fragments[0], b.Fragments[1] = b.Fragments[1], b.Fragments[0] },
		"fewer":     func(b *Builder, _ *kernel.Commit) { b.Fragments = b.Fragments[:1] },
		"joined text": func(b *Builder, _ *kernel.Commit) {
			b.Fragments = []Fragment{{"one", []byte("A\nfragment two\nB")}}
		},
		"whole":       func(b *Builder, _ *kernel.Commit) { b.Whole = []byte("A") },
		"empty whole": func(b *Builder, _ *kernel.Commit) { b.Whole = []byte{} },
		"joined":      func(b *Builder, _ *kernel.Commit) { b.Fragments = []Fragment{{"one", []byte("A\nfragment two 1\nB")}} },
	} {
		k := key(change)
		if was := seen[k]; was != "" {
			t.Errorf("%s gives the same key as %s", name, was)
		}
		seen[k] = name
	}
}

// Where the machine starts a vmlinux, and the configuration has an entry for that,
// no bzImage is made.
func TestDirect(t *testing.T) {
	both(t, func(t *testing.T, sandbox bool) {
		elf, err := os.ReadFile("testdata/vmlinux") // of kimage's tests, packed
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			name, config string
			direct       bool
			text, want   string
		}{
			{"vmlinux", "CONFIG_PVH=y\n", true, string(elf) + "symbols", string(elf)},
			{"no entry", "CONFIG_PVH=y\n", true, "\x7fELF", ""},
			{"not configured", "# CONFIG_PVH is not set\n", true, string(elf), "image\n"},
			{"another machine", "CONFIG_PVH=y\n", false, string(elf), "image\n"},
		} {
			b, src := builder(t, sandbox, goodBuild)
			src.write("Makefile", makefile+"vmlinux:\n\t@mkdir -p $(O)/include/config; echo 6.12.0-fake > $(O)/include/config/kernel.release; cp $(CURDIR)/vmlinux.text $(O)/vmlinux\n")
			src.write("vmlinux.text", tt.text)
			b.Direct = tt.direct
			b.Fragments = append(b.Fragments, Fragment{"pvh.config", []byte(tt.config)})
			got := build(t, b, src)
			if tt.want == "" {
				if got.Status != kernel.BuildFailed || !strings.Contains(got.Error, "no kernel image: not a file of a kernel: not an x86 kernel image") {
					t.Errorf("%s: %+v", tt.name, got)
				}
				continue
			}
			if got.Status != kernel.BuildOK || read(t, got.Kernel.Image) != tt.want || got.Kernel.Digest != digestOf([]byte(tt.want)) {
				t.Errorf("%s: %+v", tt.name, got)
			}
			if b.Direct = !b.Direct; tt.direct {
				if has := b.Cache.Has(got.Kernel.Key); !has || build(t, b, src).Kernel.Key == got.Kernel.Key {
					t.Errorf("%s: both kinds of machine share a kernel", tt.name)
				}
			}
		}
	})
}
