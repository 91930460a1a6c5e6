package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestToTSV(t *testing.T) {
	const check = `{"tests": [
		{"name": "cow/a/base", "verdict": "good", "runs": 1},
		{"name": "cow/b/base", "verdict": "inconclusive", "runs": 1, "fails": 1, "signature": {"kind": "crash"}},
		{"name": "cow/c/base", "verdict": "bad", "runs": 2, "fails": 2, "signature": {"kind": "fail"}},
		{"name": "cow/d/base", "verdict": "skipped"},
		{"name": "cow/e/base", "verdict": "untestable"},
		{"name": "cow/f/base", "verdict": "inconclusive"}]}`
	var out strings.Builder
	if err := toTSV(strings.NewReader(check), &out); err != nil {
		t.Fatal(err)
	}
	want := "cow/a/base\tpass\ncow/b/base\tcrash\ncow/c/base\tfail\ncow/d/base\tskip\ncow/e/base\tuntestable\ncow/f/base\terror\n"
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}

// files writes a directory of files by name, with "TEST OUTCOME, …" for lines.
func files(t *testing.T, byName map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range byName {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".tsv") {
			text = strings.NewReplacer(", ", "\n", " ", "\t").Replace(text) + "\n"
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTables(t *testing.T) {
	dir := files(t, map[string]string{
		"sound.tsv":            "cow/a/base pass, cow/a/swap xfail, cow/b/base pass, cow/c/base fail, cow/d/base skip",
		"seen-by-both.tsv":     "cow/a/base fail, cow/a/swap hang, cow/b/base error, cow/c/base fail",
		"ours.tsv":             "cow/a/base crash, cow/a/swap untestable, cow/b/base skip, cow/c/base fail",
		"theirs.tsv":           "cow/a/base pass, cow/a/swap pass, cow/b/base pass, cow/c/base fail",
		"no-boot.tsv":          "cow/a/base untestable, cow/a/swap untestable, cow/b/base untestable",
		"ladder-5.10.tsv":      "cow/b/base fail",
		"upstream/sound.tsv":   "program/cow fail, program/cow/x pass, program/cow/y pass, program/cow/z fail",
		"upstream/theirs.tsv":  "program/cow fail, program/cow/x fail, program/cow/y pass, program/cow/z fail",
		"upstream/ours.tsv":    "program/cow fail, program/cow/x pass, program/cow/y pass, program/cow/z fail",
		"upstream/no-boot.tsv": "program/cow untestable",
		// It died on the way.
		"upstream/seen-by-both.tsv": "program/cow crash, program/cow/x pass",
	})
	patches := map[string]string{}
	for _, name := range []string{"seen-by-both", "ours", "theirs", "no-boot", "left"} {
		patches[name+".patch"] = "Subject: [PATCH] mutant: breaks a rule of\n " + name + "\n\nText.\n"
	}
	var b strings.Builder
	if err := tables(&b, dir, files(t, patches)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| `seen-by-both` | breaks a rule of seen-by-both | 2, 1 cannot tell | 0, crash | `a` 2 |\n",
		"| `ours` | breaks a rule of ours | 1, 2 skip | 0 | `a` 1 |\n",
		"| `theirs` | breaks a rule of theirs | 0 | 1 |  |\n",
		"| `no-boot` | breaks a rule of no-boot | does not boot | | |\n",
		"| `left` | breaks a rule of left | not run | | |\n",
		"| `a` | 2 | 2 | `ours`, `seen-by-both` |  |\n",
		"| `b` | 1 | 1 | Linux 5.10 |  |\n",
		"| `c` | 1 | 0 |  | `base` |\n",
		"3 of 4 tests that the guest can run were seen to fail; 2 of 3 cases. Never: `c`.\n",
		"Not run: `left`. Survivors: `theirs`.\n",
		"both kill 1, these tests alone 1 (`ours`), mm/cow alone 1 (`theirs`), neither 0 (none)",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("missing: %s", want)
		}
	}
	if t.Failed() {
		t.Log(b.String())
	}
}
