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
	}{
		{"conflict", nil, []string{"mm/memory.c", strings.Replace(lines, "2", "deux", 1)}, 1, []string{"mm/memory.c"}},
		{"conflict in the second", nil, []string{"new", "here already\n"}, 2, []string{"new"}},
		{"other tree", unknownBlobs, []string{"mm/memory.c", strings.Replace(lines, "2", "deux", 1)}, 1, []string{"mm/memory.c"}},
		{"odd name", func(s string) string { return strings.ReplaceAll(s, "memory.c", "other fäle.c") },
			[]string{"mm/other fäle.c", strings.Replace(lines, "2", "deux", 1)}, 1, []string{"mm/other fäle.c"}},
		{"missing file", func(s string) string { return unknownBlobs(strings.ReplaceAll(s, "memory.c", "gone.c")) },
			nil, 1, []string{"mm/gone.c"}},
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
			if ae.Patch != c.patch || ae.Subject != subject || !slices.Equal(ae.Files, c.files) || ae.Detail == "" {
				t.Errorf("%+v, want patch %d %q in %q", ae, c.patch, subject, c.files)
			}
			if strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), c.files[0]) {
				t.Errorf("not one line that names the file: %q", err)
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

// What is no series of patches is the user's mistake, and the message says
// what is wrong with which file.
// A cover letter in front is no patch and no reason to refuse the series; a
// mail without a patch in the middle is.
func TestApplyMboxSkipsTheCoverLetter(t *testing.T) {
	u, base, mbox := mailed(t)
	w := u.open().Worktree(filepath.Join(t.TempDir(), "src"))
	want, err := w.ApplyMbox(t.Context(), base, mbox)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(mbox)
	if err != nil {
		t.Fatal(err)
	}
	letter := "From 1234567890123456789012345678901234567890 Mon Sep 17 00:00:00 2001\nFrom: A <a@example.org>\n" +
		"Date: Thu, 1 Jan 2026 00:00:00 +0000\nSubject: [PATCH 0/2] a cover letter\n\nNo patch here.\n\n"
	path := filepath.Join(t.TempDir(), "x.mbox")
	write(t, path, letter+string(text))
	got, err := w.ApplyMbox(t.Context(), base, path)
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v (-without +with):\n%s", err, d)
	}
	second := strings.Index(string(text)[10:], "\nFrom ") + 11
	write(t, path, string(text)[:second]+letter+string(text)[second:])
	if cs, err := w.ApplyMbox(t.Context(), base, path); err == nil {
		t.Errorf("a mail without a patch in the middle gave %d commits", len(cs))
	}
}

func TestApplyMboxRejects(t *testing.T) {
	u, base, mbox := mailed(t)
	w := u.open().Worktree(filepath.Join(t.TempDir(), "src"))
	cover := "From 1234567890123456789012345678901234567890 Mon Sep 17 00:00:00 2001\nFrom: A <a@example.org>\n" +
		"Date: Thu, 1 Jan 2026 00:00:00 +0000\nSubject: [PATCH 0/2] a cover letter\n\nNo patch here.\n\n"
	for _, c := range []struct{ name, text, says string }{
		{"empty", "", "format"},
		{"text", "hello\n", "format"},
		{"cover letter only", cover, "no patches"},
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
