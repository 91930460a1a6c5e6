package gitrepo

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// dirty leaves the repository as users leave theirs: a half staged change, an
// unstaged one, files that git does not know.
func dirty(u *user) {
	u.t.Helper()
	write(u.t, filepath.Join(u.dir, "staged"), "staged\n")
	u.git("add", "staged")
	write(u.t, filepath.Join(u.dir, "staged"), "changed again\n")
	write(u.t, filepath.Join(u.dir, "untracked"), "untracked\n")
	write(u.t, filepath.Join(u.dir, ".git/info/exclude"), "excluded\n")
	write(u.t, filepath.Join(u.dir, "excluded"), "excluded\n")
	u.git("stash", "list")
}

// The promise of the package: whatever we do, the user's repository stays as
// it is, to the byte.
func TestUsersRepositoryIsOnlyRead(t *testing.T) {
	u := newUser(t)
	base := u.commit("base", "f", "1\n2\n3\n", ".gitignore", "*.o\n")
	head := u.commit("head", "f", "1\nzwei\n3\n")
	mbox := u.mail(base + ".." + head)
	u.git("checkout", "--quiet", "-b", "work", base)
	dirty(u)
	unchanged(t, u.dir)

	r := u.open()
	for _, rev := range []string{"main", "work", "HEAD"} {
		if _, err := r.Resolve(t.Context(), rev); err != nil {
			t.Error(err)
		}
	}
	if _, err := r.Range(t.Context(), base, head); err != nil {
		t.Error(err)
	}
	w := r.Worktree(filepath.Join(t.TempDir(), "src"))
	checkout(t, w, base)
	checkout(t, w, head)
	if _, err := w.ApplyMbox(t.Context(), base, mbox); err != nil {
		t.Error(err)
	}
	if _, err := w.ApplyMbox(t.Context(), head, mbox); err == nil {
		t.Error("a patch was applied twice")
	}
	if _, err := r.Snapshot(t.Context(), u.dir); err != nil {
		t.Error(err)
	}
	if c, err := r.Resolve(t.Context(), "HEAD"); err != nil || c.SHA != base {
		t.Errorf("HEAD moved to %s (%v)", c.SHA, err)
	}
}

func TestCheckoutMoves(t *testing.T) {
	u := newUser(t)
	a := u.commit("a", "same", "same\n", "changes", "a\n", "gone", "a\n", "dir/file", "a\n")
	u.git("rm", "--quiet", "gone", "dir/file")
	b := u.commit("b", "changes", "b\n", "new", "b\n", "dir", "now a file\n")
	inA := map[string]string{"same": "same\n", "changes": "a\n", "gone": "a\n", "dir/file": "a\n"}
	inB := map[string]string{"same": "same\n", "changes": "b\n", "new": "b\n", "dir": "now a file\n"}

	for _, kept := range []bool{false, true} {
		w := u.open().Worktree(filepath.Join(t.TempDir(), "slots", "src"))
		w.Kept = kept
		testMoves(t, w, a, b, inA, inB)
		if found := w.at.gitDir != ""; found != kept {
			t.Errorf("kept %v, and where it is known %v", kept, found)
		}
	}
}

func testMoves(t *testing.T, w *Worktree, a, b string, inA, inB map[string]string) {
	t.Helper()
	checkout(t, w, a)
	// Make compares times, so an old one that is kept proves that an equal file
	// is not written anew.
	old := time.Unix(1_000_000_000, 0)
	if err := os.Chtimes(filepath.Join(w.Dir(), "same"), old, old); err != nil {
		t.Fatal(err)
	}
	if _, err := w.repo.git(t.Context(), w.dir, "update-index", "--refresh"); err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		sha  string
		want map[string]string
	}{{b, inB}, {a, inA}, {a, inA}, {b, inB}} {
		checkout(t, w, step.sha)
		if d := cmp.Diff(step.want, files(t, w.Dir())); d != "" {
			t.Errorf("step %d (-want +got):\n%s", i, d)
		}
		st, err := os.Stat(filepath.Join(w.Dir(), "same"))
		if err != nil || !st.ModTime().Equal(old) {
			t.Errorf("step %d: the unchanged file has a new time: %v (%v)", i, st.ModTime(), err)
		}
	}
}

