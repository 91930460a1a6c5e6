package gitrepo

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

const lines = "1\n2\n3\n4\n5\n6\n7\n8\n"

// mailed makes a base, and a series of two patches on it as a mailing list has
// it.
func mailed(t *testing.T) (u *user, base, mbox string) {
	t.Helper()
	u = newUser(t)
	base = u.commit("base", "mm/memory.c", lines, "mm/other fäle.c", lines)
	u.git("checkout", "--quiet", "-b", "series")
	u.commit("mm: first", "mm/memory.c", strings.Replace(lines, "2", "zwei", 1))
	u.commit("mm: second \"quoted\" Zoë", "mm/memory.c", strings.Replace(lines, "2", "zwei und", 1), "new", "new\n")
	mbox = u.mail(base + "..series")
	u.git("checkout", "--quiet", "main")
	return u, base, mbox
}

// ApplyMbox reads a series and applies it.
func (w *Worktree) ApplyMbox(ctx context.Context, base, path string) ([]kernel.Commit, error) {
	s, err := w.repo.Mail(ctx, path, path)
	if err != nil {
		return nil, err
	}
	commits, _, err := w.Apply(ctx, base, path, s)
	return commits, err
}

// What a service gets in one mailbox is the series of a directory.
func TestMailbox(t *testing.T) {
	u := newUser(t)
	base := u.commit("base", "mm/memory.c", lines)
	u.git("checkout", "--quiet", "-b", "series")
	u.commit("mm: first\n\nFrom here on it is quoted,\n>From there it was.", "mm/memory.c", strings.Replace(lines, "2", "zwei", 1))
	u.commit("mm: second", "mm/memory.c", strings.Replace(lines, "2", "zwei und", 1))
	patches := filepath.Join(t.TempDir(), "patches")
	u.git("format-patch", "--quiet", "-o", patches, base+"..series")
	maildir := t.TempDir()
	files, _ := filepath.Glob(filepath.Join(patches, "*"))
	for i, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, bare, _ := strings.Cut(string(text), "\n")
		write(t, filepath.Join(maildir, []string{"new", "cur"}[i%2], fmt.Sprint(2-i)), strings.TrimSuffix(bare, "\n"))
	}
	r := u.open()
	for _, dir := range []string{patches, maildir} {
		want, err := r.Mail(t.Context(), dir, "the mail")
		if err != nil || len(want.Patches) != 2 {
			t.Fatalf("%+v, %v", want, err)
		}
		box, err := Mailbox(t.Context(), t.TempDir(), dir, dir)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "box")
		write(t, file, string(box))
		w := r.Worktree(filepath.Join(t.TempDir(), "src"))
		got, err := w.ApplyMbox(t.Context(), base, file)
		if err != nil {
			t.Fatal(err)
		}
		as, _, err := w.Apply(t.Context(), base, "the mail", want)
		if d := cmp.Diff(as, got); err != nil || d != "" {
			t.Errorf("%s: %v, the commits differ (-directory +mailbox):\n%s", dir, err, d)
		}
		said, err := r.git(t.Context(), r.mirror, "log", "-1", "--format=%b", got[0].SHA)
		if err != nil || said != "From here on it is quoted,\n>From there it was." {
			t.Errorf("%s: %q, %v", dir, said, err)
		}
	}
	var ue *UserError
	if _, err := Mailbox(t.Context(), t.TempDir(), t.TempDir(), "nothing"); !errors.As(err, &ue) || ue.Msg != "nothing: no mail in it" {
		t.Error(err)
	}
}

