package app

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kernel-bisect/kbisect/internal/bisect"
	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/history"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// maxCandidates bounds the range of a bisection: ancestor sets take n*n/8
// bytes, 50 MB at this size, which holds a whole kernel release cycle.
const maxCandidates = 20_000

func newBisect(o *options) *cobra.Command {
	var p planFlags
	var repo, good, bad, test, program, script, resume string
	var confidence float64
	cmd := &cobra.Command{
		Use:   "bisect --repo DIR --good REV --bad REV (--test NAME | --script FILE | --program FILE)",
		Short: "Find the commit that broke a test",
		Example: `  orchestrator bisect --repo ~/linux --good v6.1 --bad HEAD --test cow/vmsplice-child-unmap/thp-pmd
  orchestrator bisect --repo ~/linux --good v6.1 --bad HEAD --program repro.c
  orchestrator bisect --resume bisect-1a2b3c4d`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if resume != "" {
				return o.resume(cmd, "bisect", resume, args)
			}
			chased := 0
			for _, c := range []struct {
				given string
				into  *[]string
			}{{test, &p.tests}, {program, &p.programs}, {script, &p.scripts}} {
				if c.given != "" {
					*c.into = []string{c.given}
					chased++
				}
			}
			if chased > 1 {
				return usagef("a bisection chases one: --test, --program and --script exclude each other")
			}
			p.runs = 1 // the search itself says how many
			req, err := p.request(cmd.Context(), o, "bisect")
			if err != nil {
				return err
			}
			if req.Confidence = confidence; confidence < 0.5 || confidence > 0.9999 {
				return usagef("--confidence %g: 0.5 to 0.9999", confidence)
			}
			switch {
			case repo == "":
				return usagef("--repo is missing: the kernel's git repository")
			case good == "" || bad == "":
				return usagef("both ends are needed: --good REV and --bad REV")
			case chased == 0:
				return usagef("what to chase? --test NAME, --script FILE or --program FILE")
			}
			if req.Repo, err = filepath.Abs(repo); err != nil {
				return err
			}
			return o.startBisect(cmd.Context(), req, good, bad)
		},
	}
	p.register(cmd)
	f := cmd.Flags()
	f.StringVar(&repo, "repo", "", "the kernel's git repository `directory`; only read, never changed")
	f.StringVar(&good, "good", "", "a commit where the test passes, ancestor of the bad one")
	f.StringVar(&bad, "bad", "", "a commit where the test fails")
	f.StringVar(&test, "test", "", "`name` of one test, see list tests")
	f.StringVar(&program, "program", "", programUsage)
	f.StringVar(&script, "script", "", scriptUsage)
	f.Float64Var(&confidence, "confidence", 0.99, "probability with which the named commit must be the culprit")
	f.StringVar(&resume, "resume", "", "go on with an interrupted bisection by its `id`")
	return cmd
}

// startBisect checks the range, records the job and carries it out.
func (o *options) startBisect(ctx context.Context, req request, goodRev, badRev string) error {
	programs, err := req.programs()
	if err != nil {
		return err
	}
	if n := len(req.Programs); n > 1 {
		return usagef("a bisection chases one program, and there are %d: name its file instead of the directory", n)
	}
	if len(programs) != 1 {
		return usagef("--test %s names %d tests; a bisection chases one", req.Tests[0], len(programs))
	}
	ws, err := o.openWorkspace(ctx)
	if err != nil {
		return err
	}
	defer ws.close()
	repo, err := gitrepo.Open(ctx, ws.data, req.Repo)
	if err != nil {
		return err
	}
	var ends [2]kernel.Commit
	for i, rev := range []string{goodRev, badRev} {
		if ends[i], err = repo.Resolve(ctx, rev); err != nil {
			return err
		}
		if err := repo.CheckKernel(ctx, ends[i]); err != nil {
			return err
		}
	}
	if err := checkOrder(ctx, repo, ends[0], ends[1], goodRev, badRev); err != nil {
		return err
	}
	req.Base, req.Head = ends[0].SHA, ends[1].SHA
	id, err := ws.newJob(ctx, req)
	if err != nil {
		return err
	}
	return o.runBisect(ctx, ws, id, req)
}

