package kbuild

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// With ccache, what is compiled again is not: a clean build takes its objects,
// and what is read is seen all the same.
func TestCcache(t *testing.T) {
	if Ccache() == "" {
		t.Skip("no ccache here")
	}
	both(t, func(t *testing.T, sandbox bool) {
		b, src := builder(t, sandbox, goodBuild+`cd $obj
gcc -Wp,-MMD,.x.d -c -I $src/include -o x.o $src/mm/x.c
ccache --print-stats | sed -n 's/^\(direct_cache_hit\|cache_miss\)\t/\1 /p'
`)
		src.write("mm/x.c", "#include \"x.h\"\nint x(void) { return X; }\n")
		src.write("include/x.h", "#define X 1\n")
		if log := read(t, build(t, b, src).Log); !strings.Contains(log, "cache_miss 1") {
			t.Errorf("the first build:\n%s", log)
		}
		clean, err := b.BuildClean(t.Context(), src.commit())
		if err != nil || clean.Status != kernel.BuildOK {
			t.Fatalf("%+v, %v", clean, err)
		}
		if log := read(t, clean.Log); !strings.Contains(log, "direct_cache_hit 1") {
			t.Errorf("the clean build:\n%s", log)
		}
		known := b.loadReads()
		for _, f := range []string{"mm/x.c", "include/x.h"} {
			if !known.Files[f] {
				t.Errorf("ccache reads %s unseen: %v", f, known.Files)
			}
		}
		src.write("include/x.h", "#define X 2\n")
		if log := read(t, build(t, b, src).Log); !strings.Contains(log, "cache_miss 2") {
			t.Errorf("another header:\n%s", log)
		}
		if entries, _ := filepath.Glob(filepath.Join(b.ccacheDir(), "*")); len(entries) == 0 {
			t.Error("the cache is elsewhere")
		}
	})
}
