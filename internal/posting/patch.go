package posting

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

// Patch is what a commit changes, compared with its first parent.
type Patch struct {
	Hunks []Hunk
}

// Hunk is one place that a commit changes.
type Hunk struct {
	Path  string // in the commit's tree
	Start int    // first line in the commit's tree, from 1
	Lines int    // how many lines there; 0 where lines are only taken away
	Func  string // the function it is in, "" for none or not known
}

// maxHunks bounds a patch: remarks need few.
const maxHunks = 10_000

// ParsePatch reads a diff without context lines, as git diff-tree -U0 prints it.
// Deleted and binary files have no lines. An error says that it is no diff; what
// was read before is there all the same.
func ParsePatch(diff []byte) (p Patch, err error) {
	defer func() { // of a stranger's patch, by a library
		if r := recover(); r != nil {
			err = fmt.Errorf("diff: %v", r)
		}
	}()
	files, _, err := gitdiff.Parse(bytes.NewReader(diff))
	for _, f := range files {
		if f.IsDelete || f.NewName == "" || !relative(f.NewName) {
			continue
		}
		for _, t := range f.TextFragments {
			if len(p.Hunks) == maxHunks {
				return p, err
			}
			h := Hunk{Path: f.NewName, Start: max(int(t.NewPosition), 1), Lines: int(t.NewLines), Func: function(t.Comment)}
			p.Hunks = append(p.Hunks, h)
		}
	}
	if err != nil {
		return p, fmt.Errorf("diff: %w", err)
	}
	return p, nil
}

// relative says whether a path stays in the tree.
func relative(path string) bool {
	return !strings.HasPrefix(path, "/") && !slices.Contains(strings.Split(path, "/"), "..") && !strings.ContainsAny(path, "\x00\n\\")
}

var calls = regexp.MustCompile(`([A-Za-z_][A-Za-z0-9_]*)\s*\(`)

// function is the name of the C function whose first line git shows.
func function(context string) string {
	m := calls.FindStringSubmatch(context)
	if m == nil {
		return ""
	}
	return m[1]
}

// has says whether a line is one that the patch adds or changes.
func (p Patch) has(path string, line int) bool {
	return slices.ContainsFunc(p.Hunks, func(h Hunk) bool { return h.Path == path && line >= h.Start && line < h.Start+h.Lines })
}

// in is the first hunk in a function.
func (p Patch) in(name string) (Hunk, bool) {
	i := slices.IndexFunc(p.Hunks, func(h Hunk) bool { return h.Func != "" && h.Func == name })
	if i < 0 {
		return Hunk{}, false
	}
	return p.Hunks[i], true
}

// first is the hunk that stands for the whole patch: of code, if it has any.
func (p Patch) first() (Hunk, bool) {
	for _, end := range []string{".c", ".S", ".rs", ".h", ""} {
		for _, h := range p.Hunks {
			if strings.HasSuffix(h.Path, end) {
				return h, true
			}
		}
	}
	return Hunk{}, false
}
