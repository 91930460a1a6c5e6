// Package githubtest is a GitHub in memory, for tests. It holds what it is asked
// and what it answers against GitHub's own description of its API, and fails as
// it is told. It must not know anything of kbisect.
package githubtest

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Options say who may log in.
type Options struct {
	AppID       int64
	AppKey      *rsa.PublicKey
	Permissions map[string]string // of the App's installation; nil for all that are needed
	Events      []string          // that the App is told of
	Token       string            // a personal token
	Login       string            // of the token's owner
	Scopes      string            // X-OAuth-Scopes
	Listen      string            // a fixed address; "" for any
}

// Server is a GitHub. Its API is below URL.
type Server struct {
	URL string

	t        testing.TB
	o        Options
	contract *contract // nil without the description

	mu       sync.Mutex
	repos    map[string]*repo
	tokens   map[string]time.Time // of installations, and when they end
	revoked  bool                 // the installation
	faults   []*Fault
	requests []Request
	problems []string
	clock    time.Time // of GitHub: each change has its own second
	lastID   int64
	hook     hook
	hooks    sync.WaitGroup
}

type repo struct {
	name        string
	branches    map[string]string
	known       map[string]bool // commits
	pulls       map[int]*Pull
	updated     map[int]time.Time
	comments    []*Comment
	statuses    []Status
	checks      []*Check
	permissions map[string]string
	cloneURL    string
}

// Pull is a pull request.
type Pull struct {
	Number      int
	Head, Base  string   // object ids
	Commits     []string // that statuses may be posted on, the head among them
	BaseRef     string
	Author      string
	Association string // CONTRIBUTOR, FIRST_TIME_CONTRIBUTOR...
	Fork        bool
	Closed      bool

	pushed time.Time // to its fork
}

// Comment is a comment on an issue or a pull request.
type Comment struct {
	ID               int64
	Number           int
	User, Body       string
	Association      string
	Edits            int // how often its text changed
	Created, Updated time.Time
	Reactions        []string // content, by whom
}

// Status is a commit status, as posted.
type Status struct {
	ID                                        int64
	SHA, State, Context, Description, URL, By string
}

// Check is a check run as it is.
type Check struct {
	ID                                                                    int64
	SHA, Name, Status, Conclusion, ExternalID, DetailsURL, Title, Summary string
	Annotations                                                           []Annotation
	Actions                                                               []string
}

// Annotation is a remark of a check run.
type Annotation struct {
	Path, Level, Title, Message string
	Start, End                  int
}

// State is what a repository shows.
type State struct {
	Statuses []Status
	Checks   []Check
	Comments []Comment
}

// Latest is the newest status of a commit and context, "" for none, with its
// description.
func (s State) Latest(sha, context string) (state, description string) {
	for _, x := range s.Statuses {
		if x.SHA == sha && x.Context == context {
			state, description = x.State, x.Description
		}
	}
	return state, description
}

// Request is one that was made.
type Request struct {
	Method, Path string
	Code         int
}

// New starts a GitHub that ends with the test. What goes against the description
// fails the test then.
func New(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{t: t, o: o, contract: load(t), repos: map[string]*repo{}, tokens: map[string]time.Time{}, clock: time.Now().UTC().Truncate(time.Second), lastID: 1000}
	if s.o.Login == "" {
		s.o.Login = "kbisect-bot"
	}
	srv := httptest.NewUnstartedServer(s.handler())
	if o.Listen != "" {
		l, err := net.Listen("tcp", o.Listen)
		if err != nil {
			t.Fatal(err)
		}
		_ = srv.Listener.Close()
		srv.Listener = l
	}
	srv.Start()
	s.URL = srv.URL
	t.Cleanup(func() {
		s.hooks.Wait()
		srv.Close()
		for _, p := range s.Problems() {
			t.Errorf("against GitHub's description: %s", p)
		}
	})
	return s
}

// Problems are the violations of the description so far.
func (s *Server) Problems() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.problems)
}

// Requests are those that were made so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// AddRepo makes a repository. cloneURL is where git gets it.
func (s *Server) AddRepo(name, cloneURL string, branches map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repos[name] = &repo{name: name, branches: maps.Clone(branches), known: map[string]bool{}, pulls: map[int]*Pull{}, updated: map[int]time.Time{}, permissions: map[string]string{}, cloneURL: cloneURL}
}

// tick is GitHub's clock after something has changed.
func (s *Server) tick() time.Time {
	now := time.Now().UTC().Truncate(time.Second)
	if now.After(s.clock) {
		s.clock = now
	} else {
		s.clock = s.clock.Add(time.Second)
	}
	return s.clock
}

func (s *Server) id() int64 {
	s.lastID++
	return s.lastID
}

