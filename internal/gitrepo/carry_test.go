package gitrepo

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// numbered is a file of so many lines, some of them changed: line, text, line, text.
func numbered(n int, changed ...any) string {
	var s strings.Builder
	for i := 1; i <= n; i++ {
		text := "line " + string(rune('a'+i%26)) + strings.Repeat("x", i/26)
		for k := 0; k < len(changed); k += 2 {
			if changed[k] == i {
				text = changed[k+1].(string)
			}
		}
		s.WriteString(text + "\n")
	}
	return s.String()
}

// carried reads a patch and applies it to a commit.
func carried(t *testing.T, r *Repo, sha string, texts ...string) (kernel.Commit, []string, error) {
	t.Helper()
	var patches []Carry
	for i, text := range texts {
		p, err := r.ReadCarry(t.Context(), string(rune('a'+i))+".patch", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		patches = append(patches, p)
	}
	c, err := r.Commit(t.Context(), sha)
	if err != nil {
		t.Fatal(err)
	}
	return r.Carry(t.Context(), c, patches)
}

func TestCarry(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	u := newUser(t)
	base := u.commit("base", "mm/a", numbered(60), "mm/b", "1\n")
	fix := u.commit("mm: a hot-fix", "mm/a", numbered(60, 20, "fixed", 50, "fixed"))
	mailed, diff := u.git("format-patch", "-1", "--stdout", fix)+"\n", u.git("diff", base, fix)+"\n"
	u.git("reset", "--quiet", "--hard", base)
	hook := u.commit("hook", "mm/hook", "1\n")
	hooked := u.git("format-patch", "-1", "--stdout", hook) + "\n"
	u.git("reset", "--quiet", "--hard", base)
	shifted := u.commit("shifted", "mm/a", "0\n"+numbered(60))
	u.git("reset", "--quiet", "--hard", base)
	conflict := u.commit("conflict", "mm/a", numbered(60, 49, "other"))
	u.git("reset", "--quiet", "--hard", base)
	gone := u.commit("moved", "mm/b", "2\n")
	u.git("mv", "mm/a", "mm/moved")
	gone = u.commit("moved further", "mm/b", gone)
	u.git("reset", "--quiet", "--hard", base)
	landed := u.commit("mm: a hot-fix, taken", "mm/a", numbered(60, 20, "fixed", 50, "fixed"))
	further := u.commit("further", "mm/a", numbered(60, 20, "fixed better", 50, "fixed"))
	unchanged(t, u.dir)
	r := u.open()

	for name, text := range map[string]string{"mail": mailed, "plain diff": diff} {
		for _, c := range []struct{ on, sha, file string }{
			{"base", base, numbered(60, 20, "fixed", 50, "fixed")},
			{"other lines", shifted, "0\n" + numbered(60, 20, "fixed", 50, "fixed")},
		} {
			with, there, err := carried(t, r, c.sha, text)
			if err != nil || there != nil {
				t.Errorf("%s on %s: there %v, %v", name, c.on, there, err)
				continue
			}
			if got := u.show(r, with.SHA, "mm/a"); got != c.file || !slices.Equal(with.Parents, []string{c.sha}) {
				t.Errorf("%s on %s: parents %v\n%s", name, c.on, with.Parents, cmp.Diff(c.file, got))
			}
			if when, err := r.git(t.Context(), r.mirror, "show", "-s", "--format=%at %ct", with.SHA); when != "0 0" {
				t.Errorf("%s on %s: made at %s, %v", name, c.on, when, err)
			}
			if again, _, err := carried(t, u.open(), c.sha, text); err != nil || again.SHA != with.SHA {
				t.Errorf("%s on %s: the second time it is %s (%v), not %s", name, c.on, again.SHA, err, with.SHA)
			}
		}
		if with, there, err := carried(t, r, landed, text); err != nil || with.SHA != landed || !slices.Equal(there, []string{"a.patch"}) {
			t.Errorf("%s there already: %s, there %v, %v", name, with.SHA, there, err)
		}
		for _, c := range []struct{ on, sha, says string }{
			{"a conflict", conflict, "carried a.patch does not apply: mm/a, hunk 2 of 2 (line 47)"},
			{"a file that is gone", gone, "carried a.patch does not apply: mm/a: does not exist in index"},
		} {
			var ce *CarryError
			if _, _, err := carried(t, r, c.sha, text); !errors.As(err, &ce) || err.Error() != c.says {
				t.Errorf("%s on %s: %v", name, c.on, err)
			}
		}
	}

	// Changed further since: it is git's history that tells. A plain diff has no
	// date since when to look.
	if with, there, err := carried(t, r, further, mailed); err != nil || with.SHA != further || len(there) != 1 {
		t.Errorf("changed further: %s, there %v, %v", with.SHA, there, err)
	}
	if _, _, err := carried(t, r, further, diff); err == nil {
		t.Error("a plain diff was found in the history")
	}

	if with, there, err := carried(t, r, further, mailed, hooked); err != nil || len(there) != 1 || u.show(r, with.SHA, "mm/a") != numbered(60, 20, "fixed better", 50, "fixed") {
		t.Errorf("changed further, and another one: there %v, %v", there, err)
	}

	// Several, one of them there, in their order.
	with, there, err := carried(t, r, landed, mailed, hooked)
	if err != nil || !slices.Equal(there, []string{"a.patch"}) || u.show(r, with.SHA, "mm/hook") != "1\n" {
		t.Errorf("two: there %v, %v", there, err)
	}
	const onHook = "--- a/mm/hook\n+++ b/mm/hook\n@@ -1 +1 @@\n-1\n+2\n"
	if with, _, err = carried(t, r, base, hooked, onHook); err != nil || u.show(r, with.SHA, "mm/hook") != "2\n" {
		t.Errorf("one on the other: %v", err)
	}
	if _, _, err = carried(t, r, base, onHook, hooked); err == nil || !strings.Contains(err.Error(), "a.patch") {
		t.Errorf("in the wrong order: %v", err)
	}

	// All that was made can be found by its commit.
	a, _ := r.ReadCarry(t.Context(), "whatever", []byte(mailed))
	made, err := r.Carried(t.Context(), []Carry{a})
	if err != nil || len(made) != 4 || made[landed].SHA != landed || made[base].Tree == "" || made[base].SHA == base {
		t.Errorf("made: %v, %v", made, err)
	}
	// Nothing is left behind.
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Lines may be in a file twice. Where the patch brings the file that it was made
// for, git knows which are meant; else nobody does.
func TestCarryTwins(t *testing.T) {
	function := func(last string) string { return "{\n\tlock();\n\twork();\n\tmore();\n" + last + "\treturn 0;\n}\n\n" }
	u := newUser(t)
	u.commit("base", "mm/a", "int one()\n"+function("\tunlock();\n")+"int two()\n"+function(""))
	base := u.git("rev-parse", "HEAD")
	fix := u.commit("mm: unlock", "mm/a", "int one()\n"+function("\tunlock();\n")+"int two()\n"+function("\tunlock();\n"))
	mailed := u.git("format-patch", "-1", "--stdout", fix) + "\n"
	r := u.open()
	with, there, err := carried(t, r, base, mailed)
	if err != nil || there != nil || strings.Count(u.show(r, with.SHA, "mm/a"), "unlock") != 2 {
		t.Errorf("there %v, %v", there, err)
	}
	if with, there, err = carried(t, r, fix, mailed); err != nil || with.SHA != fix {
		t.Errorf("there %v, %v", there, err)
	}
	foreign := strings.Replace(u.git("diff", base, fix)+"\n", "\nindex ", "\nindex 1234567", 1)
	if with, there, err = carried(t, r, fix, foreign); err != nil || with.SHA != fix || len(there) != 1 {
		t.Errorf("from elsewhere: there %v, %v", there, err)
	}
	var ce *CarryError
	if _, _, err = carried(t, r, base, foreign); !errors.As(err, &ce) || !strings.Contains(err.Error(), "cannot tell") {
		t.Errorf("from elsewhere: %v", err)
	}
}

func TestReadCarryRefuses(t *testing.T) {
	u := newUser(t)
	u.commit("base", "f", "1\n")
	u.commit("one", "f", "2\n")
	u.commit("two", "f", "3\n")
	r := u.open()
	diff := u.git("diff", "HEAD~") + "\n"
	for _, c := range []struct{ name, text, says string }{
		{"nothing", "", "no patch that git can read: No valid patches in input"},
		{"words", "hello\n", "no patch that git can read: No valid patches in input"},
		{"a mail without a patch", "From: a@b\nSubject: hello\n\nworld\n", "no patch that git can read: No valid patches in input"},
		{"two mails", u.git("format-patch", "-2", "--stdout") + "\n", "2 mails: give each patch in a file of its own"},
		{"cut off", diff[:len(diff)-4], "no patch that git can read: corrupt patch at"},
		{"too long", strings.Repeat("x", MaxCarry+1), "more than 1024 KiB"},
	} {
		_, err := r.ReadCarry(t.Context(), "x.patch", []byte(c.text))
		var ue *UserError
		if !errors.As(err, &ue) || !strings.HasPrefix(err.Error(), "x.patch: "+c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for _, path := range []string{"../f", ".git/hooks/x", "x/.GIT/config"} {
		var ce *CarryError
		text := "diff --git a/" + path + " b/" + path + "\nnew file mode 100644\n--- /dev/null\n+++ b/" + path + "\n@@ -0,0 +1 @@\n+1\n"
		if _, _, err := carried(t, r, u.git("rev-parse", "HEAD"), text); !errors.As(err, &ce) || !strings.Contains(err.Error(), "invalid path") {
			t.Errorf("%s: %v", path, err)
		}
	}
	// What mailers do to a patch is undone.
	quoted := "From: a@b\nSubject: q\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n---\n" +
		strings.ReplaceAll(diff, "=", "=3D")
	p, err := r.ReadCarry(t.Context(), "q.patch", []byte(strings.Replace(quoted, "-2", "=2D2", 1)))
	if err != nil || !strings.Contains(string(p.Diff), "\n-2\n") {
		t.Errorf("%v\n%s", err, p.Diff)
	}
}

// show is a file of a commit that the mirror has.
func (u *user) show(r *Repo, sha, file string) string {
	u.t.Helper()
	out, err := r.git(u.t.Context(), r.mirror, "show", sha+":"+file)
	if err != nil {
		u.t.Fatal(err)
	}
	return out + "\n"
}