// Equal mails on an equal base are equal commits: that is what lets a resumed
// job and the cache find them again.
func TestApplyMboxIsRepeatable(t *testing.T) {
	u, base, mbox := mailed(t)
	var first []kernel.Commit
	for i := range 3 {
		// Other mirrors and dirty worktrees make no difference, nor does the user.
		t.Setenv("GIT_COMMITTER_NAME", strings.Repeat("x", i+1))
		t.Setenv("EMAIL", strings.Repeat("x", i+1)+"@example.org")
		r := u.open()
		w := r.Worktree(filepath.Join(t.TempDir(), "src"))
		checkout(t, w, base)
		write(t, filepath.Join(w.Dir(), "mm/memory.c"), "left over\n")
		got, err := w.ApplyMbox(t.Context(), base, mbox)
		if err != nil {
			t.Fatal(err)
		}
		// Equal by more than luck: the clock takes no part.
		if at, _ := r.git(t.Context(), r.mirror, "log", "-1", "--format=%at %ct", got[1].SHA); at != "1600000003 1600000003" {
			t.Errorf("author and committer date: %s", at)
		}
		if i == 0 {
			first = got
			continue
		}
		if d := cmp.Diff(first, got); d != "" {
			t.Errorf("the commits differ (-first +then):\n%s", d)
		}
	}
	if len(first) != 2 || first[0].Subject != "mm: first" || first[1].Subject != "mm: second \"quoted\" Zoë" ||
		first[0].Author != "Ann Author <ann@example.org>" || !slices.Equal(first[1].Parents, []string{first[0].SHA}) {
		t.Errorf("%+v", first)
	}
	if want := u.git("rev-parse", "series^{tree}"); first[1].Tree != want {
		t.Errorf("tree %s, want %s", first[1].Tree, want)
	}
}

// Reports and resumed jobs need the commits when the worktree has moved on.
func TestAppliedCommitsAreKept(t *testing.T) {
	u, base, mbox := mailed(t)
	r := u.open()
	w := r.Worktree(filepath.Join(t.TempDir(), "src"))
	cs, err := w.ApplyMbox(t.Context(), base, mbox)
	if err != nil {
		t.Fatal(err)
	}
	checkout(t, w, base)
	if _, err := r.git(t.Context(), r.mirror, "prune", "--expire=now"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.git(t.Context(), r.mirror, "reflog", "expire", "--expire=now", "--all"); err != nil {
		t.Fatal(err)
	}
	for _, c := range cs {
		checkout(t, w, c.SHA)
		if got, err := r.Commit(t.Context(), c.SHA); err != nil || got.Subject != c.Subject {
			t.Errorf("%v (%v), want %v", got, err, c)
		}
	}
}

func TestApplyMboxThatDoesNotApply(t *testing.T) {
	unknownBlobs := func(mbox string) string { // as after work on a tree we do not have
		out := ""
		for line := range strings.Lines(mbox) {
			if strings.HasPrefix(line, "index ") {
				line = "index 1234567..89abcde 100644\n"
			}
			out += line
		}
		return out
	}
	for _, c := range []struct {
		name  string
		edit  func(mbox string) string
		base  []string // files of the commit it is applied to
		patch int
		files []string
		says  string // after the patch
	}{
		{"conflict", nil, []string{"mm/memory.c", strings.Replace(lines, "2", "deux", 1)}, 1, []string{"mm/memory.c"},
			" at mm/memory.c:1; three-way merge: conflict in mm/memory.c"},
		{"conflict in the second", nil, []string{"new", "here already\n"}, 2, []string{"new"},
			" at new: already exists in index; three-way merge: conflict in new"},
		{"other tree", unknownBlobs, []string{"mm/memory.c", strings.Replace(lines, "2", "deux", 1)}, 1, []string{"mm/memory.c"},
			" at mm/memory.c:1; three-way merge: impossible, the repository lacks the version of mm/memory.c that the patch was made from"},
		{"odd name", func(s string) string { return strings.ReplaceAll(s, "memory.c", "other fäle.c") },
			[]string{"mm/other fäle.c", strings.Replace(lines, "2", "deux", 1)}, 1, []string{"mm/other fäle.c"},
			" at mm/other fäle.c:1; three-way merge: conflict in mm/other fäle.c"},
		{"missing file", func(s string) string { return unknownBlobs(strings.ReplaceAll(s, "memory.c", "gone.c")) },
			nil, 1, []string{"mm/gone.c"},
			" at mm/gone.c: does not exist in index; three-way merge: impossible, the repository lacks the version of mm/gone.c that the patch was made from"},
		{"edited by hand", func(s string) string { return strings.ReplaceAll(s, " 4\n", " four\n") }, nil, 1, nil,
			" at mm/memory.c:1; three-way merge: impossible, the patch does not fit the files that it was made from: somebody edited it"},
		{"damaged", func(s string) string { return strings.ReplaceAll(s, "@@ -1,5", "@@ -1,25") }, nil, 1, nil,
			"; three-way merge: impossible, corrupt patch at line 17"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u, base, mbox := mailed(t)
			if c.edit != nil {
				write(t, mbox, c.edit(read(t, mbox)))
			}
			other := u.commit("other", c.base...)
			w := u.open().Worktree(filepath.Join(t.TempDir(), "src"))
			_, err := w.ApplyMbox(t.Context(), other, mbox)
			var ae *ApplyError
			if !errors.As(err, &ae) {
				t.Fatalf("%v, want an ApplyError", err)
			}
			subject := []string{"mm: first", "mm: second \"quoted\" Zoë"}[c.patch-1]
			if ae.Patch != c.patch || ae.Subject != subject || !slices.Equal(ae.Files, c.files) || ae.Merge == "" {
				t.Errorf("%+v, want patch %d %q in %q", ae, c.patch, subject, c.files)
			}
			if says := fmt.Sprintf("patch %d of 2 (%q) does not apply%s", c.patch, subject, c.says); err.Error() != says {
				t.Errorf("%q, want %q", err, says)
			}
			// The worktree is as good as before.
			checkout(t, w, base)
			if got := files(t, w.Dir()); len(got) != 2 || got["mm/memory.c"] != lines {
				t.Errorf("files after the failure: %q", got)
			}
			u.git("checkout", "--quiet", base)
			if _, err := w.ApplyMbox(t.Context(), base, u.mail(base+"..series")); err != nil {
				t.Errorf("a good series after the failure: %v", err)
			}
		})
	}
}

