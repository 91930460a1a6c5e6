package app

import (
	"slices"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

func TestFreeCandidates(t *testing.T) {
	r := searchRequest{Built: []string{"c", "x", "a"}}
	commits := []kernel.Commit{{SHA: "a"}, {SHA: "b"}, {SHA: "c"}}
	if got := r.free(commits); !slices.Equal(got, []int{0, 2}) {
		t.Errorf("%v", got)
	}
}

func TestIsPath(t *testing.T) {
	for s, want := range map[string]bool{"mm/gup.c": true, "mm/": true, "page_try_share_anon_rmap": false, "Makefile.x": true} {
		if isPath(s) != want {
			t.Errorf("%q", s)
		}
	}
}