// OpenPull opens a pull request and returns its number.
func (s *Server) OpenPull(name string, p Pull) int {
	s.mu.Lock()
	r := s.repos[name]
	p.Number = len(r.pulls) + 1
	if p.BaseRef == "" {
		p.BaseRef = "main"
	}
	if p.Association == "" {
		p.Association = "CONTRIBUTOR"
	}
	r.pulls[p.Number] = &p
	s.pushed(r, &p)
	s.mu.Unlock()
	s.tell(name, "pull_request", "opened", p.Number, nil)
	return p.Number
}

func (s *Server) pushed(r *repo, p *Pull) {
	r.known[p.Head] = true
	for _, c := range p.Commits {
		r.known[c] = true
	}
	p.pushed = s.tick()
	r.updated[p.Number] = p.pushed
}

// PushPull gives a pull request other commits.
func (s *Server) PushPull(name string, n int, head string, commits []string) {
	s.mu.Lock()
	r := s.repos[name]
	p := r.pulls[n]
	p.Head, p.Commits = head, commits
	s.pushed(r, p)
	s.mu.Unlock()
	s.tell(name, "pull_request", "synchronize", n, nil)
}

// ClosePull closes a pull request.
func (s *Server) ClosePull(name string, n int) { s.setClosed(name, n, true, "closed") }

// ReopenPull opens it again.
func (s *Server) ReopenPull(name string, n int) { s.setClosed(name, n, false, "reopened") }

func (s *Server) setClosed(name string, n int, closed bool, action string) {
	s.mu.Lock()
	r := s.repos[name]
	r.pulls[n].Closed = closed
	r.updated[n] = s.tick()
	s.mu.Unlock()
	s.tell(name, "pull_request", action, n, nil)
}

// Push moves a branch.
func (s *Server) Push(name, branch, after string, commits []string) {
	s.mu.Lock()
	r := s.repos[name]
	before := r.branches[branch]
	r.branches[branch] = after
	for _, c := range append(commits, after) {
		r.known[c] = true
	}
	s.tick()
	s.mu.Unlock()
	if before == "" {
		before = strings.Repeat("0", 40)
	}
	s.tell(name, "push", "", 0, map[string]any{"ref": "refs/heads/" + branch, "before": before, "after": after, "created": false, "deleted": false, "forced": false})
}

// AddComment is a comment of somebody.
func (s *Server) AddComment(name string, n int, user, body string) int64 {
	s.mu.Lock()
	r := s.repos[name]
	at := s.tick()
	c := &Comment{ID: s.id(), Number: n, User: user, Body: body, Association: "MEMBER", Created: at, Updated: at}
	r.comments = append(r.comments, c)
	if r.pulls[n] != nil {
		r.updated[n] = at
	}
	extra := map[string]any{"comment": s.comment(r, c), "issue": s.issue(r, n)}
	s.mu.Unlock()
	s.tell(name, "issue_comment", "created", 0, extra)
	return c.ID
}

// DeleteComment deletes one.
func (s *Server) DeleteComment(name string, id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.repos[name]
	r.comments = slices.DeleteFunc(r.comments, func(c *Comment) bool { return c.ID == id })
}

// Press is somebody at a button of a check run; "" is Re-run of GitHub's own.
func (s *Server) Press(name string, id int64, user, button string) {
	s.mu.Lock()
	var run any
	for _, c := range s.repos[name].checks {
		if c.ID == id {
			run = s.check(c)
		}
	}
	s.mu.Unlock()
	extra := map[string]any{"check_run": run, "sender": map[string]any{"login": user}}
	if button == "" {
		s.tell(name, "check_run", "rerequested", 0, extra)
		return
	}
	extra["requested_action"] = map[string]any{"identifier": button}
	s.tell(name, "check_run", "requested_action", 0, extra)
}

// SetPermission says what somebody may do: admin, write, read, none.
func (s *Server) SetPermission(name, user, permission string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repos[name].permissions[user] = permission
}

// Revoke takes the App's installation away, or gives it back.
func (s *Server) Revoke(revoked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked = revoked
	clear(s.tokens)
}

// ExpireTokens ends all tokens of installations.
func (s *Server) ExpireTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// State is what a repository shows now.
func (s *Server) State(name string) State {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.repos[name]
	var out State
	out.Statuses = slices.Clone(r.statuses)
	for _, c := range r.checks {
		d := *c
		d.Annotations = slices.Clone(c.Annotations)
		out.Checks = append(out.Checks, d)
	}
	for _, c := range r.comments {
		d := *c
		d.Reactions = slices.Clone(c.Reactions)
		out.Comments = append(out.Comments, d)
	}
	return out
}

// sha makes an object id up.
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

func (s *Server) problem(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}
