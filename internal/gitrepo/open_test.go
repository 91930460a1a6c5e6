package gitrepo

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever of a repository the user names, it is the same repository: one
// mirror, the same commits.
func TestOpenFindsTheRepository(t *testing.T) {
	u := newUser(t)
	head := u.commit("mm: one", "mm/memory.c", "1\n")
	top := filepath.Dir(u.dir)
	u.git("worktree", "add", "--quiet", "--detach", filepath.Join(top, "linked"))
	u.git("clone", "--quiet", "--bare", ".", filepath.Join(top, "bare.git"))
	if err := os.Symlink(u.dir, filepath.Join(top, "link")); err != nil {
		t.Fatal(err)
	}
	unchanged(t, top)
	data := t.TempDir()
	open := func(t *testing.T, dir string) *Repo {
		t.Helper()
		r, err := Open(t.Context(), data, dir)
		if err != nil {
			t.Fatal(err)
		}
		c, err := r.Resolve(t.Context(), "HEAD")
		if err != nil || c.SHA != head {
			t.Errorf("HEAD of %s is %q (%v), want %s", dir, c.SHA, err, head)
		}
		return r
	}
	want := open(t, u.dir)
	for _, dir := range []string{"linux", "linux/mm", "linux/.git", "linked", "linked/mm", "link"} {
		if r := open(t, filepath.Join(top, dir)); r.ID() != want.ID() {
			t.Errorf("%s: another mirror than for the main worktree", dir)
		}
	}
	if r := open(t, filepath.Join(top, "bare.git")); r.ID() == want.ID() {
		t.Error("another repository has the same mirror")
	}
	t.Chdir(u.dir)
	if r := open(t, "."); r.ID() != want.ID() {
		t.Error("a relative path gives another mirror")
	}
}

func TestOpenRejects(t *testing.T) {
	plain := t.TempDir()
	write(t, filepath.Join(plain, "file"), "text\n")
	for _, c := range []struct{ name, source, says string }{
		{"plain directory", plain, "not a git repository"},
		{"missing", filepath.Join(plain, "nothing"), "no such directory"},
		{"file", filepath.Join(plain, "file"), "not a git repository"},
		{"dash", "-x", "no such directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open(t.Context(), t.TempDir(), c.source)
			var ue *UserError
			if !errors.As(err, &ue) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.source) {
				t.Errorf("%v, want a UserError that names %s and says %q", err, c.source, c.says)
			}
		})
	}
	for _, dir := range []string{filepath.Join(plain, "nothing"), filepath.Join(plain, "file")} {
		var ue *UserError
		if _, err := OpenDir(t.Context(), t.TempDir(), dir); !errors.As(err, &ue) {
			t.Errorf("OpenDir of %s: %v, want a UserError", dir, err)
		}
	}
}

// kbisect may run inside a git hook or `git bisect run`, where GIT_DIR and its
// friends name a repository that is not the one on the command line.
func TestEnvironmentOfAHook(t *testing.T) {
	other := newUser(t)
	other.commit("the hook's repository", "other", "x\n")
	u := newUser(t)
	base := u.commit("base", "f", "1\n")
	head := u.commit("head", "f", "2\n")
	mbox := u.mail(base + ".." + head)
	unchanged(t, other.dir)
	unchanged(t, u.dir)
	t.Setenv("GIT_DIR", filepath.Join(other.dir, ".git"))
	t.Setenv("GIT_WORK_TREE", other.dir)
	t.Setenv("GIT_INDEX_FILE", filepath.Join(other.dir, ".git/index"))
	t.Setenv("GIT_OBJECT_DIRECTORY", filepath.Join(other.dir, ".git/objects"))

	r := u.open()
	if c, err := r.Resolve(t.Context(), "HEAD"); err != nil || c.SHA != head {
		t.Fatalf("HEAD is %q (%v), want %s", c.SHA, err, head)
	}
	w := r.Worktree(filepath.Join(t.TempDir(), "src"))
	checkout(t, w, base)
	if got := read(t, filepath.Join(w.Dir(), "f")); got != "1\n" {
		t.Errorf("f holds %q", got)
	}
	if _, err := w.ApplyMbox(t.Context(), base, mbox); err != nil {
		t.Error(err)
	}
	if _, err := r.Snapshot(t.Context(), u.dir); err != nil {
		t.Error(err)
	}
}

