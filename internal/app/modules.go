package app

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/kmod"
	"github.com/kernel-bisect/kbisect/vmimage"
)

// distributionProfile is the profile of --modules unless another is asked for:
// a kernel with modules is one that somebody else configured.
const distributionProfile = "stock"

// wanted is a module that a guest uses where it is not built in.
type wanted struct {
	name     string
	required bool // without it there is no talking to the guest
	quiet    bool // not every kernel has it, and none is the worse for it
}

func wantedModules(m kernel.Machine) []wanted {
	transport := "virtio_mmio"
	if m.Type == "q35" {
		transport = "virtio_pci"
	}
	list := []wanted{{name: transport, required: true}, {name: "virtio_console", required: true}}
	if m.SwapMiB > 0 {
		// The agent's compressor. Up to 6.11 it is a module of its own that zram
		// does not name as a dependency but asks modprobe for, which guests have not.
		list = append(list, wanted{name: "lzo_rle", quiet: true}, wanted{name: "zram"})
	}
	if slices.Contains(m.Devices, "edu") { // which tests drive through VFIO
		list = append(list, wanted{name: "vfio_iommu_type1"}, wanted{name: "vfio_pci"})
	}
	return list
}

// moduleTrees are the trees of --modules.
type moduleTrees struct {
	trees []string          // lib/modules/RELEASE, each once
	from  map[string]string // tree -> the directory that the user gave
	used  map[string]bool   // directories given
}

func findModules(dirs []string) (*moduleTrees, error) {
	m := &moduleTrees{from: map[string]string{}, used: map[string]bool{}}
	for _, dir := range dirs {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		trees, err := kmod.Trees(abs)
		if err != nil {
			return nil, usagef("--modules %s: %v", dir, err)
		}
		for _, t := range trees {
			if m.from[t] == "" {
				m.trees = append(m.trees, t)
				m.from[t] = dir
			}
		}
	}
	return m, nil
}

// of finds the tree of a kernel by its release; "" when there is none.
func (m *moduleTrees) of(file, release string) (string, error) {
	if release == "" {
		return "", usagef("--kernel %s does not say its release, so that its modules cannot be found", file)
	}
	var found []string
	for _, t := range m.trees {
		if filepath.Base(t) == release {
			found = append(found, t)
		}
	}
	switch len(found) {
	case 0:
		return "", nil
	case 1:
		m.used[m.from[found[0]]] = true
		return found[0], nil
	}
	return "", usagef("--modules has %s twice: %s and %s", release, found[0], found[1])
}

// releases are those that there are modules for.
func (m *moduleTrees) releases() string {
	var names []string
	for _, t := range m.trees {
		if name := filepath.Base(t); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// unused complains about a directory that was given for nothing: likely the
// kernel of another one was meant.
func (m *moduleTrees) unused() error {
	for _, t := range m.trees {
		if dir := m.from[t]; !m.used[dir] {
			return usagef("--modules %s is for %s, and no --kernel is", dir, filepath.Base(t))
		}
	}
	return nil
}

// packModules picks what a machine needs from a tree. The second value says
// what is wanted and not there.
func packModules(tree string, m kernel.Machine) ([]vmimage.File, []string, error) {
	t, err := kmod.Open(tree)
	if err != nil {
		return nil, nil, usagef("--modules %v", err)
	}
	list := wantedModules(m)
	names := make([]string, len(list))
	for i, w := range list {
		names[i] = w.name
	}
	mods, missing, err := t.Pick(names...)
	if err != nil {
		return nil, nil, usagef("--modules %v", err)
	}
	var lacks []string
	for _, x := range missing {
		w := list[slices.Index(names, x.Name)]
		switch {
		case !t.KnowsBuiltin() || w.quiet: // it may be built in: the guest will tell
		case w.required:
			return nil, nil, usagef("--modules %s: %s, and without it there is no talking to a guest", tree, x)
		default:
			lacks = append(lacks, x.String())
		}
	}
	files := make([]vmimage.File, len(mods))
	for i, x := range mods {
		files[i] = vmimage.File{Name: x.Name, Data: x.Data}
	}
	return files, lacks, nil
}
