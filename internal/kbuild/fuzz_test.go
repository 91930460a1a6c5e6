package kbuild

import (
	"bytes"
	"path"
	"strings"
	"testing"
)

// What a build prints is the patch's to choose: it is judged, never obeyed, and what
// is said of it stays on one line.
func FuzzNote(f *testing.F) {
	for _, s := range []string{"mm/x.c:3:4: error: x", "/bin/sh: 1: bc: not found", "make[1]: *** [x] Error 127\nenv: ‘python3’: No such file or directory", "cc1: out of memory allocating 1 bytes",
		"bwrap: x {dir} {line}", "{standard input}:1: Error: x\nmake: *** [x] Killed", "scripts/x: fatal error: gelf.h: No such file or directory", "   1 | error: ", "\x1b[31m: No space left on device"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, output string) {
		s := &signs{src: "/build/src", obj: "/build/obj"}
		for line := range strings.SplitSeq(output, "\n") {
			s.note(line)
		}
		if why := s.why(); strings.Contains(why, "\n") || len(why) > len(output)+300 {
			t.Errorf("%q: %q", output, why)
		}
	})
}

// A .cmd file that names a file of the sources has its name in it.
func FuzzLists(f *testing.F) {
	f.Add([]byte("source_a := /build/src/mm/a.c\n\ndeps_a := \\\n /build/src/mm/../include/mm.h \\\n"), "include/mm.h")
	f.Add([]byte("/a/../../x /"), "x")
	f.Add([]byte("\x00/"), "")
	f.Fuzz(func(t *testing.T, cmd []byte, file string) {
		name := []byte(path.Base(file))
		if there := bytes.Contains(cmd, name); !there && (lists(cmd, file) || hasName(cmd, name)) {
			t.Errorf("%q is in %q", file, cmd)
		}
	})
}
