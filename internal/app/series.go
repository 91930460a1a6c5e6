package app

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/store"
)

// maxSeries bounds a series: more commits are a range to bisect.
const maxSeries = 500

func newSeries(o *options) *cobra.Command {
	var p planFlags
	var far remote
	var pull pullFlags
	var in inputFlags
	var repo, resume string
	cmd := &cobra.Command{
		Use:   "series --repo DIR (BASE..HEAD | --mbox FILE [--base REV] | --bundle FILE [BASE..HEAD] | --pr OWNER/REPO#N [--post])",
		Short: "Test every commit of a series",
		Example: `  orchestrator series --repo ~/linux v6.1..my-branch
  orchestrator series --repo ~/linux --mbox cow.mbox --base v6.1
  orchestrator series --repo ~/linux --mbox https://lore.kernel.org/linux-mm/MESSAGE-ID/
  orchestrator series --repo ~/linux --bundle cow.bundle
  orchestrator series --repo ~/linux --pr torvalds/linux#123 --post
  orchestrator series --resume series-1a2b3c4d`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if resume != "" {
				return o.resume(cmd, "series", resume, args)
			}
			if err := pull.prepare(args, in); err != nil {
				return err
			}
			if far.server != "" {
				return far.series(cmd, o, p, repo, in, args)
			}
			req, err := p.request(cmd.Context(), o, "series")
			if err != nil {
				return err
			}
			if pull.pull != "" {
				if len(req.Carry) > 0 {
					return usagef("--carry is not for --pr: what is told there is what its commits do by themselves")
				}
				dir, err := repoOf(repo)
				if err != nil {
					return err
				}
				req.Repo = dir
				return o.pullRequest(cmd.Context(), req, dir, pull)
			}
			if repo == "" {
				return usagef("--repo is missing: the kernel's git repository")
			}
			if req.Repo, err = filepath.Abs(repo); err != nil {
				return err
			}
			r, err := seriesRange(args, in)
			if err != nil {
				return err
			}
			return o.startSeries(cmd.Context(), req, r)
		},
	}
	p.register(cmd)
	p.registerTests(cmd, true)
	far.register(cmd)
	in.register(cmd)
	f := cmd.Flags()
	f.StringVar(&repo, "repo", "", "the kernel's git repository `directory`; only read, never changed")
	f.StringVar(&resume, "resume", "", "go on with an interrupted series by its `id`")
	f.StringVar(&pull.pull, "pr", "", "test the commits of a pull request at GitHub, `OWNER/REPO#N`; --repo is a clone, by default this directory")
	f.BoolVar(&pull.post, "post", false, "with --pr: post the results, with the token of $GITHUB_TOKEN; else they are printed")
	f.IntVar(&pull.most, "max-commits", 50, "with --pr: the most commits that are tested, the newest")
	return cmd
}

func seriesRange(args []string, in inputFlags) (revRange, error) {
	r, err := in.span()
	switch {
	case err != nil:
		return r, err
	case in.mbox != "" && len(args) > 0:
		return revRange{}, usagef("BASE..HEAD and --mbox exclude each other")
	case in.bundle != "" && in.base != "" && len(args) > 0:
		return revRange{}, usagef("BASE..HEAD and --base exclude each other")
	case in.mbox != "", in.bundle != "" && len(args) == 0:
		return r, nil
	case len(args) == 0:
		return revRange{}, usagef("which commits? BASE..HEAD, --mbox FILE or --bundle FILE")
	}
	b, h, ok := strings.Cut(args[0], "..")
	if !ok || b == "" || strings.HasPrefix(h, ".") {
		return revRange{}, usagef("%s: not a range; write BASE..HEAD", args[0])
	}
	if h == "" && in.bundle == "" {
		h = "HEAD"
	}
	r.base, r.head = b, h
	return r, nil
}

// startSeries finds the commits, records the job and carries it out.
func (o *options) startSeries(ctx context.Context, req request, r revRange) error {
	if _, err := req.plan(); err != nil {
		return err
	}
	ws, err := o.openWorkspace(ctx)
	if err != nil {
		return err
	}
	defer ws.close()
	tell := func(what string) { fmt.Fprintln(o.stderr, what) }
	remove, err := getMail(ctx, ws.cache, &r, tell)
	if err != nil {
		return err
	}
	defer remove()
	if req, err = prepareSeries(ctx, ws, req, r, tell); err != nil {
		return err
	}
	req.Command = o.again(r, req)
	id, err := ws.newJob(ctx, req)
	if err != nil {
		return err
	}
	return o.runSeries(ctx, ws, id, req)
}

