package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/history"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// The kernel's history as of v6.12, in round numbers, and a range as long as two
// releases.
const (
	allCommits = 1_300_000
	allFiles   = 90_000
	perDir     = 18
	longRange  = 15_000
)

// gitSize measures git's part on a repository of the kernel's size, which is made
// up: one line of commits with a merge for every hundred, of one file each.
func (b *bench) gitSize() error {
	repo := filepath.Join(b.dir, "large")
	if _, err := os.Stat(repo); err != nil {
		say("making a repository of %d commits and %d files", allCommits, allFiles)
		if err := makeLarge(repo); err != nil {
			return err
		}
	}
	ctx := context.Background()
	data := filepath.Join(b.dir, "large-data")
	if err := os.RemoveAll(data); err != nil {
		return err
	}
	if err := os.MkdirAll(data, 0o755); err != nil {
		return err
	}
	var r *gitrepo.Repo
	var head, base, next kernel.Commit
	var commits []kernel.Commit
	for _, op := range []struct {
		name string
		do   func() error
	}{
		{"open and resolve", func() (err error) {
			if r, err = gitrepo.Open(ctx, data, repo); err != nil {
				return err
			}
			for rev, into := range map[string]*kernel.Commit{"main": &head, fmt.Sprintf("main~%d", longRange): &base, "main~1": &next} {
				if *into, err = r.Resolve(ctx, rev); err != nil {
					return err
				}
			}
			_, err = r.IsAncestor(ctx, base.SHA, head.SHA)
			return err
		}},
		{fmt.Sprintf("list %d commits", longRange), func() (err error) {
			commits, _, err = r.Candidates(ctx, base.SHA, head.SHA, gitrepo.RangeOptions{})
			return err
		}},
		{"order them", func() error { _, err := history.New(commits); return err }},
		{"list their files", func() error {
			n := 0
			err := r.Changes(ctx, base.SHA, head.SHA, func(history.Change) { n++ })
			if n < longRange {
				return fmt.Errorf("%d changes of %d commits: %w", n, longRange, err)
			}
			return err
		}},
		{"list all commits", func() error {
			n := 0
			first, err := r.Resolve(ctx, "main~1280000") // by first parents
			if err != nil {
				return err
			}
			_, err = r.EachCandidate(ctx, first.SHA, head.SHA, gitrepo.RangeOptions{}, func(string, []string) { n++ })
			if err == nil && n < 1_280_000 {
				err = fmt.Errorf("%d of %d", n, allCommits)
			}
			return err
		}},
		{"compare neighbours", func() error { _, err := r.Differ(ctx, next.Tree, head.Tree); return err }},
		{"compare the ends", func() error { _, err := r.Differ(ctx, base.Tree, head.Tree); return err }},
		{"first checkout", func() error { return r.Worktree(filepath.Join(data, "src")).Checkout(ctx, head.SHA) }},
		{"checkout of a neighbour", func() error { return r.Worktree(filepath.Join(data, "src")).Checkout(ctx, next.SHA) }},
		{fmt.Sprintf("checkout %d commits away", longRange), func() error { return r.Worktree(filepath.Join(data, "src")).Checkout(ctx, base.SHA) }},
	} {
		start := time.Now()
		if err := op.do(); err != nil {
			return fmt.Errorf("%s: %w", op.name, err)
		}
		took := time.Since(start).Seconds()
		b.Git = append(b.Git, timed{op.name, took})
		say("git: %s: %.2f s", op.name, took)
	}
	return nil
}

// timed is an operation and what it took.
type timed struct {
	What    string  `json:"what"`
	Seconds float64 `json:"seconds"`
}

func makeLarge(repo string) error {
	if _, err := output("", nil, "git", "init", "-q", "--bare", "--initial-branch=main", repo); err != nil {
		return err
	}
	cmd := exec.Command("git", "-C", repo, "fast-import", "--quiet", "--depth=50")
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	w := bufio.NewWriterSize(in, 1<<20)
	writeLarge(w)
	if err := w.Flush(); err != nil {
		return err
	}
	if err := in.Close(); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return err
	}
	// As git maintenance and gc leave it.
	_, err = output(repo, nil, "git", "commit-graph", "write", "--reachable")
	return err
}

// writeLarge writes the stream of git fast-import.
func writeLarge(w io.Writer) {
	rnd := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same each time
	path := func(i int) string { return fmt.Sprintf("d%02d/e%04d/f%05d.c", i/perDir/100, i/perDir, i) }
	data := func(text string) { fmt.Fprintf(w, "data %d\n%s\n", len(text), text) }
	commit := func(branch string, n int) {
		fmt.Fprintf(w, "commit refs/heads/%s\nmark :%d\ncommitter A U Thor <author@example.org> %d +0000\n", branch, n, 1_000_000_000+n)
		data(fmt.Sprintf("subsystem: change number %d\n\nWhy it is done, in a line or two.\n", n))
	}
	text := strings.Repeat("int some_function(struct page *page, unsigned long flags);\n", 40)
	commit("main", 1)
	for i := range allFiles {
		fmt.Fprintf(w, "M 100644 inline %s\n", path(i))
		data(fmt.Sprintf("/* %d */\n%s", i, text))
	}
	for n := 2; n <= allCommits; n++ {
		i := rnd.IntN(allFiles)
		switch n % 100 {
		case 50: // a branch that is merged 49 commits later
			commit("side", n)
			fmt.Fprintf(w, "from :%d\n", n-1)
		case 51:
			commit("main", n)
			fmt.Fprintf(w, "from :%d\n", n-2)
		case 99:
			commit("main", n)
			fmt.Fprintf(w, "merge :%d\n", n-49)
		default:
			commit("main", n)
		}
		fmt.Fprintf(w, "M 100644 inline %s\n", path(i))
		data(fmt.Sprintf("/* %d, in %d */\n%s", i, n, text))
	}
}

func (b *bench) gitTable(t *strings.Builder) {
	if len(b.Git) == 0 {
		return
	}
	fmt.Fprintf(t, "| git, %d commits, %d files | |\n|---|--:|\n", allCommits, allFiles)
	for _, g := range b.Git {
		fmt.Fprintf(t, "| %s | %.2f s |\n", g.What, g.Seconds)
	}
	fmt.Fprintln(t)
}
