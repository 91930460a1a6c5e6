package github

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/github/githubtest"
	"github.com/kernel-bisect/kbisect/internal/outbox"
	"github.com/kernel-bisect/kbisect/internal/posting"
)

const (
	repoName = "torvalds/linux"
	sha      = "1111111111111111111111111111111111111111"
	base     = "2222222222222222222222222222222222222222"
)

// appKey is an App's key, both halves.
func appKey(t *testing.T) (private []byte, public *rsa.PublicKey) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}), &key.PublicKey
}

// asApp is a GitHub with a pull request, and an App's client of it.
func asApp(t *testing.T) (*githubtest.Server, *Client) {
	t.Helper()
	private, public := appKey(t)
	s := githubtest.New(t, githubtest.Options{AppID: 5, AppKey: public})
	c, err := New(Options{URL: s.URL, Credentials: Credentials{AppID: 5, Key: private}})
	if err != nil {
		t.Fatal(err)
	}
	withPull(s)
	return s, c
}

func asToken(t *testing.T, token string) (*githubtest.Server, *Client) {
	t.Helper()
	s := githubtest.New(t, githubtest.Options{Token: token, Scopes: "repo, read:org"})
	c, err := New(Options{URL: s.URL, Credentials: Credentials{Token: token}})
	if err != nil {
		t.Fatal(err)
	}
	withPull(s)
	return s, c
}

func withPull(s *githubtest.Server) {
	s.AddRepo(repoName, "https://example.org/linux.git", map[string]string{"main": base})
	s.OpenPull(repoName, githubtest.Pull{Head: sha, Base: base, Commits: []string{sha}, Author: "ann", Fork: true, Association: "FIRST_TIMER"})
}

