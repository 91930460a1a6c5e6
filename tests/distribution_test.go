//go:build e2e

package tests

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// debianKernel returns a directory with vmlinuz and lib/modules. Like the
// source of Linux it comes from Debian and is kept; who brings their own source
// because they are elsewhere has no such kernel.
func debianKernel(t *testing.T, version string) string {
	t.Helper()
	cmd := exec.Command("./get-debian-kernel", version)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	switch {
	case err != nil && os.Getenv("KBISECT_LINUX") != "":
		t.Skipf("no distribution kernel here: %s", said.String())
	case err != nil:
		t.Fatalf("tests/get-debian-kernel: %v\n%s", err, said.String())
	}
	return strings.TrimSpace(string(out))
}

// A distribution's kernel boots with the modules that are packed for it, and
// its known bugs are found, beside a sound one and in spite of one that does not
// boot.
func TestDistributionKernels(t *testing.T) {
	old, sound := debianKernel(t, "5.10"), debianKernel(t, "6.1")
	// The setup code of a kernel without the kernel: it resets at once.
	whole, err := os.ReadFile(filepath.Join(sound, "vmlinuz"))
	if err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(t.TempDir(), "vmlinuz")
	if err := os.WriteFile(dead, whole[:40000], 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []string{"--test", "cow/vmsplice-child-unmap/base", "--test", "cow/vmsplice-child-unmap/thp-pmd", "--test", "cow/vmsplice-child-unmap/swap"}
	args := []string{"check", "--kernel", dead, "--kernel", filepath.Join(old, "vmlinuz"), "--kernel", filepath.Join(sound, "vmlinuz"),
		"--modules", sound, "--modules", old, "--runs", "1"}
	args = append(args, tests...)
	m := decode[kernel.MatrixResult](t, 1, args...)
	if len(m.Kernels) != 3 || m.Profile != "stock" || m.Status != "done" {
		t.Fatalf("%d kernels, profile %s, %s", len(m.Kernels), m.Profile, m.Status)
	}
	if k := m.Kernels[0]; k.Boot.Status != kernel.BootFailed || k.Kernel.Release != m.Kernels[2].Kernel.Release || k.Tests[0].Verdict != kernel.Untestable {
		t.Errorf("half a kernel: %+v", k)
	}
	// CVE-2020-29374, open for huge and for swapped pages up to 5.17.
	expectVersion(t, m.Kernels[1], "5.10.", map[string]kernel.Verdict{"base": kernel.Good, "thp-pmd": kernel.Bad, "swap": kernel.Bad})
	expectVersion(t, m.Kernels[2], "6.1.", map[string]kernel.Verdict{"base": kernel.Good, "thp-pmd": kernel.Good, "swap": kernel.Good})
	// The record has it all: the same again makes no runs, and prints as a page.
	again := decode[kernel.MatrixResult](t, 1, args...)
	for i, k := range again.Kernels {
		if k.Kernel.Modules.Digest != m.Kernels[i].Kernel.Modules.Digest {
			t.Errorf("%s: the same modules give another archive", k.Kernel.Release)
		}
		for _, tr := range k.Tests {
			if tr.Reused < tr.Runs {
				t.Errorf("%s: %s was run again", k.Kernel.Release, tr.Name)
			}
		}
	}
	if r := run(t, "report", m.ID, "--format", "html"); r.status != 0 || !strings.Contains(r.stdout, m.Kernels[1].Kernel.Release) {
		t.Errorf("status %d\n%s", r.status, r.stderr)
	}
	// One kernel alone shares these runs.
	one := decode[kernel.CheckResult](t, 0, append([]string{"check", "--kernel", filepath.Join(sound, "vmlinuz"), "--modules", filepath.Join(sound, "lib/modules"), "--runs", "1"}, tests...)...)
	if one.Tests[0].Reused == 0 {
		t.Error("a check of one kernel does not use the runs of the matrix")
	}
	waitNone(t)
}

// expectVersion holds a kernel to its modules and to a verdict for each memory.
func expectVersion(t *testing.T, k kernel.KernelResult, version string, want map[string]kernel.Verdict) {
	t.Helper()
	if !strings.HasPrefix(k.Kernel.Release, version) || k.Boot.Release != k.Kernel.Release || len(k.Boot.Problems) > 0 {
		t.Errorf("%s: boots as %q, lacks %q", k.Kernel.Release, k.Boot.Release, k.Boot.Problems)
	}
	for _, name := range []string{"virtio_pci", "virtio_console", "lzo_rle", "zram"} {
		if !slices.Contains(k.Kernel.Modules.Load, name) {
			t.Errorf("%s: %s is not packed: %q", k.Kernel.Release, name, k.Kernel.Modules.Load)
		}
	}
	if len(k.Tests) != len(want) {
		t.Errorf("%s: %d tests", k.Kernel.Release, len(k.Tests))
	}
	for _, tr := range k.Tests {
		if memory := filepath.Base(tr.Name); tr.Verdict != want[memory] {
			t.Errorf("%s: %s is %s, want %s: %s", k.Kernel.Release, tr.Name, tr.Verdict, want[memory], tr.Reason)
		}
	}
}
