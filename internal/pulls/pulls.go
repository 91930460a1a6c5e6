// Package pulls follows pull requests and branches: which jobs each has, what
// people asked for in comments, and what is to be shown of it all. Everything
// that is shown follows from what is on record, so that it can be worked out
// again at any time. It must not know how a forge is talked to, how commits are
// fetched, nor how jobs are carried out.
package pulls

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/github"
	"github.com/kernel-bisect/kbisect/internal/posting"
	"github.com/kernel-bisect/kbisect/internal/store"
)

// Repo is how a repository is followed.
type Repo struct {
	Name       string   // OWNER/NAME
	Profiles   []string // a job for each
	MaxCommits int      // more are not tested: the newest are
	Branches   []string // whose pushes are tested
	AdminsOnly bool     // commands are taken from admins only
	Statuses   bool     // what is posted
	Checks     bool
	Comment    bool
}

// Pull is what is known of a pull request, or of a branch that was pushed to.
type Pull struct {
	Repo   string `json:"repo"`
	Number int    `json:"number,omitempty"` // 0 for a branch
	Branch string `json:"branch,omitempty"`
	Push   string `json:"push,omitempty"` // head of an earlier push to the branch, "" for the last one
	Page   string `json:"page"`           // of the repository
	Closed bool   `json:"closed,omitempty"`

	Series   Series   `json:"series"`
	Profiles []string `json:"profiles,omitempty"` // asked for in a comment, instead of the configured
	Jobs     []string `json:"jobs,omitempty"`     // one for each profile
	// Waits is why nothing is tested yet; Approved is the head that may be
	// although a stranger pushed it.
	Waits     string `json:"waits,omitempty"`
	Approved  string `json:"approved,omitempty"`
	Problem   string `json:"problem,omitempty"`   // why it cannot be tested
	Unchanged int    `json:"unchanged,omitempty"` // commits that the last push had as well

	Answers []Answer `json:"answers,omitempty"`
}

// Answer is a bisection that somebody asked for, which is answered in a comment.
type Answer struct {
	Job    string `json:"job"`
	Number int    `json:"number"` // of the issue or pull request
}

// Series are the commits that are tested.
type Series struct {
	Tip     string   `json:"tip"`  // of the branch that it is meant for, when it was looked at
	Base    string   `json:"base"` // the commit below the first one that is tested
	Head    string   `json:"head"`
	Commits []Commit `json:"commits"` // oldest first
	LeftOut int      `json:"left_out,omitempty"`
	Trusted string   `json:"trusted,omitempty"` // the branch's own commit below all of a pull request
}

// Commit is a commit with what it is known by after a rebase.
type Commit struct {
	SHA     string `json:"sha"`
	Tree    string `json:"tree"`
	PatchID string `json:"patch_id"`
}

func (s Series) shas() []string {
	out := make([]string, len(s.Commits))
	for i, c := range s.Commits {
		out[i] = c.SHA
	}
	return out
}

// unchanged counts the commits that an earlier push had as well: the same commit,
// or the same patch that gives the same tree.
func (s Series) unchanged(before Series) int {
	n := 0
	for _, c := range s.Commits {
		if slices.ContainsFunc(before.Commits, func(o Commit) bool { return o.SHA == c.SHA || o.Tree == c.Tree && o.PatchID == c.PatchID }) {
			n++
		}
	}
	return n
}

// name is what it is recorded under.
func (p *Pull) name() string {
	switch {
	case p.Push != "":
		return p.Repo + "@" + p.Branch + "@" + p.Push
	case p.Number == 0:
		return p.Repo + "@" + p.Branch
	}
	return fmt.Sprintf("%s#%d", p.Repo, p.Number)
}

// Forge is asked what is the case there.
type Forge interface {
	Pull(ctx context.Context, repo string, number int) (github.Pull, error)
	MayWrite(ctx context.Context, repo, user string, admin bool) (bool, error)
}

// ErrCannot is an error whose text is for who asked: it is theirs to mend.
var ErrCannot = errors.New("it cannot be done")

// Cannot makes an error that is for who asked.
func Cannot(format string, args ...any) error {
	return &cannotError{fmt.Sprintf(format, args...)}
}

type cannotError struct{ why string }

func (e *cannotError) Error() string   { return e.why }
func (e *cannotError) Is(t error) bool { return t == ErrCannot }

// Tree has the commits. What cannot be tested is ErrCannot.
type Tree interface {
	// Series fetches a pull request's commits, and finds where they begin.
	Series(ctx context.Context, r Repo, p github.Pull) (Series, error)
	// Pushed does so for a push. before may be "".
	Pushed(ctx context.Context, r Repo, branch, before, after string) (Series, string, error)
	// Patch is what a commit changes.
	Patch(ctx context.Context, repo, sha string) (posting.Patch, error)
}

// Job is a job to be queued.
type Job struct {
	Kind     string // series, bisect
	Repo     string
	Profile  string
	Base     string // of a bisection a revision that somebody named
	Head     string
	Stranger bool   // not all commits are of the repository's branches
	Trusted  string // the one of these that the others stand on, if known
	Test     string // of a bisection
	Fresh    bool
	Title    string
	Owner    string
	Key      string // asked for again with it, it is the same job
}

