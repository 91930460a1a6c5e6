package ktap

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
		for _, s := range t.Said {
			fmt.Fprintf(&b, "\t%s\n", s)
		}
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
		{"only a plan", v + "1..1\n", Error, "missing results: 1 of 1 planned"},
		{"one pass", v + "1..1\nok 1 a\n", Pass, ""},
		{"no plan", v + "ok 1 a\n", Pass, ""},
		{"plan last", v + "ok 1 a\nok 2 b\n1..2\n", Pass, ""},
		{"missing", v + "1..2\nok 1 a\n", Error, "missing results: 1 of 2 planned"},
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
		{"child missing", v + "1..1\n# TAP version 13\n# 1..2\n# ok 1 x\nok 1 a\n", Error, "a / missing results: 1 of 2 planned"},
		{"children skip", v + "1..1\n# TAP version 13\n# 1..1\n# ok 1 # SKIP x\nok 1 a\n", Skip, "a / x"},
		{"child plans nothing", v + "1..1\n    KTAP version 1\n    1..0 # SKIP no pool\nok 1 a\n", Skip, "a: no pool"},
		{"parent lost", v + "# TAP version 13\n# ok 1 x\n", Error, "unnamed subtest: no result line after its subtests"},
		{"only a nested block", "# TAP version 13\n# ok 1 x\nok 1 a\n", Pass, ""},
		{"hash lines without a block", v + "1..1\n# ok 1 x\n# not ok 2 y\nok 1 a\n", Pass, ""},
		{"bail out after everything", v + "1..1\nnot ok 1 a\nBail out! 1 of 1 failed\n", Fail, "a"},
		{"bail out after passes", v + "1..1\nok 1 a\nBail out! cannot clean up\n", Fail, "Bail out!: cannot clean up"},
		{"xpass passes", v + "1..1\nok 1 # XPASS a\n", Pass, ""},
		{"died in a test", v + "1..3\n# [RUN] a\nok 1 fine\n# [RUN] b\n", Error, "b: started but not reported"},
		{"died in a test, no plan", v + "# [RUN] a\nok 1 fine\n# [RUN] b\n", Error, "b: started but not reported"},
		{"headline in front of a run", v + "1..1\n# [RUN] all of them\n# [RUN] a\nok 1 fine\n", Pass, ""},
		{"last words after the plan is met", v + "1..1\n# [RUN] a\nok 1 fine\n# [RUN] done\n", Pass, ""},
		{"skipped as the runner says", v + "1..1\n# TAP version 13\n# 1..9\n# ok 1 # SKIP no THP\nok 1 a # SKIP\n", Skip, "a / no THP"},
		{"died as the runner says", v + "1..1\n# TAP version 13\n# 1..9\n# ok 1 # SKIP no THP\nnot ok 1 a # exit=139\n", Fail, "a: exit=139"},
		{"missing though the runner is content", v + "1..1\n# TAP version 13\n# 1..9\n# ok 1 # SKIP no THP\nok 1 a\n", Error, "a / missing results: 8 of 9 planned"},
		{"nested bail out after passes", v + "1..1\n# TAP version 13\n# 1..1\n# ok 1 x\n# Bail out! y\nok 1 a\n", Fail, "a / Bail out!: y"},
		{"nothing comes after the end", v + "1..2\nok 1 a\n\tKernel panic - not syncing: VFS: no root\nok 2 b\n", Error, "missing results: 1 of 2 planned"},
		{"empty subtest", v + "1..1\n    # Subtest: a\nok 1 a\n", Error, "a: says ok, but its subtests reported nothing"},
		{"empty program", v + "1..1\n# TAP version 13\nok 1 a\n", Pass, ""},
		{"deeper than its block", v + "1..1\n  KTAP version 1\n  1..1\n      not ok 1 x\nok 1 a\n", Fail, "a / x"},
		{"deeper than the margin", v + "1..1\n      ok 1 x\n", Error, "missing results: 1 of 1 planned"},
		{"indented as a whole", "  KTAP version 1\n  1..1\n  not ok 1 a\n", Fail, "a"},
		{"head lost", "  KTAP version 1\n  1..1\n  ok 1 x\nnot ok 1 a\n", Fail, "a"},
		{"kernel cuts a line", v + "1..2\nok 1 a[    9.114000] BUG: x\nnot ok 2 b[    9.115000][   T81] more\n", Fail, "b"},
		{"logger with a clock", "10:00:01 vm [    1.0] KTAP version 1\n10:00:02 vm [    2.0] 1..1\n10:12:33 vm [   12.0] not ok 1 a\n", Fail, "a"},
		{"any prefix", "guest: KTAP version 1\nguest: 1..1\nguest: not ok 1 a\n", Fail, "a"},
		{"two outputs joined", v + "1..1\nok 1 a\n" + v + "1..2\nok 1 b\n", Error, "missing results: 1 of 2 planned"},
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

