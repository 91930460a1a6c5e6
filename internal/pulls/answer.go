package pulls

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/github"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/outbox"
	"github.com/kernel-bisect/kbisect/internal/store"
)

// commented does what a comment asks for.
func (f *Follower) commented(ctx context.Context, r Repo, e github.Event) error {
	commands, problem := ParseCommands(e.Body)
	if len(commands) == 0 && problem == "" {
		return nil
	}
	may, err := f.Forge.MayWrite(ctx, r.Name, e.Author, r.AdminsOnly)
	if err != nil {
		return err
	}
	if !may {
		return f.react(ctx, r, e.Comment, "confused")
	}
	reaction := "eyes"
	for _, c := range commands {
		err := f.do(ctx, r, e, c)
		if errors.Is(err, ErrCannot) {
			problem = err.Error()
			break
		}
		if err != nil {
			return err
		}
	}
	if problem != "" {
		reaction = "confused"
		if err := f.reply(ctx, r, e, problem+". `/kbisect help` shows what there is."); err != nil {
			return err
		}
	}
	return f.react(ctx, r, e.Comment, reaction)
}

func (f *Follower) react(ctx context.Context, r Repo, comment int64, content string) error {
	l, err := outbox.ReactionLetter(r.Name, outbox.Reaction{Comment: comment, Content: content})
	if err != nil {
		return err
	}
	return f.want(ctx, l, nil)
}

// reply answers a comment; the same comment has one answer.
func (f *Follower) reply(ctx context.Context, r Repo, e github.Event, body string) error {
	l, err := outbox.CommentLetter(r.Name, outbox.Comment{Number: e.Number, Marker: fmt.Sprintf("reply %d", e.Comment), Body: body})
	return f.want(ctx, l, err)
}

// do carries out one command.
func (f *Follower) do(ctx context.Context, r Repo, e github.Event, c Command) error {
	request := fmt.Sprintf("comment %d", e.Comment)
	switch c.Verb {
	case "help":
		return f.reply(ctx, r, e, Help)
	case "bisect":
		return f.bisect(ctx, r, e, c, request)
	}
	p, now, err := f.known(ctx, r, e.Number)
	if errors.Is(err, ErrCannot) {
		return Cannot("%s is for pull requests, and this is none", c.Verb)
	}
	if err != nil {
		return err
	}
	if c.Verb == "cancel" {
		jobs := slices.Clone(p.Jobs)
		for _, a := range p.Answers {
			jobs = append(jobs, a.Job)
		}
		if err := f.cancel(ctx, p, jobs); err != nil {
			return err
		}
		return f.settle(ctx, r, p)
	}
	if !now.Open {
		return Cannot("this pull request is closed")
	}
	// What was pushed since it was written was not meant: whoever offers it sees the
	// comment, too. It need not be of this branch, but nobody else knows.
	late := now.Fork && !e.At.IsZero() && !now.Pushed.IsZero() && !now.Pushed.Before(e.At)
	switch c.Verb {
	case "ok":
		if c.SHA == "" && late {
			return Cannot("something was pushed there after you wrote: look at the commits up to %s, and say `/kbisect ok %[1]s`", kernel.Abbrev(now.Head))
		}
		// What was pushed since nobody has looked at.
		if seen := p.Series.Head; !strings.HasPrefix(now.Head, c.SHA) || c.SHA == "" && seen != "" && seen != now.Head {
			return Cannot("there are other commits now, up to %s: look at them, and say ok again", kernel.Abbrev(now.Head))
		}
		p.Approved = now.Head
		if p.Series.Head == now.Head && len(p.Jobs) > 0 {
			return nil
		}
	case "test":
		for _, profile := range c.Profiles {
			if !slices.Contains(f.Profiles, profile) {
				return Cannot("%s: no such profile; there are %s", quote(profile), strings.Join(f.Profiles, ", "))
			}
		}
		p.Profiles = c.Profiles
		if !late {
			p.Approved = now.Head // who may write wants it
		}
	case "retest":
		if !late {
			p.Approved = now.Head
		}
		if p.Series.Head == now.Head && len(p.Series.Commits) > 0 {
			return f.again(ctx, r, p, request)
		}
	}
	return f.begin(ctx, r, p, now)
}

// again tests without what is on record.
func (f *Follower) again(ctx context.Context, r Repo, p *Pull, request string) error {
	if err := f.cancel(ctx, p, p.Jobs); err != nil {
		return err
	}
	return f.test(ctx, r, p, request, true)
}

