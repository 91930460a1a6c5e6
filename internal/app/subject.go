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
	"github.com/kernel-bisect/kbisect/internal/kimage"
	"github.com/kernel-bisect/kbisect/vmimage"
)

// subjectFlags say which kernel to check.
type subjectFlags struct {
	kernels, modules []string
	tree, repo, rev  string
}

func (s *subjectFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&s.kernels, "kernel", nil, "a ready kernel image `file` (bzImage, or vmlinux with a PVH entry); repeatable")
	f.StringArrayVar(&s.modules, "modules", nil, "modules of --kernel: lib/modules/RELEASE or a `directory` above it; repeatable; sets --profile "+distributionProfile)
	f.StringVar(&s.tree, "tree", "", "the files of this source `directory` as they are now, under git or not")
	f.StringVar(&s.repo, "repo", "", "a git repository `directory`")
	f.StringVar(&s.rev, "rev", "", "commit of the repository (default HEAD)")
}

// adapt sets the profile that goes with --modules, unless the user set one.
func (s *subjectFlags) adapt(cmd *cobra.Command, p *planFlags) {
	if len(s.modules) > 0 && !cmd.Flags().Changed("profile") {
		p.profile = distributionProfile
	}
}

// readyKernel is an image that the user brought, with the modules for its guest.
type readyKernel struct {
	kernel  kernel.Kernel
	modules []vmimage.File // empty without --modules
}

// readyKernels checks the flags and describes the images of --kernel, if any.
func (s *subjectFlags) readyKernels(req *request) ([]readyKernel, error) {
	n := 0
	for _, given := range []bool{len(s.kernels) > 0, s.tree != "", s.repo != ""} {
		if given {
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
	case len(req.Carry) > 0 && len(s.kernels) > 0:
		return nil, usagef("--carry is for what is built here: leave it or --kernel out")
	case len(s.modules) > 0 && len(s.kernels) == 0:
		return nil, usagef("--modules goes with --kernel: what is built here has no modules")
	}
	if err := s.checkTree(); err != nil {
		return nil, err
	}
	trees, err := findModules(s.modules)
	if err != nil {
		return nil, err
	}
	profile, err := profileOf(req.Profile)
	if err != nil {
		return nil, err
	}
	var out []readyKernel
	for _, file := range s.kernels {
		r, err := readImage(file)
		if err != nil {
			return nil, err
		}
		for i := range out {
			if out[i].kernel.Digest == r.kernel.Digest {
				return nil, usagef("--kernel %s and --kernel %s are the same", s.kernels[i], file)
			}
		}
		if len(s.modules) > 0 {
			tree, err := trees.of(file, r.kernel.Release)
			if err != nil {
				return nil, err
			}
			r.kernel.Modules = &kernel.Modules{}
			switch {
			case tree != "":
				r.modules, r.kernel.Modules.Missing, err = packModules(tree, profile.Machine)
			case len(s.kernels) == 1:
				err = usagef("--kernel %s is %s, and --modules has only %s", file, r.kernel.Release, trees.releases())
			default: // beside kernels with modules there may be one that has all built in
				r.kernel.Modules.Missing = []string{"--modules has none for " + r.kernel.Release}
			}
			if err != nil {
				return nil, err
			}
		}
		req.Kernels = append(req.Kernels, r.kernel.Image)
		out = append(out, r)
	}
	for _, dir := range s.modules {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		req.Modules = append(req.Modules, abs)
	}
	return out, trees.unused()
}

// checkTree says whether --tree is a kernel's, before its files are copied: it
// may be anybody's home.
func (s *subjectFlags) checkTree() error {
	if s.tree == "" {
		return nil
	}
	if st, err := os.Stat(s.tree); err != nil || !st.IsDir() {
		return usagef("--tree %s: no such directory", s.tree)
	}
	if _, err := os.Stat(filepath.Join(s.tree, "Kconfig")); err != nil {
		return usagef("--tree %s: not a Linux kernel: it has no Kconfig", s.tree)
	}
	return nil
}

// readImage reads a ready kernel.
func readImage(file string) (readyKernel, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return readyKernel{}, err
	}
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		return readyKernel{}, usagef("--kernel %s: not a file", file)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return readyKernel{}, usagef("--kernel %v", err)
	}
	release, err := kimage.Release(data)
	if err != nil {
		return readyKernel{}, usagef("--kernel %s: %v", file, err)
	}
	sum := sha256.Sum256(data)
	return readyKernel{kernel: kernel.Kernel{Image: path, Digest: hex.EncodeToString(sum[:]), Release: release}}, nil
}

// pack makes the guest image of a kernel that brings modules.
func (r *readyKernel) pack(cache string, files []vmimage.File) error {
	m := r.kernel.Modules
	if m == nil {
		return nil
	}
	archive, err := vmimage.PackModules(r.modules)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(archive)
	m.Digest = hex.EncodeToString(sum[:])
	for _, f := range r.modules {
		m.Load = append(m.Load, f.Name)
	}
	m.Initrd, _, err = guestImage(cache, files, archive)
	return err
}

// source opens the repository or directory and finds the commit to build.
func (s *subjectFlags) source(ctx context.Context, dataDir string) (*gitrepo.Repo, kernel.Commit, error) {
	if s.tree != "" {
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
