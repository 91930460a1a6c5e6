package config

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	got, err := Parse("c.yaml", "/etc/kbisect", []byte(`
listen: 0.0.0.0:8080
url: https://kbisect.example.org
repos:
  linux: /srv/linux.git
  next: next
slots: 3
open: read
log: json
`), "")
	want := &Config{Listen: "0.0.0.0:8080", URL: "https://kbisect.example.org", Slots: ptr(3), Artifacts: days(90, 14), Open: OpenRead, Log: "json",
		Repos: map[string]string{"linux": "/srv/linux.git", "next": "/etc/kbisect/next"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestDefaults(t *testing.T) {
	for text, want := range map[string]Config{
		"":                     {Listen: DefaultListen, URL: "http://" + DefaultListen, Slots: ptr(2), Artifacts: days(90, 14), Open: OpenAll},
		"# nothing\n":          {Listen: DefaultListen, URL: "http://" + DefaultListen, Slots: ptr(2), Artifacts: days(90, 14), Open: OpenAll},
		"listen: '[::1]:80'\n": {Listen: "[::1]:80", URL: "http://[::1]:80", Slots: ptr(2), Artifacts: days(90, 14), Open: OpenAll},
		"artifacts:\n  url: art\n  keep_logs: 0\n": {Listen: DefaultListen, URL: "http://" + DefaultListen, Slots: ptr(2), Artifacts: Artifacts{URL: "/art", Logs: ptr(0), Kernels: ptr(14)}, Open: OpenAll},
		"listen: localhost:80\n":                   {Listen: "localhost:80", URL: "http://localhost:80", Slots: ptr(2), Artifacts: days(90, 14), Open: OpenAll},
		"listen: :8080\nurl: http://a\n":           {Listen: ":8080", URL: "http://a", Slots: ptr(2), Artifacts: days(90, 14), Open: OpenRead},
	} {
		got, err := Parse("c.yaml", "/", []byte(text), "")
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("%q:\n%s", text, diff)
		}
	}
}

// An address from the command line must not open what the file's would not have.
func TestListenInstead(t *testing.T) {
	for text, want := range map[string]string{"": OpenRead, "open: nothing\n": OpenNothing, "open: all\n": OpenAll, "listen: 127.0.0.1:1\n": OpenRead} {
		c, err := Parse("c.yaml", "/", []byte(text), "0.0.0.0:80")
		if err != nil || c.Open != want || c.Listen != "0.0.0.0:80" || c.URL != "http://0.0.0.0:80" {
			t.Errorf("%q: %+v, %v", text, c, err)
		}
	}
}

func TestParseGitHub(t *testing.T) {
	c, err := Parse("c.yaml", "/etc/kbisect", []byte(`
repos: {linux: /srv/linux}
github:
  app: {id: 7, key_file: app.pem}
  webhook: {secret_file: /run/secret}
  repos:
  - name: torvalds/linux
    repo: linux
    profiles: [cow]
    branches: [master]
    commands: admin
    post: [checks, comment]
  - {name: a/b.c, repo: linux, max_commits: 9}
`), "")
	if err != nil {
		t.Fatal(err)
	}
	want := &GitHub{App: GitHubApp{7, "/etc/kbisect/app.pem"}, Webhook: GitHubWebhook{"/run/secret"}, Repos: []GitHubRepo{
		{Name: "torvalds/linux", Repo: "linux", Profiles: []string{"cow"}, Branches: []string{"master"}, MaxCommits: 50, Commands: "admin", Post: []string{"checks", "comment"}},
		{Name: "a/b.c", Repo: "linux", MaxCommits: 9},
	}}
	if diff := cmp.Diff(want, c.GitHub); diff != "" {
		t.Error(diff)
	}
	g := c.GitHub
	if a, b, p := g.PollEvery(true), g.PollEvery(false), g.PostingPace(); a != 0 || b != time.Minute || p != time.Second {
		t.Error(a, b, p)
	}
}

// What is wrong is shown where it stands.
func TestErrors(t *testing.T) {
	for text, want := range map[string][]string{
		"lisen: a:1\n":                                   {"c.yaml: line 1: unknown field", "^"},
		"listen: 1\nslots: many\n":                       {"c.yaml: line 2: ", "^"},
		"listen: [\n":                                    {"c.yaml: line "},
		"listen: here\n":                                 {`c.yaml: listen: "here" is no HOST:PORT`, "(line 1)", "^"},
		"log: json\nadmin: x:99999999\n":                 {`c.yaml: admin: "x:99999999"`, "(line 2)", "^"},
		"slots: -1\n":                                    {"c.yaml: slots: -1: 0 to 256", "^"},
		"artifacts:\n  keep_logs: -1\n":                  {"artifacts.keep_logs: -1: days", "(line 2)"},
		"slots: 0\n":                                     {"nobody would carry jobs out", "(line 1)"},
		"workers:\n  secrets: {a: b}\n":                  {"c.yaml: workers: no listen", "(line 2)"},
		"workers:\n  listen: :1\n":                       {"c.yaml: workers: no secrets"},
		"workers:\n  listen: :1\n  secrets:\n    a: b\n": {"c.yaml: workers.secrets.a: not sha256", "(line 4)"},
		"workers:\n  listen: :1\n  cert: x\n  secrets: {a: b}\n": {"cert and key go together"},
		"workers:\n  listen: :1\n  secrets: {a.b: b}\n":          {`"a.b" is no name`},
		"workers:\n  listen: here\n  secrets: {a: b}\n":          {`workers.listen: "here" is no HOST:PORT`},
		"open: maybe\n":       {`c.yaml: open: "maybe": nothing, read or all`},
		"log: xml\n":          {`c.yaml: log: "xml": json or text`},
		"url: kbisect\n":      {`c.yaml: url: "kbisect" is no URL`},
		"repos:\n  a/b: /x\n": {`c.yaml: repos: "a/b" is no name`},
		"tokens:\n- id: a\n  name: ci\n  hash: secret\n  scopes: [read]\n": {"tokens[0].hash: not sha256", "(line 4)"},
		"tokens:\n- id: a\n": {"tokens[0].name: whose"},
		"tokens:\n- id: a\n  name: ci\n  hash: sha256:" + strings.Repeat("0", 64) + "\n  scopes: [root]\n":                   {`tokens[0].scopes: "root"`},
		"tokens:\n- id: a\n  name: ci\n  hash: sha256:" + strings.Repeat("0", 64) + "\n  scopes: [read]\n  expires: never\n": {`"never" is no date`},
		"github: {}\n":          {"github.repos: none"},
		"github:\n  url: hub\n": {`github.url: "hub" is no URL`, "(line 2)"},
		"github:\n  repos: [{name: linux, repo: x}]\n":                                                 {`github.repos[0].name: "linux": OWNER/NAME`, "(line 2)"},
		"github:\n  repos: [{name: a/b}]\n":                                                            {"which of repos:"},
		"github:\n  repos: [{name: a/b, repo: x}]\n":                                                   {`"x" is none of repos:`},
		"repos: {x: /x}\n" + gitHubRepos("{name: a/b, repo: x}, {name: a/b, repo: x}"):                 {"a/b is there twice"},
		"repos: {x: /x}\n" + gitHubRepos("{name: a/b, repo: x, max_commits: 501}"):                     {"501: 1 to 500"},
		"repos: {x: /x}\n" + gitHubRepos("{name: a/b, repo: x, commands: all}"):                        {`"all": write or admin`},
		"repos: {x: /x}\n" + gitHubRepos("{name: a/b, repo: x, post: [mail]}"):                         {`"mail": statuses, checks or comment`},
		"repos: {x: /x}\n" + gitHubRepos("{name: a/b, repo: x}") + "  poll: -1\n":                      {"github.poll: -1: seconds"},
		"repos: {x: /x}\n" + gitHubRepos("{name: a/b, repo: x}") + "  pace: -1\n":                      {"github.pace: -1: milliseconds"},
		"repos: {x: /x}\n" + gitHubRepos("{name: a/b, repo: x}") + "  app: {key_file: x}\n":            {"github.app.id: 0"},
		"repos: {x: /x}\n" + gitHubRepos("{name: a/b, repo: x}") + "  token_file: t\n  app: {id: 1}\n": {"exclude each other"},
		"repos:\n  linux:\n":                  {"c.yaml: repos.linux: no directory"},
		"# " + strings.Repeat("x", maxFile+1): {"c.yaml: more than"},
	} {
		_, err := Parse("c.yaml", "/", []byte(text), "")
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%.60q: %v, want %q", text, err, w)
			}
		}
	}
}

