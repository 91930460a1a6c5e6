package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// folded are the rows of a table in which tests of one case that came out the
// same share a row.
type folded struct{ groups []group }

// group is the tests of one case, by what came out.
type group struct {
	name string
	rows []row
}

type row struct {
	text     string
	memories []string
}

func (f *folded) add(test, text string) {
	name, memory := test, ""
	if i := strings.LastIndexByte(test, '/'); i > 0 {
		name, memory = test[:i], test[i+1:]
	}
	f.addTo(name, text, memory)
}

func (f *folded) addTo(name, text, memory string) {
	g := slices.IndexFunc(f.groups, func(g group) bool { return g.name == name })
	if g < 0 {
		g = len(f.groups)
		f.groups = append(f.groups, group{name: name})
	}
	rows := &f.groups[g].rows
	r := slices.IndexFunc(*rows, func(r row) bool { return r.text == text })
	if r < 0 {
		r = len(*rows)
		*rows = append(*rows, row{text: text})
	}
	(*rows)[r].memories = append((*rows)[r].memories, memory)
}

// sized is a kind of memory that comes in several sizes.
var sized = regexp.MustCompile(`^(mthp-)[^-]+(-.*)$`)

// ofAnySize names kinds of memory that differ in size only once, mthp-*-pte, if
// all that the group has of them are here.
func (g group) ofAnySize(memories []string) []string {
	sizes := map[string]int{} // of the whole group
	for _, r := range g.rows {
		for _, m := range r.memories {
			sizes[sized.ReplaceAllString(m, "$1*$2")]++
		}
	}
	here := map[string]int{}
	for _, m := range memories {
		here[sized.ReplaceAllString(m, "$1*$2")]++
	}
	var out []string
	for _, m := range memories {
		if any := sized.ReplaceAllString(m, "$1*$2"); here[any] == sizes[any] {
			m = any
		}
		if !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	return out
}

func (f *folded) String() string {
	var b strings.Builder
	for _, g := range f.groups {
		for _, r := range g.rows {
			name := g.name
			if r.memories[0] != "" {
				name += "/*"
			}
			if len(r.memories) == 1 && r.memories[0] != "" {
				name = g.name + "/" + r.memories[0]
			}
			fmt.Fprintf(&b, "| `%s`", cell(name))
			if len(r.memories) > 1 {
				b.WriteString(" " + cell(strings.Join(g.ofAnySize(r.memories), ", ")))
			}
			b.WriteString(" |" + r.text + "\n")
		}
	}
	return b.String()
}
