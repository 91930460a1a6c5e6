package github

import (
	"context"
	"slices"
	"strconv"
	"strings"

	gh "github.com/google/go-github/v57/github"

	"github.com/kernel-bisect/kbisect/internal/outbox"
	"github.com/kernel-bisect/kbisect/internal/posting"
)

var _ outbox.Forge = (*Client)(nil)

// session is on, with what it cannot be judged by the outbox's rules: an App that
// is not installed today may be so tomorrow.
func (c *Client) session(ctx context.Context, repo string) (*session, string, string, error) {
	s, err := c.on(ctx, repo)
	owner, name := split(repo)
	return s, owner, name, err
}

// PostStatus implements outbox.Forge.
func (c *Client) PostStatus(ctx context.Context, repo string, st posting.Status, look bool) error {
	s, owner, name, err := c.session(ctx, repo)
	if err != nil {
		return err
	}
	if look {
		there, err := c.statusThere(ctx, s, owner, name, st)
		if err != nil || there {
			return c.judge(repo, err)
		}
	}
	_, _, err = s.Repositories.CreateStatus(ctx, owner, name, st.SHA, &gh.RepoStatus{
		State: &st.State, Context: &st.Context, Description: &st.Description, TargetURL: some(st.URL),
	})
	return c.judge(repo, err)
}

// some is a text, nil for none: an empty URL is refused.
func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// judge is judge, and drops a session whose installation seems to be gone.
func (c *Client) judge(repo string, err error) error {
	if err == nil {
		return nil
	}
	if strings.Contains(err.Error(), "could not refresh installation") || strings.Contains(err.Error(), " 401 ") {
		c.forget(repo)
	}
	return judge(err)
}

// statusThere says whether the newest status of the context says just that.
func (c *Client) statusThere(ctx context.Context, s *session, owner, name string, st posting.Status) (bool, error) {
	o := &gh.ListOptions{PerPage: 100}
	for {
		list, resp, err := s.Repositories.ListStatuses(ctx, owner, name, st.SHA, o)
		if err != nil {
			return false, err
		}
		for _, x := range list { // the newest first
			if strings.EqualFold(x.GetContext(), st.Context) {
				return x.GetState() == st.State && x.GetDescription() == st.Description, nil
			}
		}
		if resp.NextPage == 0 {
			return false, nil
		}
		o.Page = resp.NextPage
	}
}

const completed = "completed"

// PostCheck implements outbox.Forge. A check run is changed in place while that
// does no harm: GitHub adds annotations to those it has, and what was completed
// stays so, so that else there is a new one of the same name, which takes the
// place of the old one on every page.
func (c *Client) PostCheck(ctx context.Context, repo string, ch posting.Check, remote string, look bool) (string, error) {
	s, owner, name, err := c.session(ctx, repo)
	if err != nil {
		return "", err
	}
	there, err := c.checkThere(ctx, s, owner, name, ch, remote, look)
	if err != nil {
		return "", c.judge(repo, err)
	}
	out := &gh.CheckRunOutput{Title: &ch.Title, Summary: &ch.Summary}
	for _, a := range ch.Annotations {
		out.Annotations = append(out.Annotations, &gh.CheckRunAnnotation{
			Path: &a.Path, StartLine: &a.Start, EndLine: &a.End, AnnotationLevel: &a.Level, Title: some(a.Title), Message: &a.Message,
		})
	}
	var actions []*gh.CheckRunAction
	for _, a := range ch.Actions {
		actions = append(actions, &gh.CheckRunAction{Identifier: a.ID, Label: a.Label, Description: a.Description})
	}
	same := there != nil && there.GetOutput().GetAnnotationsCount() == len(ch.Annotations)
	switch {
	case same && look && shows(there, ch):
		return strconv.FormatInt(there.GetID(), 10), nil
	case there != nil && (ch.Status == completed || there.GetStatus() != completed) && (same || there.GetOutput().GetAnnotationsCount() == 0):
		if same {
			out.Annotations = nil
		}
		run, _, err := s.Checks.UpdateCheckRun(ctx, owner, name, there.GetID(), gh.UpdateCheckRunOptions{
			Name: ch.Name, DetailsURL: some(ch.URL), ExternalID: &ch.Job, Status: &ch.Status, Conclusion: some(ch.Conclusion), Output: out, Actions: actions,
		})
		return strconv.FormatInt(run.GetID(), 10), c.judge(repo, err)
	}
	run, _, err := s.Checks.CreateCheckRun(ctx, owner, name, gh.CreateCheckRunOptions{
		Name: ch.Name, HeadSHA: ch.SHA, DetailsURL: some(ch.URL), ExternalID: &ch.Job, Status: &ch.Status, Conclusion: some(ch.Conclusion), Output: out, Actions: actions,
	})
	return strconv.FormatInt(run.GetID(), 10), c.judge(repo, err)
}

