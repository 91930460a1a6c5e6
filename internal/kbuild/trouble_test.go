package kbuild

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

const install = "deploy/install-deps"

// Whose fault is it? The output decides; "" is the commit's.
func TestWhoseFault(t *testing.T) {
	const tree = "mm/x.c:3:4: error: 'y' undeclared\n"
	for _, c := range []struct{ output, says string }{
		// Programs and headers of the machine.
		{"/bin/sh: 1: bc: not found\nmake[2]: *** [Kbuild:24: include/generated/timeconst.h] Error 127\n", "bc is missing"},
		{"/bin/sh: line 1: bc: command not found\nmake: *** [x] Error 127", "bc is missing"},
		{"/bin/sh: bc: not found", "bc is missing"},
		{"/build/src/scripts/link.sh: 12: awk: not found", "awk is missing"},
		{"/bin/sh: 1: /usr/bin/awk: not found", "/usr/bin/awk is missing"},
		{"make[1]: flex: No such file or directory\nmake[1]: *** [x: y] Error 127", "flex is missing"},
		{"/usr/bin/env: 'python3': No such file or directory\nmake: *** [x] Error 127", "python3 is missing"},
		{"/bin/sh: 1: bc: Permission denied\nmake: *** [x] Error 126", "bc is missing"},
		{"make: *** [Kbuild:2: x] Error 127", "Kbuild:2"},
		{"/bin/sh: 1: bc: not found\n" + tree + "make: *** [x] Error 1", ""},
		{"/build/src/tools/objtool/include/objtool/elf.h:10:10: fatal error: gelf.h: No such file or directory\n" + tree, "gelf.h is missing"},
		{"certs/extract-cert.c:21:10: fatal error: openssl/bio.h: No such file or directory", "openssl/bio.h is missing"},
		{"scripts/basic/fixdep.c:91:10: fatal error: sys/types.h: No such file or directory", "sys/types.h is missing"},
		{"/usr/bin/ld: cannot find -lelf: No such file or directory", "-lelf is missing"},
		{"Makefile:950: *** \"please install libelf-dev\".  Stop.", "libelf is missing"},
		// The same of the tree.
		{"/bin/sh: 1: ./scripts/foo.sh: not found\nmake: *** [x] Error 127", ""},
		{"/bin/sh: 1: /build/src/scripts/foo.sh: not found\nmake: *** [x] Error 127", ""},
		{"/bin/sh: 1: scripts/foo.sh: Permission denied\nmake: *** [x] Error 126", ""},
		{"/bin/sh: 1: -Wp,-MMD: not found\nmake: *** [x] Error 127", ""},
		{"make: Makefile.new: No such file or directory\nmake: *** No rule to make target 'Makefile.new'.  Stop.", ""},
		{"mm/x.c:1:10: fatal error: stdio.h: No such file or directory", ""},
		{tree + "/bin/sh: 1: bc: not found\nmake: *** [x] Error 127", ""},
		{"cat: include/config: No such file or directory\n/bin/sh: 1: bc: not found\nmake: *** [x] Error 127", "bc is missing"},
		// Words of a source that fails to compile.
		{"mm/x.c:3:4: error: static assertion failed: \"Cannot allocate memory\"", ""},
		{"mm/x.c:3:2: error: #error No space left on device", ""},
		{tree + "    3 |   pr_err(\"Cannot allocate memory\");\n      |   ^ No space left on device", ""},
		{"      |   Cannot allocate memory\n   12 | make: Disk quota exceeded", ""},
		{"mm/x.c:3:4: warning: Cannot allocate memory\nmm/x.c:3:4: note: No space left on device\nld: warning: Cannot allocate memory", ""},
		{tree + "  pr_err(\"Cannot allocate memory\");", ""},
		{"Makefile:3: *** Cannot allocate memory.  Stop.", ""},
		// Words of programs, whatever else went wrong.
		{tree + "mm/z.c:1:1: fatal error: error writing to /tmp/z.s: No space left on device", "disk is full"},
		{tree + "/usr/bin/ld: final link failed: No space left on device", "disk is full"},
		{tree + "/bin/sh: 1: echo: write error: No space left on device", "disk is full"},
		{tree + "cp: error writing 'x': No space left on device", "disk is full"},
		{tree + "{standard input}: Fatal error: can't close x.o: No space left on device", "disk is full"},
		{tree + "scripts/x.sh: line 3: cannot create temp file for here-document: No space left on device", "disk is full"},
		{tree + "make[2]: *** [x: y] Killed", "--jobs"},
		{tree + "cc1: out of memory allocating 65536 bytes after a total of 1 bytes", "memory"},
		{"error writing the output: No space left on device", "disk is full"},
	} {
		m := makeRun{b: &Builder{Owner: "/data", Objects: t.TempDir()}, signs: signs{src: sandboxSrc, obj: sandboxObj}}
		m.logged = maxLog // none is kept
		for line := range strings.Lines(c.output) {
			if err := m.keep([]byte(line)); err != nil {
				t.Fatal(err)
			}
		}
		err := m.hostTrouble(2)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s\n\t%v, want %q", c.output, err, c.says)
		}
		if strings.Contains(c.says, "is missing") && err != nil && !strings.Contains(err.Error(), install) {
			t.Errorf("no remedy in %v", err)
		}
	}
}

// With the real shell and make, from the recipe to the cache.
func TestMissingProgram(t *testing.T) {
	both(t, func(t *testing.T, sandbox bool) {
		b, src := builder(t, sandbox, "kbisect-no-such-tool x")
		got, err := b.Build(t.Context(), src.commit())
		if err == nil || !strings.Contains(err.Error(), "kbisect-no-such-tool is missing") || !strings.Contains(err.Error(), install) {
			t.Errorf("%+v, %v", got, err)
		}
		noEntry(t, b, src)
		src.write("build.sh", "$src/scripts/gone.sh")
		if got := build(t, b, src); got.Status != kernel.BuildFailed || !strings.Contains(got.Error, "gone.sh") {
			t.Errorf("the tree's own script: %+v", got)
		}
	})
}

// A program that cannot write may say something else, or nothing.
func TestFullDiskWithoutAWord(t *testing.T) {
	both(t, func(t *testing.T, sandbox bool) {
		b, src := builder(t, sandbox, `head -c 9M /dev/zero > $obj/fill 2>/dev/null
echo "mm/x.c:1:1: error: unterminated #if"; exit 1`)
		if err := os.Mkdir(b.Objects, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", b.Objects, "tmpfs", 0, "size=6m"); err != nil {
			t.Skipf("no mount here: %v", err)
		}
		defer func() { _ = syscall.Unmount(b.Objects, syscall.MNT_DETACH) }()
		if got, err := b.Build(t.Context(), src.commit()); err == nil || !strings.Contains(err.Error(), "disk is full") {
			t.Errorf("%+v, %v", got, err)
		}
		noEntry(t, b, src)
		_ = os.Remove(b.Objects + "/fill")
		src.write("build.sh", goodBuild+"rm $obj/arch/x86/boot/bzImage; mkdir $obj/arch/x86/boot/bzImage\n")
		if got := build(t, b, src); got.Status != kernel.BuildFailed {
			t.Errorf("a directory for an image, on a mount: %+v", got)
		}
	})
}
