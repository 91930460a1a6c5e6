package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/job"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

func newCheck(o *options) *cobra.Command {
	var p planFlags
	var s subjectFlags
	cmd := &cobra.Command{
		Use:   "check (--kernel FILE | --tree DIR | --repo DIR --rev REV)",
		Short: "Test one kernel",
		Example: `  orchestrator check --repo ~/linux --rev HEAD
  orchestrator check --tree . --test 'cow/vmsplice*'
  orchestrator check --kernel /boot/vmlinuz --profile stock`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			res, err := o.runCheck(cmd.Context(), p, s)
			if err != nil {
				return err
			}
			if err := o.emit(res); err != nil {
				return err
			}
			return checkStatus(res.Tests)
		},
	}
	s.register(cmd)
	p.register(cmd)
	p.registerTests(cmd)
	return cmd
}

// checkStatus: 1 with a bad verdict, 3 when a test stayed undecided, could not
// be tried, or when every one skipped.
func checkStatus(tests []kernel.TestResult) error {
	switch stepStatus(tests) {
	case stepGood:
		return nil
	case stepBad:
		return statusError(exitBad)
	}
	return statusError(exitNoConclusion)
}

func newStep(o *options) *cobra.Command {
	var p planFlags
	var s subjectFlags
	cmd := &cobra.Command{
		Use:   "step",
		Short: "Test one kernel and exit as `git bisect run` wants it",
		Long: `As check, but exits 0 for good, 1 for bad, 125 when the commit cannot be tested (it does
not build or boot, or the test skips), and 128 when something else is wrong. Without --kernel,
--tree or --repo it tests HEAD of the repository it is started in.`,
		Example: `  git bisect run orchestrator step --test cow/vmsplice-child-unmap/thp-pmd`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.kernel == "" && s.tree == "" && s.repo == "" {
				s.repo = "."
			}
			res, err := o.runCheck(cmd.Context(), p, s)
			if err != nil {
				return err
			}
			if err := o.emit(res); err != nil {
				return err
			}
			if code := stepStatus(res.Tests); code != stepGood {
				return statusError(code)
			}
			return nil
		},
	}
	s.register(cmd)
	p.register(cmd)
	p.registerTests(cmd)
	return cmd
}

// stepStatus: one bad test makes a commit bad; without one, a commit is good
// only if every test that did not skip is.
func stepStatus(tests []kernel.TestResult) int {
	good, open := 0, 0
	for _, t := range tests {
		switch t.Verdict {
		case kernel.Bad:
			return stepBad
		case kernel.Good:
			good++
		case kernel.Inconclusive, kernel.Untestable:
			open++
		}
	}
	if good > 0 && open == 0 {
		return stepGood
	}
	return stepSkip
}

// runCheck carries out a check and records it.
func (o *options) runCheck(ctx context.Context, p planFlags, s subjectFlags) (*kernel.CheckResult, error) {
	ctx, cancel := o.limit(ctx)
	defer cancel()
	req, err := p.request(ctx, o, "check")
	if err != nil {
		return nil, err
	}
	plan, err := req.plan()
	if err != nil {
		return nil, err
	}
	ready, err := s.readyKernel(&req)
	if err != nil {
		return nil, err
	}
	ws, err := o.openWorkspace(ctx)
	if err != nil {
		return nil, err
	}
	defer ws.close()
	var repo *gitrepo.Repo
	var commit kernel.Commit
	if ready == nil {
		if repo, commit, err = s.source(ctx, ws.data); err != nil {
			return nil, err
		}
		req.Repo, req.Head = s.repo, commit.SHA
	}
	id, err := ws.newJob(ctx, req)
	if err != nil {
		return nil, err
	}
	b, err := o.newBench(ctx, ws, id, req, repo)
	if err != nil {
		return nil, err
	}
	defer b.close()
	res, err := b.check(ctx, ready, commit, plan)
	status := "done"
	if err != nil {
		status = "interrupted"
	}
	if serr := b.save(ctx, status, res); err == nil {
		err = serr
	}
	return res, b.interrupted(ctx, err)
}

// check builds the commit unless there is a ready kernel, and tests it.
func (b *bench) check(ctx context.Context, ready *kernel.Kernel, commit kernel.Commit, plan job.Plan) (*kernel.CheckResult, error) {
	res := &kernel.CheckResult{Schema: "kbisect/check/v1", ID: b.id, Profile: b.profile.Name, Host: b.host, Command: b.req.Command, Started: b.started}
	defer func() { res.Seconds = time.Since(b.started).Seconds() }()
	if ready != nil {
		res.Kernel = *ready
	} else {
		b.bar.notify(job.Event{Phase: "build", Commit: commit})
		build, err := b.lab.Build(ctx, commit)
		if err != nil {
			return res, err
		}
		res.Commit, res.Build, res.Kernel = &commit, &build, build.Kernel
		switch build.Status {
		case kernel.BuildRefused:
			return res, &job.RefusedError{Commit: commit.Short(), Reason: build.Error}
		case kernel.BuildFailed:
			res.Boot.Status = kernel.BootNone
			for _, p := range plan.Programs {
				res.Tests = append(res.Tests, kernel.TestResult{Name: p.Name, Verdict: kernel.Untestable, Reason: "does not build: " + build.Error})
			}
			return res, nil
		}
	}
	var err error
	res.Boot, res.Tests, err = b.lab.Check(ctx, res.Kernel, commit, plan)
	if res.Kernel.Release == "" {
		res.Kernel.Release = res.Boot.Release
	}
	return res, err
}

// limit applies --timeout.
func (o *options) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if o.timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("%w: the time of --timeout %s is up", context.Canceled, o.timeout))
}

// newJob records a new job and returns its id.
func (w *workspace) newJob(ctx context.Context, req request) (string, error) {
	text, err := json.Marshal(req)
	if err != nil {
		return "", err
	}
	var r [4]byte
	if _, err := rand.Read(r[:]); err != nil {
		return "", err
	}
	id := req.Kind + "-" + hex.EncodeToString(r[:])
	return id, w.store.NewJob(ctx, id, req.Kind, text)
}

// interrupted turns the error of a cancelled job into one that says how to go on.
func (b *bench) interrupted(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	why := "interrupted"
	if c := context.Cause(ctx); c != nil && !isPlainCancel(c) {
		why = c.Error()
	}
	how := "run the same command again to go on"
	if b.req.Kind != "check" {
		how = fmt.Sprintf("go on with `orchestrator %s --resume %s`", b.req.Kind, b.id)
	}
	return fmt.Errorf("%w; the runs are kept: %s", &interruptedError{why}, how)
}

// isPlainCancel tells ^C from a cancellation that has a reason of its own.
func isPlainCancel(err error) bool { return err.Error() == context.Canceled.Error() }

// interruptedError ends a job that was cancelled or ran out of time.
type interruptedError struct{ why string }

func (e *interruptedError) Error() string { return e.why }
func (e *interruptedError) Unwrap() error { return context.Canceled }