// shows says whether a check run says what is wanted.
func shows(there *gh.CheckRun, ch posting.Check) bool {
	return there.GetStatus() == ch.Status && there.GetConclusion() == ch.Conclusion &&
		there.GetOutput().GetTitle() == ch.Title && there.GetOutput().GetSummary() == ch.Summary
}

// checkThere finds the check run that is there, nil for none: the newest of that
// name and job where an attempt may have come through, else the known one.
func (c *Client) checkThere(ctx context.Context, s *session, owner, name string, ch posting.Check, remote string, look bool) (*gh.CheckRun, error) {
	if look {
		o := &gh.ListCheckRunsOptions{CheckName: &ch.Name, Filter: gh.String("latest"), ListOptions: gh.ListOptions{PerPage: 100}}
		list, _, err := s.Checks.ListCheckRunsForRef(ctx, owner, name, ch.SHA, o)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(list.CheckRuns, func(r *gh.CheckRun) bool { return r.GetName() == ch.Name && r.GetExternalID() == ch.Job })
		if i >= 0 {
			return list.CheckRuns[i], nil
		}
	}
	id, _ := strconv.ParseInt(remote, 10, 64)
	if id == 0 {
		return nil, nil //nolint:nilnil // none, and nothing is wrong
	}
	run, _, err := s.Checks.GetCheckRun(ctx, owner, name, id)
	if notFound(err) { // gone
		run, err = nil, nil
	}
	return run, err
}

// PostComment implements outbox.Forge.
func (c *Client) PostComment(ctx context.Context, repo string, m outbox.Comment, remote string, _ bool) (string, error) {
	s, owner, name, err := c.session(ctx, repo)
	if err != nil {
		return "", err
	}
	marker := "<!-- kbisect " + m.Marker + " -->"
	body := marker + "\n" + m.Body
	id, _ := strconv.ParseInt(remote, 10, 64)
	if id == 0 { // it may be there all the same: after a crash, or from another record
		there, err := c.commentThere(ctx, s, owner, name, m.Number, marker)
		if err != nil {
			return "", c.judge(repo, err)
		}
		if there.GetBody() == body {
			return strconv.FormatInt(there.GetID(), 10), nil
		}
		id = there.GetID()
	}
	if id != 0 {
		_, _, err := s.Issues.EditComment(ctx, owner, name, id, &gh.IssueComment{Body: &body})
		if !notFound(err) { // somebody has deleted it
			return strconv.FormatInt(id, 10), c.judge(repo, err)
		}
	}
	made, _, err := s.Issues.CreateComment(ctx, owner, name, m.Number, &gh.IssueComment{Body: &body})
	return strconv.FormatInt(made.GetID(), 10), c.judge(repo, err)
}

// commentThere finds our comment with a marker, nil for none. What others wrote
// is not ours, whatever is in it.
func (c *Client) commentThere(ctx context.Context, s *session, owner, name string, number int, marker string) (*gh.IssueComment, error) {
	self, err := c.login(ctx, s)
	if err != nil {
		return nil, err
	}
	o := &gh.IssueListCommentsOptions{ListOptions: gh.ListOptions{PerPage: 100}}
	for {
		list, resp, err := s.Issues.ListComments(ctx, owner, name, number, o)
		if err != nil {
			return nil, err
		}
		for _, x := range list {
			if strings.HasPrefix(x.GetBody(), marker) && strings.EqualFold(x.GetUser().GetLogin(), self) {
				return x, nil
			}
		}
		if resp.NextPage == 0 {
			return nil, nil //nolint:nilnil // none, and nothing is wrong
		}
		o.Page = resp.NextPage
	}
}

// React implements outbox.Forge. GitHub keeps one reaction of a kind from one
// hand.
func (c *Client) React(ctx context.Context, repo string, r outbox.Reaction) error {
	s, owner, name, err := c.session(ctx, repo)
	if err != nil {
		return err
	}
	_, _, err = s.Reactions.CreateIssueCommentReaction(ctx, owner, name, r.Comment, r.Content)
	return c.judge(repo, err)
}
