package gitrepo

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRevert(t *testing.T) {
	const lines = "1\n2\n3\n4\n5\n6\n7\n8\n9\n"
	u := newUser(t)
	u.commit("base", "mm/a", lines, "mm/b", "1\n", "mm/gone", "x\n")
	u.git("rm", "--quiet", "mm/gone")
	culprit := u.commit("mm: \"break\" it", "mm/a", strings.Replace(lines, "2", "two", 1), "mm/new", "1\n")
	again := u.commit("mm: change b", "mm/b", "2\n")
	u.git("mv", "mm/a", "mm/moved")
	head := u.commit("later", "mm/moved", strings.Replace(strings.Replace(lines, "2", "two", 1), "9", "nine", 1), "mm/b", "3\n")
	unchanged(t, u.dir)
	r := u.open()

	c, err := r.Revert(t.Context(), culprit, head)
	if err != nil {
		t.Fatal(err)
	}
	if c.Subject != `Revert "mm: "break" it"` || !slices.Equal(c.Parents, []string{head}) {
		t.Errorf("%+v", c)
	}
	w := r.Worktree(filepath.Join(t.TempDir(), "src"))
	checkout(t, w, c.SHA)
	want := map[string]string{"mm/moved": strings.Replace(lines, "9", "nine", 1), "mm/b": "3\n", "mm/gone": "x\n"}
	if d := cmp.Diff(want, files(t, w.Dir())); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if same, err := u.open().Revert(t.Context(), culprit, head); err != nil || same.SHA != c.SHA {
		t.Errorf("the second time it is %s (%v), not %s", same.SHA, err, c.SHA)
	}

	_, err = r.Revert(t.Context(), again, head)
	var re *RevertError
	if !errors.As(err, &re) || !slices.Equal(re.Files, []string{"mm/b"}) || !strings.Contains(err.Error(), "mm/b") {
		t.Errorf("a conflict: %v", err)
	}
}

func TestRevertRefuses(t *testing.T) {
	u := newUser(t)
	id := merges(u)
	base := u.git("rev-parse", "HEAD")
	undo := u.commit("x", "mm/x", "1\n")
	u.git("rm", "--quiet", "mm/x")
	head := u.commit("x is gone")
	r := u.open()
	for _, c := range []struct{ name, culprit, head, says string }{
		{"merge", id["join"], head, "merge"},
		{"root", id["base"], head, "no parent"},
		{"undone already", undo, head, "nothing"},
	} {
		_, err := r.Revert(t.Context(), c.culprit, c.head)
		var re *RevertError
		if !errors.As(err, &re) || !strings.Contains(re.Reason, c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	_, err := r.Revert(t.Context(), strings.Repeat("1", 40), base)
	var re *RevertError
	if err == nil || errors.As(err, &re) {
		t.Errorf("an unknown commit: %v, want an error that is no answer", err)
	}
}
