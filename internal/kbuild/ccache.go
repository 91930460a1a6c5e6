package kbuild

import (
	"os"
	"os/exec"
	"path/filepath"
)

// ccacheLinks are where distributions keep links to ccache under the names of
// compilers. With one of them first in PATH the commands stay as they are, and so
// do the objects that were made without.
var ccacheLinks = []string{"/usr/lib/ccache/bin", "/usr/lib/ccache", "/usr/lib64/ccache"}

// Ccache is the directory of ccache's compilers, "" where it is not installed.
func Ccache() string {
	if _, err := exec.LookPath("ccache"); err != nil {
		return ""
	}
	for _, dir := range ccacheLinks {
		if _, err := os.Stat(filepath.Join(dir, "gcc")); err == nil && inSandbox(dir) {
			return dir
		}
	}
	return ""
}

// ccacheDir holds the objects, for all object trees of the sources: a stranger's
// patch can write to it as it can to the object tree.
func (b *Builder) ccacheDir() string { return filepath.Join(filepath.Dir(b.Objects), "ccache") }

// ccacheSize is ten slim kernels whose headers have nothing in common.
const ccacheSize = "2G"

// ccacheEnv is what makes a build use ccache, with its directory as the build
// sees it. An object of ccache is one that the compiler made of the same text of
// every file, so that a clean build is clean with it.
//
//   - NOINODECACHE: it must open the files that it compares, for us to see which a
//     build reads.
//   - DEPEND: it goes by the list of files that kbuild asks the compiler for, and
//     runs no preprocessor.
func ccacheEnv(links, dir, path string) []string {
	return []string{"PATH=" + links + ":" + path, "CCACHE_DIR=" + dir, "CCACHE_MAXSIZE=" + ccacheSize, "CCACHE_NOINODECACHE=1", "CCACHE_DEPEND=1"}
}
