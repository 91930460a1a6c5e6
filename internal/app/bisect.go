package app

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/job"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
)

func newBisect(o *options) *cobra.Command {
	var p planFlags
	var chased chaseFlags
	var repo, good, bad, resume string
	var req searchRequest
	var far remote
	var in inputFlags
	var pull pullFlags
	cmd := &cobra.Command{
		Use:   "bisect --repo DIR (--good REV --bad REV | --mbox FILE [--base REV] | --bundle FILE [--base REV] | --pr OWNER/REPO#N) (--test NAME | --script FILE | --program FILE)",
		Short: "Find the commit that broke a test",
		Example: `  orchestrator bisect --repo ~/linux --good v6.1 --bad HEAD --test cow/vmsplice-child-unmap/thp-pmd
  orchestrator bisect --repo ~/linux --good v6.1 --bad HEAD --program repro.c
  orchestrator bisect --repo ~/linux --good v6.1 --bad HEAD --test cow/vmsplice-child-unmap/thp-pmd --path mm --suspect mm/gup.c
  orchestrator bisect --repo ~/linux --good v6.1 --bad HEAD --find-fix --program repro.c
  orchestrator bisect --repo ~/linux --mbox cow.mbox --test cow/vmsplice-child-unmap/thp-pmd
  orchestrator bisect --repo ~/linux --pr torvalds/linux#123 --test cow/vmsplice-child-unmap/thp-pmd
  orchestrator bisect --resume bisect-1a2b3c4d`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if resume != "" {
				return o.resume(cmd, "bisect", resume, args)
			}
			given, err := chased.into(&p)
			if err != nil {
				return err
			}
			p.runs = 1 // the search itself says how many
			if err := req.check(); err != nil {
				return err
			}
			if pull.pull != "" && (good != "" || bad != "" || in != inputFlags{}) {
				return usagef("--pr brings both ends: leave --good, --bad, --mbox, --bundle and --base out")
			}
			if err := pull.prepare(nil, in); err != nil {
				return err
			}
			if far.server != "" {
				return far.bisect(cmd, o, p, req, repo, good, bad, in)
			}
			all, err := p.request(cmd.Context(), o, "bisect")
			if err != nil {
				return err
			}
			all.Search = req
			if pull.pull != "" {
				if !given {
					return errNothingChased
				}
				if all.Repo, err = repoOf(repo); err != nil {
					return err
				}
				return o.bisectPull(cmd.Context(), all, all.Repo, pull)
			}
			if repo == "" {
				return usagef("--repo is missing: the kernel's git repository")
			}
			r, err := bisectRange(good, bad, in)
			if err != nil {
				return err
			}
			if !given {
				return errNothingChased
			}
			if all.Repo, err = filepath.Abs(repo); err != nil {
				return err
			}
			return o.startBisect(cmd.Context(), all, r)
		},
	}
	p.register(cmd)
	far.register(cmd)
	in.register(cmd)
	f := cmd.Flags()
	f.StringVar(&repo, "repo", "", "the kernel's git repository `directory`; only read, never changed")
	f.StringVar(&good, "good", "", "a commit where the test passes, ancestor of the bad one; with --find-fix the newer end")
	f.StringVar(&bad, "bad", "", "a commit where the test fails; with --find-fix the older end")
	f.StringVar(&pull.pull, "pr", "", "the commits of a pull request at GitHub, `OWNER/REPO#N`: its base is good and its head bad; --repo is a clone, by default this directory")
	chased.register(f)
	req.register(f)
	f.StringVar(&resume, "resume", "", "go on with an interrupted bisection by its `id`")
	return cmd
}

func bisectRange(good, bad string, in inputFlags) (revRange, error) {
	r, err := in.span()
	switch {
	case err != nil:
		return r, err
	case r.brought() && (good != "" || bad != ""):
		return r, usagef("--mbox and --bundle bring both ends, and --base says what they stand on: leave --good and --bad out")
	case r.brought():
		return r, nil
	case good == "" || bad == "":
		return r, usagef("both ends are needed: --good REV and --bad REV")
	case in.base != "":
		return r, usagef("--base is for --mbox and --bundle")
	}
	r.base, r.head = good, bad
	return r, nil
}

