// Package history is the commit graph of a bisection: which commits are
// candidates and which are ancestors of which. Pure: the commits are given, git
// is not asked.
package history

import (
	"fmt"
	"math/bits"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Graph holds the candidates of a bisection: the commits reachable from the bad
// end and not from the good one, parents before children.
type Graph struct {
	Commits []kernel.Commit

	index map[string]int // sha -> position in Commits
	anc   []Bits         // of each commit, itself included
}

// New builds the graph of commits, which must be in topological order with
// parents first. Parents outside of it are ancestors of the good end.
func New(commits []kernel.Commit) (*Graph, error) {
	g := &Graph{Commits: commits, index: make(map[string]int, len(commits)), anc: make([]Bits, len(commits))}
	for i, c := range commits {
		if _, ok := g.index[c.SHA]; ok {
			return nil, fmt.Errorf("commit %s is listed twice", c.Short())
		}
		g.index[c.SHA] = i
		a := NewBits(len(commits))
		a.Set(i)
		for _, p := range g.Parents(i) {
			a.Or(g.anc[p])
		}
		g.anc[i] = a
	}
	for i, c := range commits {
		for _, p := range c.Parents {
			if j, ok := g.index[p]; ok && j >= i {
				return nil, fmt.Errorf("commit %s stands before its parent", c.Short())
			}
		}
	}
	return g, nil
}

// Parents returns the positions of i's parents inside the graph. A commit
// whose parents are all outside has none: below it is the good end.
func (g *Graph) Parents(i int) []int {
	var ps []int
	for _, p := range g.Commits[i].Parents {
		if j, ok := g.index[p]; ok && j < i {
			ps = append(ps, j)
		}
	}
	return ps
}

// Ancestors returns the commits reachable from i, itself included. The caller
// must not change it.
func (g *Graph) Ancestors(i int) Bits { return g.anc[i] }

// Bits is a set of commit positions.
type Bits []uint64

// NewBits returns an empty set of positions below n.
func NewBits(n int) Bits { return make(Bits, (n+63)/64) }

// Set adds i.
func (b Bits) Set(i int) { b[i/64] |= 1 << (i % 64) }

// Has says whether i is in the set.
func (b Bits) Has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }

// Or adds all of c.
func (b Bits) Or(c Bits) {
	for i := range b {
		b[i] |= c[i]
	}
}

// And keeps what is also in c.
func (b Bits) And(c Bits) {
	for i := range b {
		b[i] &= c[i]
	}
}

// AndNot removes all of c.
func (b Bits) AndNot(c Bits) {
	for i := range b {
		b[i] &^= c[i]
	}
}

// Len counts the elements.
func (b Bits) Len() int {
	n := 0
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

// LenAnd counts the elements that are also in c.
func (b Bits) LenAnd(c Bits) int {
	n := 0
	for i := range b {
		n += bits.OnesCount64(b[i] & c[i])
	}
	return n
}

// List returns the elements in order.
func (b Bits) List() []int {
	var out []int
	for i, w := range b {
		for ; w != 0; w &= w - 1 {
			out = append(out, i*64+bits.TrailingZeros64(w))
		}
	}
	return out
}
