//go:build e2e

package tests

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/github/githubtest"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

const (
	pullRepo    = "torvalds/linux"
	pullSecret  = "a secret"
	pullCulprit = "mm/huge_memory.c" // what the planted commit changes
)

// A pull request of six commits, one of which does not compile and one of which
// breaks copy-on-write, and its next version, in which both are mended: on real
// kernels, with a git server and a GitHub that holds every request against the
// official description.
func TestPullRequest(t *testing.T) {
	githubtest.Require(t)
	base := git(t, seriesRepo, "rev-parse", "series~10")
	v1 := strings.Fields(git(t, seriesRepo, "rev-list", "--reverse", base+"..series~2"))
	v1 = v1[len(v1)-6:]
	base = git(t, seriesRepo, "rev-parse", v1[0]+"^")
	broken, planted := v1[1], v1[3]
	if s := git(t, seriesRepo, "show", "-s", "--format=%s", planted); s != plantedSubject {
		t.Fatalf("the fourth commit is %q", s)
	}

	origin := filepath.Join(t.TempDir(), "origin")
	git(t, "", "clone", "--quiet", "--shared", "--no-checkout", seriesRepo, origin)
	git(t, origin, "sparse-checkout", "set", "--no-cone", "/mm/*")
	// The broken commit and the one that mends it are one now, and the planted
	// one is dropped.
	second := git(t, origin, "commit-tree", "-p", v1[0], "-m", "mm/swap_state: let the caller choose the level", v1[2]+"^{tree}")
	git(t, origin, "checkout", "--quiet", "--detach", second)
	git(t, origin, "cherry-pick", v1[4], v1[5])
	v2 := append([]string{v1[0]}, strings.Fields(git(t, origin, "rev-list", "--reverse", v1[0]+"..HEAD"))...)
	offer := func(head string) { git(t, origin, "update-ref", "refs/pull/1/head", head) }

	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	hub := githubtest.New(t, githubtest.Options{AppID: 5, AppKey: &key.PublicKey})
	hub.AddRepo(pullRepo, origin, map[string]string{"main": base})
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("app.pem", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
	write("secret", pullSecret)
	write("serve.yaml", fmt.Sprintf(`slots: 1
github:
  url: %s
  app: {id: 5, key_file: app.pem}
  webhook: {secret_file: secret}
  pace: 0
  repos:
  - {name: %s, repo: linux, fetch: %s, profiles: [cow], tests: [cow/vmsplice-child-unmap/thp-pmd, cow/fork-basic/base]}
repos: {linux: %s}
`, hub.URL, pullRepo, origin, seriesRepo))
	s := serve(t, "--config", filepath.Join(dir, "serve.yaml"))
	defer s.end(t, syscall.SIGINT)
	hub.Hook(s.url+"/github/webhook", pullSecret)

	until := func(head string) githubtest.State {
		t.Helper()
		for end := time.Now().Add(20 * time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
			st := hub.State(pullRepo)
			state, _ := st.Latest(head, "kbisect/series")
			if state != "" && state != "pending" && len(st.Comments) == 1 && strings.Contains(st.Comments[0].Body, head) && !strings.Contains(st.Comments[0].Body, "⏳") &&
				slices.ContainsFunc(st.Checks, func(c githubtest.Check) bool {
					return c.SHA == head && c.Name == "kbisect/series" && c.Status == "completed"
				}) {
				return st
			}
		}
		t.Fatalf("%s is not tested: %+v", head, hub.State(pullRepo))
		return githubtest.State{}
	}
	expect := func(st githubtest.State, sha, build, test, why string) {
		t.Helper()
		b, _ := st.Latest(sha, "kbisect/build/cow")
		r, said := st.Latest(sha, "kbisect/test/cow")
		if b != build || r != test || !strings.Contains(said, why) {
			t.Errorf("%.12s: build %s, test %s %q; want %s, %s %q", sha, b, r, said, build, test, why)
		}
	}

	offer(v1[5])
	hub.OpenPull(pullRepo, githubtest.Pull{Head: v1[5], Base: base, Commits: v1, Author: "ann"})
	st := until(v1[5])
	expect(st, v1[0], "success", "success", "2 good")
	expect(st, broken, "failure", "error", "does not build")
	expect(st, v1[2], "success", "success", "2 good")
	expect(st, planted, "success", "failure", "1 test bad, introduced here: cow/vmsplice-child-unmap/thp-pmd")
	expect(st, v1[4], "success", "failure", "since "+planted[:12])
	expect(st, v1[5], "success", "failure", "since "+planted[:12])
	for _, c := range st.Checks {
		switch {
		case c.SHA == planted:
			if c.Conclusion != "failure" || len(c.Annotations) != 1 || c.Annotations[0].Path != pullCulprit || !changes(t, planted, c.Annotations[0]) {
				t.Errorf("the culprit: %+v", c)
			}
		case c.SHA == broken:
			if c.Conclusion != "failure" || len(c.Annotations) == 0 || !strings.Contains(c.Annotations[0].Message, "error: ") {
				t.Errorf("the one that does not compile: %+v", c)
			}
			for _, a := range c.Annotations {
				line := git(t, seriesRepo, "show", broken+":"+a.Path)
				if n := strings.Count(line, "\n"); a.Start > n {
					t.Errorf("%+v in a file of %d lines", a, n)
				}
			}
		case len(c.Annotations) > 0:
			t.Errorf("remarks where nothing is wrong: %+v", c)
		}
	}
	first := st.Comments[0]
	if strings.Count(first.Body, "\n| ") != 9 || !strings.Contains(first.Body, planted[:12]) {
		t.Error(first.Body)
	}
	if out := os.Getenv("KBISECT_SCREENS"); out != "" {
		if err := os.WriteFile(filepath.Join(out, "pull.md"), []byte(first.Body), 0o644); err != nil {
			t.Error(err)
		}
	}

	before := len(st.Statuses)
	offer(v2[3])
	hub.PushPull(pullRepo, 1, v2[3], v2)
	st = until(v2[3])
	for _, sha := range v2 {
		expect(st, sha, "success", "success", "2 good")
	}
	if state, why := st.Latest(v2[3], "kbisect/series"); state != "success" {
		t.Errorf("the series: %s %s", state, why)
	}
	for _, x := range st.Statuses[before:] {
		if x.SHA == v1[0] {
			t.Errorf("a commit that did not change is posted on again: %+v", x)
		}
	}
	last := st.Comments[0]
	if len(st.Comments) != 1 || last.ID != first.ID || last.Edits == 0 || !strings.Contains(last.Body, "✅") || !strings.Contains(last.Body, "1 commit is as in the last push") {
		t.Errorf("%d comments\n%s", len(st.Comments), last.Body)
	}
	// What is known is not built again: the tree of the second is an old one's.
	job := last.Body[strings.LastIndex(last.Body, "/jobs/")+len("/jobs/"):]
	job = job[:strings.IndexAny(job, ")\n")]
	for i, want := range []bool{true, true} {
		row := s.row(t, job, i)
		if row.Build.Cached != want {
			t.Errorf("commit %d is built again: %+v", i+1, row.Build)
		}
	}
}

// changes says whether a remark is at lines that a commit changes.
func changes(t *testing.T, sha string, a githubtest.Annotation) bool {
	t.Helper()
	for _, l := range strings.Split(git(t, seriesRepo, "diff-tree", "-p", "-U0", sha, "--", a.Path), "\n") {
		var from, lines int
		if n, _ := fmt.Sscanf(l[strings.LastIndex(l, "+")+1:], "%d,%d", &from, &lines); strings.HasPrefix(l, "@@") && n > 0 && from == a.Start {
			return true
		}
	}
	return false
}

// row is a commit of a series' result.
func (s *server) row(t *testing.T, job string, i int) kernel.CommitResult {
	t.Helper()
	var res kernel.SeriesResult
	if err := json.Unmarshal([]byte(s.get(t, "/jobs/"+job+"/report/json")), &res); err != nil {
		t.Fatal(err)
	}
	return res.Commits[i]
}
