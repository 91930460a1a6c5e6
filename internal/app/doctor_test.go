package app

import (
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/qemu"
)

// What keeps a guest in is told, and what does not is no reason to stop.
func TestDoctorTellsTheGuestSandbox(t *testing.T) {
	if f := guestSandbox(&qemu.Cell{}); !f.OK || f.Needed || f.Seen != "-sandbox" {
		t.Errorf("%+v", f)
	}
	f := guestSandbox(&qemu.Cell{Lacks: []string{"no Landlock: files", "no filter: network"}})
	if f.OK || f.Needed || !strings.Contains(f.Seen, "no Landlock: files; no filter: network") || f.Remedy == "" {
		t.Errorf("%+v", f)
	}
}