// A user's settings, attributes and ignore rules would change what is tested.
func TestSettingsOfTheUserTakeNoPart(t *testing.T) {
	u := newUser(t)
	head := u.commit("base", "f", "1\n", "seen.o", "2\n")
	config := t.TempDir()
	write(t, filepath.Join(config, "git/config"), "[core]\n\tautocrlf = true\n\teol = crlf\n[init]\n\tdefaultObjectFormat = sha256\n")
	write(t, filepath.Join(config, "git/attributes"), "* text eol=crlf\n")
	write(t, filepath.Join(config, "git/ignore"), "*.o\n")
	t.Setenv("XDG_CONFIG_HOME", config)
	t.Setenv("HOME", t.TempDir())
	r := u.open()
	w := r.Worktree(filepath.Join(t.TempDir(), "src"))
	checkout(t, w, head)
	if got := read(t, filepath.Join(w.Dir(), "f")); got != "1\n" {
		t.Errorf("f was checked out as %q", got)
	}
	c, err := r.Snapshot(t.Context(), u.dir)
	if want := u.git("rev-parse", "HEAD^{tree}"); err != nil || c.Tree != want {
		t.Errorf("snapshot of a clean tree is %s (%v), want %s", c.Tree, err, want)
	}
}

// Clones made with --reference or --shared keep their objects elsewhere, and
// kernel developers have several of them.
func TestRepositoryWithAlternates(t *testing.T) {
	for _, how := range []string{"absolute", "relative"} {
		t.Run(how, func(t *testing.T) {
			u := newUser(t)
			base := u.commit("base", "f", "1\n")
			clone := &user{t: t, dir: filepath.Join(filepath.Dir(u.dir), "clone"), commits: 10}
			u.git("clone", "--quiet", "--shared", ".", clone.dir)
			if how == "relative" {
				write(t, filepath.Join(clone.dir, ".git/objects/info/alternates"), "../../../linux/.git/objects\n")
			}
			head := clone.commit("head", "f", "2\n")
			unchanged(t, filepath.Dir(u.dir))
			r := clone.open()
			if cs, err := r.Range(t.Context(), base, head); err != nil || len(cs) != 1 || cs[0].SHA != head {
				t.Errorf("range: %v (%v)", cs, err)
			}
			w := r.Worktree(filepath.Join(t.TempDir(), "src"))
			checkout(t, w, base)
			if got := read(t, filepath.Join(w.Dir(), "f")); got != "1\n" {
				t.Errorf("f holds %q", got)
			}
		})
	}
}

func TestShallowClone(t *testing.T) {
	u := newUser(t)
	u.commit("too old", "f", "0\n")
	oldest := u.commit("oldest", "f", "1\n")
	head := u.commit("head", "f", "2\n")
	clone := &user{t: t, dir: filepath.Join(t.TempDir(), "clone")}
	u.git("clone", "--quiet", "--depth=2", "file://"+u.dir, clone.dir)
	data := t.TempDir()
	r, err := Open(t.Context(), data, clone.dir)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := r.Commit(t.Context(), oldest); err != nil || len(c.Parents) != 0 {
		t.Errorf("the oldest commit of a shallow clone has parents %v (%v)", c.Parents, err)
	}
	if cs, err := r.Range(t.Context(), oldest, head); err != nil || len(cs) != 1 {
		t.Errorf("range: %v (%v)", cs, err)
	}
	// Later the user fetches the rest.
	clone.git("fetch", "--quiet", "--unshallow")
	if r, err = Open(t.Context(), data, clone.dir); err != nil {
		t.Fatal(err)
	}
	if c, err := r.Commit(t.Context(), oldest); err != nil || len(c.Parents) != 1 {
		t.Errorf("after fetch --unshallow the commit has parents %v (%v), want one", c.Parents, err)
	}
}

// A kill in the middle of the first start must not spoil the data directory.
func TestHalfMadeMirror(t *testing.T) {
	u := newUser(t)
	head := u.commit("base", "f", "1\n")
	data := t.TempDir()
	r, err := Open(t.Context(), data, u.dir)
	if err != nil {
		t.Fatal(err)
	}
	// git init writes HEAD before the rest.
	for _, name := range []string{"objects", "refs", "config"} {
		if err := os.RemoveAll(filepath.Join(r.mirror, name)); err != nil {
			t.Fatal(err)
		}
	}
	if r, err = Open(t.Context(), data, u.dir); err != nil {
		t.Fatal(err)
	}
	checkout(t, r.Worktree(filepath.Join(t.TempDir(), "src")), head)
}

// After a power cut a file may be there and empty.
func TestMirrorAfterAPowerCut(t *testing.T) {
	u := newUser(t)
	head := u.commit("base", "f", "1\n")
	data := t.TempDir()
	for _, name := range []string{"HEAD", "config", "objects/info/alternates"} {
		r, err := Open(t.Context(), data, u.dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(r.mirror, name), 0); err != nil {
			t.Fatal(err)
		}
		if r, err = Open(t.Context(), data, u.dir); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := r.Commit(t.Context(), head); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
