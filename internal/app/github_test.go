package app

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/config"
	"github.com/kernel-bisect/kbisect/internal/github/githubtest"
)

const (
	hubRepo    = "torvalds/linux"
	hookSecret = "it's a secret to everybody"
)

// pulled is a service that follows a repository of a GitHub in memory, whose git
// repository is a directory.
type pulled struct {
	*served
	hub    *githubtest.Server
	origin string
	clone  string // of it, of before the pull requests
	tip    string // of main
}

// newPulled makes it. hooks says whether GitHub sends webhooks; without, the
// service asks.
func newPulled(t *testing.T, slow string, hooks bool) *pulled {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	origin, shas := smallKernel(t, 3)
	p := &pulled{origin: origin, tip: shas[2], hub: githubtest.New(t, githubtest.Options{AppID: 5, AppKey: &key.PublicKey, Token: "ghp_of_a_person", Scopes: "repo"})}
	clone := filepath.Join(t.TempDir(), "clone")
	if out, err := exec.Command("git", "clone", "-q", "--no-local", "-b", "main", origin, clone).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p.clone = clone
	p.hub.AddRepo(hubRepo, origin, map[string]string{"main": p.tip})
	p.hub.SetPermission(hubRepo, "dev", "write")
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("app.pem", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
	write("secret", hookSecret+"\n")
	webhook, poll := "\n  webhook: {secret_file: secret}", ""
	if !hooks {
		webhook, poll = "", "\n  poll: 1"
	}
	addr := freePort(t)
	write("serve.yaml", fmt.Sprintf(`listen: %s
repos: {linux: %s}
slots: 2
github:
  url: %s
  app: {id: 5, key_file: app.pem}%s%s
  pace: 0
  repos:
  - name: %s
    repo: linux
    fetch: %s
    profiles: [cow]
    tests: [cow/fork-basic/base, cow/fork-basic/thp-pmd]
    max_commits: 8
    branches: [main]
`, addr, clone, p.hub.URL, webhook, poll, hubRepo, origin))
	p.served = &served{t: t, home: filepath.Join(t.TempDir(), "home"), always: true, slow: slow, args: []string{"--config", filepath.Join(dir, "serve.yaml")}}
	if hooks {
		p.hub.Hook("http://"+addr+webhookPath, hookSecret)
	}
	return p
}

// commits makes commits on another, each of which changes a file of its own to
// its text, and returns them.
func (p *pulled) commits(on string, texts ...string) []string {
	p.t.Helper()
	var out []string
	git := func(stdin string, env []string, args ...string) string {
		cmd := exec.Command("git", append([]string{"-C", p.origin}, args...)...)
		cmd.Env = append(append(os.Environ(), "GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org",
			"GIT_AUTHOR_DATE=2021-12-21T00:00:00Z", "GIT_COMMITTER_DATE=2021-12-21T00:00:00Z", "GIT_CONFIG_GLOBAL=/dev/null"), env...)
		cmd.Stdin = strings.NewReader(stdin)
		text, err := cmd.Output()
		if err != nil {
			p.t.Fatalf("git %v: %v", args, err)
		}
		return strings.TrimSpace(string(text))
	}
	for i, text := range texts {
		index := []string{"GIT_INDEX_FILE=" + filepath.Join(p.t.TempDir(), "index")}
		blob := git("static int f(void)\n{\n\treturn "+text+";\n}\n", nil, "hash-object", "-w", "--stdin")
		git("", index, "read-tree", on)
		git("", index, "update-index", "--add", "--cacheinfo", fmt.Sprintf("100644,%s,mm/file%d.c", blob, i))
		on = git("", index, "commit-tree", "-p", on, "-m", "mm: patch "+text, git("", index, "write-tree"))
		out = append(out, on)
	}
	return out
}

// offer puts commits where a pull request's are.
func (p *pulled) offer(number int, head string) {
	p.t.Helper()
	if out, err := exec.Command("git", "-C", p.origin, "update-ref", fmt.Sprintf("refs/pull/%d/head", number), head).CombinedOutput(); err != nil {
		p.t.Fatalf("%v: %s", err, out)
	}
}

func (p *pulled) open(commits []string) int {
	p.t.Helper()
	head := commits[len(commits)-1]
	p.offer(1, head)
	return p.hub.OpenPull(hubRepo, githubtest.Pull{Head: head, Base: p.tip, Commits: commits, Author: "ann"})
}

// until waits for something to be the case at GitHub.
func (p *pulled) until(what string, ok func(s githubtest.State) bool) githubtest.State {
	p.t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if s := p.hub.State(hubRepo); ok(s) {
			return s
		}
	}
	s := p.hub.State(hubRepo)
	p.t.Fatalf("%s: never\n%+v\n%s", what, s, p.log)
	return s
}

