package pulls

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/github"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/outbox"
	"github.com/kernel-bisect/kbisect/internal/posting"
	"github.com/kernel-bisect/kbisect/internal/store"
)

// Markers of our comments.
const (
	markerSeries = "series"
	markerBisect = "bisect "
)

// Sync posts what follows from how far a job is. A job of nobody's changes
// nothing.
func (f *Follower) Sync(ctx context.Context, job string) error {
	pulls, err := f.of(ctx, job)
	if err != nil {
		return err
	}
	for _, p := range pulls {
		r, ok := f.Repos[p.Repo]
		if !ok { // it is not followed any more
			continue
		}
		for _, a := range p.Answers {
			if a.Job == job {
				if err := f.answer(ctx, r, p, a); err != nil {
					return err
				}
			}
		}
		if !p.Closed && slices.Contains(p.Jobs, job) { // else of an earlier push
			if err := f.tell(ctx, r, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// tell posts how far the jobs of a pull request or a push are. An earlier push to a
// branch is done with when its jobs are.
func (f *Follower) tell(ctx context.Context, r Repo, p *Pull) error {
	if err := f.post(ctx, r, p, ""); err != nil || p.Push == "" {
		return err
	}
	on, err := f.underWay(ctx, p.Jobs)
	if err != nil || on {
		return err
	}
	p.Closed = true
	return f.save(ctx, p)
}

// Looks are the questions what has become of all open pull requests: GitHub delivers
// nothing a second time by itself.
func (f *Follower) Looks(ctx context.Context, when time.Time) ([]github.Event, error) {
	texts, err := f.Record.OpenPulls(ctx)
	if err != nil {
		return nil, err
	}
	var out []github.Event
	for _, text := range texts {
		p, err := f.load(text, nil)
		if err != nil {
			return nil, err
		}
		if _, ok := f.Repos[p.Repo]; ok && p.Number != 0 && !p.Closed {
			out = append(out, github.Look(p.Repo, p.Number, when))
		}
	}
	return out, nil
}

// SyncAll posts what follows from how far all jobs of open pull requests are. One
// that cannot be posted does not keep back the others.
func (f *Follower) SyncAll(ctx context.Context) error {
	texts, err := f.Record.OpenPulls(ctx)
	for _, text := range texts {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p, perr := f.load(text, nil)
		if perr == nil {
			perr = f.syncOne(ctx, p)
		}
		err = errors.Join(err, perr)
	}
	return err
}

func (f *Follower) syncOne(ctx context.Context, p *Pull) error {
	r, ok := f.Repos[p.Repo]
	if !ok {
		return nil
	}
	for _, a := range p.Answers {
		if err := f.answer(ctx, r, p, a); err != nil {
			return err
		}
	}
	if p.Closed {
		return nil
	}
	return f.tell(ctx, r, p)
}

// answer says how a bisection is going where it was asked for.
func (f *Follower) answer(ctx context.Context, r Repo, p *Pull, a Answer) error {
	rep, err := f.Lab.Report(ctx, a.Job)
	if err != nil {
		return err
	}
	res, _ := rep.Result.(*kernel.BisectResult)
	body := posting.BisectComment(f.about(p), res, rep.Page, rep.State, rep.Problem)
	l, err := outbox.CommentLetter(r.Name, outbox.Comment{Number: a.Number, Marker: markerBisect + a.Job, Body: body})
	return f.want(ctx, l, err)
}

func (f *Follower) about(p *Pull) posting.Pull {
	return posting.Pull{
		Repo: p.Repo, Number: p.Number, Head: p.Series.Head, Page: p.Page,
		LeftOut: p.Series.LeftOut, Waits: p.Waits, Problem: p.Problem, Unchanged: p.Unchanged,
	}
}

// post says what is to be seen of a pull request. obsolete is why its jobs are
// not waited for, "" while they are.
func (f *Follower) post(ctx context.Context, r Repo, p *Pull, obsolete string) error {
	if p.Series.Head == "" { // on record for a bisection that was asked for there
		return nil
	}
	reports, err := f.reports(ctx, p, obsolete)
	if err != nil {
		return err
	}
	about := f.about(p)
	if obsolete != "" && len(reports) == 0 {
		about.Waits, about.Problem = "", obsolete
	}
	if r.Statuses {
		for _, s := range posting.Statuses(about, reports) {
			l, err := outbox.StatusLetter(r.Name, s)
			if err := f.want(ctx, l, err); err != nil {
				return err
			}
		}
	}
	if r.Checks {
		for _, c := range posting.Checks(about, reports) {
			l, err := outbox.CheckLetter(r.Name, c)
			if err := f.want(ctx, l, err); err != nil {
				return err
			}
		}
	}
	if !r.Comment || p.Number == 0 {
		return nil
	}
	l, err := outbox.CommentLetter(r.Name, outbox.Comment{Number: p.Number, Marker: markerSeries, Body: posting.Comment(about, reports)})
	return f.want(ctx, l, err)
}

// want puts a letter into the outbox.
func (f *Follower) want(ctx context.Context, l store.Letter, err error) error {
	if err != nil {
		return err
	}
	changed, err := f.Record.Want(ctx, l)
	if changed {
		f.Nudge()
	}
	return err
}

// reports are the jobs of a pull request with all that remarks need.
func (f *Follower) reports(ctx context.Context, p *Pull, obsolete string) ([]posting.Report, error) {
	var out []posting.Report
	for _, id := range p.Jobs {
		rep, err := f.Lab.Report(ctx, id)
		if err != nil {
			return nil, err
		}
		res, _ := rep.Result.(*kernel.SeriesResult)
		if res == nil {
			res = &kernel.SeriesResult{ID: id, Profile: rep.Profile}
		}
		state, problem := rep.State, rep.Problem
		if obsolete != "" && (state == store.Queued || state == store.Running) {
			state, problem = store.Cancelled, obsolete
		}
		patches := map[string]posting.Patch{}
		for _, row := range res.Commits {
			// They say at which lines remarks stand. A commit that nobody has any more
			// goes without: its verdict counts.
			if patches[row.SHA], err = f.Tree.Patch(ctx, p.Repo, row.SHA); ctx.Err() != nil {
				return nil, ctx.Err()
			} else if err != nil {
				f.Log.Warn("no remarks at lines", zap.String("commit", row.SHA), zap.Error(err))
			}
		}
		out = append(out, posting.Report{State: state, Problem: problem, Result: res, Page: rep.Page, Patches: patches, Logs: rep.Logs, Commits: p.Series.shas()})
	}
	return out, nil
}

// Show posts what follows from how far the jobs of a pull request are, of which
// nothing else is on record.
func (f *Follower) Show(ctx context.Context, r Repo, p *Pull) error { return f.post(ctx, r, p, "") }