// checkOrder explains a good end that is not below the bad one.
func checkOrder(ctx context.Context, repo *gitrepo.Repo, good, bad kernel.Commit, goodRev, badRev string) error {
	if good.SHA == bad.SHA {
		return usagef("--good %s and --bad %s are the same commit", goodRev, badRev)
	}
	ok, err := repo.IsAncestor(ctx, good.SHA, bad.SHA)
	if err != nil || ok {
		return err
	}
	hint := "their histories are unrelated"
	mb, err := repo.MergeBase(ctx, good.SHA, bad.SHA)
	switch {
	case err != nil:
		return err
	case mb == bad.SHA:
		hint = "it is the other way round: the bad end is an ancestor of the good one"
	case mb != "":
		hint = "their merge base is " + kernel.Abbrev(mb) + ": check it and use it as --good if it passes"
	}
	return usagef("--good %s is not an ancestor of --bad %s; %s", goodRev, badRev, hint)
}

// runBisect carries out a recorded bisection.
func (o *options) runBisect(ctx context.Context, ws *workspace, id string, req request) error {
	programs, err := req.programs()
	if err != nil {
		return err
	}
	repo, err := gitrepo.Open(ctx, ws.data, req.Repo)
	if err != nil {
		return err
	}
	good, err := repo.Commit(ctx, req.Base)
	if err != nil {
		return err
	}
	commits, err := repo.Range(ctx, req.Base, req.Head)
	if err != nil {
		return err
	}
	if len(commits) > maxCandidates {
		return usagef("%d commits between the ends; at most %d: narrow the range", len(commits), maxCandidates)
	}
	graph, err := history.New(commits)
	if err != nil {
		return err
	}
	defer ws.abandon(ctx, id)
	b, err := o.newBench(ctx, ws, id, req, repo)
	if err != nil {
		return err
	}
	defer b.close()
	res := &kernel.BisectResult{
		Schema: "kbisect/bisect/v1", ID: id, Status: kernel.NoConclusion, Profile: b.profile.Name, Test: programs[0].Name,
		Good: good, Bad: commits[len(commits)-1], Host: b.host, Command: req.Command, Started: b.started,
	}
	// Half a search has no answer to show, and Status says how the search ended.
	ended := func(string) bool { return false }
	err = o.carryOut(ctx, b, growing{res, &res.Seconds, ended}, func(update func()) error {
		return b.lab.Bisect(ctx, good, graph, bisect.NewHalving(graph, req.Confidence), programs[0], res, update)
	})
	if err != nil {
		return err
	}
	if res.Status != kernel.Found {
		return statusError(exitNoConclusion)
	}
	return nil
}

// resume goes on with a recorded job of a kind: it is asked for again, and
// takes from the record what is there.
func (o *options) resume(cmd *cobra.Command, kind, id string, args []string) error {
	var other string
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Changed && f.Name != "resume" {
			other = "--" + f.Name
		}
	})
	if len(args) > 0 {
		other = args[0]
	}
	if other != "" {
		return usagef("--resume takes everything from the job: leave %s out", other)
	}
	ctx := cmd.Context()
	ws, err := o.openWorkspace(ctx)
	if err != nil {
		return err
	}
	defer ws.close()
	j, err := ws.store.Job(ctx, id)
	if err != nil {
		return err
	}
	if j.Kind != kind {
		return usagef("%s is a %s: use `orchestrator %s`", id, j.Kind, j.Kind)
	}
	req, err := decodeRequest(j.Request)
	if err != nil {
		return err
	}
	if kind == "series" {
		return o.runSeries(ctx, ws, id, req)
	}
	return o.runBisect(ctx, ws, id, req)
}

// sayReport tells where the other forms of a report are, when it was text.
func (o *options) sayReport(id string) {
	if o.format == "text" && o.output == "" {
		fmt.Fprintf(o.stderr, "As a page: orchestrator report %s --format html --output %s.html\n", id, id)
	}
}