// quiet waits until all that GitHub told is dealt with, and all that is to be
// posted is sent.
func (p *pulled) quiet() {
	p.t.Helper()
	p.hub.Delivered()
	still := 0 // between two things to do is a moment without any
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		_, body := p.get("/metrics")
		still++
		if strings.Contains(body, "kbisect_outbox_letters 0\n") && strings.Contains(body, "kbisect_deliveries_open 0\n") && strings.Contains(body, "kbisect_jobs_running 0\n") && strings.Contains(body, "kbisect_jobs_queued 0\n") {
			if still > 10 {
				return
			}
			continue
		}
		still = 0
	}
	p.t.Fatalf("never quiet\n%s", p.log)
}

// settledOn says whether nothing is pending on a commit, and the comment is as
// final.
func settledOn(sha string) func(githubtest.State) bool {
	return func(s githubtest.State) bool {
		state, _ := s.Latest(sha, "kbisect/series")
		return state != "" && state != "pending" && slices.ContainsFunc(s.Checks, func(c githubtest.Check) bool {
			return c.SHA == sha && c.Name == "kbisect/series" && c.Status == "completed"
		}) && slices.ContainsFunc(s.Comments, func(c githubtest.Comment) bool {
			return strings.Contains(c.Body, sha) && !strings.Contains(c.Body, "⏳")
		})
	}
}

