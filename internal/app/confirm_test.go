package app

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
)

// A range may hold the first commit of a history that was merged: it has no
// parent to be compared with.
func TestConfirmOfARoot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir, "-c", "user.name=a", "-c", "user.email=a@b"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "-q")
	git("commit", "-q", "--allow-empty", "-m", "root")
	repo, err := gitrepo.Open(t.Context(), t.TempDir(), dir)
	if err != nil {
		t.Fatal(err)
	}
	root, err := repo.Resolve(t.Context(), git("rev-parse", "HEAD"))
	if err != nil {
		t.Fatal(err)
	}
	res := &kernel.BisectResult{Status: kernel.Found, Culprit: &root}
	var o options
	if err := o.confirm(t.Context(), repo, nil, runner.Program{}, res.Bad, res, func() {}); err != nil || res.Confirmation != nil {
		t.Errorf("%+v, %v", res.Confirmation, err)
	}
}
