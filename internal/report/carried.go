package report

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// carried tells which patches the commits were given, "" for none.
func carried(list []kernel.Carried) string {
	words := make([]string, len(list))
	for i, c := range list {
		words[i] = plain(c.Name)
		if n := len(c.There); n > 0 {
			words[i] += fmt.Sprintf(" (there already on %s)", count(n, "commit"))
		}
	}
	return strings.Join(words, ", ")
}

// given are the patches that a kernel has and its commit has not.
func (e *export) given(k *tested) []kernel.Carried {
	return slices.DeleteFunc(slices.Clone(e.carried), func(c kernel.Carried) bool { return slices.Contains(c.There, k.sha) })
}

// patchset is KCIDB's patchset_hash, of which it is the origin's to say how it is
// made: here the sha256 of the patches' own, a line each; "" for no patch.
func patchset(list []kernel.Carried) string {
	if len(list) == 0 {
		return ""
	}
	h := sha256.New()
	for _, c := range list {
		fmt.Fprintln(h, c.Digest)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// unbuilt says whether a commit gave no kernel for a reason of its own, or of a
// carried patch.
func unbuilt(b *kernel.Build) bool {
	return b.Status == kernel.BuildFailed || b.Status == kernel.BuildConflict
}

// unbuiltWhy is a heading for that.
func unbuiltWhy(b *kernel.Build) string {
	if b.Status == kernel.BuildConflict {
		return "cannot be tested"
	}
	return "does not build"
}