// inTheEnd is what a repository shows in the end, without ids and links.
func inTheEnd(s githubtest.State) string {
	var lines []string
	latest := map[string]string{}
	for _, x := range s.Statuses {
		latest[x.SHA+" "+x.Context] = x.State + " " + x.Description
	}
	for k, v := range latest {
		lines = append(lines, "status "+k+": "+v)
	}
	checks := map[string]string{}
	for _, c := range s.Checks {
		checks[c.SHA+" "+c.Name] = fmt.Sprintf("%s %s %q %d remarks", c.Status, c.Conclusion, c.Title, len(c.Annotations))
	}
	for k, v := range checks {
		lines = append(lines, "check "+k+": "+v)
	}
	for _, c := range s.Comments {
		first, _, _ := strings.Cut(strings.SplitN(c.Body+"\n\n", "\n", 2)[1], "\n")
		lines = append(lines, fmt.Sprintf("comment on %d by %s: %s; %q", c.Number, c.User, first, c.Reactions))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// A pull request of six commits, the third of which breaks a test; then it is
// mended and pushed again.
func TestPullRequest(t *testing.T) {
	t.Parallel()
	p := newPulled(t, "1ms", true)
	v1 := p.commits(p.tip, "1", "2", "3", "4", "5", "6")
	p.bad = strings.Join(v1[2:], " ")
	p.start()
	defer p.stop()
	n := p.open(v1)
	s := p.until("the first push is tested", settledOn(v1[5]))
	for i, sha := range v1 {
		build, _ := s.Latest(sha, "kbisect/build/cow")
		test, why := s.Latest(sha, "kbisect/test/cow")
		wantTest, wantWhy := "success", "2 good"
		switch {
		case i == 2:
			wantTest, wantWhy = "failure", "2 tests bad, introduced here: cow/fork-basic/base and 1 more"
		case i > 2:
			wantTest, wantWhy = "failure", "2 tests bad since "+v1[2][:12]
		}
		if build != "success" || test != wantTest || !strings.HasPrefix(why, wantWhy) {
			t.Errorf("commit %d: build %s, test %s %q", i+1, build, test, why)
		}
	}
	for _, c := range s.Checks {
		wantRemarks := 0
		if c.SHA == v1[2] && c.Name == "kbisect/cow" {
			wantRemarks = 2
		}
		if len(c.Annotations) != wantRemarks {
			t.Errorf("%s on %s: %+v", c.Name, c.SHA, c.Annotations)
		}
		for _, a := range c.Annotations {
			if a.Path != "mm/file2.c" || a.Start != 1 || a.End != 4 || a.Level != "failure" {
				t.Errorf("%+v", a)
			}
		}
	}
	comment := s.Comments[0]
	if len(s.Comments) != 1 || !strings.Contains(comment.Body, "❌ **1 of 6 commits introduces a failure") || strings.Count(comment.Body, "\n| ") != 9 {
		t.Errorf("%d comments:\n%s", len(s.Comments), comment.Body)
	}

	// The first two commits stay, the third is mended, the others follow it.
	v2 := append(slices.Clone(v1[:2]), p.commits(v1[1], "33", "4", "5", "6")...)
	before := len(s.Statuses)
	p.offer(n, v2[5])
	p.hub.PushPull(hubRepo, n, v2[5], v2)
	s = p.until("the second push is tested", settledOn(v2[5]))
	for i, sha := range v2 {
		if test, why := s.Latest(sha, "kbisect/test/cow"); test != "success" {
			t.Errorf("commit %d: test %s %q", i+1, test, why)
		}
	}
	for _, x := range s.Statuses[before:] {
		if x.SHA == v2[0] || x.SHA == v2[1] {
			t.Errorf("posted anew: %+v", x)
		}
	}
	if c := s.Comments[0]; len(s.Comments) != 1 || c.ID != comment.ID || !strings.Contains(c.Body, "✅ **6 commits introduce no failure") || !strings.Contains(c.Body, "2 commits are as in the last push") {
		t.Errorf("%d comments:\n%s", len(s.Comments), c.Body)
	}

	// The same again changes nothing.
	p.quiet()
	s = p.hub.State(hubRepo)
	statuses, edits := len(s.Statuses), s.Comments[0].Edits
	p.hub.PushPull(hubRepo, n, v2[5], v2)
	p.quiet()
	if s = p.hub.State(hubRepo); len(s.Statuses) != statuses || s.Comments[0].Edits != edits {
		t.Errorf("%d statuses, then %d; %d edits, then %d", statuses, len(s.Statuses), edits, s.Comments[0].Edits)
	}
}

// What people ask for in comments.
func TestPullRequestCommands(t *testing.T) {
	t.Parallel()
	p := newPulled(t, "1ms", true)
	v1 := p.commits(p.tip, "1", "2", "3")
	p.bad = strings.Join(v1[1:], " ")
	p.start()
	defer p.stop()
	p.offer(1, v1[2])
	n := p.hub.OpenPull(hubRepo, githubtest.Pull{Head: v1[2], Base: p.tip, Commits: v1, Author: "new", Fork: true, Association: "FIRST_TIME_CONTRIBUTOR"})
	reacted := func(id int64, want string) {
		t.Helper()
		p.until("reaction "+want, func(s githubtest.State) bool {
			return slices.ContainsFunc(s.Comments, func(c githubtest.Comment) bool {
				return c.ID == id && len(c.Reactions) == 1 && strings.HasPrefix(c.Reactions[0], want)
			})
		})
	}
	// Somebody new: nothing is tested before somebody who may write says so.
	p.until("it waits", func(s githubtest.State) bool {
		state, why := s.Latest(v1[2], "kbisect/series")
		return state == "pending" && strings.Contains(why, "/kbisect ok")
	})
	reacted(p.hub.AddComment(hubRepo, n, "mallory", "/kbisect ok"), "confused")
	if _, body := p.get("/jobs"); strings.Contains(body, "/jobs/series-") {
		t.Error("tested for somebody who may not write")
	}
	reacted(p.hub.AddComment(hubRepo, n, "dev", "/kbisect ok 0123456"), "confused") // that is not what is there
	reacted(p.hub.AddComment(hubRepo, n, "dev", "fine with me\n/kbisect ok"), "eyes")
	p.until("it is tested", settledOn(v1[2]))

	reacted(p.hub.AddComment(hubRepo, n, "dev", "/kbisect help"), "eyes")
	reacted(p.hub.AddComment(hubRepo, n, "dev", "/kbisect test nosuch"), "confused")
	s := p.until("replies", func(s githubtest.State) bool {
		return slices.ContainsFunc(s.Comments, func(c githubtest.Comment) bool { return strings.Contains(c.Body, "`nosuch`: no such profile") }) &&
			slices.ContainsFunc(s.Comments, func(c githubtest.Comment) bool { return strings.Contains(c.Body, "/kbisect cancel") })
	})
	reacted(p.hub.AddComment(hubRepo, n, "dev", "/kbisect bisect good="+p.tip[:12]+" test=cow/fork-basic/base"), "eyes")
	found := p.until("the bisection is answered", func(s githubtest.State) bool {
		return slices.ContainsFunc(s.Comments, func(c githubtest.Comment) bool { return strings.Contains(c.Body, "🎯 **found: "+v1[1][:12]) })
	})
	if len(found.Comments) != len(s.Comments)+2 { // the question, the answer
		t.Errorf("%d comments, then %d", len(s.Comments), len(found.Comments))
	}
	before := len(found.Statuses)
	reacted(p.hub.AddComment(hubRepo, n, "dev", "/kbisect retest"), "eyes")
	p.until("tested again", func(s githubtest.State) bool {
		return len(s.Statuses) > before && s.Statuses[len(s.Statuses)-1].State != "pending" && settledOn(v1[2])(s)
	})
	// Buttons of a check run, and GitHub's own: for people who may write.
	p.quiet()
	press := func(user, button string) {
		t.Helper()
		for _, c := range p.hub.State(hubRepo).Checks {
			if c.SHA == v1[1] && c.Name == "kbisect/cow" {
				p.hub.Press(hubRepo, c.ID, user, button)
				break
			}
		}
		p.quiet()
	}
	count := func(kind string) int {
		_, body := p.get("/jobs")
		return strings.Count(body, `href="/jobs/`+kind+"-")
	}
	for _, tt := range []struct {
		user, button     string
		series, bisected int
	}{{"mallory", "rerun", 0, 0}, {"mallory", "", 0, 0}, {"dev", "rerun", 1, 0}, {"dev", "", 1, 0}, {"dev", "bisect", 0, 1}, {"dev", "dance", 0, 0}} {
		series, bisected := count("series"), count("bisect")
		press(tt.user, tt.button)
		if s, b := count("series")-series, count("bisect")-bisected; s != tt.series || b != tt.bisected {
			t.Errorf("%s presses %q: %d series, %d bisections", tt.user, tt.button, s, b)
		}
	}
	p.hub.ClosePull(hubRepo, n)
	p.quiet()
	for _, r := range requestsOf(t, p.home) {
		if r.Stranger == "" || r.Trusted != p.tip {
			t.Errorf("a pull request's: %+v", r)
		}
	}
}

// Closed, a pull request is not tested to its end; opened again it is.
func TestPullRequestClosed(t *testing.T) {
	t.Parallel()
	p := newPulled(t, "30ms", true)
	v1 := p.commits(p.tip, "1", "2", "3", "4", "5", "6")
	p.start()
	defer p.stop()
	n := p.open(v1)
	p.until("begun", func(s githubtest.State) bool {
		state, _ := s.Latest(v1[0], "kbisect/test/cow")
		return state == "success"
	})
	p.hub.ClosePull(hubRepo, n)
	p.until("closed", func(s githubtest.State) bool {
		state, why := s.Latest(v1[5], "kbisect/series")
		return state == "error" && strings.Contains(why, "cancelled: the pull request was closed")
	})
	p.quiet()
	p.hub.ReopenPull(hubRepo, n)
	p.until("goes on", func(s githubtest.State) bool {
		state, _ := s.Latest(v1[1], "kbisect/test/cow")
		return state == "success"
	})
	// At once: the job is still ending when it is wanted again.
	p.hub.ClosePull(hubRepo, n)
	time.Sleep(50 * time.Millisecond)
	p.hub.ReopenPull(hubRepo, n)
	s := p.until("tested", settledOn(v1[5]))
	if state, why := s.Latest(v1[5], "kbisect/series"); state != "success" || len(s.Comments) != 1 {
		t.Errorf("%s %s, %d comments", state, why, len(s.Comments))
	}
}

// What the service knows of GitHub is not in its environment any more when it
// starts compilers and guests.
func TestSecretsAreTakenAway(t *testing.T) {
	t.Setenv(githubTokenVariable, " ghp_x\n")
	t.Setenv(webhookVariable, "hook")
	got, err := readSecrets(&config.GitHub{})
	if err != nil || got.cred.Token != "ghp_x" || string(got.webhook) != "hook" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, name := range []string{githubTokenVariable, webhookVariable} {
		if v, ok := os.LookupEnv(name); ok {
			t.Errorf("$%s is %q", name, v)
		}
	}
}

// With a person's token there are statuses and the comment, and no check runs;
// and a bisection is answered on an issue, too.
func TestPullRequestToken(t *testing.T) {
	t.Parallel()
	p := newPulled(t, "1ms", true)
	file := p.args[1]
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(filepath.Dir(file), "token")
	if err := os.WriteFile(token, []byte("ghp_of_a_person\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), "app: {id: 5, key_file: app.pem}", "token_file: token", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	v1 := p.commits(p.tip, "1", "2", "3")
	p.bad = strings.Join(v1[1:], " ")
	p.start()
	p.open(v1)
	s := p.until("tested", func(s githubtest.State) bool {
		state, _ := s.Latest(v1[2], "kbisect/series")
		return state == "failure" && len(s.Comments) == 1 && strings.Contains(s.Comments[0].Body, "❌")
	})
	if len(s.Checks) != 0 || s.Comments[0].User != "kbisect-bot" {
		t.Errorf("%d check runs, comment by %s", len(s.Checks), s.Comments[0].User)
	}
	const issue = 77
	p.hub.AddComment(hubRepo, issue, "dev", "/kbisect bisect good="+p.tip+" bad="+v1[2]+" test=cow/fork-basic/base")
	p.until("answered on the issue", func(s githubtest.State) bool {
		return slices.ContainsFunc(s.Comments, func(c githubtest.Comment) bool {
			return c.Number == issue && strings.Contains(c.Body, "🎯 **found: "+v1[1][:12])
		})
	})
	p.hub.AddComment(hubRepo, issue, "dev", "/kbisect test")
	p.until("that is no pull request", func(s githubtest.State) bool {
		return slices.ContainsFunc(s.Comments, func(c githubtest.Comment) bool {
			return c.Number == issue && strings.Contains(c.Body, "test is for pull requests, and this is none")
		})
	})
	p.quiet()
	p.stop()
	if strings.Contains(p.log.String(), "ghp_of_a_person") || strings.Contains(p.log.String(), hookSecret) {
		t.Error("a secret is in the log")
	}
}

// Behind a NAT there are no webhooks: the service asks.
func TestPullRequestPolled(t *testing.T) {
	t.Parallel()
	p := newPulled(t, "1ms", false)
	v1 := p.commits(p.tip, "1", "2")
	p.start()
	defer p.stop()
	// What was there before it asks for the first time is left alone.
	p.until("asked", func(githubtest.State) bool {
		return slices.ContainsFunc(p.hub.Requests(), func(r githubtest.Request) bool { return strings.HasSuffix(r.Path, "/git/ref/heads/main") })
	})
	n := p.open(v1)
	p.until("tested", settledOn(v1[1]))
	p.hub.AddComment(hubRepo, n, "dev", "/kbisect retest")
	p.until("asked for by a comment", func(s githubtest.State) bool {
		return slices.ContainsFunc(s.Comments, func(c githubtest.Comment) bool { return slices.Contains(c.Reactions, "eyes kbisect-test[bot]") })
	})
	// A branch that is followed, too: each commit has statuses, and nobody is
	// told in a comment.
	merged := p.commits(p.tip, "7", "8", "9")
	if out, err := exec.Command("git", "-C", p.origin, "update-ref", "refs/heads/main", merged[2]).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p.hub.Push(hubRepo, "main", merged[2], merged)
	p.until("the push is tested", func(s githubtest.State) bool {
		for _, sha := range merged {
			if state, _ := s.Latest(sha, "kbisect/test/cow"); state != "success" {
				return false
			}
		}
		return true
	})
}

// What was pushed while the service was not there is found at its start: GitHub tells
// it once. One that nothing has happened to is left alone.
func TestPullRequestMissed(t *testing.T) {
	t.Parallel()
	p := newPulled(t, "1ms", true)
	v1 := p.commits(p.tip, "1", "2")
	other := p.commits(p.tip, "3")
	p.start()
	n := p.open(v1)
	p.until("tested", settledOn(v1[1]))
	p.offer(2, other[0])
	p.hub.OpenPull(hubRepo, githubtest.Pull{Head: other[0], Base: p.tip, Commits: other, Author: "ann"})
	p.until("the other, too", settledOn(other[0]))
	p.quiet()
	p.stop()
	v2 := p.commits(p.tip, "1", "2", "4")
	p.offer(n, v2[2])
	p.hub.PushPull(hubRepo, n, v2[2], v2)
	p.hub.Delivered()
	before := len(requestsOf(t, p.home))
	p.start()
	p.until("the push that was missed", settledOn(v2[2]))
	p.quiet()
	p.stop()
	if got := len(requestsOf(t, p.home)); got != before+1 {
		t.Errorf("%d jobs more, want 1", got-before)
	}
}

// More commits than are to be tested: the newest are, and it is said.
func TestPullRequestTooLong(t *testing.T) {
	t.Parallel()
	p := newPulled(t, "1ms", true)
	v1 := p.commits(p.tip, "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11")
	p.start()
	p.open(v1)
	s := p.until("tested", settledOn(v1[10]))
	for i, sha := range v1 {
		if state, _ := s.Latest(sha, "kbisect/test/cow"); (state == "success") != (i >= 3) {
			t.Errorf("commit %d: %q", i+1, state)
		}
	}
	if !strings.Contains(s.Comments[0].Body, "the oldest 3 are left out") {
		t.Error(s.Comments[0].Body)
	}
	p.stop()
	for _, r := range requestsOf(t, p.home) {
		if r.Stranger == "" || r.Trusted != p.tip || r.Base != v1[2] {
			t.Errorf("the commit below those that are tested is a stranger's, too: %+v", r)
		}
	}
}

// Killed at random moments while it posts, and with a GitHub that fails now and
// then, the service leaves GitHub as one does that is left alone: nothing twice,
// nothing missing.
func TestPullRequestSurvivesKill(t *testing.T) {
	t.Parallel()
	want := ""
	kills := 10
	if os.Getenv("KBISECT_NOISE") != "" {
		kills = 30
	}
	for _, kill := range []int{0, kills} {
		p := newPulled(t, "4ms", true)
		v1 := p.commits(p.tip, "1", "2", "3", "4", "5", "6")
		p.bad = strings.Join(v1[2:], " ")
		p.start()
		n := p.open(v1)
		p.until("it has begun", func(s githubtest.State) bool { return len(s.Statuses) > 0 })
		for i := range kill {
			time.Sleep(time.Duration(mathrand.Int64N(int64(150 * time.Millisecond))))
			kind := []string{githubtest.BadAfter, githubtest.BadBefore, githubtest.Truncated, githubtest.Reset, githubtest.Broken, githubtest.TooMany, githubtest.Secondary}[i%7]
			p.hub.Fault(githubtest.Fault{Kind: kind, Method: []string{"POST", "PATCH"}[i%2], Path: "/repos/" + hubRepo, After: time.Second})
			p.kill()
			p.start()
			if i == kill/2 { // in the middle somebody pushes the commits anew
				p.hub.AddComment(hubRepo, n, "dev", "/kbisect help")
				p.hub.Delivered() // what is told while nobody listens is lost: GitHub does not tell it again
			}
		}
		if kill == 0 {
			p.hub.AddComment(hubRepo, n, "dev", "/kbisect help")
		}
		p.until("settled", func(s githubtest.State) bool {
			return settledOn(v1[5])(s) && len(s.Comments) == 3
		})
		p.until("reaction", func(s githubtest.State) bool {
			return slices.ContainsFunc(s.Comments, func(c githubtest.Comment) bool { return len(c.Reactions) > 0 })
		})
		p.quiet()
		p.stop()
		s := p.hub.State(hubRepo)
		for i := 1; i < len(s.Statuses); i++ {
			for j := range i {
				a, b := s.Statuses[j], s.Statuses[i]
				if a.SHA == b.SHA && a.Context == b.Context && a.State == b.State && a.Description == b.Description && a.State != "pending" {
					t.Errorf("after %d kills, twice: %+v", kill, b)
				}
			}
		}
		if len(s.Checks) != 7 {
			t.Errorf("after %d kills, %d check runs", kill, len(s.Checks))
		}
		if want == "" {
			want = inTheEnd(s)
		} else if got := inTheEnd(s); got != want {
			t.Errorf("after %d kills:\n%s\nwant\n%s\n%s", kill, got, want, p.log)
		}
	}
}

// Five hundred webhooks at once are all taken and dealt with.
func TestWebhookStorm(t *testing.T) {
	t.Parallel()
	p := newPulled(t, "1ms", true)
	p.start()
	defer p.stop()
	p.hub.Hook("", "")
	var examples []githubtest.Example
	for _, x := range githubtest.Examples(t) {
		if x.Event == "pull_request" || x.Event == "issue_comment" || x.Event == "check_run" {
			examples = append(examples, x)
		}
	}
	const storm = 500
	var all sync.WaitGroup
	var mu sync.Mutex
	slowest := time.Duration(0)
	codes := map[int]int{}
	for i := range storm {
		all.Go(func() {
			x := examples[i%len(examples)]
			start := time.Now()
			resp, err := githubtest.Deliver(p.url+webhookPath, hookSecret, x.Event, fmt.Sprintf("storm-%d", i), x.Payload)
			if err != nil {
				t.Error(err)
				return
			}
			took := time.Since(start)
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			mu.Lock()
			defer mu.Unlock()
			slowest = max(slowest, took)
			codes[resp.StatusCode]++
		})
		time.Sleep(5 * time.Millisecond)
	}
	all.Wait()
	t.Logf("slowest answer %s", slowest)
	if codes[http.StatusAccepted] != storm {
		t.Errorf("%v", codes)
	}
	p.quiet()
	// Those of the repository that is followed are dealt with as well.
	v1 := p.commits(p.tip, "1")
	p.hub.Hook(p.url+webhookPath, hookSecret)
	p.open(v1)
	p.until("tested after the storm", settledOn(v1[0]))
}

// once runs a command that tests a pull request once, as inside Actions.
func (p *pulled) once(token string, args ...string) (stdout, stderr string, status int) {
	p.t.Helper()
	return p.command(token, append([]string{"series", "--repo", p.clone, "--test", "cow/fork-basic/base"}, args...)...)
}

func (p *pulled) command(token string, args ...string) (stdout, stderr string, status int) {
	p.t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = p.env("GITHUB_API_URL="+p.hub.URL+"/api/v3", "GITHUB_TOKEN="+token)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// A pull request's own commits are bisected, and nothing is posted.
func TestBisectPull(t *testing.T) {
	t.Parallel()
	p := newPulled(t, "1ms", true)
	const token = "ghs_of_actions"
	p.hub = githubtest.New(t, githubtest.Options{Token: token})
	p.hub.AddRepo(hubRepo, p.origin, map[string]string{"main": p.tip})
	v1 := p.commits(p.tip, "1", "2", "3", "4")
	p.bad = strings.Join(v1[2:], " ")
	pr := fmt.Sprintf("%s#%d", hubRepo, p.open(v1))
	bisect := func(args ...string) (string, string, int) {
		t.Helper()
		return p.command(token, append([]string{"bisect", "--repo", p.clone}, args...)...)
	}
	const test = "cow/fork-basic/base"
	out, errs, status := bisect("--pr", pr, "--test", test, "--no-confirm")
	if status != 0 || !strings.HasPrefix(out, "found: "+v1[2][:12]) || !strings.Contains(out, "good "+p.tip[:12]+", bad "+v1[3][:12]) || strings.Contains(errs+out, token) {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
	if s := p.hub.State(hubRepo); len(s.Statuses)+len(s.Checks)+len(s.Comments) != 0 {
		t.Errorf("posted: %+v", s)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--pr", pr}, "what to chase?"},
		{[]string{"--pr", pr, "--good", "main", "--test", test}, "--pr brings both ends"},
		{[]string{"--pr", pr, "--mbox", "x", "--test", test}, "--pr brings both ends"},
		{[]string{"--pr", hubRepo + "#99", "--test", test}, "no such pull request"},
		{[]string{"--pr", "linux#1", "--test", test}, "OWNER/REPO#NUMBER"},
		{[]string{"--pr", pr, "--test", test, "--server", "http://127.0.0.1:1"}, "--pr is not for a service"},
	} {
		if _, errs, status := bisect(tt.args...); status != exitUsage || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, tt.want) {
			t.Errorf("%v: status %d %q", tt.args, status, errs)
		}
	}
}

// Once: without --post it prints what with it is posted, and asked again, with a
// fresh record as in Actions, it edits its comment.
func TestSeriesPull(t *testing.T) {
	t.Parallel()
	p := newPulled(t, "1ms", true)
	const token = "ghs_of_actions"
	p.hub = githubtest.New(t, githubtest.Options{Token: token})
	p.hub.AddRepo(hubRepo, p.origin, map[string]string{"main": p.tip})
	v1 := p.commits(p.tip, "1", "2", "3")
	p.bad = strings.Join(v1[1:], " ")
	n := p.open(v1)
	pr := fmt.Sprintf("%s#%d", hubRepo, n)
	out, errs, status := p.once(token, "--pr", pr)
	for _, want := range []string{
		"With --post, this would be posted to " + pr,
		"status of " + v1[1][:12] + ": kbisect/test/cow failure: 1 test bad, introduced here: cow/fork-basic/base",
		"check run of " + v1[1][:12] + ": kbisect/cow failure", "at mm/file1.c:1-4 (failure)", "comment on " + pr, "❌ **1 of 3 commits",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s%s", want, out, errs)
		}
	}
	if s := p.hub.State(hubRepo); status != exitBad || len(s.Statuses)+len(s.Checks)+len(s.Comments) != 0 {
		t.Errorf("status %d, %+v\n%s", status, s, errs)
	}
	for i := range 2 {
		p.home = filepath.Join(t.TempDir(), "fresh")
		out, errs, status = p.once(token, "--pr", "https://github.com/"+hubRepo+"/pull/1", "--post", "--format", "json")
		s := p.hub.State(hubRepo)
		state, _ := s.Latest(v1[2], "kbisect/series")
		if status != exitBad || state != "failure" || len(s.Comments) != 1 || !strings.HasPrefix(out, "{") || !strings.Contains(errs, "posted to ") || strings.Contains(errs+out, token) {
			t.Errorf("%d: status %d, series %s, %d comments\n%s\n%s", i, status, state, len(s.Comments), out, errs)
		}
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--pr", "linux#1"}, "OWNER/REPO#NUMBER"},
		{[]string{"--pr", hubRepo + "#99"}, "no such pull request"},
		{[]string{"--post"}, "--post is for --pr"},
		{[]string{"--pr", pr, "a..b"}, "brings its own commits"},
		{[]string{"--pr", pr, "--max-commits", "0"}, "--max-commits 0"},
	} {
		if _, errs, status := p.once(token, tt.args...); status != exitUsage || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, tt.want) {
			t.Errorf("%v: status %d %q", tt.args, status, errs)
		}
	}
	if _, errs, status := p.once("", "--pr", pr, "--post"); status != exitUsage || !strings.Contains(errs, "$GITHUB_TOKEN") {
		t.Errorf("no token: status %d %q", status, errs)
	}
	p.home = filepath.Join(t.TempDir(), "fresh")
	p.hub.Fault(githubtest.Fault{Kind: githubtest.NotAllowed, Method: "POST", Path: "/statuses/", Times: 99})
	if _, errs, status := p.once(token, "--pr", pr, "--post", "--fresh"); status != exitInfra || !strings.Contains(errs, "does not take") {
		t.Errorf("a token that may not: status %d %q", status, errs)
	}
	// Another one, and nothing of that is in its way.
	p.hub.Heal()
	if _, errs, status := p.once(token, "--pr", pr, "--post", "--fresh"); status != exitBad || !strings.Contains(errs, "posted to ") {
		t.Errorf("a token that may, afterwards: status %d %q", status, errs)
	}
}

// What was pushed while it ran has its own verdict, which a slower one does not
// write over.
func TestSeriesPullIsLate(t *testing.T) {
	t.Parallel()
	p := newPulled(t, "60ms", true)
	const token = "ghs_of_actions"
	p.hub = githubtest.New(t, githubtest.Options{Token: token})
	p.hub.AddRepo(hubRepo, p.origin, map[string]string{"main": p.tip})
	v1, v2 := p.commits(p.tip, "1", "2", "3"), p.commits(p.tip, "4", "5", "6")
	p.bad = v1[2]
	n := p.open(v1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range 10000 {
			if state, _ := p.hub.State(hubRepo).Latest(v1[2], "kbisect/series"); state == "pending" {
				break
			}
			time.Sleep(time.Millisecond)
		}
		p.hub.PushPull(hubRepo, n, v2[2], v2)
	}()
	_, errs, status := p.once(token, "--pr", fmt.Sprintf("%s#%d", hubRepo, n), "--post")
	<-ended
	s := p.hub.State(hubRepo)
	state, _ := s.Latest(v1[2], "kbisect/series")
	if status != exitBad || state != "failure" || !strings.Contains(errs, "has other commits now") {
		t.Errorf("status %d, series %s\n%s", status, state, errs)
	}
	if len(s.Comments) != 1 || strings.Contains(s.Comments[0].Body, "❌") {
		t.Errorf("%+v", s.Comments)
	}
}

// What is wrong with the set-up is said in a line each, and secrets are not said.
func TestGitHubSetup(t *testing.T) {
	t.Parallel()
	p := newPulled(t, "1ms", true)
	file := p.args[1]
	run := func(env ...string) (string, int) {
		t.Helper()
		cmd := exec.Command(os.Args[0], "github", "check-setup", "--config", file)
		cmd.Env = p.env(env...)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	if out, status := run(); status != 0 || !strings.Contains(out, "all permissions are there") || strings.Contains(out, hookSecret) || strings.Contains(out, "default_permissions") {
		t.Errorf("status %d\n%s", status, out)
	}
	change := func(from, to string) {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(strings.Replace(string(text), from, to, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	change("app: {id: 5, key_file: app.pem}", "app: {id: 6, key_file: app.pem}")
	if out, status := run(); status != exitInfra || !strings.Contains(out, "is it the right key of App 6?") || strings.Count(out, "\n") != 1 {
		t.Errorf("status %d\n%s", status, out)
	}
	change("app: {id: 6, key_file: app.pem}", "token_file: secret")
	if out, status := run(); status != exitInfra || !strings.Contains(out, "MISS") || !strings.Contains(out, `"default_permissions"`) || strings.Contains(out, hookSecret) {
		t.Errorf("status %d\n%s", status, out)
	}
	if err := os.Chmod(filepath.Join(filepath.Dir(file), "secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, status := run(); status != exitUsage || !strings.Contains(out, "everybody may read") {
		t.Errorf("status %d\n%s", status, out)
	}
	change("  token_file: secret\n", "")
	change("  webhook: {secret_file: secret}\n", "")
	if out, status := run(); status != exitUsage || !strings.Contains(out, "no credentials") {
		t.Errorf("status %d\n%s", status, out)
	}
	if out, _ := run("KBISECT_GITHUB_TOKEN=ghp_y"); strings.Contains(out, "ghp_y") || !strings.Contains(out, "MISS") {
		t.Errorf("%s", out)
	}
}
