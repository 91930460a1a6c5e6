package kbuild

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

type inertPath struct {
	path string
	keep []string // what of a directory builds do see
}

// inert are paths that builds do not see, so that commits which differ in
// nothing else give the same kernel: what cannot be read cannot matter. A kernel
// that wanted one of them would not build, and say so; none does. Directories
// end with a slash.
var inert = []inertPath{
	{"Documentation/", []string{"Kconfig", "Makefile"}}, // the top Kconfig sources the one, docs are made by the other
	{"LICENSES/", nil},      // texts
	{"tools/testing/", nil}, // programs for a running kernel; modules of theirs are built apart
	{"tools/perf/", nil},    // a program; objtool shares tools/lib with it, not this
	{"CREDITS", nil},        // names
	{"MAINTAINERS", nil},    // names, for scripts/get_maintainer.pl
	{".mailmap", nil},       // names, for git
}

// hide covers what is inert. What is something else than git says it is, a link
// for a directory say, stays as it is: it is not taken for inert, either.
func hide(dir string) []string {
	var args []string
	for _, x := range inert {
		path := strings.TrimSuffix(x.path, "/")
		st, err := os.Lstat(filepath.Join(dir, path))
		switch at := sandboxSrc + "/" + path; {
		case err != nil:
		case path == x.path && st.Mode().IsRegular():
			args = append(args, "--ro-bind", "/dev/null", at)
		case path != x.path && st.IsDir():
			args = append(args, "--tmpfs", at)
			for _, k := range x.keep {
				if st, err := os.Lstat(filepath.Join(dir, path, k)); err == nil && st.Mode()&fs.ModeType == 0 {
					args = append(args, "--ro-bind", filepath.Join(dir, path, k), at+"/"+k)
				}
			}
			args = append(args, "--remount-ro", at)
		}
	}
	return args
}

// isInert says whether builds do not see a path. Whatever is a file there, or was
// one, cannot matter.
func isInert(path string) bool {
	return slices.ContainsFunc(inert, func(x inertPath) bool {
		rest, below := strings.CutPrefix(path, x.path)
		return below && (rest == "" || strings.HasSuffix(x.path, "/") && !slices.Contains(x.keep, rest))
	})
}
