package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each defence is where it is said to be, and held by tests that SECURITY.md or the
// package has.
func TestDefences(t *testing.T) {
	const root = "../.."
	seen := map[string]bool{}
	for _, d := range defences {
		if seen[d.what] {
			t.Errorf("%s: twice", d.what)
		}
		seen[d.what] = true
		if _, err := d.without(root); err != nil {
			t.Errorf("%s: %v", d.what, err)
		}
		files, err := filepath.Glob(filepath.Join(root, d.pkg, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		var code strings.Builder
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(b)
		}
		for _, m := range regexp.MustCompile(`(Test|Fuzz)\w+`).FindAllString(d.tests, -1) {
			if !strings.Contains(code.String(), "func "+m+"(") {
				t.Errorf("%s: there is no %s in %s", d.what, m, d.pkg)
			}
		}
	}
}
