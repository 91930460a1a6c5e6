package report

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// gitDir is a repository with a line of commits c0..c9 that touch mm, every
// third one fs too, and a merge of a side branch between c4 and c5.
func gitDir(t *testing.T) (git func(args ...string) (string, error), ids map[string]string) {
	t.Helper()
	dir := t.TempDir()
	git = func(args ...string) (string, error) {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C",
			"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.org"}
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	ids = map[string]string{}
	must := func(args ...string) {
		t.Helper()
		if out, err := git(args...); err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
	}
	commit := func(name string, files ...string) {
		t.Helper()
		for _, f := range files {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, f), []byte(name), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		must("add", "--all")
		must("commit", "--quiet", "-m", name)
		ids[name], _ = git("rev-parse", "HEAD")
	}
	must("init", "--quiet", "-b", "main")
	for i := range 10 {
		name := fmt.Sprintf("c%d", i)
		if i == 5 {
			must("checkout", "--quiet", "-b", "side", ids["c2"])
			commit("s1", "it's/x")
			must("checkout", "--quiet", "main")
			must("merge", "--quiet", "--no-ff", "-m", "merge", "side")
			ids["merge"], _ = git("rev-parse", "HEAD")
		}
		files := []string{"mm/x"}
		if i%3 == 0 {
			files = append(files, "fs/x")
		}
		commit(name, files...)
	}
	return git, ids
}

// What is exported is what git takes, and git comes to the same answer.
func TestGitBisectReplay(t *testing.T) {
	git, ids := gitDir(t)
	commit := func(name string) kernel.Commit { return kernel.Commit{SHA: ids[name], Subject: name} }
	steps := func(s string) (out []kernel.BisectStep) {
		for w := range strings.FieldsSeq(s) {
			name, outcome, _ := strings.Cut(w, ":")
			out = append(out, kernel.BisectStep{SHA: ids[name], Subject: name, Outcome: outcome})
		}
		return out
	}
	culprit := func(name string) *kernel.Commit {
		c := commit(name)
		return &c
	}
	for _, c := range []struct {
		name string
		r    kernel.BisectResult
		says string // by git bisect next
	}{
		{"found", kernel.BisectResult{Status: kernel.Found, Good: commit("c0"), Bad: commit("c9"), Culprit: culprit("c5"),
			Steps: steps("c9:bad c0:good c5:bad merge:good s1:inconclusive c7:bad")}, ids["c5"] + " is the first bad commit"},
		{"below a commit that fails already", kernel.BisectResult{Status: kernel.Found, Good: commit("c0"), Bad: commit("c9"), Culprit: culprit("c5"),
			Steps: steps("c8:bad c0:good c5:bad merge:good")}, ids["c5"] + " is the first bad commit"},
		{"on a side branch", kernel.BisectResult{Status: kernel.Found, Good: commit("c0"), Bad: commit("c9"), Culprit: culprit("s1"),
			Steps: steps("c9:bad merge:bad c4:good s1:bad c2:good")}, ids["s1"] + " is the first bad commit"},
		{"back and forth", kernel.BisectResult{Status: kernel.Found, Good: commit("c0"), Bad: commit("c9"), Culprit: culprit("c5"),
			Steps: steps("c9:bad c5:inconclusive c7:bad merge:good c5:bad c8:bad")}, ids["c5"] + " is the first bad commit"},
		{"paths", kernel.BisectResult{Status: kernel.Found, Good: commit("c0"), Bad: commit("c9"), Culprit: culprit("c6"), Paths: []string{"fs", "it's"},
			Steps: steps("c9:bad c3:good s1:good merge:good c6:bad")}, ids["c6"] + " is the first bad commit"},
		{"first parent", kernel.BisectResult{Status: kernel.Found, Good: commit("c0"), Bad: commit("c9"), Culprit: culprit("merge"), FirstParent: true,
			Steps: steps("c9:bad c4:good merge:bad")}, ids["merge"] + " is the first bad commit"},
		{"a fix", kernel.BisectResult{Status: kernel.Found, FindFix: true, Good: commit("c9"), Bad: commit("c0"), Culprit: culprit("c7"),
			Steps: steps("c9:good c0:bad c7:good c6:bad")}, ids["c7"] + " is the first fixed commit"},
		{"a fix in a path", kernel.BisectResult{Status: kernel.Found, FindFix: true, FirstParent: true, Paths: []string{"mm"}, Good: commit("c9"), Bad: commit("c0"), Culprit: culprit("c7"),
			Steps: steps("c9:good c0:bad c7:good c6:bad")}, ids["c7"] + " is the first fixed commit"},
		{"a set", kernel.BisectResult{Status: kernel.Set, Good: commit("c0"), Bad: commit("c9"), Steps: steps("c9:bad c7:bad c6:skip c5:good")},
			"only 'skip'ped commits left"},
		{"no single change", kernel.BisectResult{Status: kernel.NotSingleChange, Good: commit("c0"), Bad: commit("c9"), Steps: steps("c9:bad c3:bad c6:good c7:bad")},
			"Bisecting: "},
		{"not finished", kernel.BisectResult{Status: kernel.NoConclusion, Good: commit("c0"), Bad: commit("c9"), Steps: steps("c9:bad c3:bad c6:good")}, "Bisecting: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := gitBisectLog(&c.r)
			if ran := slices.ContainsFunc(c.r.Steps, func(s kernel.BisectStep) bool { return s.SHA == c.r.Bad.SHA }); strings.Contains(log, "\n# bad: ["+c.r.Bad.SHA) && !ran {
				t.Errorf("says of a commit that was not run that it is bad:\n%s", log)
			}
			path := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(path, []byte(log), 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := git("bisect", "replay", path)
			if err != nil && !strings.Contains(c.says, "skip") { // for which its status is 2
				t.Errorf("replay: %v\n%s\n%s", err, out, log)
			}
			if next, _ := git("bisect", "next"); !strings.Contains(out+next, c.says) {
				t.Errorf("git says %s %s\nwant %q\n%s", out, next, c.says, log)
			}
			if out, err := git("bisect", "reset"); err != nil {
				t.Error(out)
			}
		})
	}
}
