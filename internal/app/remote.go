package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/kernel-bisect/kbisect/internal/api"
	"github.com/kernel-bisect/kbisect/internal/client"
	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/job"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/kconfigs"
)

// tokenVariable holds the token of a service: an argument would be seen by
// everybody on the machine.
const tokenVariable = "KBISECT_TOKEN" //nolint:gosec // a name, no secret

// remote lets a service do what a command would do here.
type remote struct{ server string }

func (r *remote) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&r.server, "server", "", "let the service at this `URL` do it; --repo is a name there, and $"+tokenVariable+" has the token")
}

// plan is what the flags ask for in the words of the API.
func (r *remote) plan(cmd *cobra.Command, p planFlags) (api.Plan, error) {
	for _, local := range []string{"no-sandbox", "boot-per-run", "kernel", "modules", "tree", "resume", "bundle", "pr"} {
		if f := cmd.Flags().Lookup(local); f != nil && f.Changed {
			return api.Plan{}, usagef("--%s is not for a service: leave it or --server out", local)
		}
	}
	plan := api.Plan{Tests: p.tests, MaxRuns: p.maxRuns, Fresh: p.fresh, ShareGuests: &p.shareGuests, Priority: api.Waiting}
	if p.profile != kconfigs.Profiles()[0].Name {
		plan.Profile = p.profile
	}
	if cmd.Flags().Changed("runs") {
		plan.Runs = p.runs
	}
	if plan.TestSeconds = int(p.testTimeout.Seconds()); p.testTimeout != 0 && time.Duration(plan.TestSeconds)*time.Second != p.testTimeout {
		return plan, usagef("--test-timeout %s: a service takes whole seconds", p.testTimeout)
	}
	for _, file := range p.kconfig {
		text, err := os.ReadFile(file)
		if err != nil {
			return plan, usagef("--kconfig %v", err)
		}
		plan.Kconfig = append(plan.Kconfig, api.Config{Name: filepath.Base(file), Text: string(text)})
	}
	var carry request
	if err := p.readCarry(&carry); err != nil {
		return plan, err
	}
	for _, c := range carry.Carry {
		if !utf8.Valid(c.Diff) || bytes.IndexByte(c.Diff, 0) >= 0 {
			return plan, usagef("--carry %s: a service takes text in UTF-8", c.Name)
		}
		plan.Carry = append(plan.Carry, api.Patch{Name: c.Name, Text: string(c.Diff)})
	}
	if p.allowConsole != "" {
		text, err := os.ReadFile(p.allowConsole)
		if err != nil {
			return plan, usagef("--allow-console %v", err)
		}
		plan.Allowed = string(text)
	}
	for _, file := range append(append([]string{}, p.programs...), p.scripts...) {
		text, err := os.ReadFile(file)
		if err != nil {
			return plan, usagef("%v", err)
		}
		if strings.ContainsRune(string(text), 0) {
			return plan, usagef("%s: a service takes C sources and scripts, no executables", file)
		}
		program := api.Program{Name: filepath.Base(file), Text: string(text)}
		for _, beside := range besideNames(file) {
			settings, err := os.ReadFile(beside)
			if err != nil {
				return plan, usagef("%v", err)
			}
			program.Settings = string(settings)
		}
		plan.Programs = append(plan.Programs, program)
	}
	return plan, nil
}

func (r *remote) series(cmd *cobra.Command, o *options, p planFlags, repo string, in inputFlags, args []string) error {
	plan, err := r.plan(cmd, p)
	if err != nil {
		return err
	}
	span, err := seriesRange(args, in)
	if err != nil {
		return err
	}
	remove, err := r.mail(cmd.Context(), o, &span)
	if err != nil {
		return err
	}
	defer remove()
	ask := api.SeriesRequest{Repo: repo, Base: span.base, Head: span.head, Plan: plan}
	return r.do(cmd.Context(), o, func(c *client.Client) (api.Submitted, error) {
		if span.mbox != "" {
			return c.SeriesMbox(cmd.Context(), ask, span.mbox)
		}
		return c.Series(cmd.Context(), ask)
	})
}

