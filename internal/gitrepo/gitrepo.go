// Package gitrepo reads the user's repository and keeps worktrees of its
// commits, all through the git binary. It must not know what is done with a
// worktree.
//
// The user's repository is only ever read. kbisect keeps a bare mirror of its
// own which borrows the repository's objects (objects/info/alternates); new
// objects, worktrees and refs go to the mirror. So the user's checkout, index,
// branches and even the list of worktrees stay as they are, and a repository
// of the kernel's size is never copied.
package gitrepo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/leash"
)

// Repo is a user's repository together with our mirror of it.
type Repo struct {
	source string // the user's repository, "" for a directory without git
	mirror string // our bare repository
	owner  string
	id     string
}

// UserError is a mistake in what the user gave: the message is for them.
type UserError struct{ Msg string }

func (e *UserError) Error() string { return e.Msg }

func userErrorf(format string, a ...any) error { return &UserError{fmt.Sprintf(format, a...)} }

// replace gives a file a content. Jobs beside each other open the same mirror,
// and git must at no time find half of it.
func replace(path string, content []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// Open prepares the mirror of the git repository at source, under dataDir.
// A source that is no git repository is a *UserError.
func Open(ctx context.Context, dataDir, source string) (*Repo, error) {
	abs, err := filepath.Abs(source)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(abs); err != nil {
		return nil, userErrorf("%s: no such directory", source)
	}
	probe := &Repo{source: abs, owner: dataDir}
	common, err := probe.git(ctx, abs, "rev-parse", "--git-common-dir")
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return nil, fmt.Errorf("git is not installed: deploy/install-deps installs it")
		}
		return nil, userErrorf("%s: not a git repository (for a plain directory use check --tree)", source)
	}
	if !filepath.IsAbs(common) {
		common = filepath.Join(abs, common)
	}
	r, err := mirrorOf(ctx, dataDir, common)
	if err != nil {
		return nil, err
	}
	r.source = abs
	alternates := filepath.Join(common, "objects") + "\n"
	if err := replace(filepath.Join(r.mirror, "objects/info/alternates"), []byte(alternates)); err != nil {
		return nil, fmt.Errorf("mirror of %s: %w", source, err)
	}
	// A shallow clone lacks the parents of its oldest commits; git must know,
	// and also when the user has fetched them since.
	shallow := filepath.Join(r.mirror, "shallow")
	if b, rerr := os.ReadFile(filepath.Join(common, "shallow")); rerr == nil {
		err = replace(shallow, b)
	} else if err = os.Remove(shallow); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("mirror of %s: %w", source, err)
	}
	return r, nil
}

// making is held while a mirror is made: jobs of a service begin beside each
// other.
var making sync.Mutex

func mirrorOf(ctx context.Context, dataDir, of string) (*Repo, error) {
	if real, err := filepath.EvalSymlinks(of); err == nil {
		of = real
	}
	sum := sha256.Sum256([]byte(of))
	r := &Repo{owner: dataDir, id: hex.EncodeToString(sum[:6])}
	r.mirror = filepath.Join(dataDir, "mirrors", r.id+".git")
	making.Lock()
	defer making.Unlock()
	// git init makes HEAD first and this last; after a kill in between it goes
	// on where it was. After a power cut files may be there and empty, and git
	// takes no directory with an empty HEAD for a repository.
	_, err := os.Stat(filepath.Join(r.mirror, "objects/info"))
	lost := err != nil
	for _, name := range []string{"HEAD", "config"} {
		path := filepath.Join(r.mirror, name)
		if st, err := os.Stat(path); err != nil {
			lost = true
		} else if st.Size() == 0 {
			lost = true
			_ = os.Remove(path)
		}
	}
	if !lost {
		return r, r.convertNothing()
	}
	if err := os.MkdirAll(filepath.Dir(r.mirror), 0o755); err != nil {
		return nil, err
	}
	if _, err := r.git(ctx, dataDir, "init", "--quiet", "--bare", "--template=", r.mirror); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(r.mirror, "objects/info"), 0o755); err != nil {
		return nil, err
	}
	// gc would not see what the source's refs hold.
	if _, err = r.git(ctx, r.mirror, "config", "gc.auto", "0"); err != nil {
		return nil, err
	}
	return r, r.convertNothing()
}

// convertNothing makes checkouts hold the bytes of the commits. A patch may say in
// .gitattributes that git is to write other line ends, another encoding or $Id$, and
// files stay so on later commits, where they do not differ and nothing says that.
func (r *Repo) convertNothing() error {
	path := filepath.Join(r.mirror, "info", "attributes") // goes before all others
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return replace(path, []byte("* -text -ident -filter !working-tree-encoding\n"))
}

// ID names the repository in paths: equal for equal repositories.
func (r *Repo) ID() string { return r.id }

var objectID = regexp.MustCompile(`^[0-9a-f]{40}$`)

// Resolve finds the commit that rev names in the user's repository. An unknown
// rev is a *UserError.
func (r *Repo) Resolve(ctx context.Context, rev string) (kernel.Commit, error) {
	if rev == "" || rev[0] == '-' || rev[0] == '^' { // an option, a negation
		return kernel.Commit{}, userErrorf("%s: no such revision: %q", r.source, rev)
	}
	where := r.source
	if objectID.MatchString(rev) { // the mirror has also what was fetched
		where = r.mirror
	}
	sha, err := r.git(ctx, where, "rev-parse", "--verify", "--quiet", "--end-of-options", rev+"^{commit}")
	if err != nil {
		if ctx.Err() != nil {
			return kernel.Commit{}, ctx.Err()
		}
		return kernel.Commit{}, userErrorf("%s: no such revision: %s", r.source, rev)
	}
	return r.Commit(ctx, sha)
}

