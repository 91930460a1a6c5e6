package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// modulesDir is vmimage.ModulesDir: modules, and a file with their order.
const modulesDir = "/modules"

// loadModules loads what the host packed for this kernel. A module that does
// not load is a problem to tell of: which tests need it is not for the agent to
// know.
func loadModules(dir string) (problems []string) {
	if !exists(dir + "/order")() {
		return nil // a kernel with all built in
	}
	order, err := readFile(dir + "/order")
	if err != nil {
		return []string{"modules: " + err.Error()}
	}
	for _, name := range strings.Fields(string(order)) {
		if err := loadModule(filepath.Join(dir, name)); err != nil && !errors.Is(err, unix.EEXIST) {
			problems = append(problems, fmt.Sprintf("module %s: %v", name, err))
		}
	}
	_ = os.RemoveAll(dir) // the guest's memory is the tests'
	return problems
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}
