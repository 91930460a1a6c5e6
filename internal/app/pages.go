package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kernel-bisect/kbisect/internal/config"
	"github.com/kernel-bisect/kbisect/internal/job"
	"github.com/kernel-bisect/kbisect/internal/queue"
	"github.com/kernel-bisect/kbisect/internal/report"
	"github.com/kernel-bisect/kbisect/internal/store"
	"github.com/kernel-bisect/kbisect/internal/web"
)

// pages shows the service to package web.
type pages struct {
	*web.Hub
	s *service
}

var (
	_ web.Record = (*pages)(nil)
	_ web.Live   = (*pages)(nil)
	_ web.Doer   = (*pages)(nil)
)

// event is a job's event as pages have it.
func event(id string, e job.Event) web.Event {
	commit := e.Commit.SHA
	if commit == "" {
		commit = e.Label
	}
	return web.Event{Job: id, Phase: e.Phase, Commit: commit, Text: e.Text, Done: e.Done, Of: e.Of, Index: e.Index, Total: e.Total, Tail: e.Tail, At: time.Now()}
}

func (p *pages) Jobs(ctx context.Context, f web.JobFilter) ([]web.Job, error) {
	jobs, err := p.s.ws.store.JobList(ctx, store.JobFilter{Kinds: some(f.Kind), Statuses: some(f.Status), Text: f.Text, Before: f.After, Limit: f.Limit})
	if err != nil {
		return nil, err
	}
	out := webJobs(jobs)
	for i, j := range jobs {
		out[i].Verdict = p.verdict(ctx, j)
	}
	return out, nil
}

