package gitrepo

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// buildProducts are the files of a kernel built in its own source directory,
// for directories without git. Their .gitignore is no help: the one in Debian's
// source packages ignores everything.
var buildProducts = []string{
	"*.o", "*.a", "*.ko", "*.mod", "*.mod.c", ".*.cmd", ".*.d", ".tmp_*", "modules.order", "modules.builtin*", "Module.symvers",
	"/vmlinux", "/System.map", "/.config", "/.config.old", "/.version", "/include/config/", "/include/generated/",
	"/arch/*/include/generated/", "/arch/*/boot/bzImage", "/arch/*/boot/compressed/vmlinux*.gz",
}

// OpenDir prepares a mirror for the files of a directory: a git checkout, or a
// directory without git.
func OpenDir(ctx context.Context, dataDir, dir string) (*Repo, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if st, err := os.Stat(abs); err != nil || !st.IsDir() {
		return nil, userErrorf("%s: no such directory", dir)
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	// A directory inside somebody else's repository is not a checkout of its own.
	probe := &Repo{source: abs, owner: dataDir}
	if top, err := probe.git(ctx, abs, "rev-parse", "--show-toplevel"); err == nil && top == abs {
		return Open(ctx, dataDir, abs)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return mirrorOf(ctx, dataDir, abs)
}

// ownCommit is the environment for a commit of ours: equal content gives an
// equal commit.
var ownCommit = []string{
	"GIT_AUTHOR_NAME=kbisect", "GIT_AUTHOR_EMAIL=kbisect@localhost", "GIT_AUTHOR_DATE=@0 +0000",
	"GIT_COMMITTER_NAME=kbisect", "GIT_COMMITTER_EMAIL=kbisect@localhost", "GIT_COMMITTER_DATE=@0 +0000",
}

// Snapshot makes a commit of the files in dir as they are now: tracked ones,
// and untracked ones that git does not ignore or, without git, that are no
// products of a build. Neither dir, its index nor its repository is touched.
// Equal files give an equal commit.
func (r *Repo) Snapshot(ctx context.Context, dir string) (kernel.Commit, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return kernel.Commit{}, err
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	env := append([]string{
		"GIT_DIR=" + r.mirror, "GIT_WORK_TREE=" + abs, "GIT_INDEX_FILE=" + filepath.Join(r.mirror, "snapshot.index"),
	}, ownCommit...)
	_ = os.Remove(filepath.Join(r.mirror, "snapshot.index.lock"))
	if err := r.fillIndex(ctx, abs, env); err != nil {
		return kernel.Commit{}, err
	}
	tree, err := r.gitEnv(ctx, abs, env, "write-tree")
	if err != nil {
		return kernel.Commit{}, err
	}
	sha, err := r.gitEnv(ctx, abs, env, "commit-tree", "-m", "files of "+filepath.Base(abs), tree)
	if err != nil {
		return kernel.Commit{}, err
	}
	if _, err := r.git(ctx, r.mirror, "update-ref", "refs/kbisect/"+sha, sha); err != nil {
		return kernel.Commit{}, err
	}
	return r.Commit(ctx, sha)
}

// fillIndex makes the snapshot's index hold the files of dir. It keeps the
// times of files from one snapshot to the next, so that only what changed is read.
func (r *Repo) fillIndex(ctx context.Context, dir string, env []string) error {
	ignore := []string{"--exclude-standard"}
	if r.source == "" {
		ignore = nil
		for _, p := range buildProducts {
			ignore = append(ignore, "--exclude="+p)
		}
	} else if head, err := r.git(ctx, r.source, "rev-parse", "--verify", "--quiet", "HEAD^{tree}"); err == nil {
		// What is tracked counts even where .gitignore names it.
		if _, err := r.gitEnv(ctx, dir, env, "read-tree", "-i", "-m", head); err != nil {
			return err
		}
	}
	if _, err := r.gitEnv(ctx, dir, env, "-c", "core.bare=false", "add", "--update", "."); err != nil {
		return err
	}
	others, err := r.gitEnv(ctx, dir, env, append([]string{"-c", "core.bare=false", "ls-files", "-z", "--others"}, ignore...)...)
	if err != nil || others == "" {
		return err
	}
	_, err = r.gitInput(ctx, dir, env, strings.NewReader(others), "-c", "core.bare=false", "update-index", "--add", "-z", "--stdin")
	return err
}