// Lab carries jobs out.
type Lab interface {
	// Submit queues a job; what makes it impossible is ErrCannot.
	Submit(ctx context.Context, j Job) (id string, err error)
	Cancel(ctx context.Context, id string) error
	// Report is how far a job is: a *kernel.SeriesResult or *kernel.BisectResult.
	Report(ctx context.Context, id string) (Report, error)
}

// Report is a job and its result so far.
type Report struct {
	State, Problem, Page string
	Profile              string
	Result               any
	Logs                 map[string]string // of builds, by object id
}

// Record keeps what is known: see the methods of store.Store.
type Record interface {
	SavePull(ctx context.Context, name string, open bool, pull []byte, jobs []string) error
	Pull(ctx context.Context, name string) ([]byte, error)
	PullsOf(ctx context.Context, job string) ([][]byte, error)
	OpenPulls(ctx context.Context) ([][]byte, error)
	Want(ctx context.Context, l store.Letter) (changed bool, err error)
}

// Follower follows pull requests. One event after the other.
type Follower struct {
	Forge  Forge
	Tree   Tree
	Lab    Lab
	Record Record
	Nudge  func() // called when there is something to post
	Repos  map[string]Repo
	// Profiles are those that somebody may name.
	Profiles []string
	Log      *zap.Logger
}

// load is what is known of a pull request, nil for nothing.
func (f *Follower) load(text []byte, err error) (*Pull, error) {
	if err != nil || text == nil {
		return nil, err
	}
	p := &Pull{}
	if err := json.Unmarshal(text, p); err != nil {
		return nil, fmt.Errorf("a pull request on record: %w", err)
	}
	return p, nil
}

func (f *Follower) save(ctx context.Context, p *Pull) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	jobs := slices.Clone(p.Jobs)
	for _, a := range p.Answers {
		jobs = append(jobs, a.Job)
	}
	// What is closed may still wait for an answer.
	return f.Record.SavePull(ctx, p.name(), !p.Closed || len(p.Answers) > 0, text, jobs)
}

// Handle does what follows from an event. ErrCannot is what cannot be done, ever;
// after any other error the same event is to be handled again.
func (f *Follower) Handle(ctx context.Context, id string, e github.Event) error {
	r, ok := f.Repos[e.Repo]
	if !ok {
		return Cannot("%s is not followed: it is not in the configuration", e.Repo)
	}
	start := time.Now()
	var err error
	switch e.Kind {
	case github.PullChanged:
		err = f.changed(ctx, r, e.Number)
	case github.Pushed:
		err = f.pushed(ctx, r, e)
	case github.Commented:
		err = f.commented(ctx, r, e)
	case github.Rerun, github.Pressed:
		err = f.pressed(ctx, r, id, e)
	default:
		err = Cannot("%q: an unknown event", e.Kind)
	}
	f.Log.Info("handled", zap.String("event", string(e.Kind)), zap.String("repo", e.Repo), zap.Int("number", e.Number), zap.Duration("took", time.Since(start)), zap.Error(err))
	return err
}

// changed finds out what has become of a pull request.
func (f *Follower) changed(ctx context.Context, r Repo, number int) error {
	p, now, err := f.known(ctx, r, number)
	if err != nil {
		return err
	}
	if !now.Open {
		return f.close(ctx, p)
	}
	if p.Series.Head == now.Head && p.Series.Tip == now.Base && !p.Closed && (len(p.Jobs) > 0 || p.Waits != "") {
		return nil // nothing that matters here
	}
	if p.Series.Head == now.Head && len(p.Jobs) > 0 && !p.Closed {
		// The branch that it is meant for went on: that changes nothing, unless
		// it is another branch.
		s, err := f.Tree.Series(ctx, r, now)
		if err == nil && s.Base == p.Series.Base {
			p.Series.Tip = now.Base
			return f.save(ctx, p)
		}
	}
	return f.begin(ctx, r, p, now)
}

// known is what is on record of a pull request, and what it is now.
func (f *Follower) known(ctx context.Context, r Repo, number int) (*Pull, github.Pull, error) {
	now, err := f.Forge.Pull(ctx, r.Name, number)
	if errors.Is(err, github.ErrNoPull) {
		return nil, now, Cannot("%v", err)
	}
	if err != nil {
		return nil, now, err
	}
	p := &Pull{Repo: r.Name, Number: number, Page: now.Page}
	old, err := f.load(f.Record.Pull(ctx, p.name()))
	if old != nil {
		p = old
	}
	return p, now, err
}

// close stops what is under way for a pull request that nobody wants any more.
func (f *Follower) close(ctx context.Context, p *Pull) error {
	if p.Closed || p.Series.Head == "" {
		return nil
	}
	if err := f.cancel(ctx, p, p.Jobs); err != nil {
		return err
	}
	if err := f.post(ctx, f.Repos[p.Repo], p, "the pull request was closed"); err != nil {
		return err
	}
	p.Closed, p.Waits = true, ""
	return f.save(ctx, p)
}

