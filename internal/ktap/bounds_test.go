package ktap

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestBounds(t *testing.T) {
	deep := "KTAP version 1\n"
	for i := 1; i < 40; i++ {
		deep += strings.Repeat("  ", i) + "KTAP version 1\n" + strings.Repeat("  ", i) + "ok 1 a\n"
	}
	deep += "ok 1 a\n"
	if got := Parse([]byte(deep)).Overall(); got == Pass {
		t.Errorf("an output nested too deeply is %s", got)
	}
	many := Parse([]byte("TAP version 13\n" + strings.Repeat("ok 1 a\n", maxTests+10)))
	if len(many.Tests) > maxTests || len(many.Problems) > maxProblems || many.Overall() != Error {
		t.Errorf("%d tests, %d problems, %s", len(many.Tests), len(many.Problems), many.Overall())
	}
	long := Parse([]byte("TAP version 13\nok 1 " + strings.Repeat("ä", 1<<20)))
	if n := len(long.Tests[0].Name); n > maxText+8 {
		t.Errorf("name of %d bytes", n)
	}
}

// An output made to cost time or memory must not. The limits are those of a
// parser gone quadratic, a hundred times what is measured.
func TestHostile(t *testing.T) {
	const v = "TAP version 13\n"
	lines := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	for name, in := range map[string]string{
		"one name":       v + strings.Repeat("ok 1 a\n", 100_000),
		"names in turn":  v + lines(60_000, "ok %d a (2)\nok 1 a\n"),
		"runs":           v + lines(60_000, "# [RUN] %d\n"),
		"diagnostics":    v + lines(100_000, "# %d\n"),
		"bails":          v + strings.Repeat("Bail out!\n", 100_000),
		"versions":       strings.Repeat(v+"1..9\n", 50_000),
		"plans":          v + strings.Repeat("1..999999999\n", 60_000),
		"in and out":     v + strings.Repeat("  KTAP version 1\n  ok 1 a\nok 1 b\n", 40_000),
		"deeper":         v + lines(2000, strings.Repeat(" ", 1000)+"1..%d\n") + strings.Repeat("# ", 1<<20),
		"one line":       v + "ok 1 " + strings.Repeat("# ", 2<<20),
		"one short line": v + "ok 1 " + strings.Repeat("[    1.000000] ", 1<<19),
		"no newline":     strings.Repeat("KTAP version 1", 1<<18),
		"spaces":         v + strings.Repeat(strings.Repeat(" ", 4000)+"\n", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			r := Parse([]byte(in))
			if d := time.Since(start); d > time.Minute {
				t.Errorf("%s for %d bytes", d, len(in))
			}
			checkBounds(t, r, len(in))
			if r.Overall() == Pass && name != "in and out" && name != "one line" && name != "one short line" {
				t.Error("this is no pass")
			}
		})
	}
}

// checkBounds holds what is kept of an output of n bytes against the constants.
func checkBounds(t *testing.T, r Result, n int) {
	t.Helper()
	const slack = 64 // of what the parser puts around a clipped text
	tests, kept := 0, 0
	text := func(s string, max int) {
		kept += len(s)
		if len(s) > max || !utf8.ValidString(s) {
			t.Errorf("text of %d bytes, valid %v", len(s), utf8.ValidString(s))
		}
	}
	r.Walk(func(_ string, x Test) {
		tests++
		text(x.Name, 3*maxText+slack) // a byte that is no UTF-8 takes three
		text(x.Reason, 6*maxText+slack)
		if x.Name == "" || len(x.Said) > maxSaid {
			t.Errorf("name %q, %d lines said", x.Name, len(x.Said))
		}
		for _, s := range x.Said {
			text(s, 3*maxText)
		}
	})
	for _, s := range append(r.Diagnostics, r.Problems...) {
		text(s, 3*maxText+2*slack)
	}
	if tests > maxTests || len(r.Diagnostics) > maxDiagnostics || len(r.Problems) > maxProblems {
		t.Errorf("%d tests, %d diagnostics, %d problems", tests, len(r.Diagnostics), len(r.Problems))
	}
	// A line gives a name, a reason and a diagnostic; names of runs repeat.
	if kept > 16*n+(tests+60)*(maxText+slack) {
		t.Errorf("%d bytes kept of %d", kept, n)
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.tap")
	for _, name := range files {
		if data, err := os.ReadFile(name); err == nil {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		start := time.Now()
		r := Parse(data)
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%s for %d bytes", d, len(data))
		}
		checkBounds(t, r, len(data))
		pass := false
		r.Walk(func(path string, x Test) {
			pass = pass || x.Status == Pass || x.Status == XFail
			names := map[string]bool{}
			for _, kid := range x.Children {
				if kid.Status == Fail && x.Status != Fail && x.Status != XFail {
					t.Errorf("%s is %s though %s failed", path, x.Status, kid.Name)
				}
				if names[kid.Name] {
					t.Errorf("%s has two %q", path, kid.Name)
				}
				names[kid.Name] = true
			}
		})
		if r.Overall() == Pass && !pass {
			t.Error("pass without a passing test")
		}
		if _, ok := r.SkippedRest(); ok && r.Overall() != Error {
			t.Errorf("the rest is skipped, but the whole is %s", r.Overall())
		}
		// What a test says must not depend on who logged it.
		if r.Version != "" && Parse(append([]byte("noise\n"), data...)).Overall() != r.Overall() {
			t.Error("a line in front of the output changes it")
		}
	})
}