func TestPull(t *testing.T) {
	_, c := asApp(t)
	p, err := c.Pull(t.Context(), repoName, 1)
	want := Pull{Number: 1, Open: true, Head: sha, Base: base, BaseRef: "main", CloneURL: "https://example.org/linux.git", Page: p.Page, Author: "ann", Fork: true, Pushed: p.Pushed, Stranger: true}
	if err != nil || p != want || p.Pushed.IsZero() || !strings.HasSuffix(p.Page, "/torvalds/linux") {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := c.Pull(t.Context(), repoName, 2); !errors.Is(err, ErrNoPull) {
		t.Error(err)
	}
	if _, err := c.Pull(t.Context(), "../x", 2); err == nil || errors.Is(err, ErrNoPull) {
		t.Error(err)
	}
	auth, err := c.Authorization(t.Context(), repoName)
	if err != nil || !strings.HasPrefix(auth, "Basic ") {
		t.Error(auth, err)
	}
}

func TestMayWrite(t *testing.T) {
	s, c := asToken(t, "ghp_x")
	for user, level := range map[string]string{"root": "admin", "dev": "write", "guest": "read", "nobody": "none", "ghost": "gone"} {
		s.SetPermission(repoName, user, level)
	}
	for _, tt := range []struct {
		user        string
		admin, want bool
	}{{"root", false, true}, {"root", true, true}, {"dev", false, true}, {"dev", true, false}, {"guest", false, false}, {"nobody", false, false}, {"ghost", false, false}, {"unheard", false, false}} {
		if got, err := c.MayWrite(t.Context(), repoName, tt.user, tt.admin); got != tt.want || err != nil {
			t.Errorf("%+v: %v, %v", tt, got, err)
		}
	}
}

// Each thing that is posted, twice: the second time it may have come through.
func TestPosting(t *testing.T) {
	for name, with := range map[string]func(t *testing.T) (*githubtest.Server, *Client){
		"App":   asApp,
		"token": func(t *testing.T) (*githubtest.Server, *Client) { return asToken(t, "ghp_x") },
		// As in GitHub's Actions.
		"Actions": func(t *testing.T) (*githubtest.Server, *Client) { return asToken(t, "ghs_x") },
	} {
		t.Run(name, func(t *testing.T) {
			s, c := with(t)
			ctx := t.Context()
			st := posting.Status{SHA: sha, Context: "kbisect/series", State: "pending", Description: "it runs"}
			for _, look := range []bool{false, true, true} {
				if err := c.PostStatus(ctx, repoName, st, look); err != nil {
					t.Fatal(err)
				}
			}
			st.State, st.URL = "success", "https://example.org/jobs/1"
			if err := c.PostStatus(ctx, repoName, st, true); err != nil {
				t.Fatal(err)
			}
			if got := s.State(repoName).Statuses; len(got) != 2 || got[1].State != "success" || got[1].URL != st.URL {
				t.Errorf("%+v", got)
			}
			m := outbox.Comment{Number: 1, Marker: "series", Body: "first"}
			s.AddComment(repoName, 1, "mallory", "<!-- kbisect series -->\nnot yours")
			for range 100 { // ours is on the second page
				s.AddComment(repoName, 1, "ann", "hello")
			}
			id, err := c.PostComment(ctx, repoName, m, "", false)
			if err != nil {
				t.Fatal(err)
			}
			again, err := c.PostComment(ctx, repoName, m, "", true)
			if err != nil || again != id {
				t.Errorf("%q, then %q, %v", id, again, err)
			}
			m.Body = "second"
			if again, err = c.PostComment(ctx, repoName, m, id, false); err != nil || again != id {
				t.Errorf("%q, then %q, %v", id, again, err)
			}
			got := s.State(repoName).Comments
			if last := got[len(got)-1]; len(got) != 102 || last.Body != "<!-- kbisect series -->\nsecond" || last.Edits != 1 {
				t.Errorf("%d comments, %+v", len(got), last)
			}
			s.DeleteComment(repoName, got[len(got)-1].ID)
			if again, err = c.PostComment(ctx, repoName, m, id, false); err != nil || again == id {
				t.Errorf("after somebody deleted it: %q, %v", again, err)
			}
			for range 2 {
				if err := c.React(ctx, repoName, outbox.Reaction{Comment: got[0].ID, Content: "eyes"}); err != nil {
					t.Fatal(err)
				}
			}
			if got := s.State(repoName).Comments[0].Reactions; len(got) != 1 {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestPostCheck(t *testing.T) {
	s, c := asApp(t)
	ctx := t.Context()
	ch := posting.Check{SHA: sha, Name: "kbisect/series", Job: "series-1", Status: "in_progress", Title: "it runs", Summary: "so far", URL: "https://example.org"}
	post := func(remote string, look bool) string {
		t.Helper()
		id, err := c.PostCheck(ctx, repoName, ch, remote, look)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	id := post("", false)
	if again := post("", true); again != id {
		t.Errorf("%q, then %q", id, again)
	}
	ch.Status, ch.Conclusion, ch.Title = "completed", "failure", "it breaks"
	ch.Annotations = []posting.Annotation{{Path: "mm/memory.c", Start: 3, End: 4, Level: "failure", Title: "here", Message: "bad"}}
	ch.Actions = []posting.Action{{ID: "rerun", Label: "Re-run", Description: "again"}}
	if again := post(id, false); again != id {
		t.Errorf("%q, then %q", id, again)
	}
	requests := len(s.Requests())
	if again := post(id, true); again != id { // it may have come through, and had
		t.Errorf("%q, then %q", id, again)
	}
	for _, r := range s.Requests()[requests:] {
		if r.Method != "GET" {
			t.Errorf("%+v", r)
		}
	}
	ch.Title = "it breaks, as we know better now"
	if again := post(id, false); again != id {
		t.Errorf("%q, then %q", id, again)
	}
	if got := s.State(repoName).Checks; len(got) != 1 || got[0].Conclusion != "failure" || len(got[0].Annotations) != 1 || got[0].Title != ch.Title || !slices.Equal(got[0].Actions, []string{"rerun"}) {
		t.Errorf("%+v", got)
	}
	// Other remarks would be added to those there are; what was completed cannot
	// go back. A new one takes the place of the old one.
	ch.Annotations = append(ch.Annotations, ch.Annotations[0])
	second := post(id, false)
	ch.Status, ch.Conclusion, ch.Annotations, ch.Job = "in_progress", "", nil, "series-2"
	third := post(second, false)
	got := s.State(repoName).Checks
	if id == second || second == third || len(got) != 3 || len(got[1].Annotations) != 2 || got[2].Status != "in_progress" {
		t.Errorf("%q, %q, %q: %+v", id, second, third, got)
	}
	_, token := asToken(t, "ghp_x")
	var refused *outbox.Refused
	if _, err := token.PostCheck(ctx, repoName, ch, "", false); !errors.As(err, &refused) || token.App() || !c.App() {
		t.Errorf("a token: %v", err)
	}
}

// What GitHub answers is told apart: to wait, never to come again, or to try.
func TestFaults(t *testing.T) {
	s, c := asApp(t)
	st := posting.Status{SHA: sha, Context: "kbisect/series", State: "pending"}
	if err := c.PostStatus(t.Context(), repoName, st, false); err != nil { // it has its token
		t.Fatal(err)
	}
	for _, tt := range []struct {
		kind string
		want string // busy, refused, retry, ""
	}{
		{githubtest.TooMany, "busy"}, {githubtest.Broken, "retry"}, {githubtest.BadBefore, "retry"}, {githubtest.BadAfter, "retry"}, {githubtest.Slow, ""},
		{githubtest.Truncated, "retry"}, {githubtest.Reset, "retry"}, {githubtest.Expired, "retry"}, {githubtest.NotAllowed, "refused"},
		{githubtest.Vanished, "refused"}, {githubtest.Unprocessed, "refused"}, {githubtest.Primary, "busy"}, {githubtest.Secondary, "busy"},
	} {
		// The library keeps limits in mind: each has a client of its own.
		c.forget(repoName)
		if _, err := c.Authorization(t.Context(), repoName); err != nil {
			t.Fatal(err)
		}
		s.Fault(githubtest.Fault{Kind: tt.kind, Method: "POST", Path: "/statuses/", After: 2 * time.Second / 10})
		err := c.PostStatus(t.Context(), repoName, st, false)
		var refused *outbox.Refused
		var busy *outbox.Busy
		got := ""
		switch {
		case errors.As(err, &refused):
			got = "refused"
		case errors.As(err, &busy):
			got = "busy"
			if wait := time.Until(busy.Until); wait > time.Minute {
				t.Errorf("%s: waits %s", tt.kind, wait)
			}
		case err != nil:
			got = "retry"
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s: %v", tt.kind, got, tt.want, err)
		}
		if err != nil && (strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "ghs_")) {
			t.Errorf("%s: %q", tt.kind, err)
		}
	}
	if n := s.Faults(); n != 0 {
		t.Errorf("%d faults did not happen", n)
	}
}

// A token that ended early, and an installation that was taken away and given
// back, are got over.
func TestTokens(t *testing.T) {
	s, c := asApp(t)
	st := posting.Status{SHA: sha, Context: "kbisect/series", State: "pending"}
	for _, change := range []func(){func() {}, s.ExpireTokens, func() { s.Revoke(true) }} {
		change()
		for i := range 3 {
			err := c.PostStatus(t.Context(), repoName, st, false)
			if err == nil {
				break
			}
			var refused *outbox.Refused
			if errors.As(err, &refused) {
				t.Errorf("given up: %v", err)
			}
			if i == 1 {
				s.Revoke(false)
			}
			if i == 2 {
				t.Error(err)
			}
		}
	}
	if got := s.State(repoName).Statuses; len(got) != 3 {
		t.Errorf("%+v", got)
	}
}

func TestPoll(t *testing.T) {
	s, c := asApp(t)
	cur := &Cursor{}
	poll := func() []Event {
		t.Helper()
		events, err := c.Poll(t.Context(), repoName, []string{"renamed", "for-next/core", "main"}, cur)
		if err != nil {
			t.Fatal(err)
		}
		return events
	}
	if got := poll(); len(got) != 0 {
		t.Errorf("what was there before: %+v", got)
	}
	s.PushPull(repoName, 1, base, []string{base})
	id := s.AddComment(repoName, 1, "ann", "/kbisect test")
	s.AddComment(repoName, 1, "ann", "thanks")
	s.Push(repoName, "main", sha, nil)
	s.Push(repoName, "other", sha, nil)
	kinds := map[Kind]Event{}
	for _, e := range poll() {
		kinds[e.Kind] = e
	}
	if e := kinds[Commented]; len(kinds) != 3 || e.Comment != id || e.Author != "ann" || e.Number != 1 || e.Body != "/kbisect test" || time.Since(e.At).Abs() > time.Hour {
		t.Errorf("%+v", kinds)
	}
	if e := kinds[Pushed]; e.Branch != "main" || e.Before != base || e.After != sha {
		t.Errorf("%+v", e)
	}
	// The same second is read again: that must be seen to be the same.
	ids := map[string]bool{}
	for range 3 {
		for _, e := range poll() {
			x, event, body, err := e.Delivery()
			back, ok, derr := Decode(event, body)
			if e.id = ""; err != nil || derr != nil || !ok || back != e {
				t.Errorf("%+v, %v, %v", back, err, derr)
			}
			ids[x] = true
		}
	}
	if len(ids) > 2 {
		t.Errorf("%d events of nothing new", len(ids))
	}
	// A round that fails in the middle is made again whole.
	third := s.AddComment(repoName, 1, "ann", "/kbisect cancel")
	s.Fault(githubtest.Fault{Kind: githubtest.Broken, Path: "/git/ref/"})
	if _, err := c.Poll(t.Context(), repoName, []string{"main"}, cur); err == nil {
		t.Error("no error")
	}
	if got := poll(); !slices.ContainsFunc(got, func(e Event) bool { return e.Comment == third }) {
		t.Errorf("lost: %+v", got)
	}
	s.ClosePull(repoName, 1)
	if got := poll(); !slices.ContainsFunc(got, func(e Event) bool { return e.Kind == PullChanged && e.Number == 1 }) {
		t.Errorf("closed: %+v", got)
	}
	if got := s.Requests(); got[len(got)-1].Code != 304 {
		t.Errorf("what did not change is read again: %+v", got[len(got)-1])
	}
	// One that was not there when the others were read.
	s.Push(repoName, "for-next/core", base, nil)
	poll()
	s.Push(repoName, "for-next/core", sha, nil)
	if got := poll(); !slices.ContainsFunc(got, func(e Event) bool { return e.Kind == Pushed && e.Branch == "for-next/core" && e.Before == base }) {
		t.Errorf("a branch that came: %+v", got)
	}
}

// GitHub's own examples of webhooks are all read, and those that matter are
// known.
func TestOfficialExamples(t *testing.T) {
	seen := map[Kind]int{}
	for _, x := range githubtest.Examples(t) {
		e, ok, err := Decode(x.Event, x.Payload)
		if err != nil {
			t.Errorf("%s: %v", x.Event, err)
		}
		if ok {
			seen[e.Kind]++
		}
	}
	t.Logf("%v", seen)
	for _, k := range []Kind{PullChanged, Rerun, Pressed, Pushed} {
		if seen[k] == 0 {
			t.Errorf("no example of %s", k)
		}
	}
}

func TestCheckSetup(t *testing.T) {
	private, public := appKey(t)
	check := func(o githubtest.Options, cred Credentials, want ...string) {
		t.Helper()
		s := githubtest.New(t, o)
		withPull(s)
		c, err := New(Options{URL: s.URL, Credentials: cred})
		if err != nil {
			t.Fatal(err)
		}
		found, err := c.CheckSetup(context.Background(), []string{repoName, "no/where"}, true)
		if err != nil {
			t.Fatal(err)
		}
		var text []string
		for _, f := range found {
			if !f.OK {
				text = append(text, f.What)
			}
		}
		all := strings.Join(text, "\n")
		for _, w := range want {
			if !strings.Contains(all, w) {
				t.Errorf("%q is not said:\n%s", w, all)
			}
		}
		if len(text) != len(want) {
			t.Errorf("%d findings, want %d:\n%s", len(text), len(want), all)
		}
	}
	app := Credentials{AppID: 5, Key: private}
	check(githubtest.Options{AppID: 5, AppKey: public}, app, "no/where: GitHub answers 404")
	check(githubtest.Options{AppID: 5, AppKey: public, Events: []string{"push", "pull_request", "issue_comment", "check_suite"}, Permissions: map[string]string{"checks": "read", "contents": "read", "metadata": "read", "issues": "write", "statuses": "write"}}, app,
		"not told of check_run", "torvalds/linux: the installation lacks checks: write", "torvalds/linux: the installation lacks pull_requests: write", "no/where: GitHub answers 404")
	check(githubtest.Options{Token: "ghp_x", Scopes: "gist"}, Credentials{Token: "ghp_x"}, "torvalds/linux: check runs are for Apps", "has the scopes gist", "no/where: not there")
}
