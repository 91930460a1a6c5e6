package kbuild

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Without build tools nothing can be said; the message names the tools.
func TestToolchain(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	install := func(version string, tools ...string) {
		t.Helper()
		for _, tool := range tools {
			if err := os.WriteFile(filepath.Join(bin, tool), []byte("#!/bin/sh\necho '"+tool+version+"'\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	install("1", "gcc", "ld", "as", "make", "flex")
	if _, err := toolchain(t.Context(), false); err == nil || !strings.Contains(err.Error(), bin+": bc, bison: install the build tools with deploy/install-deps") {
		t.Errorf("%v", err)
	}
	digest := func() string {
		t.Helper()
		d, err := toolchain(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	install("1", needed...)
	one := digest()
	if digest() != one {
		t.Error("the digest changes by itself")
	}
	install("2", "gcc")
	if digest() == one {
		t.Error("the digest does not follow the versions")
	}
	install("'; exit 1; '", "gcc")
	if _, err := toolchain(t.Context(), false); err == nil || !strings.Contains(err.Error(), "gcc does not run") {
		t.Errorf("%v", err)
	}
}

// What the sandbox hides builds nothing there, so it must not be reported.
func TestPathOfABuild(t *testing.T) {
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "gcc"), []byte("#!/bin/sh\necho mine\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, want string }{
		{home + ":/usr/bin:/bin", "/usr/bin:/bin"},
		{"/opt/x/bin:/home/me/bin:/nix/store/y/bin", "/opt/x/bin:/nix/store/y/bin"},
		{"/usr/../home/me/bin:/usrlocal/bin:bin::.", "/usr/local/bin:/usr/bin:/bin"},
		{"", "/usr/local/bin:/usr/bin:/bin"},
	} {
		t.Setenv("PATH", c.path)
		if got := buildPath(true); got != c.want {
			t.Errorf("%s becomes %s, want %s", c.path, got, c.want)
		}
		if got := buildPath(false); got != c.path {
			t.Errorf("without a sandbox %s becomes %s", c.path, got)
		}
	}
	t.Setenv("PATH", home)
	if got := lookTool("gcc", false); got != filepath.Join(home, "gcc") {
		t.Errorf("without a sandbox: %q", got)
	}
	if got := Compiler(t.Context()); got == "mine" {
		t.Errorf("compiler %q is not seen in the sandbox", got)
	}
}