// Each hunk that finds no place is named, in each file.
func TestApplyErrorNamesHunks(t *testing.T) {
	u := newUser(t)
	long := ""
	for n := range 60 {
		long += fmt.Sprintf("line %d\n", n+1)
	}
	edit := func(text string, at ...int) string {
		l := strings.SplitAfter(text, "\n")
		for _, n := range at {
			l[n-1] = fmt.Sprintf("edited after commit %d\n", u.commits)
		}
		return strings.Join(l, "")
	}
	u.commit("base", "a.c", long, "b.c", long, "c.c", long)
	u.git("checkout", "--quiet", "-b", "series")
	u.commit("all of them", "a.c", edit(long, 5, 25, 50), "b.c", edit(long, 30), "c.c", edit(long, 10))
	mbox := u.mail("main..series")
	u.git("checkout", "--quiet", "main")
	base := u.commit("other", "a.c", edit(long, 5, 50), "b.c", edit(long, 1), "c.c", edit(long, 10))
	_, err := u.open().Worktree(filepath.Join(t.TempDir(), "src")).ApplyMbox(t.Context(), base, mbox)
	const want = `patch 1 of 1 ("all of them") does not apply at a.c:2, a.c:47, c.c:7; three-way merge: conflict in a.c, c.c`
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// What the base has already is told, and the rest is applied.
func TestApplyWhatIsThere(t *testing.T) {
	u, base, mbox := mailed(t)
	r := u.open()
	w := r.Worktree(filepath.Join(t.TempDir(), "src"))
	want, err := w.ApplyMbox(t.Context(), base, mbox)
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.Mail(t.Context(), mbox, mbox)
	if err != nil {
		t.Fatal(err)
	}
	got, there, err := w.Apply(t.Context(), want[0].SHA, mbox, s)
	if err != nil || len(got) != 1 || got[0].Tree != want[1].Tree || !slices.Equal(there, []string{"mm: first"}) {
		t.Errorf("%v, there %q, %v", got, there, err)
	}
	var ue *UserError
	_, there, err = w.Apply(t.Context(), want[1].SHA, mbox, s)
	if say := fmt.Sprintf("%s: %s has all of its patches (2) already", mbox, kernel.Abbrev(want[1].SHA)); !errors.As(err, &ue) || err.Error() != say || len(there) != 2 {
		t.Errorf("%v, there %q; want %s", err, there, say)
	}
}

// A patch is found among the commits of the base also where these have changed its
// lines again since, and however its mail is encoded.
func TestApplyWhatWasThere(t *testing.T) {
	u := newUser(t)
	base := u.commit("base", "a.c", lines)
	u.git("checkout", "--quiet", "-b", "series")
	u.commit("first", "a.c", strings.Replace(lines, "2", "zwölf = 12", 1))
	u.commit("second", "b.c", lines)
	mbox := u.mail(base + "..series")
	u.git("checkout", "--quiet", "main")
	u.git("cherry-pick", "series~1")
	head := u.commit("since", "a.c", strings.Replace(lines, "2", "20", 1))
	r := u.open()
	s := u.series(r, mbox)
	for i := range s.Patches {
		header, body, _ := bytes.Cut(s.Patches[i].Raw, []byte("\n\n"))
		header = regexp.MustCompile(`(?m)^Content-Transfer-Encoding:.*\n`).ReplaceAll(header, nil)
		s.Patches[i].Raw = fmt.Appendf(nil, "%s\nContent-Transfer-Encoding: base64\n\n%s\n", header, base64.StdEncoding.EncodeToString(body))
	}
	got, there, err := r.Worktree(filepath.Join(t.TempDir(), "src")).Apply(t.Context(), head, mbox, s)
	if err != nil || len(got) != 1 || got[0].Subject != "second" || !slices.Equal(there, []string{"first"}) {
		t.Errorf("%v, there %q, %v", got, there, err)
	}
}

// What is no series of patches is the user's mistake, and the message says
// what is wrong with which file. TestFormsRefused has more of them.
func TestApplyMboxRejects(t *testing.T) {
	u, base, mbox := mailed(t)
	w := u.open().Worktree(filepath.Join(t.TempDir(), "src"))
	for _, c := range []struct{ name, text, says string }{
		{"empty", "", "no mail in it"},
		{"blank", "\n\n", "no mail in it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "-x.mbox") // nor is it an option
			write(t, path, c.text)
			_, err := w.ApplyMbox(t.Context(), base, path)
			var ue *UserError
			if !errors.As(err, &ue) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want a UserError that names the file and says %q", err, c.says)
			}
			if _, err := w.ApplyMbox(t.Context(), base, mbox); err != nil {
				t.Errorf("a good series after it: %v", err)
			}
		})
	}
	var ue *UserError
	if _, err := w.ApplyMbox(t.Context(), base, "no/such.mbox"); !errors.As(err, &ue) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("missing file: %v", err)
	}
	if _, err := w.ApplyMbox(t.Context(), base, t.TempDir()); !errors.As(err, &ue) {
		t.Errorf("directory: %v", err)
	}
}

// A relative path is relative to where the user is, not to the worktree.
func TestApplyMboxByRelativePath(t *testing.T) {
	u, base, mbox := mailed(t)
	t.Chdir(filepath.Dir(mbox))
	w := u.open().Worktree(filepath.Join(t.TempDir(), "src"))
	if cs, err := w.ApplyMbox(t.Context(), base, filepath.Base(mbox)); err != nil || len(cs) != 2 {
		t.Errorf("%v (%v)", cs, err)
	}
}
