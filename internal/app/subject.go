package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// subjectFlags say which kernel to check.
type subjectFlags struct{ kernel, tree, repo, rev string }

func (s *subjectFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.kernel, "kernel", "", "a ready kernel image `file` (bzImage)")
	f.StringVar(&s.tree, "tree", "", "the files of this source `directory` as they are now, under git or not")
	f.StringVar(&s.repo, "repo", "", "a git repository `directory`")
	f.StringVar(&s.rev, "rev", "", "commit of the repository (default HEAD)")
}

// readyKernel checks the flags and describes the image of --kernel, if any.
func (s *subjectFlags) readyKernel(req *request) (*kernel.Kernel, error) {
	n := 0
	for _, f := range []string{s.kernel, s.tree, s.repo} {
		if f != "" {
			n++
		}
	}
	switch {
	case n == 0:
		return nil, usagef("which kernel? --kernel FILE, --tree DIR, or --repo DIR --rev REV")
	case n > 1:
		return nil, usagef("--kernel, --tree and --repo exclude each other")
	case s.rev != "" && s.repo == "":
		return nil, usagef("--rev %s goes with --repo", s.rev)
	case s.kernel == "":
		return nil, nil
	}
	path, err := filepath.Abs(s.kernel)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, usagef("--kernel %v", err)
	}
	// The boot protocol's magic, Documentation/arch/x86/boot.rst, offset 0x202.
	if len(data) < 0x206 || string(data[0x202:0x206]) != "HdrS" {
		return nil, usagef("--kernel %s: not an x86 kernel image (bzImage)", s.kernel)
	}
	sum := sha256.Sum256(data)
	req.Kernel = path
	return &kernel.Kernel{Image: path, Digest: hex.EncodeToString(sum[:])}, nil
}

// source opens the repository or directory and finds the commit to build.
func (s *subjectFlags) source(ctx context.Context, dataDir string) (*gitrepo.Repo, kernel.Commit, error) {
	if s.tree != "" {
		// Before its files are copied: it may be anybody's home.
		if st, err := os.Stat(s.tree); err != nil || !st.IsDir() {
			return nil, kernel.Commit{}, usagef("--tree %s: no such directory", s.tree)
		}
		if _, err := os.Stat(filepath.Join(s.tree, "Kconfig")); err != nil {
			return nil, kernel.Commit{}, usagef("--tree %s: not a Linux kernel: it has no Kconfig", s.tree)
		}
		repo, err := gitrepo.OpenDir(ctx, dataDir, s.tree)
		if err != nil {
			return nil, kernel.Commit{}, err
		}
		c, err := repo.Snapshot(ctx, s.tree)
		if err == nil {
			err = repo.CheckKernel(ctx, c)
		}
		return repo, c, err
	}
	repo, err := gitrepo.Open(ctx, dataDir, s.repo)
	if err != nil {
		return nil, kernel.Commit{}, err
	}
	rev := s.rev
	if rev == "" {
		rev = "HEAD"
	}
	c, err := repo.Resolve(ctx, rev)
	if err == nil {
		err = repo.CheckKernel(ctx, c)
	}
	return repo, c, err
}