// A worktree whose files are kept goes on from where it was, unless somebody else
// has moved it, or its git directory is not what it was.
func TestKeptWorktree(t *testing.T) {
	u := newUser(t)
	a := u.commit("a", "f", "a\n", "g", "a\n")
	b := u.commit("b", "f", "b\n")
	dir := filepath.Join(t.TempDir(), "src")
	w := u.open().Worktree(dir)
	w.Kept = true
	// What it does not look at shows which way it went.
	seen := func(want string) {
		t.Helper()
		write(t, filepath.Join(dir, "g"), "changed\n")
		checkout(t, w, b)
		if got := files(t, dir); got["f"] != "b\n" || got["g"] != want {
			t.Errorf("%v, want g to be %q", got, want)
		}
		if head, err := w.repo.git(t.Context(), dir, "rev-parse", "HEAD"); err != nil || head != b {
			t.Errorf("HEAD is %s (%v)", head, err)
		}
	}
	checkout(t, w, a)
	seen("changed\n")
	checkout(t, w, a)
	checkout(t, u.open().Worktree(dir), b)
	checkout(t, w, a)
	checkout(t, u.open().Worktree(dir), a)
	seen("a\n")
	for _, gone := range []string{dir, w.at.gitDir, filepath.Join(w.at.gitDir, "index"), filepath.Join(dir, ".git")} {
		checkout(t, w, a)
		remove(t, gone)
		checkout(t, w, b)
		if got := files(t, dir); got["f"] != "b\n" || got["g"] != "a\n" {
			t.Errorf("without %s: %v", filepath.Base(gone), got)
		}
	}
	checkout(t, w, a)
	remove(t, dir)
	mkdir(t, dir)
	checkout(t, w, b)
	if got := files(t, dir); got["f"] != "b\n" || got["g"] != "a\n" {
		t.Errorf("emptied: %v", got)
	}
}

