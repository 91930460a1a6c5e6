package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/job"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/store"
)

func newCheck(o *options) *cobra.Command {
	var p planFlags
	var s subjectFlags
	var far remote
	cmd := &cobra.Command{
		Use:   "check (--kernel FILE... [--modules DIR...] | --tree DIR | --repo DIR --rev REV)",
		Short: "Test one kernel, or several ready ones side by side",
		Long: `Tests one kernel: a commit, the files of a directory, or a ready image.

Several --kernel give one table of tests and kernels. --modules names lib/modules/RELEASE or a
directory above it; each kernel takes the modules of its own release, in whatever order they
are given, and goes without if there are none for it. They are packed as far as the guest needs
them and the kernel lacks them.`,
		Example: `  orchestrator check --repo ~/linux --rev HEAD
  orchestrator check --tree . --test 'cow/vmsplice*'
  orchestrator check --kernel vmlinuz-6.1 --kernel vmlinuz-6.12 --modules /lib/modules
  orchestrator check --kernel "/boot/vmlinuz-$(uname -r)" --modules /lib/modules`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s.adapt(cmd, &p)
			if far.server != "" {
				return far.check(cmd, o, p, s)
			}
			if len(s.kernels) > 1 {
				return o.runMatrix(cmd.Context(), p, s)
			}
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
	p.registerTests(cmd, false)
	far.register(cmd)
	return cmd
}

// checkStatus: 1 with a bad verdict, 4 when a test could not be run, 3 when one
// stayed undecided or its commit is untestable, or when every one skipped.
func checkStatus(tests []kernel.TestResult) error {
	switch stepStatus(tests) {
	case stepGood:
		return nil
	case stepBad:
		return statusError(exitBad)
	case stepAbort:
		return statusError(exitInfra)
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
			s.adapt(cmd, &p)
			if len(s.kernels) == 0 && s.tree == "" && s.repo == "" {
				s.repo = "."
			}
			if len(s.kernels) > 1 {
				return usagef("step tests one kernel; check takes several")
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
	p.registerTests(cmd, false)
	return cmd
}

// stepStatus: one bad test makes a commit bad; without one, a commit is good
// only if every test that did not skip is. A test that could not be run at all
// is our trouble: skipping commit after commit would hide it.
func stepStatus(tests []kernel.TestResult) int {
	good, open, broken := 0, 0, 0
	for _, t := range tests {
		switch {
		case t.Verdict == kernel.Bad:
			return stepBad
		case t.Verdict == kernel.Good:
			good++
		case t.Verdict == kernel.Inconclusive && t.Runs == 0:
			broken++
		case t.Verdict != kernel.Skipped:
			open++
		}
	}
	switch {
	case broken > 0:
		return stepAbort
	case good > 0 && open == 0:
		return stepGood
	}
	return stepSkip
}

// runCheck carries out a check and records it.
func (o *options) runCheck(ctx context.Context, p planFlags, s subjectFlags) (*kernel.CheckResult, error) {
	req, err := p.request(ctx, o, "check")
	if err != nil {
		return nil, err
	}
	ready, err := s.readyKernels(&req)
	if err != nil {
		return nil, err
	}
	if _, err := req.plan(); err != nil {
		return nil, err
	}
	ws, err := o.openWorkspace(ctx)
	if err != nil {
		return nil, err
	}
	defer ws.close()
	var repo *gitrepo.Repo
	var commit kernel.Commit
	if len(ready) == 0 {
		if repo, commit, err = s.source(ctx, ws.data); err != nil {
			return nil, err
		}
		req.Repo, req.Head = s.repo, commit.SHA
		if err := req.prepareCarry(ctx, repo); err != nil {
			return nil, err
		}
	}
	id, err := ws.newJob(ctx, req)
	if err != nil {
		return nil, err
	}
	return o.carryCheck(ctx, ws, id, req, subject{repo, commit, ready})
}

// subject is what a check tests: a commit, or a ready kernel.
type subject struct {
	repo   *gitrepo.Repo // nil for a ready kernel
	commit kernel.Commit
	ready  []readyKernel // none or one
}

// carryCheck carries out a recorded check.
func (o *options) carryCheck(ctx context.Context, ws *workspace, id string, req request, s subject) (*kernel.CheckResult, error) {
	plan, err := req.plan()
	if err != nil {
		return nil, err
	}
	defer o.abandon(ctx, ws, id)
	b, err := o.newBench(ctx, ws, id, req, s.repo)
	if err != nil {
		return nil, err
	}
	defer b.close()
	var k *kernel.Kernel
	if len(s.ready) > 0 {
		if err := s.ready[0].pack(ws.cache, req.Files); err != nil {
			return nil, err
		}
		k = &s.ready[0].kernel
	}
	res, err := b.check(ctx, k, s.commit, plan)
	status := store.Done
	if err != nil {
		status = store.Interrupted
	}
	if serr := b.save(ctx, status, res); err == nil {
		err = serr
	}
	return res, b.interrupted(ctx, err)
}

// check builds the commit unless there is a ready kernel, and tests it.
func (b *bench) check(ctx context.Context, ready *kernel.Kernel, commit kernel.Commit, plan job.Plan) (*kernel.CheckResult, error) {
	res := &kernel.CheckResult{Schema: "kbisect/check/v1", ID: b.id, Profile: b.profile.Name, Host: b.host, Allowed: b.req.Allowed, Command: b.req.Command, Started: b.started}
	defer func() { res.Seconds, res.Carried = time.Since(b.started).Seconds(), b.carried.list() }()
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
		case kernel.BuildFailed, kernel.BuildConflict:
			res.Boot.Status = kernel.BootNone
			res.Tests = plan.Untestable(build.Trouble())
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
	return context.WithTimeoutCause(ctx, o.timeout, &interruptedError{fmt.Sprintf("the time of --timeout %s is up", o.timeout)})
}

// whyEnded replaces the consequences of a cancelled context by its cause.
func whyEnded(ctx context.Context, err error) error {
	var code statusError
	var said *interruptedError
	if err == nil || ctx.Err() == nil || errors.As(err, &code) || errors.As(err, &said) {
		return err
	}
	return cancelled(ctx)
}

// cancelled is the reason why ctx ended.
func cancelled(ctx context.Context) *interruptedError {
	var said *interruptedError
	if errors.As(context.Cause(ctx), &said) {
		return said
	}
	return &interruptedError{"interrupted"}
}

// newJob records a new job and returns its id.
func (w *workspace) newJob(ctx context.Context, req request) (string, error) {
	text, err := json.Marshal(req)
	if err != nil {
		return "", err
	}
	id := newID(req.Kind)
	return id, w.store.NewJob(ctx, id, req.Kind, text)
}

// newID names a job. Four bytes: people type them.
func newID(kind string) string {
	var r [4]byte
	_, _ = rand.Read(r[:]) // never fails
	return kind + "-" + hex.EncodeToString(r[:])
}

// interrupted turns the error of a cancelled job into one that says how to go on.
func (b *bench) interrupted(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("%w; the runs are kept: %s", cancelled(ctx), goOn(b.req.Kind, b.id))
}

// goOn tells how a job that has not ended is taken up again.
func goOn(kind, id string) string {
	if kind == "check" || kind == "matrix" {
		return "run the same command again, without --fresh, to go on"
	}
	return fmt.Sprintf("go on with `orchestrator %s --resume %s`", kind, id)
}

// interruptedError ends a job that was cancelled or ran out of time.
type interruptedError struct{ why string }

func (e *interruptedError) Error() string { return e.why }
func (e *interruptedError) Unwrap() error { return context.Canceled }