var errNothingChased = usagef("what to chase? --test NAME, --script FILE or --program FILE")

// chaseFlags are the one thing that a bisection chases.
type chaseFlags struct{ test, program, script string }

func (c *chaseFlags) register(f *pflag.FlagSet) {
	f.StringVar(&c.test, "test", "", "`name` of one test, see list tests")
	f.StringVar(&c.program, "program", "", programUsage)
	f.StringVar(&c.script, "script", "", scriptUsage)
}

// into adds it to a plan; false if there is none.
func (c *chaseFlags) into(p *planFlags) (bool, error) {
	chased := 0
	for _, x := range []struct {
		given string
		into  *[]string
	}{{c.test, &p.tests}, {c.program, &p.programs}, {c.script, &p.scripts}} {
		if x.given != "" {
			*x.into = []string{x.given}
			chased++
		}
	}
	if chased > 1 {
		return false, usagef("a bisection chases one: --test, --program and --script exclude each other")
	}
	return chased == 1, nil
}

// startBisect checks the range, records the job and carries it out.
func (o *options) startBisect(ctx context.Context, req request, r revRange) error {
	if err := chasesOne(req); err != nil {
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
	if req, err = o.prepareBisect(ctx, ws, req, r, tell); err != nil {
		return err
	}
	req.Command = o.again(r, req)
	id, err := ws.newJob(ctx, req)
	if err != nil {
		return err
	}
	return o.runBisect(ctx, ws, id, req)
}

func chasesOne(req request) error {
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
	return nil
}

// prepareBisect finds the ends of a bisection, the good and the bad one or what comes
// with it, and what a build costs.
func (o *options) prepareBisect(ctx context.Context, ws *workspace, req request, r revRange, tell func(string)) (request, error) {
	repo, err := gitrepo.Open(ctx, ws.data, req.Repo)
	if err != nil {
		return req, err
	}
	if r.brought() {
		base, head, err := ws.takeInput(ctx, repo, r, tell)
		if err != nil {
			return req, err
		}
		req.fromStranger(base, head)
		last, err := repo.Commit(ctx, head)
		if err != nil {
			return req, err
		}
		return req, o.aim(ctx, ws, repo, &req, base, last)
	}
	// The older end first.
	revs, names := [2]string{r.base, r.head}, [2]string{"--good", "--bad"}
	if req.Search.FindFix {
		revs, names = [2]string{r.head, r.base}, [2]string{"--bad", "--good"}
	}
	var ends [2]kernel.Commit
	for i, rev := range revs {
		if ends[i], err = repo.Resolve(ctx, rev); err != nil {
			return req, err
		}
		if err := repo.CheckKernel(ctx, ends[i]); err != nil {
			return req, err
		}
	}
	if err := checkOrder(ctx, repo, ends, revs, names); err != nil {
		return req, err
	}
	req.Base, req.Head = ends[0].SHA, ends[1].SHA
	return req, o.aim(ctx, ws, repo, &req, ends[0], ends[1])
}

// aim sees that both ends of a search take what is carried, and predicts its builds.
func (o *options) aim(ctx context.Context, ws *workspace, repo *gitrepo.Repo, req *request, older, newer kernel.Commit) error {
	if err := req.prepareCarry(ctx, repo, older, newer); err != nil {
		return err
	}
	return o.predict(ctx, ws, repo, req)
}

// checkOrder explains an older end that is not below the newer one.
func checkOrder(ctx context.Context, repo *gitrepo.Repo, ends [2]kernel.Commit, revs, names [2]string) error {
	if ends[0].SHA == ends[1].SHA {
		return usagef("%s %s and %s %s are the same commit", names[0], revs[0], names[1], revs[1])
	}
	ok, err := repo.IsAncestor(ctx, ends[0].SHA, ends[1].SHA)
	if err != nil || ok {
		return err
	}
	hint := "their histories are unrelated"
	mb, err := repo.MergeBase(ctx, ends[0].SHA, ends[1].SHA)
	switch {
	case err != nil:
		return err
	case mb == ends[1].SHA && names[0] == "--good":
		hint = "it is the other way round: the bad end is an ancestor of the good one (--find-fix searches for the commit that repaired)"
	case mb == ends[1].SHA:
		hint = "it is the other way round: a search for a fix starts from an older commit that fails"
	case mb != "":
		hint = "their merge base is " + kernel.Abbrev(mb) + ": check it and use it as " + names[0] + " if it does what that end does"
	}
	return usagef("%s %s is not an ancestor of %s %s; %s", names[0], revs[0], names[1], revs[1], hint)
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
	older, err := repo.Commit(ctx, req.Base)
	if err != nil {
		return err
	}
	newer, err := repo.Commit(ctx, req.Head)
	if err != nil {
		return err
	}
	if programs[0].Boot { // to boot more often in one run would save nothing
		req.Search.MaxIterations = 1
	}
	how := req.Search
	whole, err := newHunt(ctx, repo, req, older, newer)
	if err != nil {
		return err
	}
	defer o.abandon(ctx, ws, id)
	b, err := o.newBench(ctx, ws, id, req, repo)
	if err != nil {
		return err
	}
	defer b.close()
	res := &kernel.BisectResult{
		Schema: "kbisect/bisect/v1", ID: id, Status: kernel.NoConclusion, Profile: b.profile.Name, Test: programs[0].Name,
		Good: older, Bad: newer, FindFix: how.FindFix, Paths: how.Paths, FirstParent: how.FirstParent,
		Host: b.host, Allowed: req.Allowed, Command: req.Command, Started: b.started,
	}
	if how.FindFix {
		res.Good, res.Bad = newer, older
	}
	// Half a search has no answer to show, and Status says how the search ended.
	ended := func(string) bool { return false }
	err = o.carryOut(ctx, b, growing{res, &res.Seconds, &res.Carried, ended}, func(update func()) error {
		end, err := whole.near(ctx, repo, req, b, programs[0], res, update)
		if err == nil && end.SHA == "" {
			end, err = newer, whole.search(ctx, b, programs[0], res, update)
		}
		if err != nil || how.NoConfirm {
			return err
		}
		return o.confirm(ctx, repo, b, programs[0], end, res, update)
	})
	if err != nil {
		return err
	}
	return bisectStatus(res)
}

// bisectStatus is that of a culprit which its own confirmation speaks against, too.
func bisectStatus(res *kernel.BisectResult) error {
	if res.Status != kernel.Found || res.Confirmation != nil && res.Confirmation.Refutes(res.FindFix) {
		return statusError(exitNoConclusion)
	}
	return nil
}

// confirm tries again what a search found.
func (o *options) confirm(ctx context.Context, repo *gitrepo.Repo, b *bench, p runner.Program, badEnd kernel.Commit, res *kernel.BisectResult, update func()) error {
	if res.Status != kernel.Found {
		return nil
	}
	culprit, err := repo.Commit(ctx, res.Culprit.SHA)
	if err != nil {
		return err
	}
	if len(culprit.Parents) == 0 {
		return nil // a history of its own that was merged: there is nothing to compare with
	}
	parent, err := repo.Commit(ctx, culprit.Parents[0])
	if err != nil {
		return err
	}
	p.Iterations = res.Iterations
	res.Confirmation = &kernel.Confirmation{}
	if res.FindFix {
		badEnd = res.Bad
	}
	return b.lab.Confirm(ctx, job.Finding{
		Culprit: culprit, Parent: parent, BadEnd: badEnd, FindFix: res.FindFix, Program: p, Signature: b.chased(res),
		FailRate: res.FailRate.Low, FalseFailRate: res.FalseFailRate.Mean, Confidence: b.req.Search.Confidence,
	}, res.Confirmation, update)
}

// chased is the failure that counts.
func (b *bench) chased(res *kernel.BisectResult) kernel.Signature {
	if b.req.Search.AnyFailure {
		return kernel.Signature{}
	}
	return res.Signature
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
	switch kind {
	case "series":
		return o.runSeries(ctx, ws, id, req)
	case "bisect-config":
		return o.runBisectConfig(ctx, ws, id, req)
	}
	return o.runBisect(ctx, ws, id, req)
}

// sayReport tells where the other forms of a report are, when it was text.
func (o *options) sayReport(id string) {
	if o.format == "text" && o.output == "" {
		fmt.Fprintf(o.stderr, "As a page: orchestrator report %s --format html --output %s.html\n", id, id)
	}
}
