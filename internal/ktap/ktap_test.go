package ktap

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func describe(r Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "overall %s", r.Overall())
	if why := r.Reason(); why != "" {
		fmt.Fprintf(&b, " (%s)", why)
	}
	fmt.Fprintf(&b, "\nversion %q planned %d skipall %q bailout %q\n", r.Version, r.Planned, r.SkipAll, r.BailOut)
	r.Walk(func(path string, t Test) {
		fmt.Fprintf(&b, "%-5s %d %s", t.Status, t.Number, path)
		if t.Directive != "" || t.Reason != "" {
			fmt.Fprintf(&b, " [%s] %s", t.Directive, t.Reason)
		}
		b.WriteByte('\n')
	})
	for _, s := range r.Problems {
		fmt.Fprintf(&b, "problem: %s\n", s)
	}
	for _, s := range r.Diagnostics {
		fmt.Fprintf(&b, "# %s\n", s)
	}
	return b.String()
}

func TestParseGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.tap")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			got := describe(Parse(data))
			golden := strings.TrimSuffix(name, ".tap") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("results differ (-want +got):\n%s", d)
			}
			crlf := strings.ReplaceAll(string(data), "\n", "\r\n")
			if d := cmp.Diff(got, describe(Parse([]byte(crlf)))); d != "" {
				t.Errorf("carriage returns matter:\n%s", d)
			}
		})
	}
}

func TestOverall(t *testing.T) {
	const v = "TAP version 13\n"
	for _, tt := range []struct {
		name, in string
		want     Status
		reason   string
	}{
		{"empty", "", Error, "no KTAP or TAP version line in the output"},
		{"no version", "1..1\nok 1 a\n", Error, "no KTAP or TAP version line in the output"},
		{"no results", v, Error, "the output has no results"},
		{"only a plan", v + "1..1\n", Error, "1 of 1 tests: planned but not reported"},
		{"one pass", v + "1..1\nok 1 a\n", Pass, ""},
		{"no plan", v + "ok 1 a\n", Pass, ""},
		{"plan last", v + "ok 1 a\nok 2 b\n1..2\n", Pass, ""},
		{"missing", v + "1..2\nok 1 a\n", Error, "1 of 2 tests: planned but not reported"},
		{"missing and failed", v + "1..2\nnot ok 1 a\n", Fail, "a"},
		{"failed", v + "1..2\nok 1 a\nnot ok 2 b # exit=1\n", Fail, "b: exit=1"},
		{"skip all", v + "1..0 # SKIP no THP\n", Skip, "everything skipped: no THP"},
		{"plan of nothing", v + "1..0\n", Skip, "everything skipped"},
		{"all skip", v + "1..2\nok 1 # SKIP a\nnot ok 2 b # SKIP why\n", Skip, "a"},
		{"xfail passes", v + "1..1\nok 1 # XFAIL a\n", Pass, ""},
		{"todo", v + "1..1\nnot ok 1 a # TODO soon\n", Pass, ""},
		{"todo that passes", v + "1..1\nok 1 a # todo soon\n", Pass, ""},
		{"lower case error", v + "1..1\nok 1 # error a\n", Error, "a"},
		{"timeout", v + "1..1\nnot ok 1 a # TIMEOUT 45 seconds\n", Error, "a: 45 seconds"},
		{"unknown directive", v + "1..1\nok 1 a # fast\n", Pass, ""},
		{"bail out", v + "1..3\nok 1 a\nBail out! no memory\n", Fail, "Bail out!: no memory"},
		{"wrong number is no failure", v + "1..2\nok 1 a\nok 3 b\n", Pass, ""},
		{"child fails", v + "1..1\n# TAP version 13\n# 1..1\n# not ok 1 x\nok 1 a\n", Fail, "a / x"},
		{"child missing", v + "1..1\n# TAP version 13\n# 1..2\n# ok 1 x\nok 1 a\n", Error, "a / 1 of 2 tests: planned but not reported"},
		{"children skip", v + "1..1\n# TAP version 13\n# 1..1\n# ok 1 # SKIP x\nok 1 a\n", Skip, "a / x"},
		{"child plans nothing", v + "1..1\n    KTAP version 1\n    1..0 # SKIP no pool\nok 1 a\n", Skip, "a: no pool"},
		{"parent lost", v + "# TAP version 13\n# ok 1 x\n", Error, "unnamed subtest: no result line after its subtests"},
		{"only a nested block", "# TAP version 13\n# ok 1 x\nok 1 a\n", Pass, ""},
		{"hash lines without a block", v + "1..1\n# ok 1 x\n# not ok 2 y\nok 1 a\n", Pass, ""},
		{"any prefix", "guest: KTAP version 1\nguest: 1..1\nguest: not ok 1 a\n", Fail, "a"},
		{"two outputs joined", v + "1..1\nok 1 a\n" + v + "1..2\nok 1 b\n", Error, "1 of 2 tests: planned but not reported"},
		{"stamp without nesting", "[    1.0] KTAP version 1\n[    1.1] 1..1\n[    1.2]   KTAP version 1\n[    1.3]   not ok 1 x\n[    1.4] ok 1 a\n", Fail, "a / x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Parse([]byte(tt.in))
			if got := r.Overall(); got != tt.want {
				t.Errorf("overall %s, want %s\n%s", got, tt.want, describe(r))
			}
			if got := r.Reason(); got != tt.reason {
				t.Errorf("reason %q, want %q", got, tt.reason)
			}
		})
	}
}

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

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.tap")
	for _, name := range files {
		if data, err := os.ReadFile(name); err == nil {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := Parse(data)
		pass := false
		n := 0
		r.Walk(func(path string, x Test) {
			n++
			pass = pass || x.Status == Pass || x.Status == XFail
			if x.Name == "" || !utf8.ValidString(x.Name+x.Reason) {
				t.Errorf("bad name or reason %+v", x)
			}
			for _, kid := range x.Children {
				if kid.Status == Fail && x.Status != Fail && x.Status != XFail {
					t.Errorf("%s is %s though %s failed", path, x.Status, kid.Name)
				}
			}
		})
		if n > maxTests {
			t.Errorf("%d tests kept", n)
		}
		if r.Overall() == Pass && !pass {
			t.Error("pass without a passing test")
		}
	})
}