// mail brings the mail of a series into one file, which a service takes.
func (r *remote) mail(ctx context.Context, o *options, span *revRange) (remove func(), err error) {
	data, cache, err := o.dirs()
	if err != nil {
		return nil, err
	}
	if st, err := os.Stat(span.mbox); err == nil && st.IsDir() {
		text, err := gitrepo.Mailbox(ctx, data, span.mbox, span.mbox)
		if err != nil {
			return nil, err
		}
		span.mbox, remove, err = spoolMbox("", text)
		return remove, err
	}
	return getMail(ctx, cache, span, func(what string) { fmt.Fprintln(o.stderr, what) })
}

func (r *remote) bisect(cmd *cobra.Command, o *options, p planFlags, how searchRequest, repo, good, bad string, in inputFlags) error {
	plan, err := r.plan(cmd, p)
	if err != nil {
		return err
	}
	span, err := bisectRange(good, bad, in)
	if err != nil {
		return err
	}
	remove, err := r.mail(cmd.Context(), o, &span)
	if err != nil {
		return err
	}
	defer remove()
	plan.Runs, plan.MaxRuns = 0, how.MaxRuns
	ask := api.BisectRequest{Repo: repo, Good: good, Bad: bad, Plan: plan, Search: api.Search{
		FindFix: how.FindFix, Confidence: how.Confidence, Paths: how.Paths, Suspects: how.Suspects, FirstParent: how.FirstParent,
		AnyFailure: how.AnyFailure, MaxBuilds: how.MaxBuilds, MaxSeconds: int(how.MaxTime.Seconds()), MaxIterations: how.MaxIterations, NoConfirm: how.NoConfirm,
	}}
	return r.do(cmd.Context(), o, func(c *client.Client) (api.Submitted, error) {
		if span.mbox != "" {
			ask.Base = span.base
			return c.BisectMbox(cmd.Context(), ask, span.mbox)
		}
		return c.Bisect(cmd.Context(), ask)
	})
}

func (r *remote) check(cmd *cobra.Command, o *options, p planFlags, s subjectFlags) error {
	plan, err := r.plan(cmd, p)
	if err != nil {
		return err
	}
	ask := api.CheckRequest{Repo: s.repo, Rev: s.rev, Plan: plan}
	if ask.Rev == "" {
		ask.Rev = "HEAD"
	}
	return r.do(cmd.Context(), o, func(c *client.Client) (api.Submitted, error) { return c.Check(cmd.Context(), ask) })
}

// do submits a job, follows it to its end, and reports and exits as if it had
// been done here. ^C leaves the job to the service.
func (r *remote) do(ctx context.Context, o *options, submit func(*client.Client) (api.Submitted, error)) error {
	c, err := client.New(r.server, os.Getenv(tokenVariable))
	if err != nil {
		return usagef("--server: %v", err)
	}
	defer c.Close()
	s, err := submit(c)
	if err != nil {
		return remoteError(err)
	}
	fmt.Fprintf(o.stderr, "%s is at %s/jobs/%s\n", s.ID, strings.TrimSuffix(r.server, "/"), s.ID)
	bar := o.newProgress()
	defer bar.close()
	err = c.Follow(ctx, s.ID, func(e api.Event) {
		switch e.Phase {
		case "build", "boot", "run", "done":
			bar.notify(job.Event{Phase: e.Phase, Commit: kernel.Commit{SHA: e.Commit}, Text: e.Text, Done: e.Done, Of: e.Of, Index: e.Index, Total: e.Total})
		}
	})
	if ctx.Err() != nil {
		return fmt.Errorf("%w; the job goes on at the service", cancelled(ctx))
	}
	if err != nil {
		return remoteError(err)
	}
	j, err := c.Job(ctx, s.ID)
	if err != nil {
		return remoteError(err)
	}
	if j.Status != api.Done {
		return fmt.Errorf("%s: %s there: %s", j.ID, j.Status, oneLine(j.Error))
	}
	v, err := c.Result(ctx, s.ID)
	if err != nil {
		return remoteError(err)
	}
	bar.close()
	if err := o.emit(v); err != nil {
		return err
	}
	switch v := v.(type) {
	case *kernel.SeriesResult:
		return seriesStatus(v)
	case *kernel.CheckResult:
		return checkStatus(v.Tests)
	case *kernel.BisectResult:
		return bisectStatus(v)
	}
	return nil
}

// remoteError tells mistakes of the user from trouble of the service.
func remoteError(err error) error {
	var said *client.Error
	if errors.As(err, &said) && said.Status >= 400 && said.Status < 500 {
		return usagef("the service says: %v", err)
	}
	return fmt.Errorf("the service: %w", err)
}
