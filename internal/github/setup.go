package github

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	gh "github.com/google/go-github/v57/github"
)

// Needs are the permissions and events of an App, and why. Source:
// docs.github.com/rest/authentication/permissions-required-for-github-apps.
var (
	needs = []struct{ permission, level, why string }{
		{"checks", "write", "check runs with annotations"},
		{"contents", "read", "fetching commits"},
		{"issues", "write", "comments, and reactions to them"},
		{"metadata", "read", "who may write"},
		{"pull_requests", "write", "pull requests, and comments on them"},
		{"statuses", "write", "commit statuses"},
	}
	events = []string{"check_run", "check_suite", "issue_comment", "pull_request", "push"}
)

// Manifest is what creates the App at GitHub in one step: see
// docs.github.com/apps/sharing-github-apps/registering-a-github-app-from-a-manifest.
// url is that of the service.
func Manifest(url string) map[string]any {
	permissions := map[string]string{}
	for _, n := range needs {
		permissions[n.permission] = n.level
	}
	return map[string]any{
		"name":                "kbisect",
		"description":         "Builds and boots every commit of a pull request of a kernel tree, and runs its memory management tests.",
		"url":                 url,
		"public":              false,
		"hook_attributes":     map[string]any{"url": strings.TrimSuffix(url, "/") + "/github/webhook", "active": true},
		"default_permissions": permissions,
		"default_events":      events,
	}
}

// Finding is one thing that was looked at.
type Finding struct {
	OK   bool
	What string // what it is, and what to do if it is not
}

// CheckSetup looks at what the credentials may do in repositories. An error says
// that GitHub could not be asked.
func (c *Client) CheckSetup(ctx context.Context, repos []string, checks bool) ([]Finding, error) {
	var out []Finding
	add := func(ok bool, format string, args ...any) {
		out = append(out, Finding{ok, fmt.Sprintf(format, args...)})
	}
	if c.app != nil {
		app, _, err := c.app.Apps.Get(ctx, "")
		if err != nil {
			return out, fmt.Errorf("the App cannot log in: is it the right key of App %d? %w", c.cred.AppID, judge(err))
		}
		add(true, "App %s (%d) logs in", app.GetSlug(), app.GetID())
		for _, e := range events {
			if !slices.Contains(app.Events, e) {
				add(false, "the App is not told of %s: subscribe to that event on its page, or let kbisect poll", e)
			}
		}
	}
	for _, repo := range repos {
		s, err := c.on(ctx, repo)
		if err != nil {
			add(false, "%s: %v", repo, judge(err))
			continue
		}
		if c.app == nil {
			c.checkToken(ctx, s, repo, checks, add)
			continue
		}
		owner, name := split(repo)
		inst, _, err := c.app.Apps.FindRepositoryInstallation(ctx, owner, name)
		if err != nil {
			add(false, "%s: %v", repo, judge(err))
			continue
		}
		have := granted(inst.GetPermissions())
		missing := 0
		for _, n := range needs {
			if !enough(have[n.permission], n.level) {
				missing++
				add(false, "%s: the installation lacks %s: %s, which is for %s; grant it on the App's page and accept it in the installation", repo, n.permission, n.level, n.why)
			}
		}
		if inst.SuspendedAt != nil {
			missing++
			add(false, "%s: the installation is suspended", repo)
		}
		if missing == 0 {
			add(true, "%s: all permissions are there", repo)
		}
	}
	return out, nil
}

// checkToken looks at what a token may do.
func (c *Client) checkToken(ctx context.Context, s *session, repo string, checks bool, add func(bool, string, ...any)) {
	owner, name := split(repo)
	r, resp, err := s.Repositories.Get(ctx, owner, name)
	if notFound(err) {
		add(false, "%s: not there, or the token may not see it", repo)
		return
	}
	if err != nil {
		add(false, "%s: %v", repo, judge(err))
		return
	}
	if checks && !c.App() {
		add(false, "%s: check runs are for Apps; a token posts statuses and comments", repo)
	}
	switch push := r.GetPermissions()["push"]; {
	case push:
		add(true, "%s: the token's owner may write", repo)
	default:
		add(false, "%s: the token's owner may not write to it, and so not post statuses nor ask who may", repo)
	}
	scopes, classic := resp.Header[http.CanonicalHeaderKey("X-OAuth-Scopes")]
	if !classic || len(scopes) == 0 || scopes[0] == "" {
		return // a fine-grained one does not tell
	}
	have := strings.Split(strings.ReplaceAll(scopes[0], " ", ""), ",")
	if !slices.Contains(have, "repo") && (r.GetPrivate() || !slices.Contains(have, "public_repo")) {
		add(false, "%s: the token has the scopes %s; it needs repo (or public_repo for a public repository)", repo, strings.Join(have, ", "))
	}
}

// granted are the permissions of an installation that matter here.
func granted(p *gh.InstallationPermissions) map[string]string {
	have := map[string]string{
		"checks": p.GetChecks(), "contents": p.GetContents(), "issues": p.GetIssues(), "metadata": p.GetMetadata(),
		"pull_requests": p.GetPullRequests(), "statuses": p.GetStatuses(),
	}
	maps.DeleteFunc(have, func(_, level string) bool { return level == "" })
	return have
}

// enough says whether a level includes another one.
func enough(have, want string) bool {
	order := []string{"", "read", "write", "admin"}
	return slices.Index(order, have) >= slices.Index(order, want)
}