// One test has one name on every kernel, whatever its text says of the outcome.
func TestOneNameAcrossReleases(t *testing.T) {
	names := func(file string) (out []string) {
		data, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		Parse(data).Walk(func(path string, _ Test) { out = append(out, path) })
		return out
	}
	old, recent := names("cow-6.12.tap"), names("cow-7.3.tap")
	if d := cmp.Diff(old, recent); d != "" || len(old) != 8 {
		t.Errorf("names differ between 6.12 and 7.3:\n%s", d)
	}
	run := func(line string) string {
		r := Parse([]byte("TAP version 13\n1..1\n# [RUN] pin\n" + line + "\n"))
		return r.Tests[0].Name
	}
	for _, line := range []string{"ok 1 no leak", "not ok 1 leak", "ok 1 # SKIP no swap", "ok 1 # XFAIL leak", "not ok 1 # error fork", "ok 1", "ok 1 pin", "", "not ok 1 # TIMEOUT 45 seconds"} {
		if got := run(line); got != "pin" {
			t.Errorf("%q names the test %q", line, got)
		}
	}
}

func TestSkippedRest(t *testing.T) {
	const v = "TAP version 13\n"
	for _, tt := range []struct {
		in     string
		reason string
		ok     bool
	}{
		{v + "1..21\nok 1 # SKIP not available\n", "not available", true},
		{v + "1..3\nok 1 a\nok 2 b # SKIP no swap\n", "b: no swap", true},
		{v + "1..3\n# [RUN] a\nok 1 # SKIP no swap\n", "a: no swap", true},
		{v + "1..3\nok 1 # SKIP a\nok 2 b\n", "", false},
		{v + "1..3\nnot ok 1 a\nok 2 # SKIP b\n", "", false},
		{v + "1..3\nnot ok 1 # error a\nok 2 # SKIP b\n", "", false},
		{v + "1..1\nok 1 # SKIP a\n", "", false},
		{v + "1..2\nok 1 # SKIP a\nBail out!\n", "", false},
		{v + "1..3\nok 1 # SKIP a\n# [RUN] b\n", "", false},
		{v + "1..2\n", "", false},
		{"", "", false},
	} {
		r := Parse([]byte(tt.in))
		if reason, ok := r.SkippedRest(); ok != tt.ok || reason != tt.reason {
			t.Errorf("%q: %q, %v", tt.in, reason, ok)
		}
		if r.Overall() == Pass || r.Overall() == Skip && tt.ok {
			t.Errorf("%q is %s without an exit status", tt.in, r.Overall())
		}
	}
}

func TestNamesAreUnique(t *testing.T) {
	r := Parse([]byte("TAP version 13\nok 1 a\nok 2 a\nok 3 a (2)\nok 4 a\nok 5\nok 6 test 5\n"))
	seen := map[string]bool{}
	r.Walk(func(path string, _ Test) {
		if seen[path] {
			t.Errorf("%q twice", path)
		}
		seen[path] = true
	})
	if len(seen) != 6 {
		t.Errorf("%d names", len(seen))
	}
}
