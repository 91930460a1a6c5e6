//go:build e2e

package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// The limits of builds by control groups, on a kernel that hands them all to us, which
// few machines do: a distribution's, in a guest.
func TestControlGroups(t *testing.T) {
	dir := debianKernel(t, "6.1")
	program := filepath.Join(t.TempDir(), "kbuild.test")
	compile := exec.Command("go", "test", "-c", "-o", program, "../internal/kbuild")
	compile.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	settings := "args: ['-test.run=^TestControlGroups$', '-test.v']\nenv: {KBISECT_IN_GUEST: '1'}\ntimeout: 2m\n"
	if err := os.WriteFile(program+".yaml", []byte(settings), 0o644); err != nil {
		t.Fatal(err)
	}
	// It fails on purpose, so that we see what it says.
	res := decode[kernel.CheckResult](t, 1, "check", "--kernel", filepath.Join(dir, "vmlinuz"), "--modules", dir, "--program", program, "--runs", "1", "--fresh")
	out := res.Tests[0].Output
	if strings.Count(out, "    --- PASS: TestControlGroups/") != 5 || strings.Count(out, "_test.go:") != 1 || !strings.Contains(out, "this is the guest") {
		t.Errorf("%s: %s", res.Tests[0].Reason, out)
	}
}
