package gitrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Remote is a repository that others publish: a forge's, by its URL.
type Remote struct {
	URL           string // https://, ssh:// or a directory
	Authorization string // an HTTP header of that name, "" for none
}

var refForm = regexp.MustCompile(`^refs/[A-Za-z0-9._/+-]{1,200}$`)

// FetchRef gets what a ref of a remote names, with its history as far as the
// user's repository does not have it, and returns its object id. It comes into
// the mirror and stays there below refs/kbisect/. The ref not being there is a
// *UserError.
func (r *Repo) FetchRef(ctx context.Context, from Remote, ref string) (string, error) {
	if !refForm.MatchString(ref) || strings.Contains(ref, "..") || strings.HasPrefix(from.URL, "-") {
		return "", userErrorf("%q of %q: no ref to fetch", ref, from.URL)
	}
	env := []string{"GIT_ALLOW_PROTOCOL=https:http:ssh:file"}
	if from.Authorization != "" { // in the environment, where other users do not see it
		env = append(env, "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http.extraHeader", "GIT_CONFIG_VALUE_0=Authorization: "+from.Authorization)
	}
	fetching.Lock()
	defer fetching.Unlock()
	own := "refs/kbisect/remote/" + strings.TrimPrefix(ref, "refs/")
	_, err := r.gitEnv(ctx, r.mirror, env, "fetch", "--quiet", "--no-tags", "--no-auto-maintenance", "--end-of-options", from.URL, "+"+ref+":"+own)
	var ge *gitError
	switch {
	case errors.As(err, &ge) && strings.Contains(ge.stderr, "couldn't find remote ref"):
		return "", userErrorf("%s has no %s", from.URL, ref)
	case err != nil:
		return "", fmt.Errorf("fetch %s of %s: %w", ref, from.URL, err)
	}
	return r.git(ctx, r.mirror, "rev-parse", "--verify", own+"^{commit}")
}

// Shallow says whether the user's repository lacks the history before some
// commit.
func (r *Repo) Shallow() bool {
	st, err := os.Stat(filepath.Join(r.mirror, "shallow"))
	return err == nil && st.Size() > 0
}

// Has says whether a commit is there.
func (r *Repo) Has(ctx context.Context, sha string) (bool, error) {
	_, err := r.git(ctx, r.mirror, "cat-file", "-e", sha+"^{commit}")
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return false, nil
	}
	return err == nil, err
}

// Diff is what a commit changes against its first parent, as git's unified diff
// without context lines, each hunk with the C function that it is in. It ends
// after most bytes.
func (r *Repo) Diff(ctx context.Context, c kernel.Commit, most int) ([]byte, error) {
	from := "4b825dc642cb6eb9a060e54bf8d69288fbee4904" // git's empty tree
	if len(c.Parents) > 0 {
		from = c.Parents[0]
	}
	attributes, err := r.attributes()
	if err != nil {
		return nil, err
	}
	cmd := r.gitCommand(ctx, r.mirror, nil, "-c", "core.attributesFile="+attributes, "-c", "core.quotePath=true", "-c", "diff.suppressBlankEmpty=false",
		"diff-tree", "-p", "-r", "-U0", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--full-index", from, c.SHA)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	diff, rerr := io.ReadAll(io.LimitReader(out, int64(most)))
	if rerr != nil || len(diff) == most {
		_ = cmd.Process.Kill()
	}
	if err := cmd.Wait(); err != nil && len(diff) < most {
		return nil, fmt.Errorf("git diff-tree %s: %w", c.Short(), err)
	}
	return diff, rerr
}

// attributes is a file that tells git what is C: without it a label at the start
// of a line counts as a function.
func (r *Repo) attributes() (string, error) {
	path := filepath.Join(r.mirror, "info", "kbisect-attributes")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	return path, replace(path, []byte("*.c diff=cpp\n*.h diff=cpp\n"))
}

// PatchID digests what a commit changes, without line numbers and blanks: equal
// for one patch on different bases. It is "" for a commit that changes nothing.
func (r *Repo) PatchID(ctx context.Context, c kernel.Commit) (string, error) {
	const most = 32 << 20
	diff, err := r.Diff(ctx, c, most)
	if err != nil {
		return "", err
	}
	ids, err := r.patchIDs(ctx, bytes.NewReader(diff))
	if err != nil || len(ids) == 0 {
		return "", err
	}
	return ids[0], nil
}
