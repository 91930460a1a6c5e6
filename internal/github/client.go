// Package github talks to GitHub: it reads pull requests and what people write
// there, checks and reads webhooks, and posts statuses, check runs and comments.
// It must not know why something is asked or posted.
package github

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/bradleyfalzon/ghinstallation/v2"
	gh "github.com/google/go-github/v57/github"
)

// Credentials are an App's or a token's.
type Credentials struct {
	Token string // "" for an App
	AppID int64
	Key   []byte // of the App, PEM
}

// Options are what a client needs.
type Options struct {
	// URL is that of a GitHub Enterprise Server: https://github.example.org. Its
	// API is below /api/v3/. "" is github.com.
	URL string
	// API is the whole base URL of the API instead, as GitHub's Actions have it in
	// GITHUB_API_URL.
	API string
	Credentials
	// Anonymous is without credentials, for what everybody may read.
	Anonymous bool
}

// timeout bounds a request: GitHub ends its own after 10 seconds.
// Source: docs.github.com/rest/using-the-rest-api/troubleshooting-the-rest-api.
const timeout = 30 * time.Second

// Client is one identity at one GitHub.
type Client struct {
	api  *url.URL
	cred Credentials
	app  *gh.Client // as the App itself; nil with a token

	mu      sync.Mutex
	clients map[string]*session // by OWNER/NAME; by "" with a token
	self    string              // login that comments are written under
}

// session is a client with the rights on one repository.
type session struct {
	*gh.Client
	token func(context.Context) (string, error)
}

// New makes a client. It asks nothing of GitHub yet.
func New(o Options) (*Client, error) {
	c := &Client{cred: o.Credentials, clients: map[string]*session{}}
	base := "https://api.github.com/"
	switch {
	case o.API != "":
		base = strings.TrimSuffix(o.API, "/") + "/"
	case o.URL != "" && strings.TrimSuffix(o.URL, "/") != "https://github.com":
		base = strings.TrimSuffix(o.URL, "/") + "/api/v3/"
	}
	var err error
	if c.api, err = url.Parse(base); err != nil || c.api.Host == "" || c.api.Scheme != "https" && c.api.Scheme != "http" {
		return nil, fmt.Errorf("%q is no URL of a GitHub", base)
	}
	switch {
	case o.Anonymous:
		c.clients[""] = &session{c.client(nil), func(context.Context) (string, error) { return "", nil }}
		return c, nil
	case o.Token == "" && o.AppID == 0:
		return nil, errors.New("neither a token nor an App")
	case o.Token != "":
		token := strings.TrimSpace(o.Token)
		c.clients[""] = &session{c.client(nil).WithAuthToken(token), func(context.Context) (string, error) { return token, nil }}
		c.clients[""].BaseURL = c.api
		return c, nil
	}
	t, err := c.asApp()
	if err != nil {
		return nil, fmt.Errorf("the App's key: %w", err)
	}
	c.app = c.client(t)
	return c, nil
}

// client is a client of the library. It refuses by itself what would go against
// a limit that GitHub has told of. No retries of a library: what may be sent
// again is known to the outbox only (go-github-ratelimit v2.0.2 repeats a POST
// without its body).
func (c *Client) client(t http.RoundTripper) *gh.Client {
	g := gh.NewClient(&http.Client{Transport: t, Timeout: timeout})
	g.BaseURL = c.api
	g.UserAgent = "kbisect"
	return g
}

func (c *Client) asApp() (*ghinstallation.AppsTransport, error) {
	t, err := ghinstallation.NewAppsTransport(http.DefaultTransport, c.cred.AppID, c.cred.Key)
	if err == nil {
		t.BaseURL = strings.TrimSuffix(c.api.String(), "/")
	}
	return t, err
}

// App says whether it is an App, or a token that an App was given, such as that
// of GitHub's Actions: only these may post check runs.
// Source: docs.github.com/authentication/keeping-your-account-and-data-secure/about-authentication-to-github#githubs-token-formats.
func (c *Client) App() bool { return c.app != nil || strings.HasPrefix(c.cred.Token, "ghs_") }

var repoForm = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})/[A-Za-z0-9._-]{1,100}$`)

// RepoName says whether a text may be OWNER/NAME.
func RepoName(s string) bool { return repoForm.MatchString(s) }

func split(repo string) (owner, name string) {
	owner, name, _ = strings.Cut(repo, "/")
	return owner, name
}

// on is the session for a repository.
func (c *Client) on(ctx context.Context, repo string) (*session, error) {
	if !RepoName(repo) {
		return nil, fmt.Errorf("%q is no repository: OWNER/NAME", repo)
	}
	key := repo
	if c.app == nil {
		key = ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.clients[key]; s != nil {
		return s, nil
	}
	owner, name := split(repo)
	inst, _, err := c.app.Apps.FindRepositoryInstallation(ctx, owner, name)
	if err != nil {
		return nil, fmt.Errorf("the App is not installed on %s: %w", repo, err)
	}
	at, err := c.asApp()
	if err != nil {
		return nil, err
	}
	t := ghinstallation.NewFromAppsTransport(at, inst.GetID())
	s := &session{c.client(t), t.Token}
	c.clients[key] = s
	return s, nil
}

// forget drops the session of a repository: its installation is gone, and there
// may be a new one.
func (c *Client) forget(repo string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.app != nil {
		delete(c.clients, repo)
	}
}

// Authorization is the header with which git fetches from a repository.
func (c *Client) Authorization(ctx context.Context, repo string) (string, error) {
	s, err := c.on(ctx, repo)
	if err != nil {
		return "", err
	}
	token, err := s.token(ctx)
	if err != nil {
		c.forget(repo)
		return "", fmt.Errorf("no token for %s: %w", repo, err)
	}
	if token == "" {
		return "", nil
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte("x-access-token:"+token)), nil
}

// login is the name under which our comments stand: no other's is ever edited.
func (c *Client) login(ctx context.Context, s *session) (string, error) {
	c.mu.Lock()
	known := c.self
	c.mu.Unlock()
	if known != "" {
		return known, nil
	}
	var name string
	switch {
	case c.app != nil:
		app, _, err := c.app.Apps.Get(ctx, "")
		if err != nil {
			return "", err
		}
		name = app.GetSlug() + "[bot]"
	case c.App(): // it may not ask who it is
		name = "github-actions[bot]"
	default:
		u, _, err := s.Users.Get(ctx, "")
		if err != nil {
			return "", err
		}
		name = u.GetLogin()
	}
	c.mu.Lock()
	c.self = name
	c.mu.Unlock()
	return name, nil
}

// URLs are where git fetches a repository from, and its page.
func (c *Client) URLs(repo string) (clone, page string) {
	host := c.api.Host
	if host == "api.github.com" {
		host = "github.com"
	}
	page = c.api.Scheme + "://" + host + "/" + repo
	return page + ".git", page
}
