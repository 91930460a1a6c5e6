package app

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Each kernel takes the modules of its release; beside others one may have none.
func TestModulesOfEachKernel(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	s := subjectFlags{modules: []string{dir}}
	for _, release := range []string{"6.1.0-a", "6.12.0-b", "7.3.0-slim"} {
		s.kernels = append(s.kernels, write("vm-"+release, imageOf(release)))
	}
	for _, release := range []string{"6.1.0-a", "6.12.0-b"} {
		write("lib/modules/"+release+"/modules.builtin", []byte("kernel/virtio_pci.ko\nkernel/virtio_console.ko\n"))
	}
	ready, err := s.readyKernels(&request{Profile: "stock"})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"module zram is neither there nor built in", "module zram is neither there nor built in", "--modules has none for 7.3.0-slim"} {
		m := ready[i].kernel.Modules
		if m == nil || !slices.Equal(m.Missing, []string{want}) || len(ready[i].modules) > 0 {
			t.Errorf("%s: %+v, want %q", ready[i].kernel.Release, m, want)
		}
	}
}

// A machine with a device for VFIO needs the modules that drive it.
func TestModulesForVFIO(t *testing.T) {
	for _, c := range []struct {
		profile string
		want    bool
	}{{"cow-vfio", true}, {"stock", false}} {
		p, err := profileOf(c.profile)
		if err != nil {
			t.Fatal(err)
		}
		list := wantedModules(p.Machine)
		for _, name := range []string{"vfio_iommu_type1", "vfio_pci"} {
			if got := slices.Contains(list, wanted{name: name}); got != c.want {
				t.Errorf("profile %s: %s: %v", c.profile, name, got)
			}
		}
	}
}