// bisect looks for the commit that made a test fail.
func (f *Follower) bisect(ctx context.Context, r Repo, e github.Event, c Command, request string) error {
	p, now, err := f.known(ctx, r, e.Number)
	switch {
	case errors.Is(err, ErrCannot) && c.Bad == "":
		return Cannot("this is no pull request: bisect needs bad=REV here")
	case errors.Is(err, ErrCannot): // an issue
		p = &Pull{Repo: r.Name, Number: e.Number, Page: ""}
		if old, err := f.load(f.Record.Pull(ctx, p.name())); err != nil {
			return err
		} else if old != nil {
			p = old
		}
		p.Closed = true // nothing of it is tested
	case err != nil:
		return err
	case c.Bad == "":
		if p.Series.Head != now.Head || len(p.Series.Commits) == 0 {
			return Cannot("the commits of this pull request are not fetched yet: `/kbisect test` first, or name bad=REV")
		}
		c.Bad = now.Head
	}
	if c.Test == "" {
		if c.Test, err = f.firstBad(ctx, p); err != nil {
			return err
		}
	}
	profile := r.Profiles[0]
	if len(p.Profiles) > 0 {
		profile = p.Profiles[0]
	}
	id, err := f.Lab.Submit(ctx, Job{
		Kind: "bisect", Repo: r.Name, Profile: profile, Base: c.Good, Head: c.Bad, Test: c.Test,
		Stranger: true, Trusted: p.Series.Trusted,
		Title: p.title() + " " + c.Test, Owner: p.name(), Key: p.name() + " " + request,
	})
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(p.Answers, func(a Answer) bool { return a.Job == id }) {
		p.Answers = append(p.Answers, Answer{Job: id, Number: e.Number})
	}
	if err := f.save(ctx, p); err != nil {
		return err
	}
	return f.Sync(ctx, id)
}

// firstBad is the first test that a pull request's jobs found bad, those that it
// breaks before others.
func (f *Follower) firstBad(ctx context.Context, p *Pull) (string, error) {
	other := ""
	for _, id := range p.Jobs {
		rep, err := f.Lab.Report(ctx, id)
		if err != nil {
			return "", err
		}
		res, ok := rep.Result.(*kernel.SeriesResult)
		if !ok || res == nil {
			continue
		}
		for _, row := range res.Commits {
			for _, t := range row.Tests {
				switch {
				case t.Verdict != kernel.Bad:
				case res.FirstBad[t.Name] == row.SHA:
					return t.Name, nil
				case other == "":
					other = t.Name
				}
			}
		}
	}
	if other == "" {
		return "", Cannot("which test? No test is known to be bad here: name one with test=NAME")
	}
	return other, nil
}

// Buttons of a check run.
const (
	buttonRerun  = "rerun"
	buttonBisect = "bisect"
)

// pressed does what a button of a check run is for.
func (f *Follower) pressed(ctx context.Context, r Repo, id string, e github.Event) error {
	may, err := f.Forge.MayWrite(ctx, r.Name, e.Author, r.AdminsOnly)
	if err != nil {
		return err
	}
	if !may {
		return Cannot("%s may not write to %s", e.Author, r.Name)
	}
	p, err := f.pressedOn(ctx, e)
	if err != nil {
		return err
	}
	if p == nil {
		return Cannot("job %q, commit %s: of no open pull request as it is now", e.Job, e.SHA)
	}
	if e.Kind == github.Rerun || e.Button == buttonRerun {
		// "Re-run failed checks" says so once for each check.
		if on, err := f.underWay(ctx, p.Jobs); err != nil || on && e.Job != "" && !slices.Contains(p.Jobs, e.Job) {
			return err
		}
		f.Log.Info("again", zap.String("pull", p.name()))
		return f.again(ctx, r, p, "delivery "+id)
	}
	if e.Button != buttonBisect {
		return Cannot("%q: no button of ours", e.Button)
	}
	test, err := f.firstBad(ctx, p)
	if err != nil {
		return err
	}
	if p.Number == 0 {
		return Cannot("a bisection is answered in a comment, and a branch has none")
	}
	return f.bisect(ctx, r, github.Event{Repo: r.Name, Number: p.Number}, Command{Verb: "bisect", Good: p.Series.Base, Bad: e.SHA, Test: test}, "delivery "+id)
}

// underWay says whether one of some jobs has not ended.
func (f *Follower) underWay(ctx context.Context, jobs []string) (bool, error) {
	for _, id := range jobs {
		rep, err := f.Lab.Report(ctx, id)
		if err != nil || rep.State == store.Queued || rep.State == store.Running {
			return err == nil, err
		}
	}
	return false, nil
}

// pressedOn is the pull request that a check run, or all those of a commit, are
// of; nil for none. The check run may be of an earlier job.
func (f *Follower) pressedOn(ctx context.Context, e github.Event) (*Pull, error) {
	texts, err := f.Record.OpenPulls(ctx)
	for _, text := range texts {
		p, err := f.load(text, nil)
		if err != nil {
			return nil, err
		}
		if p.Repo == e.Repo && !p.Closed && (slices.Contains(p.Jobs, e.Job) || slices.Contains(p.Series.shas(), e.SHA)) {
			return p, nil
		}
	}
	return nil, err
}