func TestParseWorker(t *testing.T) {
	w, err := ParseWorker("w.yaml", "/etc", []byte("server: https://a\nqueue: tls://a:4222\nname: b1\nsecret_file: s\nca: /ca.pem\n"))
	want := &Worker{Server: "https://a", Queue: "tls://a:4222", Name: "b1", SecretFile: "/etc/s", CA: "/ca.pem", Slots: 1}
	if err != nil || !cmp.Equal(want, w) {
		t.Errorf("%v\n%s", err, cmp.Diff(want, w))
	}
	for text, want := range map[string]string{
		"":                                      `server: "" is no URL`,
		"server: http://a\n":                    `queue: "" is no address`,
		"server: http://a\nqueue: nats://a\n":   `queue: "nats://a" is no address`,
		"server: http://a\nqueue: nats://a:1\n": `name: "" is no name`,
		"server: http://a\nqueue: nats://a:1\nname: b\nslots: 0\n": "slots: 0: 1 to 256 (line 4)",
		"server: http://a\nqueue: nats://a:1\nname: b\nlog: xml\n": `log: "xml"`,
		"sever: http://a\n": "w.yaml: line 1: unknown field",
	} {
		if _, err := ParseWorker("w.yaml", "/", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("listen: 127.0.0.1:1\nrepos:\n  a: b\n"))
	f.Add([]byte("slots: 1e9\nopen: *x\n"))
	f.Add([]byte("tokens: !a]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse("c.yaml", "/", text, "")
		if err == nil && (*c.Slots < 0 || c.Listen == "" || c.URL == "") {
			t.Errorf("%+v", c)
		}
	})
}

// The example that is installed is right, and says what the defaults are.
func TestExample(t *testing.T) {
	text, err := os.ReadFile("../../deploy/serve.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse("serve.yaml", "/etc/kbisect", text, "")
	if err != nil {
		t.Fatal(err)
	}
	// What is commented out as a default must be one.
	all := regexp.MustCompile(`(?m)^#(url|slots|open):`).ReplaceAll(text, []byte("$1:"))
	again, err := Parse("serve.yaml", "/etc/kbisect", all, "")
	if diff := cmp.Diff(got, again); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func ptr(n int) *int { return &n }

func days(logs, kernels int) Artifacts { return Artifacts{Logs: &logs, Kernels: &kernels} }

func gitHubRepos(repos string) string { return "github:\n  repos: [" + repos + "]\n" }
