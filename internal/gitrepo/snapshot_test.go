package gitrepo

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

func snapshot(t *testing.T, r *Repo, dir string) kernel.Commit {
	t.Helper()
	c, err := r.Snapshot(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The files as they are now: what is staged or committed does not count. A
// checkout leaves out what git ignores, unless it is tracked; a directory without
// git leaves out what a build makes, whatever .gitignore says.
func TestSnapshotTakesTheFilesAsTheyAre(t *testing.T) {
	for _, how := range []string{"of a repository", "of a plain directory"} {
		t.Run(how, func(t *testing.T) {
			u := newUser(t)
			u.commit("base", "f", "1\n", "dropped", "x\n", ".gitignore", "*.o\n/out/\n/tracked\n", "sub/.gitignore", "local\n")
			write(t, filepath.Join(u.dir, "tracked"), "although ignored\n")
			u.git("add", "--force", "tracked")
			u.git("commit", "--quiet", "-m", "tracked although ignored")
			dirty(u)
			write(t, filepath.Join(u.dir, "f"), "2\n")
			remove(t, filepath.Join(u.dir, "dropped"))
			write(t, filepath.Join(u.dir, "sub/local"), "ignored\n")
			write(t, filepath.Join(u.dir, "mm/memory.o"), "ignored\n")
			write(t, filepath.Join(u.dir, "out/modules.order"), "ignored\n")
			write(t, filepath.Join(u.dir, "odd \t\"name\""), "odd\n")
			want := map[string]string{"f": "2\n", ".gitignore": "*.o\n/out/\n/tracked\n", "sub/.gitignore": "local\n", "staged": "changed again\n",
				"untracked": "untracked\n", "odd \t\"name\"": "odd\n", "excluded": "excluded\n", "tracked": "although ignored\n"}
			if how == "of a plain directory" {
				remove(t, filepath.Join(u.dir, ".git"))
				want["sub/local"] = "ignored\n"
			}
			unchanged(t, u.dir)
			r, err := OpenDir(t.Context(), t.TempDir(), u.dir)
			if err != nil {
				t.Fatal(err)
			}
			c := snapshot(t, r, u.dir)
			if len(c.Parents) != 0 || c.Subject != "files of linux" {
				t.Errorf("%+v", c)
			}
			w := r.Worktree(filepath.Join(t.TempDir(), "src"))
			checkout(t, w, c.SHA)
			if d := cmp.Diff(want, files(t, w.Dir())); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// Equal files are an equal commit, so that nothing is built or run twice.
func TestSnapshotDependsOnContentOnly(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), "1\n")
	write(t, filepath.Join(dir, "script"), "#!/bin/sh\n")
	data := t.TempDir()
	take := func(dir string) kernel.Commit {
		t.Helper()
		r, err := OpenDir(t.Context(), data, dir)
		if err != nil {
			t.Fatal(err)
		}
		return snapshot(t, r, dir)
	}
	first := take(dir)
	r, err := OpenDir(t.Context(), data, dir)
	if err != nil {
		t.Fatal(err)
	}
	if at, err := r.git(t.Context(), r.mirror, "log", "-1", "--format=%at %ct", first.SHA); at != "0 0" {
		t.Errorf("author and committer date: %s (%v): the clock takes part", at, err)
	}
	write(t, filepath.Join(dir, "f"), "1\n") // a new time
	if c := take(dir); c.SHA != first.SHA {
		t.Error("a new time gives a new commit")
	}
	data = t.TempDir()
	if c := take(dir); c.SHA != first.SHA {
		t.Error("another mirror gives another commit")
	}
	seen := map[string]string{first.Tree: "first"}
	for _, change := range []struct {
		name string
		do   func() error
	}{
		{"content", func() error { return os.WriteFile(filepath.Join(dir, "f"), []byte("2\n"), 0o644) }},
		{"mode", func() error { return os.Chmod(filepath.Join(dir, "script"), 0o755) }},
		{"new file", func() error { return os.WriteFile(filepath.Join(dir, "g"), nil, 0o644) }},
		{"removed file", func() error { return os.Remove(filepath.Join(dir, "f")) }},
		{"link", func() error { return os.Symlink("script", filepath.Join(dir, "f")) }},
	} {
		if err := change.do(); err != nil {
			t.Fatal(err)
		}
		c := take(dir)
		if was := seen[c.Tree]; was != "" {
			t.Errorf("%s: the same tree as %s", change.name, was)
		}
		seen[c.Tree] = change.name
	}
}

// A lock left by a git that was killed is in the way of nobody.
func TestSnapshotAfterAKill(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), "1\n")
	r, err := OpenDir(t.Context(), t.TempDir(), dir)
	if err != nil {
		t.Fatal(err)
	}
	first := snapshot(t, r, dir)
	write(t, filepath.Join(r.mirror, "snapshot.index.lock"), "")
	if c := snapshot(t, r, dir); c.SHA != first.SHA {
		t.Error("another commit of the same files")
	}
}
