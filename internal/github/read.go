package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	gh "github.com/google/go-github/v57/github"
)

// Pull is a pull request as it is now.
type Pull struct {
	Number   int
	Open     bool
	Head     string // object id
	Base     string // of the branch it is meant for, as it is now
	BaseRef  string // that branch
	CloneURL string // of the repository it is meant for; its commits are there, too
	Page     string // of that repository
	Author   string
	Fork     bool // its commits come from another repository
	// Pushed is when something was last pushed to the repository of its commits, by
	// GitHub's clock; zero where that is gone, and nothing can be.
	Pushed time.Time
	// Stranger says that its author has had nothing merged here, nor been asked
	// to take part.
	Stranger bool
}

// ErrNoPull says that there is no such pull request, or none that we may see.
var ErrNoPull = errors.New("no such pull request")

// Pull asks for a pull request.
func (c *Client) Pull(ctx context.Context, repo string, number int) (Pull, error) {
	s, err := c.on(ctx, repo)
	if err != nil {
		return Pull{}, err
	}
	owner, name := split(repo)
	p, _, err := s.PullRequests.Get(ctx, owner, name, number)
	if notFound(err) {
		return Pull{}, fmt.Errorf("%w: %s#%d (or the credentials may not see it)", ErrNoPull, repo, number)
	}
	if err != nil {
		return Pull{}, c.judge(repo, err)
	}
	out := Pull{
		Number: number, Open: p.GetState() == "open", Head: p.GetHead().GetSHA(), Base: p.GetBase().GetSHA(), BaseRef: p.GetBase().GetRef(),
		CloneURL: p.GetBase().GetRepo().GetCloneURL(), Page: p.GetBase().GetRepo().GetHTMLURL(), Author: p.GetUser().GetLogin(),
		// The repository of a head that was deleted is not told of.
		Fork:     p.GetHead().GetRepo() == nil || p.GetHead().GetRepo().GetFullName() != p.GetBase().GetRepo().GetFullName(),
		Stranger: slices.Contains([]string{"FIRST_TIMER", "FIRST_TIME_CONTRIBUTOR", "NONE", "MANNEQUIN", ""}, p.GetAuthorAssociation()),
	}
	out.Pushed = p.GetHead().GetRepo().GetPushedAt().UTC()
	if out.Head == "" || out.Base == "" {
		return Pull{}, fmt.Errorf("%s#%d: GitHub's answer has no commits", repo, number)
	}
	return out, nil
}

// MayWrite says whether somebody may write to a repository; admin asks for more.
func (c *Client) MayWrite(ctx context.Context, repo, user string, admin bool) (bool, error) {
	s, err := c.on(ctx, repo)
	if err != nil {
		return false, err
	}
	owner, name := split(repo)
	l, _, err := s.Repositories.GetPermissionLevel(ctx, owner, name, user)
	if notFound(err) { // an account that is gone
		return false, nil
	}
	if err != nil {
		return false, c.judge(repo, err)
	}
	p := l.GetPermission() // admin, write, read or none: others count as the next lower one
	return p == "admin" || p == "write" && !admin, nil
}

// Cursor is how far a repository has been read, for the next time.
type Cursor struct {
	Since    time.Time         `json:"since"`
	Branches map[string]string `json:"branches,omitempty"` // head of each by its name

	etags map[string]string // by path; forgotten with the process
}

// Forget lets everything be read again: what was read did not arrive.
func (c *Cursor) Forget() { clear(c.etags) }

// Poll reads what has happened since the cursor and moves it. A repository that
// is read for the first time has no past: what is open already is left alone
// until somebody does something with it. What did not change costs nothing of
// the rate limit.
// Source: docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api#use-conditional-requests-if-appropriate.
func (c *Client) Poll(ctx context.Context, repo string, branches []string, cur *Cursor) ([]Event, error) {
	s, err := c.on(ctx, repo)
	if err != nil {
		return nil, err
	}
	if cur.etags == nil {
		cur.etags = map[string]string{}
	}
	p := &poll{client: c, session: s, repo: repo, cursor: cur, latest: cur.Since}
	if cur.Since.IsZero() {
		p.latest = time.Now().UTC().Truncate(time.Second)
	} else if err := p.read(ctx); err != nil {
		cur.Forget()
		return nil, err
	}
	for _, b := range branches {
		if err := p.branch(ctx, b); err != nil {
			cur.Forget()
			return nil, err
		}
	}
	cur.Since = p.latest
	return p.events, nil
}