// some is a filter of one value, or none.
func some(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func webJobs(jobs []store.Job) []web.Job {
	out := make([]web.Job, len(jobs))
	for i, j := range jobs {
		out[i] = webJob(j)
	}
	return out
}

func webJob(j store.Job) web.Job {
	w := web.Job{ID: j.ID, Kind: j.Kind, Status: j.Status, Title: j.Title, Owner: j.Owner, Error: j.Error,
		Priority: int(j.Priority), Attempt: max(j.Attempt, 1), Created: j.Created, Started: j.Started, Ended: j.Ended}
	if req, err := decodeRequest(j.Request); err == nil {
		w.Command = req.Command
		if j.Owner == store.CLI {
			w.Title = req.title()
		}
	}
	return w
}

// verdict is the first line of a job's report. That of a job that has ended is
// kept: a result is long, and lists show many.
func (p *pages) verdict(ctx context.Context, j store.Job) string {
	key := fmt.Sprintf("%s %d %s", j.ID, j.Attempt, j.Ended)
	if v, ok := p.s.verdicts.Load(key); ok {
		return v.(string)
	}
	full, err := p.s.ws.store.Job(ctx, j.ID)
	if err != nil {
		return ""
	}
	text := verdictOf(p.result(full))
	if !j.Ended.IsZero() {
		p.s.verdicts.Store(key, text)
	}
	return text
}

// verdictOf is the first line of a report, empty where there is no result.
func verdictOf(v any, err error) string {
	if err != nil || v == nil {
		return ""
	}
	text, err := report.Verdict(v)
	if err != nil {
		return ""
	}
	return text
}

// result decodes a job's result, nil if it has none yet.
func (p *pages) result(j store.Job) (any, error) {
	if len(j.Result) == 0 {
		return nil, nil
	}
	return resultOf(j)
}

func (p *pages) Job(ctx context.Context, id string) (web.Job, any, error) {
	j, err := p.s.ws.store.Job(ctx, id)
	if err != nil {
		return web.Job{}, nil, notFound(err)
	}
	v, err := p.result(j)
	if err != nil {
		return web.Job{}, nil, err
	}
	w := webJob(j)
	w.Verdict = verdictOf(v, nil)
	return w, v, nil
}

func notFound(err error) error {
	if errors.Is(err, store.ErrNoJob) || errors.Is(err, store.ErrNoRun) {
		return web.ErrNotFound
	}
	return err
}

func (p *pages) Runs(ctx context.Context, f web.RunFilter) ([]web.Run, error) {
	runs, err := p.s.ws.store.RunList(ctx, store.RunFilter{Job: f.Job, Commit: commitOf(f), Kernel: f.Kernel, Test: f.Test, Before: f.Before, Limit: f.Limit})
	if err != nil {
		return nil, err
	}
	out := make([]web.Run, len(runs))
	for i, r := range runs {
		out[i] = web.Run(r)
	}
	return out, nil
}

// commitOf is what a kernel's digest takes the place of.
func commitOf(f web.RunFilter) string {
	if f.Kernel != "" {
		return ""
	}
	return f.Commit
}

func (p *pages) Run(ctx context.Context, id int64) (web.Run, error) {
	r, err := p.s.ws.store.RunByID(ctx, id)
	return web.Run(r), notFound(err)
}

func (p *pages) Tests(ctx context.Context, f web.TestFilter) ([]web.TestStat, error) {
	stats, err := p.s.ws.store.TestStats(ctx, store.TestFilter{Text: f.Text, Flaky: f.Flaky, After: f.After, Limit: f.Limit})
	if err != nil {
		return nil, err
	}
	out := make([]web.TestStat, len(stats))
	for i, t := range stats {
		out[i] = web.TestStat(t)
	}
	return out, nil
}

// historyLength is how many kernels the history of a test shows.
const historyLength = 200

func (p *pages) Test(ctx context.Context, name string) (web.TestStat, []web.TestOnKernel, error) {
	stats, err := p.s.ws.store.TestStats(ctx, store.TestFilter{Name: name, Limit: 1})
	switch {
	case err != nil:
		return web.TestStat{}, nil, err
	case len(stats) == 0:
		return web.TestStat{}, nil, web.ErrNotFound
	}
	rows, err := p.s.ws.store.TestHistory(ctx, name, historyLength)
	if err != nil {
		return web.TestStat{}, nil, err
	}
	out := make([]web.TestOnKernel, len(rows))
	for i, r := range rows {
		out[i] = web.TestOnKernel(r)
	}
	return web.TestStat(stats[0]), out, nil
}

func (p *pages) Kernels(ctx context.Context, after string, limit int) ([]web.Kernel, error) {
	rows, err := p.s.ws.store.Kernels(ctx, after, limit)
	if err != nil {
		return nil, err
	}
	out := make([]web.Kernel, len(rows))
	for i, r := range rows {
		out[i] = web.Kernel{Release: r.Release, Digest: r.Digest, Commit: r.Commit, Tests: r.Tests, Runs: r.Runs, Fails: r.Fails, Last: r.Last}
	}
	return out, nil
}

func (p *pages) Workers() []web.Worker {
	var out []web.Worker
	for _, w := range p.s.fleet.queue.Workers() {
		v := web.Worker{Doing: []string{}, Name: w.Name, Slots: w.Announce.Slots, Busy: w.Busy, Last: w.LastBeat, Announce: shown(w.Announce)}
		if v.Name == config.LocalWorker {
			v.Name = "this machine"
		}
		for _, t := range w.Tasks {
			if !slices.Contains(v.Doing, t.Job) {
				v.Doing = append(v.Doing, t.Job)
			}
		}
		slices.Sort(v.Doing)
		out = append(out, v)
	}
	return out
}

// shown is what people read of a worker.
func shown(a queue.Announce) []string {
	var out []string
	for _, l := range a.Labels {
		switch kind, value, _ := strings.Cut(l, ":"); kind + ":" {
		case cpusLabel:
			out = append(out, value+" CPUs")
		case guestLabel: // which tells two releases apart
			out = append(out, "guest image "+value)
		default:
			out = append(out, value)
		}
	}
	if a.Version != "" {
		out = append(out, "kbisect "+a.Version)
	}
	return out
}

func (p *pages) Queue() []web.Job {
	jobs, err := p.s.ws.store.JobList(context.Background(), store.JobFilter{Statuses: []string{store.Queued}, Limit: queueShown})
	if err != nil {
		return nil
	}
	slices.Reverse(jobs) // the oldest first
	slices.SortStableFunc(jobs, func(a, b store.Job) int { return int(a.Priority - b.Priority) })
	return webJobs(jobs)
}

// queueShown bounds what a page shows of the queue.
const queueShown = 1000

func (p *pages) Submit(ctx context.Context, f web.Form) (string, error) {
	sub := submission{kind: f.Kind, repo: f.Repo, rev: f.Rev, profile: f.Profile, tests: f.Tests, owner: "page", priority: store.Waiting, search: defaultSearch()}
	switch f.Kind {
	case "series":
		sub.span = f.Base + ".." + f.Head
	case "bisect":
		sub.span, sub.search.FindFix = f.Good+".."+f.Bad, f.FindFix
	}
	id, _, err := p.s.submit(ctx, sub)
	var field *fieldError
	if errors.As(err, &field) && isUsers(err) {
		return "", &web.BadInput{Field: field.field, Text: oneLine(err.Error())}
	}
	return id, err
}

func (p *pages) Cancel(ctx context.Context, id string) error {
	return plainly(p.s.cancel(ctx, id))
}

func (p *pages) Retry(ctx context.Context, id string) error {
	return plainly(p.s.retry(ctx, id))
}

func (p *pages) Undo(ctx context.Context, id, commit string, last int) (int, error) {
	runs, err := p.s.undo(ctx, id, store.Selection{Commit: commit, Last: last})
	return len(runs), plainly(err)
}

// plainly turns what a user can mend into words for them.
func plainly(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrNoJob):
		return web.ErrNotFound
	case errors.Is(err, store.ErrEnded), errors.Is(err, store.ErrActive), isUsers(err):
		return &web.BadInput{Text: sentence(err)}
	}
	return err
}

// sentence is an error as one sentence on a page.
func sentence(err error) string {
	s := oneLine(err.Error())
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// underWay are the ids of the jobs that are carried out.
func (s *service) underWay() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for id := range s.running {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
