package config

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"time"
)

// GitHub is how pull requests come in, and who posts. The secrets are in files, or
// in the environment: KBISECT_GITHUB_TOKEN, KBISECT_GITHUB_APP_KEY,
// KBISECT_GITHUB_WEBHOOK_SECRET.
type GitHub struct {
	// URL is that of a GitHub Enterprise Server; github.com by default.
	URL string `yaml:"url"`
	// TokenFile has a token; without App.
	TokenFile string `yaml:"token_file"`
	// App is a GitHub App: it may post check runs, too.
	App GitHubApp `yaml:"app"`
	// Webhook takes what GitHub tells at URL/github/webhook.
	Webhook GitHubWebhook `yaml:"webhook"`
	// Poll is how often repositories are asked what has happened, in seconds; by
	// default 60 without a webhook and never with one.
	Poll *int `yaml:"poll"`
	// Pace is the time between two postings in milliseconds: a second by default,
	// as GitHub asks for.
	Pace *int `yaml:"pace"`
	// Repos are the repositories that are followed.
	Repos []GitHubRepo `yaml:"repos"`
}

// GitHubApp is an App as its page shows it.
type GitHubApp struct {
	ID      int64  `yaml:"id"`
	KeyFile string `yaml:"key_file"` // PEM
}

// GitHubWebhook is the other end of a webhook.
type GitHubWebhook struct {
	SecretFile string `yaml:"secret_file"`
}

// GitHubRepo is a repository that is followed.
type GitHubRepo struct {
	Name string `yaml:"name"` // OWNER/NAME
	// Repo is one of repos: a clone of it on this machine, so that only what is
	// new is fetched.
	Repo string `yaml:"repo"`
	// Fetch is where git fetches from instead of GitHub's own clone URL.
	Fetch string `yaml:"fetch"`
	// Profiles are those of the jobs, the first of all by default.
	Profiles []string `yaml:"profiles"`
	// Tests are globs; the profiles' tests by default.
	Tests []string `yaml:"tests"`
	// MaxCommits is how many are tested at most, the newest: 50 by default.
	MaxCommits int `yaml:"max_commits"`
	// Branches are those whose pushes are tested.
	Branches []string `yaml:"branches"`
	// Commands says who may give commands: write, the default, or admin.
	Commands string `yaml:"commands"`
	// Post is what is posted: statuses, checks, comment; all that the credentials
	// may by default.
	Post []string `yaml:"post"`
}

// defaultMaxCommits is what BPF CI takes, too.
const defaultMaxCommits = 50

// maxMaxCommits is the longest series there is.
const maxMaxCommits = 500

// defaultPoll is between two looks, defaultPace between two postings.
const (
	defaultPoll = 60
	defaultPace = 1000
)

var ownerName = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})/[A-Za-z0-9._-]{1,100}$`)

// Post may say.
const (
	PostStatuses = "statuses"
	PostChecks   = "checks"
	PostComment  = "comment"
)

// CommandsAdmin is who may give commands, besides write.
const CommandsAdmin = "admin"

// PollEvery is the time between two looks at a repository, 0 for never. webhook
// says whether there is one.
func (g *GitHub) PollEvery(webhook bool) time.Duration {
	switch {
	case g.Poll != nil:
		return time.Duration(*g.Poll) * time.Second
	case webhook:
		return 0
	}
	return defaultPoll * time.Second
}

// PostingPace is the time between two postings.
func (g *GitHub) PostingPace() time.Duration {
	if g.Pace != nil {
		return time.Duration(*g.Pace) * time.Millisecond
	}
	return defaultPace * time.Millisecond
}

func (c *Config) checkGitHub() error {
	g := c.GitHub
	if g == nil {
		return nil
	}
	if g.URL != "" {
		if u, err := url.Parse(g.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return &keyError{"$.github.url", fmt.Sprintf("%q is no URL such as https://github.example.org", g.URL)}
		}
	}
	switch {
	case g.TokenFile != "" && g.App.ID != 0:
		return &keyError{"$.github.token_file", "a token and an App exclude each other"}
	case g.App.ID < 0, g.App.ID == 0 && g.App.KeyFile != "":
		return &keyError{"$.github.app.id", fmt.Sprintf("%d: the App ID that the App's page shows", g.App.ID)}
	case g.Poll != nil && (*g.Poll < 0 || *g.Poll > 86400):
		return &keyError{"$.github.poll", fmt.Sprintf("%d: seconds, 0 for never", *g.Poll)}
	case g.Pace != nil && (*g.Pace < 0 || *g.Pace > 60000):
		return &keyError{"$.github.pace", fmt.Sprintf("%d: milliseconds", *g.Pace)}
	case len(g.Repos) == 0:
		return &keyError{"$.github.repos", "none: which repositories are followed?"}
	}
	seen := map[string]bool{}
	for i := range g.Repos {
		if err := c.checkGitHubRepo(i, seen); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) checkGitHubRepo(i int, seen map[string]bool) error {
	r := &c.GitHub.Repos[i]
	bad := func(key, format string, args ...any) error {
		return &keyError{fmt.Sprintf("$.github.repos[%d].%s", i, key), fmt.Sprintf(format, args...)}
	}
	if r.MaxCommits == 0 {
		r.MaxCommits = defaultMaxCommits
	}
	switch {
	case !ownerName.MatchString(r.Name):
		return bad("name", "%q: OWNER/NAME", r.Name)
	case seen[r.Name]:
		return bad("name", "%s is there twice", r.Name)
	case r.Repo == "":
		return bad("repo", "which of repos: is the clone of %s?", r.Name)
	case c.Repos[r.Repo] == "":
		return bad("repo", "%q is none of repos:", r.Repo)
	case r.MaxCommits < 1 || r.MaxCommits > maxMaxCommits:
		return bad("max_commits", "%d: 1 to %d", r.MaxCommits, maxMaxCommits)
	case !slices.Contains([]string{"", "write", CommandsAdmin}, r.Commands):
		return bad("commands", "%q: write or admin", r.Commands)
	}
	for _, p := range r.Post {
		if !slices.Contains([]string{PostStatuses, PostChecks, PostComment}, p) {
			return bad("post", "%q: statuses, checks or comment", p)
		}
	}
	seen[r.Name] = true
	return nil
}
