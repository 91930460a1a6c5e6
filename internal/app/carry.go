package app

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// readCarry reads the files of --carry. What is in them is looked at when the
// repository is open.
func (p *planFlags) readCarry(r *request) error {
	for _, file := range p.carry {
		f, err := os.Open(file)
		if err != nil {
			return usagef("--carry %v", err)
		}
		text, err := io.ReadAll(io.LimitReader(f, gitrepo.MaxCarry+1))
		_ = f.Close()
		if err != nil {
			return usagef("--carry %v", err)
		}
		r.Carry = append(r.Carry, gitrepo.Carry{Name: filepath.Base(file), Diff: text})
	}
	return nil
}

// prepareCarry takes the patches out of what was given, and tries them on commits
// that must be testable.
func (r *request) prepareCarry(ctx context.Context, repo *gitrepo.Repo, ends ...kernel.Commit) error {
	for i, given := range r.Carry {
		p, err := repo.ReadCarry(ctx, given.Name, given.Diff)
		if err != nil {
			return err
		}
		for _, o := range r.Carry[:i] {
			if o.Name == p.Name {
				return usagef("two carried patches are called %s: reports could not tell them apart", p.Name)
			}
			if o.Digest() == p.Digest() {
				return usagef("%s and %s are the same patch", o.Name, p.Name)
			}
		}
		r.Carry[i] = p
	}
	for _, c := range ends {
		if err := r.tryCarry(ctx, repo, c); err != nil {
			return err
		}
	}
	return nil
}

// tryCarry says if a commit cannot be given the patches.
func (r *request) tryCarry(ctx context.Context, repo *gitrepo.Repo, c kernel.Commit) error {
	if len(r.Carry) == 0 {
		return nil
	}
	_, _, err := repo.Carry(ctx, c, r.Carry)
	var conflict *gitrepo.CarryError
	if errors.As(err, &conflict) {
		return usagef("commit %s: %v", c.Short(), err)
	}
	return err
}

// treeOf says which tree is built of a commit: nothing is known of a commit that
// was never given the patches.
func (r *request) treeOf(ctx context.Context, repo *gitrepo.Repo) (func(kernel.Commit) string, error) {
	if len(r.Carry) == 0 {
		return func(c kernel.Commit) string { return c.Tree }, nil
	}
	made, err := repo.Carried(ctx, r.Carry)
	return func(c kernel.Commit) string { return made[c.SHA].Tree }, err
}

// carrying gives the commits of a job its patches before they are built.
type carrying struct {
	repo    *gitrepo.Repo
	patches []gitrepo.Carry

	// mu guards the following field: builds go on beside runs.
	mu   sync.Mutex
	seen []kernel.Carried
}

// carry sees to it that what a lab builds of a commit has the request's patches.
// Whoever builds gets a commit that has them, and knows nothing of this: kernels
// belong to its tree.
func (b *bench) carry() {
	c := &b.carried
	c.repo, c.patches = b.repo, b.req.Carry
	for _, p := range c.patches {
		c.seen = append(c.seen, kernel.Carried{Name: p.Name, Digest: p.Digest()})
	}
	if b.repo != nil {
		b.lab.Build, b.lab.BuildClean = c.with(b.lab.Build), c.with(b.lab.BuildClean)
	}
}

// with gives what is built the patches, if there are any.
func (c *carrying) with(build buildFunc) buildFunc {
	if len(c.patches) == 0 {
		return build
	}
	return func(ctx context.Context, commit kernel.Commit) (kernel.Build, error) {
		with, there, err := c.repo.Carry(ctx, commit, c.patches)
		var conflict *gitrepo.CarryError
		if errors.As(err, &conflict) {
			return kernel.Build{Status: kernel.BuildConflict, Error: conflict.Error()}, nil
		}
		if err != nil {
			return kernel.Build{}, err
		}
		c.note(commit.SHA, there)
		built, err := build(ctx, with)
		if err != nil {
			return built, err
		}
		var given []string
		for _, p := range c.patches {
			if !slices.Contains(there, p.Name) {
				given = append(given, p.Name)
			}
		}
		built.Kernel.Carried = strings.Join(given, ", ")
		if built.SameAs != "" {
			built.SameAs, err = c.below(ctx, built.SameAs)
		}
		return built, err
	}
}

// below is the commit that was given the patches and became another one.
func (c *carrying) below(ctx context.Context, sha string) (string, error) {
	made, err := c.repo.Carried(ctx, c.patches)
	for commit, m := range made {
		if m.SHA == sha {
			return commit, err
		}
	}
	return sha, err
}

func (c *carrying) note(sha string, there []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.seen {
		if s := &c.seen[i]; slices.Contains(there, s.Name) && !slices.Contains(s.There, sha) {
			s.There = append(s.There, sha)
		}
	}
}

// list is what was carried so far.
func (c *carrying) list() []kernel.Carried {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := slices.Clone(c.seen)
	for i := range out {
		out[i].There = slices.Clone(out[i].There)
	}
	return out
}
