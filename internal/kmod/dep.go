package kmod

import (
	"fmt"
	"path/filepath"
	"strings"
)

// endings are the forms in which a module is installed
// (CONFIG_MODULE_COMPRESS_*, kernel/module/Kconfig).
var endings = []string{".ko", ".ko.gz", ".ko.xz", ".ko.zst"}

func isModule(path string) bool {
	for _, e := range endings {
		if strings.HasSuffix(path, e) && len(filepath.Base(path)) > len(e) {
			return true
		}
	}
	return false
}

// nameOf is the name of a module by its file, or by how somebody wrote it: the
// kernel takes dashes for underscores.
func nameOf(path string) string {
	name := filepath.Base(path)
	for _, e := range endings {
		name = strings.TrimSuffix(name, e)
	}
	return strings.ReplaceAll(name, "-", "_")
}

// parseDep reads modules.dep(5): a line for each module, its file and behind a
// colon the files of all that it needs.
func parseDep(text []byte) (map[string]entry, error) {
	entries := map[string]entry{}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		path, rest, ok := strings.Cut(line, ":")
		// Nothing outside of the tree: it was made for this kernel, other files were not.
		if !ok || !isModule(path) || !filepath.IsLocal(path) {
			return nil, fmt.Errorf("line %d: not a module below this directory", n)
		}
		e := entry{path: path, listed: true}
		for _, d := range strings.Fields(rest) {
			if !isModule(d) {
				return nil, fmt.Errorf("line %d: %q is no module", n, d)
			}
			e.deps = append(e.deps, nameOf(d))
		}
		if _, twice := entries[nameOf(path)]; !twice {
			entries[nameOf(path)] = e
		}
	}
	return entries, nil
}
