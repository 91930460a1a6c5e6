package history

import (
	"slices"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// parse reads "a b:a c:a d:b,c": commit:parents, parents first.
func parse(s string) []kernel.Commit {
	var cs []kernel.Commit
	for w := range strings.FieldsSeq(s) {
		sha, parents, _ := strings.Cut(w, ":")
		c := kernel.Commit{SHA: sha}
		if parents != "" {
			c.Parents = strings.Split(parents, ",")
		}
		cs = append(cs, c)
	}
	return cs
}

func TestAncestors(t *testing.T) {
	// a - b ----- e      x is outside: an ancestor of the good end
	//  \ c - d --/
	g, err := New(parse("a:x b:a c:a d:c e:b,d"))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]int{{0}, {0, 1}, {0, 2}, {0, 2, 3}, {0, 1, 2, 3, 4}} {
		if got := g.Ancestors(i).List(); !slices.Equal(got, want) {
			t.Errorf("ancestors of %d: %v, want %v", i, got, want)
		}
	}
	if got := g.Parents(0); len(got) != 0 {
		t.Errorf("parents of the oldest: %v", got)
	}
	if got := g.Parents(4); !slices.Equal(got, []int32{1, 3}) {
		t.Errorf("parents of the merge: %v", got)
	}
}

func TestNewRejects(t *testing.T) {
	for _, s := range []string{"a a", "b:a a"} {
		if _, err := New(parse(s)); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}

func TestBits(t *testing.T) {
	a, b := NewBits(130), NewBits(130)
	for _, i := range []int{0, 63, 64, 129} {
		a.Set(i)
	}
	if a.Len() != 4 || !a.Has(129) || a.Has(100) || b.Len() != 0 {
		t.Errorf("%v %v", a.List(), b.List())
	}
	if got := a.List(); !slices.Equal(got, []int{0, 63, 64, 129}) {
		t.Errorf("%v", got)
	}
}

func TestLine(t *testing.T) {
	for _, c := range []struct {
		history string
		line    bool
	}{{"a:x b:a c:b", true}, {"a:x", true}, {"a:x b:x", false}, {"a:x b:a c:a", false}, {"a b:a c:b,a", false}} {
		g, err := New(parse(c.history))
		if err != nil || g.Line() != c.line || g.Len() != len(g.Commits) {
			t.Errorf("%s: %v, %v", c.history, g.Line(), err)
		}
	}
}
