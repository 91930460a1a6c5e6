package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Without an order there is nothing to load and nothing to tell.
func TestLoadModulesWithoutAny(t *testing.T) {
	if got := loadModules(filepath.Join(t.TempDir(), "modules")); got != nil {
		t.Errorf("%q", got)
	}
}

// What does not load is told, each by its name, and the next is tried.
func TestLoadModulesTellsOfEach(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "modules")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"order": "missing\nrubbish\n", "rubbish": "no module"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got := loadModules(dir)
	if len(got) != 2 || !strings.HasPrefix(got[0], "module missing: ") || !strings.HasPrefix(got[1], "module rubbish: ") {
		t.Errorf("%q", got)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the modules still take memory")
	}
}
