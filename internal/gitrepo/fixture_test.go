package gitrepo

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// user is a repository as a user has it, made with the real git.
type user struct {
	t       *testing.T
	dir     string
	commits int // gives every commit its own date
}

func newUser(t *testing.T) *user {
	t.Helper()
	u := &user{t: t, dir: filepath.Join(t.TempDir(), "linux")}
	mkdir(t, u.dir)
	u.git("init", "--quiet", "-b", "main")
	return u
}

// git runs git in the user's directory. Its environment is fixed, so that the
// object ids of a test are the same everywhere.
func (u *user) git(args ...string) string {
	u.t.Helper()
	date := fmt.Sprintf("GIT_COMMITTER_DATE=@%d +0000", 1_600_000_000+u.commits)
	cmd := exec.Command("git", args...)
	cmd.Dir = u.dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + u.dir, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C",
		"GIT_AUTHOR_NAME=Ann Author", "GIT_AUTHOR_EMAIL=ann@example.org", "GIT_AUTHOR_" + date[len("GIT_COMMITTER_"):],
		"GIT_COMMITTER_NAME=Carl", "GIT_COMMITTER_EMAIL=carl@example.org", date,
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		u.t.Fatalf("git %q: %v\n%s", args, err, &stderr)
	}
	return strings.TrimRight(string(out), "\n")
}

// commit writes the files, given as name, text, name, text…, and commits them.
func (u *user) commit(subject string, files ...string) string {
	u.t.Helper()
	for i := 0; i < len(files); i += 2 {
		write(u.t, filepath.Join(u.dir, files[i]), files[i+1])
	}
	u.commits++
	u.git("add", "--all")
	u.git("commit", "--quiet", "--allow-empty", "--allow-empty-message", "--cleanup=verbatim", "-m", subject)
	return u.git("rev-parse", "HEAD")
}

func (u *user) open() *Repo {
	u.t.Helper()
	r, err := Open(u.t.Context(), u.t.TempDir(), u.dir)
	if err != nil {
		u.t.Fatal(err)
	}
	return r
}

// mail returns the commits of a range, behind options, as an mbox file.
func (u *user) mail(rng string) string {
	u.t.Helper()
	path := filepath.Join(u.t.TempDir(), "series.mbox")
	write(u.t, path, u.git(append([]string{"format-patch", "--stdout"}, strings.Fields(rng)...)...)+"\n")
	return path
}

func mkdir(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	mkdir(t, filepath.Dir(path))
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// files returns the files of a worktree with their text, without git's own.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	walk(t, dir, func(name, path string, info fs.FileInfo) {
		if name != ".git" && !strings.HasPrefix(name, ".git/") && info.Mode().IsRegular() {
			out[name] = read(t, path)
		}
	})
	return out
}

// fingerprint says of every file below dir what it is, .git included: mode,
// content, time of the last change. The time of an object does not count: git
// renews it when it is asked to write an object that is there already.
func fingerprint(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	walk(t, dir, func(name, path string, info fs.FileInfo) {
		content := ""
		switch {
		case info.Mode().IsRegular():
			content = fmt.Sprintf("%x", sha256.Sum256([]byte(read(t, path))))
			if !strings.Contains(name, ".git/objects/") {
				content += " " + info.ModTime().String()
			}
		case info.Mode()&fs.ModeSymlink != 0:
			content, _ = os.Readlink(path)
		}
		out[name] = info.Mode().String() + " " + content
	})
	return out
}

func walk(t *testing.T, dir string, see func(name, path string, info fs.FileInfo)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		see(name, path, info)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// unchanged fails the test at its end if anything below dir is not as it was.
func unchanged(t *testing.T, dir string) {
	t.Helper()
	before := fingerprint(t, dir)
	t.Cleanup(func() {
		if d := cmp.Diff(before, fingerprint(t, dir)); d != "" {
			t.Errorf("%s was changed (-before +after):\n%s", dir, d)
		}
	})
}

func checkout(t *testing.T, w *Worktree, sha string) {
	t.Helper()
	if err := w.Checkout(t.Context(), sha); err != nil {
		t.Fatal(err)
	}
}