// poll is one round.
type poll struct {
	client  *Client
	session *session
	repo    string
	cursor  *Cursor
	latest  time.Time
	events  []Event
}

var errNone = errors.New("not there")

// get reads a page if it has changed since the last time.
func (p *poll) get(ctx context.Context, path string, into any) (fresh bool, err error) {
	req, err := p.session.NewRequest(http.MethodGet, path, nil)
	if err != nil {
		return false, err
	}
	if tag := p.cursor.etags[path]; tag != "" {
		req.Header.Set("If-None-Match", tag)
	}
	resp, err := p.session.Do(ctx, req, into)
	if resp != nil && resp.StatusCode == http.StatusNotModified {
		return false, nil
	}
	if notFound(err) {
		return false, fmt.Errorf("%w: %w", errNone, p.client.judge(p.repo, err))
	}
	if err != nil {
		return false, p.client.judge(p.repo, err)
	}
	if len(p.cursor.etags) > 64 { // paths have times in them
		clear(p.cursor.etags)
	}
	p.cursor.etags[path] = resp.Header.Get("ETag")
	return true, nil
}

// perPage is the most that GitHub gives at once, maxPages bounds a round.
const (
	perPage  = 100
	maxPages = 10
)

func (p *poll) read(ctx context.Context) error {
	var seen []Event
	for page := 1; page <= maxPages; page++ {
		var pulls []*gh.PullRequest
		fresh, err := p.get(ctx, fmt.Sprintf("repos/%s/pulls?state=all&sort=updated&direction=desc&per_page=%d&page=%d", p.repo, perPage, page), &pulls)
		if err != nil {
			return err
		}
		older := !fresh || len(pulls) < perPage
		for _, x := range pulls {
			at := x.GetUpdatedAt().UTC()
			if at.Before(p.cursor.Since) {
				older = true
				break
			}
			p.saw(at)
			seen = append(seen, Event{Kind: PullChanged, Repo: p.repo, Number: x.GetNumber(),
				id: fmt.Sprintf("pull %s#%d %s %d", p.repo, x.GetNumber(), x.GetHead().GetSHA(), at.Unix())})
		}
		if older {
			break
		}
	}
	slices.Reverse(seen) // the oldest first
	p.events = append(p.events, seen...)
	since := url.QueryEscape(p.cursor.Since.Format(time.RFC3339))
	for page := 1; page <= maxPages; page++ {
		var comments []*gh.IssueComment
		fresh, err := p.get(ctx, fmt.Sprintf("repos/%s/issues/comments?sort=updated&direction=asc&since=%s&per_page=%d&page=%d", p.repo, since, perPage, page), &comments)
		if err != nil {
			return err
		}
		for _, x := range comments {
			p.saw(x.GetUpdatedAt().UTC())
			if e, ok := commented(p.repo, comment{x.GetID(), x.GetBody(), account{x.GetUser().GetLogin()}, x.GetCreatedAt().UTC().Format(time.RFC3339)}, number(x.GetIssueURL())); ok {
				p.events = append(p.events, e)
			}
		}
		if !fresh || len(comments) < perPage {
			break
		}
	}
	return nil
}

// saw moves the cursor to what was seen: GitHub's clock counts, not ours.
func (p *poll) saw(at time.Time) {
	if at.After(p.latest) {
		p.latest = at
	}
}

func (p *poll) branch(ctx context.Context, name string) error {
	var ref gh.Reference
	parts := strings.Split(name, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	fresh, err := p.get(ctx, "repos/"+p.repo+"/git/ref/heads/"+strings.Join(parts, "/"), &ref)
	if errors.Is(err, errNone) { // renamed, or not there yet; the others go on
		delete(p.cursor.Branches, name)
		return nil
	}
	if err != nil || !fresh {
		return err
	}
	before, after := p.cursor.Branches[name], ref.GetObject().GetSHA()
	if p.cursor.Branches == nil {
		p.cursor.Branches = map[string]string{}
	}
	p.cursor.Branches[name] = after
	if before != "" && before != after {
		p.events = append(p.events, Event{Kind: Pushed, Repo: p.repo, Branch: name, Before: before, After: after, id: "push " + p.repo + " " + name + " " + after})
	}
	return nil
}

// number is the last part of an issue's URL.
func number(u string) int {
	x, err := url.Parse(u)
	if err != nil {
		return 0
	}
	_, last := cutLast(x.Path, '/')
	n, _ := strconv.Atoi(last)
	return n
}
