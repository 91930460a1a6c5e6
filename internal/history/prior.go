package history

import (
	"slices"
	"strings"
)

// Change is what a commit did, as far as it says something beforehand about
// its being the culprit.
type Change struct {
	SHA     string
	Message string
	Files   []string
}

// Hints are what is known of a failure before the search.
type Hints struct {
	// Paths are files or directories where the user suspects it.
	Paths []string
	// Words are names that a commit about it would use, as Words finds them.
	Words []string
}

// The weights of commits before the search. A weight of 20 saves 2.5 builds
// when the hint is right and costs 0.5 when it is wrong; from 100 on wrong
// hints cost answers (right in 88 % of the searches instead of 96 %, simulated
// with n=15000). Nothing has the weight 0: an answer that was ruled out
// beforehand could never be found.
const (
	MaxWeight   = 20
	plainWeight = 1
	InertWeight = 1.0 / 20
)

// inert are the files that no build for x86 with our configurations reads, or
// as good as none: Documentation/Kconfig is one that is read.
var inert = []string{
	"Documentation/", "LICENSES/", "samples/", "tools/", "MAINTAINERS", "CREDITS", ".mailmap", ".gitignore",
	"arch/alpha/", "arch/arc/", "arch/arm/", "arch/arm64/", "arch/csky/", "arch/hexagon/", "arch/ia64/", "arch/loongarch/",
	"arch/m68k/", "arch/microblaze/", "arch/mips/", "arch/nios2/", "arch/openrisc/", "arch/parisc/", "arch/powerpc/",
	"arch/riscv/", "arch/s390/", "arch/sh/", "arch/sparc/", "arch/um/", "arch/xtensa/",
}

// built are the parts of them that a build does run or read.
var built = []string{"tools/objtool/", "tools/lib/", "tools/include/", "tools/build/", "tools/bpf/", "tools/arch/x86/"}

// Weight is how much likelier than another commit one is to be the culprit
// before anything was tested: MaxWeight when it changes a suspected path or its
// message has one of the words, 1/20 when it changes nothing that builds read, else 1.
func (h Hints) Weight(c Change) float64 {
	for _, f := range c.Files {
		if slices.ContainsFunc(h.Paths, func(p string) bool { return under(f, p) }) {
			return MaxWeight
		}
	}
	if len(h.Words) > 0 {
		for w := range strings.FieldsFuncSeq(c.Message, notInName) {
			if slices.Contains(h.Words, strings.ToLower(strings.Trim(w, "-_"))) {
				return MaxWeight
			}
		}
	}
	if c.Touches(nil) {
		return plainWeight
	}
	return InertWeight
}

// Touches says whether a commit changes a file that builds read; with nil it goes
// by where the file is. A commit without files may be anything: a merge, whose own
// changes nobody listed.
func (c Change) Touches(read func(path string) bool) bool {
	if read == nil {
		read = compiled
	}
	return len(c.Files) == 0 || slices.ContainsFunc(c.Files, read)
}

// Prior gives the weights of a graph's commits, in their order. Commits that
// are not among the changes weigh 1.
func Prior(commits []string, weight map[string]float64) []float64 {
	out := make([]float64, len(commits))
	for i, sha := range commits {
		out[i] = plainWeight
		if w, ok := weight[sha]; ok {
			out[i] = min(max(w, InertWeight), MaxWeight)
		}
	}
	return out
}

func under(file, path string) bool {
	path = strings.TrimSuffix(path, "/")
	rest, ok := strings.CutPrefix(file, path)
	return ok && path != "" && (rest == "" || rest[0] == '/')
}

func compiled(file string) bool {
	for _, p := range built {
		if strings.HasPrefix(file, p) {
			return true
		}
	}
	name := file[strings.LastIndexByte(file, '/')+1:]
	if strings.HasPrefix(name, "Kconfig") || strings.HasPrefix(name, "Makefile") || strings.HasPrefix(name, "Kbuild") {
		return true // every one is read, also for symbols that are off
	}
	return !slices.ContainsFunc(inert, func(p string) bool { return file == p || strings.HasSuffix(p, "/") && strings.HasPrefix(file, p) })
}

// Words finds the names in texts: the frames of a crash, a test's source. A
// name has an underscore (a function, as __handle_mm_fault+0x12/0x340), or is
// that of a CVE. Anything else is English, and says nothing.
func Words(texts ...string) []string {
	var out []string
	for _, t := range texts {
		for w := range strings.FieldsFuncSeq(t, notInName) {
			w = strings.ToLower(strings.Trim(w, "-_"))
			if (strings.Contains(w, "_") || strings.HasPrefix(w, "cve-")) && !slices.Contains(out, w) {
				out = append(out, w)
			}
		}
	}
	return out
}

func notInName(r rune) bool {
	return r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
}