// prepareSeries finds the commits of a series, and takes those that come with it, of
// which it tells what it took.
func prepareSeries(ctx context.Context, ws *workspace, req request, r revRange, tell func(string)) (request, error) {
	repo, err := gitrepo.Open(ctx, ws.data, req.Repo)
	if err != nil {
		return req, err
	}
	var base kernel.Commit
	if r.brought() {
		var head string
		base, head, err = ws.takeInput(ctx, repo, r, tell)
		req.fromStranger(base, head)
	} else if base, err = repo.Resolve(ctx, r.base); err == nil {
		if err = repo.CheckKernel(ctx, base); err == nil {
			req.Base = base.SHA
			req.Head, err = seriesHead(ctx, repo, base, r)
		}
	}
	if err != nil {
		return req, err
	}
	commits, err := seriesCommits(ctx, repo, base, req)
	if err != nil {
		return req, err
	}
	if err := req.prepareCarry(ctx, repo); err != nil {
		return req, err
	}
	// A base that cannot be tested is no reason not to test the rest, if that can be.
	if err := req.tryCarry(ctx, repo, base); err != nil && (!isUsers(err) || req.tryCarry(ctx, repo, commits[len(commits)-1]) != nil) {
		return req, err
	}
	return req, nil
}

func seriesHead(ctx context.Context, repo *gitrepo.Repo, base kernel.Commit, r revRange) (string, error) {
	head, err := repo.Resolve(ctx, r.head)
	if err != nil {
		return "", err
	}
	ok, err := repo.IsAncestor(ctx, base.SHA, head.SHA)
	if err != nil {
		return "", err
	}
	if !ok {
		hint := "their histories are unrelated"
		if mb, err := repo.MergeBase(ctx, base.SHA, head.SHA); err == nil && mb == head.SHA {
			hint = "it is the other way round"
		} else if err == nil && mb != "" {
			hint = "did you mean " + kernel.Abbrev(mb) + ".." + r.head + " (their merge base)?"
		}
		return "", usagef("%s..%s: %s is not an ancestor of %s; %s", r.base, r.head, r.base, r.head, hint)
	}
	return head.SHA, nil
}

// seriesCommits lists the commits of a series, a sensible number of them.
func seriesCommits(ctx context.Context, repo *gitrepo.Repo, base kernel.Commit, req request) ([]kernel.Commit, error) {
	commits, err := repo.Range(ctx, req.Base, req.Head)
	switch {
	case err != nil:
		return nil, err
	case len(commits) == 0:
		return nil, usagef("%s..%s: no commits", base.Short(), kernel.Abbrev(req.Head))
	case len(commits) > maxSeries:
		return nil, usagef("%d commits are no series (at most %d); to find one commit use bisect", len(commits), maxSeries)
	}
	return commits, nil
}

// runSeries carries out a recorded series.
func (o *options) runSeries(ctx context.Context, ws *workspace, id string, req request) error {
	repo, err := gitrepo.Open(ctx, ws.data, req.Repo)
	if err != nil {
		return err
	}
	base, err := repo.Commit(ctx, req.Base)
	if err != nil {
		return err
	}
	commits, err := seriesCommits(ctx, repo, base, req)
	if err != nil {
		return err
	}
	plan, err := req.plan()
	if err != nil {
		return err
	}
	defer o.abandon(ctx, ws, id)
	b, err := o.newBench(ctx, ws, id, req, repo)
	if err != nil {
		return err
	}
	defer b.close()
	res := &kernel.SeriesResult{Schema: "kbisect/series/v1", ID: id, Status: store.Interrupted, Profile: b.profile.Name, Host: b.host, Allowed: req.Allowed, Command: req.Command, Started: b.started}
	ended := func(status string) bool {
		res.Status = status
		return res.BaseRow != nil && ctx.Err() != nil
	}
	err = o.carryOut(ctx, b, growing{res, &res.Seconds, &res.Carried, ended}, func(update func()) error {
		if err := b.lab.Series(ctx, base, commits, plan, res, update); err != nil {
			return err
		}
		var err error
		res.Earlier, err = b.earlier(ctx, commits, res)
		return err
	})
	if err != nil {
		return err
	}
	return seriesStatus(res)
}

// seriesStatus: 1 with a bad verdict, 3 when a test of a commit stayed
// undecided or could not be tried.
func seriesStatus(res *kernel.SeriesResult) error {
	var all []kernel.TestResult
	for _, row := range res.Commits {
		all = append(all, row.Tests...)
	}
	return checkStatus(all)
}
