// Package kmod finds kernel modules in a tree as `make modules_install` or a
// distribution's package leaves it: what a module needs, in the order of
// loading, unpacked. It must not know what the modules are for or how they get
// into a guest.
package kmod

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Module is a kernel module, ready for finit_module().
type Module struct {
	Name string // as the kernel writes it, with underscores
	Data []byte // ELF
}

// Missing is a wanted module that the tree does not have.
type Missing struct {
	Name  string
	Needs string // the dependency that is not there, "" for the module itself
}

func (m Missing) String() string {
	if m.Needs != "" {
		return fmt.Sprintf("module %s needs %s, which is neither there nor built in", m.Name, m.Needs)
	}
	return fmt.Sprintf("module %s is neither there nor built in", m.Name)
}

// Tree is a directory lib/modules/RELEASE.
type Tree struct {
	Dir     string
	Release string // its name; Pick holds every module to it

	entries map[string]entry // by module name
	builtin map[string]bool  // nil when the tree does not say
}

// entry is a module in the tree.
type entry struct {
	path   string   // below the tree
	listed bool     // in modules.dep
	deps   []string // names of what it needs, if listed
}

// Trees are the module trees that a directory stands for: itself, or those in
// it, in lib/modules or in usr/lib/modules of it.
func Trees(dir string) ([]string, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	if isTree(real) {
		return []string{real}, nil
	}
	var found []string
	for _, sub := range []string{"", "lib/modules", "usr/lib/modules"} {
		names, err := os.ReadDir(filepath.Join(real, sub))
		if err != nil {
			if sub == "" || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
				return nil, err
			}
			continue
		}
		for _, n := range names {
			// A link may lead to a tree that is listed already: /lib is usr/lib.
			t, err := filepath.EvalSymlinks(filepath.Join(real, sub, n.Name()))
			if err == nil && isTree(t) && !slices.Contains(found, t) {
				found = append(found, t)
			}
		}
	}
	if len(found) == 0 {
		return nil, errors.New("holds no kernel modules: neither a directory lib/modules/RELEASE nor a parent of one")
	}
	return found, nil
}

// isTree goes by what depmod and modules_install leave. Debian's packages have
// no modules.dep before they are installed, and newer ones not even
// modules.builtin, which is in another package.
func isTree(dir string) bool {
	for _, name := range []string{"modules.dep", "modules.order", "modules.builtin"} {
		if st, err := os.Stat(filepath.Join(dir, name)); err == nil && st.Mode().IsRegular() {
			return true
		}
	}
	st, err := os.Stat(filepath.Join(dir, "kernel"))
	return err == nil && st.IsDir()
}

// maxList bounds a list file: Debian's modules.dep has 600 kB.
const maxList = 16 << 20

// Open reads the lists of a tree.
func Open(dir string) (*Tree, error) {
	t := &Tree{Dir: dir, Release: filepath.Base(dir)}
	text, err := readList(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	if text != nil {
		t.builtin = map[string]bool{}
		for line := range strings.Lines(string(text)) {
			t.builtin[nameOf(strings.TrimSpace(line))] = true
		}
	}
	if text, err = readList(filepath.Join(dir, "modules.dep")); err != nil {
		return nil, err
	}
	if t.entries, err = parseDep(text); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "modules.dep"), err)
	}
	// Where nobody has run depmod, or one that cannot read them all (Debian's
	// leaves out .ko.gz), the modules themselves say what they need.
	return t, t.walk()
}

// KnowsBuiltin says whether the tree tells what is built into the kernel. Where
// it does not, what is Missing may be built in.
func (t *Tree) KnowsBuiltin() bool { return t.builtin != nil }

// readList returns nil for a file that is not there.
func readList(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxList {
		return nil, fmt.Errorf("%s: not a list of modules", path)
	}
	return os.ReadFile(path)
}

// walk finds the modules that modules.dep does not list.
func (t *Tree) walk() error {
	return filepath.WalkDir(t.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(t.Dir, path)
		if err != nil || d.IsDir() || !isModule(rel) {
			return err
		}
		// Where a name is there twice, updates/ and the like win, as in depmod.
		if old, ok := t.entries[nameOf(rel)]; !ok || !old.listed && strings.HasPrefix(old.path, "kernel/") {
			t.entries[nameOf(rel)] = entry{path: rel}
		}
		return nil
	})
}

// Pick returns the wanted modules and all that they need, in the order of
// loading, without what is built into the kernel. An error is about a module
// that is there and no good.
func (t *Tree) Pick(want ...string) ([]Module, []Missing, error) {
	p := picker{tree: t, state: map[string]int{}}
	for _, name := range want {
		name = nameOf(name)
		if p.state[name] == done {
			continue
		}
		before := len(p.mods)
		lacks, err := p.visit(name)
		if err != nil {
			return nil, nil, err
		}
		switch {
		case lacks == name:
			p.missing = append(p.missing, Missing{Name: name})
		case lacks != "":
			p.missing = append(p.missing, Missing{Name: name, Needs: lacks})
		default:
			continue
		}
		p.forget(before)
	}
	return p.mods, p.missing, nil
}

// picker walks the dependencies depth first.
type picker struct {
	tree    *Tree
	mods    []Module
	missing []Missing
	state   map[string]int
}

const (
	under = 1 + iota // its dependencies are being visited
	done
)

// visit adds a module behind all that it needs. It returns the name of what is
// neither there nor built in.
func (p *picker) visit(name string) (lacks string, err error) {
	t := p.tree
	e, ok := t.entries[name]
	switch {
	case p.state[name] == done || !ok && t.builtin[name]:
		return "", nil
	case !ok:
		return name, nil
	case p.state[name] == under:
		return "", fmt.Errorf("module %s needs itself", name)
	}
	p.state[name] = under
	m, deps, err := t.read(name, e)
	if err != nil {
		return "", err
	}
	for _, d := range deps {
		lacks, err := p.visit(d)
		if err != nil {
			return "", err
		}
		// Without modules.builtin it may well be built in: the guest will tell.
		if lacks != "" && t.builtin != nil {
			return lacks, nil
		}
	}
	p.state[name] = done
	p.mods = append(p.mods, m)
	return "", nil
}

// forget takes back what was added for a module that cannot be had.
func (p *picker) forget(n int) {
	p.mods = p.mods[:n]
	clear(p.state)
	for _, m := range p.mods {
		p.state[m.Name] = done
	}
}

// read unpacks a module and holds it to the tree's release.
func (t *Tree) read(name string, e entry) (Module, []string, error) {
	data, err := unpack(filepath.Join(t.Dir, e.path))
	if err != nil {
		return Module{}, nil, err
	}
	info, err := parseModinfo(data)
	if err != nil {
		return Module{}, nil, fmt.Errorf("%s: %w", filepath.Join(t.Dir, e.path), err)
	}
	if info.release != t.Release {
		return Module{}, nil, fmt.Errorf("%s: built for %q, not for %s", filepath.Join(t.Dir, e.path), info.release, t.Release)
	}
	deps := info.depends
	if e.listed {
		deps = e.deps
	}
	return Module{Name: name, Data: data}, deps, nil
}