// begin tests what a pull request is now.
func (f *Follower) begin(ctx context.Context, r Repo, p *Pull, now github.Pull) error {
	before := *p
	p.Closed, p.Page, p.Problem = false, now.Page, ""
	if now.Stranger && now.Fork && p.Approved != now.Head {
		if p.Series.Head != now.Head {
			if err := f.obsolete(ctx, &before, "there are other commits now"); err != nil {
				return err
			}
		}
		p.Series = Series{Head: now.Head, Tip: now.Base}
		p.Jobs, p.Unchanged = nil, 0
		p.Waits = "waits for /kbisect ok of somebody who may write: its author is new here"
		return f.settle(ctx, r, p)
	}
	s, err := f.Tree.Series(ctx, r, now)
	if errors.Is(err, ErrCannot) {
		p.Series, p.Jobs, p.Unchanged = Series{Head: now.Head, Tip: now.Base}, nil, 0
		p.Waits, p.Problem = "", err.Error()
		return f.settle(ctx, r, p)
	}
	if err != nil {
		return err
	}
	if before.Series.Head != s.Head || before.Series.Base != s.Base {
		if err := f.obsolete(ctx, &before, "there are other commits now"); err != nil {
			return err
		}
		if len(before.Series.Commits) > 0 {
			p.Unchanged = s.unchanged(before.Series)
		}
	}
	p.Series, p.Waits = s, ""
	return f.test(ctx, r, p, "", false)
}

// test queues the jobs of a pull request. request tells one wish from another:
// the same wish again gives the same jobs.
func (f *Follower) test(ctx context.Context, r Repo, p *Pull, request string, fresh bool) error {
	profiles := p.Profiles
	if len(profiles) == 0 {
		profiles = r.Profiles
	}
	var jobs []string
	for _, profile := range profiles {
		id, err := f.Lab.Submit(ctx, Job{
			Kind: "series", Repo: r.Name, Profile: profile, Base: p.Series.Base, Head: p.Series.Head,
			Stranger: p.Number != 0, Trusted: p.Series.Trusted, Fresh: fresh, Title: p.title(), Owner: p.name(),
			Key: fmt.Sprintf("%s %s..%s %s %s", p.name(), p.Series.Base, p.Series.Head, profile, request),
		})
		if errors.Is(err, ErrCannot) {
			p.Problem, p.Jobs = err.Error(), nil
			return f.settle(ctx, r, p)
		}
		if err != nil {
			return err
		}
		jobs = append(jobs, id)
	}
	p.Jobs = jobs
	return f.settle(ctx, r, p)
}

func (p *Pull) title() string {
	if p.Number == 0 {
		return p.Repo + " " + p.Branch
	}
	return p.name()
}

// settle keeps what is known and posts what follows from it.
func (f *Follower) settle(ctx context.Context, r Repo, p *Pull) error {
	if err := f.save(ctx, p); err != nil {
		return err
	}
	return f.post(ctx, r, p, "")
}

// obsolete ends the jobs of a push that nobody wants any more, and says so where
// they are waited for.
func (f *Follower) obsolete(ctx context.Context, p *Pull, why string) error {
	if err := f.cancel(ctx, p, p.Jobs); err != nil {
		return err
	}
	r := f.Repos[p.Repo]
	r.Comment = false // it is the next push's
	if p.Series.Head == "" {
		return nil
	}
	return f.post(ctx, r, p, why)
}

// cancel ends jobs of a pull request, but for those that another one waits for.
func (f *Follower) cancel(ctx context.Context, p *Pull, jobs []string) error {
	for _, id := range jobs {
		of, err := f.of(ctx, id)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(of, func(o *Pull) bool { return o.name() != p.name() && !o.Closed && slices.Contains(o.Jobs, id) }) {
			continue
		}
		if err := f.Lab.Cancel(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// of are the pull requests that a job is of.
func (f *Follower) of(ctx context.Context, job string) ([]*Pull, error) {
	texts, err := f.Record.PullsOf(ctx, job)
	var out []*Pull
	for _, text := range texts {
		p, err := f.load(text, nil)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, err
}

// pushed tests what was pushed to a branch.
func (f *Follower) pushed(ctx context.Context, r Repo, e github.Event) error {
	if !slices.Contains(r.Branches, e.Branch) {
		return nil
	}
	s, page, err := f.Tree.Pushed(ctx, r, e.Branch, e.Before, e.After)
	if err != nil {
		return err
	}
	p := &Pull{Repo: r.Name, Branch: e.Branch, Page: page}
	old, err := f.load(f.Record.Pull(ctx, p.name()))
	if err != nil {
		return err
	}
	if old != nil {
		p.Answers = old.Answers
		if old.Series.Head == s.Head {
			return nil
		}
		// An earlier push is tested to its end: its commits are in the branch.
		old.Push, old.Answers = old.Series.Head, nil
		if err := f.save(ctx, old); err != nil {
			return err
		}
		if err := f.tell(ctx, r, old); err != nil {
			return err
		}
	}
	p.Series = s
	return f.test(ctx, r, p, "", false)
}