// Commit returns the commit of an object id, one that only the mirror has included.
func (r *Repo) Commit(ctx context.Context, sha string) (kernel.Commit, error) {
	cs, err := r.log(ctx, "--no-walk", sha)
	if err != nil {
		return kernel.Commit{}, err
	}
	if len(cs) != 1 {
		return kernel.Commit{}, fmt.Errorf("git log: %d commits for %s, not one", len(cs), sha)
	}
	return cs[0], nil
}

// Range returns the commits of base..head, oldest first, parents before
// children.
func (r *Repo) Range(ctx context.Context, base, head string) ([]kernel.Commit, error) {
	return r.log(ctx, "--topo-order", "--reverse", head, "^"+base)
}

// IsAncestor says whether a is reachable from b.
func (r *Repo) IsAncestor(ctx context.Context, a, b string) (bool, error) {
	_, err := r.git(ctx, r.mirror, "merge-base", "--is-ancestor", a, b)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return false, nil
	}
	return err == nil, err
}

// MergeBase returns the best common ancestor of two commits, "" when the
// histories are unrelated.
func (r *Repo) MergeBase(ctx context.Context, a, b string) (string, error) {
	out, err := r.git(ctx, r.mirror, "merge-base", a, b)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return "", nil
	}
	return out, err
}

// CheckKernel returns a *UserError unless the commit's tree is a kernel's.
func (r *Repo) CheckKernel(ctx context.Context, c kernel.Commit) error {
	for _, f := range []string{"Kconfig", "Kbuild", "scripts/kconfig/merge_config.sh", "arch/x86"} {
		if _, err := r.git(ctx, r.mirror, "cat-file", "-e", c.SHA+":"+f); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if _, err := r.git(ctx, r.source, "config", "--get-regexp", `^remote\..*\.promisor$`); err == nil && r.source != "" {
				return userErrorf("%s is a partial clone and lacks files of %s; kbisect fetches nothing: complete it with `git fetch --refetch --no-filter`", r.source, c.Short())
			}
			return userErrorf("commit %s is not a Linux kernel: it has no %s", c.Short(), f)
		}
	}
	return nil
}

// log runs git log and decodes its answer. Fields end with NUL, which none of
// them can hold.
func (r *Repo) log(ctx context.Context, args ...string) ([]kernel.Commit, error) {
	args = append([]string{"log", "-z", "--no-show-signature", "--format=%H%x00%T%x00%P%x00%s%x00%an <%ae>"}, args...)
	out, err := r.git(ctx, r.mirror, append(args, "--")...)
	if err != nil {
		return nil, err
	}
	return parseLog(out)
}

func parseLog(out string) ([]kernel.Commit, error) {
	if out == "" {
		return nil, nil
	}
	f := strings.Split(strings.TrimSuffix(out, "\x00"), "\x00")
	if len(f)%5 != 0 {
		return nil, fmt.Errorf("git log: %d fields, not a multiple of 5", len(f))
	}
	commits := make([]kernel.Commit, 0, len(f)/5)
	for ; len(f) > 0; f = f[5:] {
		commits = append(commits, kernel.Commit{SHA: f[0], Tree: f[1], Parents: strings.Fields(f[2]), Subject: f[3], Author: f[4]})
	}
	return commits, nil
}

// gitError is a failed git command with what it said.
type gitError struct {
	args   []string
	stdout string
	stderr string
	err    error
}

func (e *gitError) Unwrap() error { return e.err }

func (e *gitError) Error() string {
	msg := strings.TrimSpace(e.stderr)
	if msg == "" {
		msg = e.err.Error()
	}
	return "git " + e.args[0] + ": " + msg
}

func (r *Repo) git(ctx context.Context, dir string, args ...string) (string, error) {
	return r.gitEnv(ctx, dir, nil, args...)
}

// gitEnv runs git with further variables in its environment.
func (r *Repo) gitEnv(ctx context.Context, dir string, env []string, args ...string) (string, error) {
	return r.gitInput(ctx, dir, env, nil, args...)
}

// gitInput runs git in dir and returns its output without trailing newlines.
func (r *Repo) gitInput(ctx context.Context, dir string, env []string, stdin io.Reader, args ...string) (string, error) {
	cmd := r.gitCommand(ctx, dir, env, args...)
	cmd.Stdin = stdin
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", &gitError{args, stdout.String(), stderr.String(), err}
	}
	return strings.TrimRight(stdout.String(), "\n"), nil
}

// gitCommand is git in dir. Nothing of the user's git settings takes part, so
// that hooks, aliases, signing and filters cannot change what we see.
func (r *Repo) gitCommand(ctx context.Context, dir string, env []string, args ...string) *exec.Cmd {
	all := append([]string{"-c", "safe.directory=*", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false",
		"-c", "advice.detachedHead=false", "-c", "commit.gpgSign=false", "-c", "gc.auto=0", "-c", "core.autocrlf=false",
		"-c", "core.attributesFile=/dev/null", "-c", "core.excludesFile=/dev/null"}, args...)
	env = append(cleanEnv(), env...)
	if dir != r.source {
		// A damaged mirror or worktree is an error. It is not to be passed over
		// for a repository that the data directory happens to lie in.
		env = append(env, "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
	}
	cmd := leash.Command(ctx, r.owner, env, "git", all...)
	cmd.Dir = dir
	return cmd
}

// cleanEnv is the environment without git's variables: inside a hook or `git
// bisect run` they name another repository.
func cleanEnv() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GIT_") {
			env = append(env, v)
		}
	}
	return append(env, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_OPTIONAL_LOCKS=0", "LC_ALL=C")
}
