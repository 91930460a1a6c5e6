package app

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/settings"
)

// Programs, scripts and tests of the catalogue are asked for together, and run
// in guests that suit all of them.
func TestBroughtTogether(t *testing.T) {
	const script = "#!/bin/sh\n"
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if text == script {
			mode = 0o755
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	mine := filepath.Dir(write("mine/a", script))
	write("mine/kbisect.yaml", "cmdline: x=1\nmemory: 256M\n")
	b, c := write("b", script), write("c.sh", script)
	write("c.sh.yaml", "cmdline: y\n")
	plan := func(p planFlags) ([]string, settings.Guest) {
		t.Helper()
		p.profile, p.runs = "cow", 1
		req, err := p.request(t.Context(), &options{}, "check")
		if err != nil {
			t.Fatal(err)
		}
		programs, err := req.programs()
		if err != nil {
			t.Skipf("no catalogue: %v", err)
		}
		var names []string
		for _, x := range programs {
			names = append(names, x.Name)
		}
		if len(req.Files) != len(req.Programs) {
			t.Errorf("%d files of %d programs", len(req.Files), len(req.Programs))
		}
		return names, req.Guest
	}
	names, guest := plan(planFlags{programs: []string{mine}})
	if want := []string{"program/mine/a"}; !slices.Equal(names, want) || guest != (settings.Guest{Cmdline: "x=1", Memory: 256}) {
		t.Errorf("%q on %+v", names, guest)
	}
	names, guest = plan(planFlags{programs: []string{mine, b}, scripts: []string{c}})
	if want := []string{"program/mine/a", "program/b", "script/c.sh"}; !slices.Equal(names, want) || guest != (settings.Guest{Cmdline: "x=1 y", Memory: 512, Swap: 128}) {
		t.Errorf("%q on %+v", names, guest)
	}
	names, guest = plan(planFlags{programs: []string{mine}, tests: []string{"cow/fork-basic/base"}})
	if want := []string{"cow/fork-basic/base", "program/mine/a"}; !slices.Equal(names, want) || guest != (settings.Guest{Cmdline: "x=1", Memory: 512, Swap: 128}) {
		t.Errorf("%q on %+v", names, guest)
	}
}
