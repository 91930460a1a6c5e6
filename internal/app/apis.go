package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kernel-bisect/kbisect/internal/api"
	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/kbuild"
	"github.com/kernel-bisect/kbisect/internal/store"
	"github.com/kernel-bisect/kbisect/internal/web"
)

// apis shows the service to package api, mostly as pages have it.
type apis struct{ p *pages }

var (
	_ api.Jobs      = apis{}
	_ api.Runs      = apis{}
	_ api.Submitter = apis{}
	_ api.Live      = apis{}
	_ api.Record    = apis{}
	_ api.Artifacts = apis{}
	_ api.Tokens    = apis{}
)

var priorities = map[api.Priority]store.Priority{api.Waiting: store.Waiting, api.Normal: store.Normal, api.Nightly: store.Nightly}

func apiJob(j web.Job) api.Job {
	out := api.Job{ID: j.ID, Kind: j.Kind, Status: j.Status, Title: j.Title, Verdict: j.Verdict, Owner: j.Owner, Error: j.Error,
		Attempt: j.Attempt, Created: j.Created, Started: j.Started, Ended: j.Ended}
	for name, p := range priorities {
		if p == store.Priority(j.Priority) {
			out.Priority = name
		}
	}
	return out
}

func (a apis) Jobs(ctx context.Context, f api.JobFilter) ([]api.Job, error) {
	jobs, err := a.p.Jobs(ctx, web.JobFilter{Kind: f.Kind, Status: f.Status, Text: f.Text, After: f.Before, Limit: f.Limit})
	if errors.Is(err, store.ErrNoJob) {
		return nil, &api.BadInput{Field: "before", Text: "there is no job " + f.Before}
	}
	out := make([]api.Job, len(jobs))
	for i, j := range jobs {
		out[i] = apiJob(j)
	}
	return out, err
}

func (a apis) Job(ctx context.Context, id string) (api.Job, error) {
	j, _, err := a.p.Job(ctx, id)
	return apiJob(j), missing(err, "job "+id)
}

func (a apis) Result(ctx context.Context, id string) (any, error) {
	_, v, err := a.p.Job(ctx, id)
	return v, missing(err, "job "+id)
}

// missing says what is not there in the words of the API.
func missing(err error, what string) error {
	if errors.Is(err, web.ErrNotFound) {
		return &api.NotFound{What: what}
	}
	return err
}

func apiRun(r store.RunRow) api.Run {
	return api.Run{ID: r.ID, Job: r.Job, Commit: r.Run.Commit, Carried: r.Run.Carried, Test: r.Run.Test, Outcome: r.Run.Outcome, Signature: r.Run.Signature, Reason: r.Run.Reason,
		Seconds: r.Run.Duration.Seconds(), Iterations: r.Run.Iterations, At: r.At, Withdrawn: r.Withdrawn}
}

func (a apis) Runs(ctx context.Context, f api.RunFilter) ([]api.Run, error) {
	var rows []store.RunRow
	var err error
	if f.Newest {
		rows, err = a.p.s.ws.store.RunList(ctx, store.RunFilter{Job: f.Job, Limit: f.Limit})
		rows = slices.DeleteFunc(rows, func(r store.RunRow) bool { return r.ID <= f.After })
	} else {
		rows, err = a.p.s.ws.store.RunSince(ctx, f.Job, f.After, f.Limit)
	}
	out := make([]api.Run, len(rows))
	for i, r := range rows {
		out[i] = apiRun(r)
	}
	return out, err
}

func (a apis) Run(ctx context.Context, id int64) (api.Run, error) {
	r, err := a.p.s.ws.store.RunByID(ctx, id)
	return apiRun(r), missing(notFound(err), fmt.Sprintf("run %d", id))
}

func (a apis) Texts(ctx context.Context, id int64) (output, console string, err error) {
	r, err := a.p.s.ws.store.RunByID(ctx, id)
	return r.Run.Output, r.Run.Console, missing(notFound(err), fmt.Sprintf("run %d", id))
}

func (a apis) Submit(ctx context.Context, r api.Request) (string, bool, error) {
	sub := submission{kind: string(r.Kind), repo: r.Repo, rev: r.Rev, mbox: r.Mbox, profile: r.Plan.Profile, tests: r.Plan.Tests,
		runs: r.Plan.Runs, maxRuns: r.Plan.MaxRuns, fresh: r.Plan.Fresh, share: r.Plan.ShareGuests,
		owner: r.Owner, key: r.Key, priority: store.Normal, search: searchOf(r.Search)}
	if p, ok := priorities[r.Plan.Priority]; ok {
		sub.priority = p
	}
	for _, p := range r.Plan.Programs {
		sub.programs = append(sub.programs, upload{p.Name, p.Text, p.Settings})
	}
	sub.allowed, sub.testTimeout = r.Plan.Allowed, time.Duration(r.Plan.TestSeconds)*time.Second
	for _, c := range r.Plan.Kconfig {
		sub.kconfig = append(sub.kconfig, kbuild.Fragment{Name: c.Name, Text: []byte(strings.ReplaceAll(c.Text, "\r\n", "\n"))})
	}
	for _, p := range r.Plan.Carry {
		sub.carry = append(sub.carry, gitrepo.Carry{Name: p.Name, Diff: []byte(p.Text)})
	}
	switch r.Kind {
	case api.Series:
		sub.span = r.Base + ".." + r.Head
	case api.Bisect:
		sub.span = r.Good + ".." + r.Bad
	case api.Check:
		if r.Modules != "" {
			return "", false, &api.BadInput{Field: "modules", Text: "modules of an uploaded kernel are not taken yet: check it on the service's machine, with --modules"}
		}
		if r.Kernel != "" {
			var err error
			if sub.kernel, err = a.p.s.keep(r.Kernel); err != nil {
				return "", false, err
			}
		}
	}
	if r.Mbox != nil {
		sub.span = r.Base
	}
	id, existing, err := a.p.s.submit(ctx, sub)
	var field *fieldError
	if errors.As(err, &field) && isUsers(err) {
		if field.field == "range" { // of which a form has one field, and this two
			field.field = ""
		}
		return "", false, &api.BadInput{Field: field.field, Text: oneLine(err.Error())}
	}
	return id, existing, err
}

