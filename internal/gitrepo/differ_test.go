package gitrepo

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

func TestDiffer(t *testing.T) {
	u := newUser(t)
	r := u.open()
	tree := func() string {
		t.Helper()
		c, err := r.Resolve(t.Context(), "HEAD")
		if err != nil {
			t.Fatal(err)
		}
		return c.Tree
	}
	u.commit("base", "mm/memory.c", "1", "mm/old.c", "1", "script", "1", "link", "1", "a b\n\"c", "1")
	base := tree()
	if got, err := r.Differ(t.Context(), base, base); err != nil || len(got) != 0 {
		t.Errorf("a tree and itself: %v, %v", got, err)
	}
	for _, err := range []error{
		os.Remove(filepath.Join(u.dir, "mm/old.c")), os.Chmod(filepath.Join(u.dir, "script"), 0o755),
		os.Remove(filepath.Join(u.dir, "link")), os.Symlink("mm/memory.c", filepath.Join(u.dir, "link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	u.commit("changes", "mm/memory.c", "2", "mm/new.c", "1", "a b\n\"c", "2")
	got, err := r.Differ(t.Context(), base, tree())
	want := []kernel.FileChange{
		{Path: "a b\n\"c", Edited: true, Regular: true}, {Path: "link", Edited: false, Regular: false}, {Path: "mm/memory.c", Edited: true, Regular: true},
		{Path: "mm/new.c", Edited: false, Regular: true}, {Path: "mm/old.c", Edited: false, Regular: true}, {Path: "script", Edited: false, Regular: true},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got  %v, %v\nwant %v", got, err, want)
	}
	if _, err := r.Differ(t.Context(), base, "--output=x"); err == nil {
		t.Error("an option is taken for a tree")
	}
}