// A checkout ends with exactly the commit's files, whatever a kill, a build or
// a curious user left there.
func TestCheckoutRecovers(t *testing.T) {
	u := newUser(t)
	a := u.commit("a", "f", "a\n", "dir/g", "a\n", ".gitignore", "*.o\n")
	b := u.commit("b", "f", "b\n")
	want := map[string]string{"f": "b\n", "dir/g": "a\n", ".gitignore": "*.o\n"}
	for name, damage := range map[string]func(t *testing.T, dir, gitDir string){
		"nothing": func(*testing.T, string, string) {},
		"untracked and ignored files": func(t *testing.T, dir, _ string) {
			write(t, filepath.Join(dir, "untracked"), "x")
			write(t, filepath.Join(dir, "dir/g.o"), "x")
			write(t, filepath.Join(dir, "new/deep/f.o"), "x")
		},
		"a repository inside": func(t *testing.T, dir, _ string) {
			inner := &user{t: t, dir: filepath.Join(dir, "inner")}
			mkdir(t, inner.dir)
			inner.git("init", "--quiet")
			inner.commit("inside", "x", "x")
		},
		"changed and deleted files": func(t *testing.T, dir, _ string) {
			write(t, filepath.Join(dir, "f"), "changed\n")
			remove(t, filepath.Join(dir, "dir/g"))
		},
		"ignore rules of the worktree": func(t *testing.T, dir, _ string) {
			write(t, filepath.Join(dir, ".gitignore"), "*\n")
			write(t, filepath.Join(dir, "hidden"), "x")
		},
		"index.lock":      func(t *testing.T, _, gitDir string) { write(t, filepath.Join(gitDir, "index.lock"), "") },
		"HEAD.lock":       func(t *testing.T, _, gitDir string) { write(t, filepath.Join(gitDir, "HEAD.lock"), "") },
		"damaged index":   func(t *testing.T, _, gitDir string) { write(t, filepath.Join(gitDir, "index"), "garbage") },
		"empty index":     func(t *testing.T, _, gitDir string) { write(t, filepath.Join(gitDir, "index"), "") },
		"damaged HEAD":    func(t *testing.T, _, gitDir string) { write(t, filepath.Join(gitDir, "HEAD"), "garbage") },
		"patch half done": func(t *testing.T, _, gitDir string) { write(t, filepath.Join(gitDir, "rebase-apply/next"), "1") },
		"deleted":         func(t *testing.T, dir, _ string) { remove(t, dir) },
		"emptied":         func(t *testing.T, dir, _ string) { remove(t, dir); mkdir(t, dir) },
		"no .git":         func(t *testing.T, dir, _ string) { remove(t, filepath.Join(dir, ".git")) },
		"empty .git":      func(t *testing.T, dir, _ string) { write(t, filepath.Join(dir, ".git"), "") },
		"dangling .git": func(t *testing.T, dir, _ string) {
			write(t, filepath.Join(dir, ".git"), "gitdir: /nonexistent/worktrees/src\n")
		},
		"mirror forgot it": func(t *testing.T, _, gitDir string) { remove(t, gitDir) },
		"a file":           func(t *testing.T, dir, _ string) { remove(t, dir); write(t, dir, "x") },
		// git worktree add holds this lock while it writes the files.
		"killed while it was made": func(t *testing.T, dir, gitDir string) {
			write(t, filepath.Join(gitDir, "locked"), "initializing")
			remove(t, dir)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := u.open().Worktree(filepath.Join(t.TempDir(), "src"))
			checkout(t, w, a)
			gitDir, err := w.repo.git(t.Context(), w.dir, "rev-parse", "--absolute-git-dir")
			if err != nil {
				t.Fatal(err)
			}
			damage(t, w.Dir(), gitDir)
			checkout(t, w, b)
			if d := cmp.Diff(want, files(t, w.Dir())); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if head, err := w.repo.git(t.Context(), w.dir, "rev-parse", "HEAD"); err != nil || head != b {
				t.Errorf("HEAD is %s (%v), want %s", head, err, b)
			}
			checkout(t, w, a) // and it still moves
		})
	}
}

// A data directory may lie inside the user's repository. A worktree there that
// lost its .git must not take that repository for its own: checkout --force
// and clean would destroy the user's work.
func TestBrokenWorktreeInsideTheUsersRepository(t *testing.T) {
	u := newUser(t)
	a := u.commit("a", "precious", "a\n")
	u.commit("b", "precious", "b\n")
	write(t, filepath.Join(u.dir, "precious"), "not committed\n")
	write(t, filepath.Join(u.dir, "untracked"), "x\n")
	unchanged(t, filepath.Join(u.dir, ".git"))

	data := filepath.Join(u.dir, "data")
	r, err := Open(t.Context(), data, u.dir)
	if err != nil {
		t.Fatal(err)
	}
	w := r.Worktree(filepath.Join(data, "src"))
	checkout(t, w, a)
	remove(t, filepath.Join(w.Dir(), ".git"))
	mkdir(t, filepath.Join(w.Dir(), ".git"))
	checkout(t, w, a)
	want := map[string]string{"precious": "not committed\n", "untracked": "x\n", "data/src/precious": "a\n"}
	got := files(t, u.dir)
	for name, text := range want {
		if got[name] != text {
			t.Errorf("%s holds %q, want %q", name, got[name], text)
		}
	}
}

func TestCheckoutOfAnUnknownCommit(t *testing.T) {
	u := newUser(t)
	a := u.commit("a", "f", "a\n")
	w := u.open().Worktree(filepath.Join(t.TempDir(), "src"))
	for range 2 {
		if err := w.Checkout(t.Context(), "1111111111111111111111111111111111111111"); err == nil {
			t.Error("an unknown commit was checked out")
		}
		checkout(t, w, a)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}