func searchOf(s api.Search) searchRequest {
	r := defaultSearch()
	r.FindFix, r.Paths, r.Suspects, r.FirstParent, r.AnyFailure = s.FindFix, s.Paths, s.Suspects, s.FirstParent, s.AnyFailure
	r.MaxBuilds, r.MaxTime, r.NoConfirm = s.MaxBuilds, time.Duration(s.MaxSeconds)*time.Second, s.NoConfirm
	if s.Confidence != 0 {
		r.Confidence = s.Confidence
	}
	if s.MaxIterations != 0 {
		r.MaxIterations = s.MaxIterations
	}
	return r
}

// uploads is the directory of uploaded kernels, each under its digest.
const uploads = "uploads"

// keep stores an uploaded kernel under its digest: the job reads it when its
// turn comes.
func (s *service) keep(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	dir := filepath.Join(s.ws.data, uploads)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	kept := filepath.Join(dir, hex.EncodeToString(h.Sum(nil)))
	return kept, os.Rename(path, kept)
}

func (a apis) Cancel(ctx context.Context, id string) error {
	return conflict(a.p.s.cancel(ctx, id), id)
}

func (a apis) Retry(ctx context.Context, id string) error {
	return conflict(a.p.s.retry(ctx, id), id)
}

func (a apis) Undo(ctx context.Context, id, commit string, last int) (int, error) {
	runs, err := a.p.s.undo(ctx, id, store.Selection{Commit: commit, Last: last})
	return len(runs), conflict(err, id)
}

// conflict says why something cannot be done to a job now.
func conflict(err error, id string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrNoJob):
		return &api.NotFound{What: "job " + id}
	case errors.Is(err, store.ErrEnded), errors.Is(err, store.ErrActive), isUsers(err):
		return &api.Conflict{Text: oneLine(err.Error())}
	}
	return err
}

// Events passes on what pages hear.
func (a apis) Events(ctx context.Context, job string) <-chan api.Event {
	out := make(chan api.Event)
	go func() {
		defer close(out)
		for e := range a.p.Events(ctx, job) {
			ev := api.Event{Job: e.Job, Phase: e.Phase, At: e.At, Commit: e.Commit, Text: e.Text, Done: e.Done, Of: e.Of, Index: e.Index, Total: e.Total}
			if e.Phase == phaseOver {
				ev.Phase = api.PhaseStatus
				if j, err := a.p.s.ws.store.Job(ctx, e.Job); err == nil {
					ev.Status = j.Status
				}
			}
			select {
			case out <- ev:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func (a apis) Workers(context.Context) ([]api.Worker, error) {
	var out []api.Worker
	for _, w := range a.p.Workers() {
		out = append(out, api.Worker{Name: w.Name, Slots: w.Slots, Busy: w.Busy, Doing: w.Doing, Has: w.Announce, Last: w.Last})
	}
	return out, nil
}

func apiStat(t web.TestStat) api.TestStat {
	return api.TestStat{Name: t.Test, Runs: t.Runs, Fails: t.Fails, Skips: t.Skips, Kernels: t.Kernels, Flaky: t.Flaky, Last: t.Last}
}

func (a apis) Tests(ctx context.Context, f api.TestFilter) ([]api.TestStat, error) {
	stats, err := a.p.Tests(ctx, web.TestFilter(f))
	out := make([]api.TestStat, len(stats))
	for i, t := range stats {
		out[i] = apiStat(t)
	}
	return out, err
}

func (a apis) Test(ctx context.Context, name string) (api.TestHistory, error) {
	stat, rows, err := a.p.Test(ctx, name)
	if err != nil {
		return api.TestHistory{}, missing(err, "test "+name)
	}
	h := api.TestHistory{TestStat: apiStat(stat), On: []api.TestOnKernel{}}
	for _, r := range rows {
		h.On = append(h.On, api.TestOnKernel(r))
	}
	return h, nil
}

func (a apis) Kernels(ctx context.Context, after string, limit int) ([]api.KernelStat, error) {
	rows, err := a.p.Kernels(ctx, after, limit)
	out := make([]api.KernelStat, len(rows))
	for i, r := range rows {
		out[i] = api.KernelStat(r)
	}
	return out, err
}

// ByID finds a token of the configuration.
func (a apis) ByID(_ context.Context, id string) (api.Token, error) {
	for _, t := range a.p.s.cfg.Tokens {
		if t.ID != id {
			continue
		}
		out := api.Token{ID: t.ID, Name: t.Name, Expires: time.Time(t.Expires)}
		if _, err := hex.Decode(out.Hash[:], []byte(strings.TrimPrefix(t.Hash, hashPrefix))); err != nil {
			return out, err
		}
		for _, s := range t.Scopes {
			out.Scopes = append(out.Scopes, api.Scope(s))
		}
		return out, nil
	}
	return api.Token{}, &api.NotFound{What: "token " + strings.ToValidUTF8(id, "?")}
}
