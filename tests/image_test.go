//go:build e2e

package tests

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The guest image built again, elsewhere, is the same to the byte: runs of two
// machines with the same sources are comparable.
func TestGuestImageIsReproducible(t *testing.T) {
	dir := t.TempDir()
	agent, repro := filepath.Join(dir, "agent"), filepath.Join(dir, "repro")
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{
		{"env", "CGO_ENABLED=0", "go", "build", "-trimpath", "-ldflags=-s -w -buildid=", "-o", agent, "../cmd/guest-agent"},
		{"sh", "../vmimage/reproducers/build.sh", repro},
		{"go", "run", "../vmimage/mkimage", "-agent", agent, "-repro", repro, "-busybox", busybox, "-out", dir},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", argv, err, out)
		}
	}
	for _, name := range []string{"image.cpio.zst", "shell.cpio.zst", "tests.json"} {
		first, err := os.ReadFile(filepath.Join("../vmimage/embedded", name))
		if err != nil {
			t.Fatal(err)
		}
		again, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, again) {
			t.Errorf("%s differs when it is built again", name)
		}
	}
}
