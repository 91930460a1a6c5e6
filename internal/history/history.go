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
	Shape
}

// New builds the graph of commits, which must be in topological order with
// parents first. Parents outside of it are ancestors of the good end.
func New(commits []kernel.Commit) (*Graph, error) {
	g := &Graph{Commits: commits}
	index := make(map[string]int, len(commits))
	for i, c := range commits {
		if _, ok := index[c.SHA]; ok {
			return nil, fmt.Errorf("commit %s is listed twice", c.Short())
		}
		index[c.SHA] = i
	}
	parents := make([]int, 0, 8)
	for i, c := range commits {
		parents = parents[:0]
		for _, p := range c.Parents {
			j, ok := index[p]
			switch {
			case ok && j >= i:
				return nil, fmt.Errorf("commit %s stands before its parent", c.Short())
			case ok:
				parents = append(parents, j)
			}
		}
		g.Add(parents...)
	}
	return g, nil
}

// Shape is a graph of positions alone: what a search needs of a history, in 8
// bytes a commit and 4 a parent, so that all commits of the kernel's history fit.
type Shape struct {
	ends    []int32 // of the parents of each commit, in parents
	parents []int32
	merges  bool // some commit has not just the one before it as its parent
}

// Add appends a commit with the positions of its parents, all below its own.
func (s *Shape) Add(parents ...int) {
	i := len(s.ends)
	if len(parents) > 1 || i > 0 && (len(parents) == 0 || parents[0] != i-1) {
		s.merges = true
	}
	for _, p := range parents {
		s.parents = append(s.parents, int32(p))
	}
	s.ends = append(s.ends, int32(len(s.parents)))
}

// Len is the number of commits.
func (s *Shape) Len() int { return len(s.ends) }

// Line says whether every commit is the only child of the one before it.
func (s *Shape) Line() bool { return !s.merges }

// Parents returns the positions of i's parents inside the graph. A commit
// whose parents are all outside has none: below it is the good end. The caller
// must not change it.
func (s *Shape) Parents(i int) []int32 {
	from := int32(0)
	if i > 0 {
		from = s.ends[i-1]
	}
	return s.parents[from:s.ends[i]]
}

// Ancestors returns the commits reachable from i, itself included, in time
// proportional to their number.
func (s *Shape) Ancestors(i int) Bits {
	b := NewBits(s.Len())
	b.Set(i)
	for j := i; j >= 0; j-- { // parents stand before their children
		if b.Has(j) {
			for _, p := range s.Parents(j) {
				b.Set(int(p))
			}
		}
	}
	return b
}

// Bits is a set of commit positions.
type Bits []uint64

// NewBits returns an empty set of positions below n.
func NewBits(n int) Bits { return make(Bits, (n+63)/64) }

// Set adds i.
func (b Bits) Set(i int) { b[i/64] |= 1 << (i % 64) }

// Has says whether i is in the set.
func (b Bits) Has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }

// Len counts the elements.
func (b Bits) Len() int {
	n := 0
	for _, w := range b {
		n += bits.OnesCount64(w)
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
