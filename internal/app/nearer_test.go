package app

import "testing"

func TestNearer(t *testing.T) {
	// Objects that each file makes stale; a header has those of the others, too.
	objects := map[string]int{"a.c": 1, "b.c": 1, "mm.h": 400, "narrow.h": 30, "doc": 0}
	commits := []string{"1", "2", "3", "4", "5"}
	for _, tt := range []struct {
		name  string
		files []string // of each commit
		want  string
	}{
		{"all cheap", []string{"a.c", "b.c", "a.c", "narrow.h", "b.c"}, ""},
		{"a header in the middle", []string{"a.c", "b.c", "doc", "mm.h", "a.c"}, "3"},
		{"a header at the end", []string{"a.c", "b.c", "a.c", "b.c", "mm.h"}, "4"},
		{"a header at once", []string{"mm.h", "b.c", "a.c", "b.c", "a.c"}, ""},
		{"too few before it", []string{"doc", "mm.h", "a.c", "b.c", "a.c"}, ""},
		{"a dearer one before it", []string{"a.c", "b.c", "narrow.h", "mm.h", "a.c"}, "3"},
	} {
		files, seen, n := map[string][]string{}, map[string]bool{}, 0
		for i, f := range tt.files {
			files[commits[i]] = []string{f}
		}
		count := func(path string) int {
			if !seen[path] {
				seen[path] = true
				n += objects[path]
			}
			return n
		}
		weight := func(sha string) float64 {
			if files[sha][0] == "doc" {
				return 0.05
			}
			return 1
		}
		if got := nearer(commits, files, weight, count); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := nearer(nil, nil, nil, nil); got != "" {
		t.Errorf("nothing: %q", got)
	}
}
