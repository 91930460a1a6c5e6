package app

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// mint makes a token as a user does, and the lines for the configuration.
func mint(t *testing.T, args ...string) (token, entry string) {
	t.Helper()
	var out, said bytes.Buffer
	o := &options{args: append([]string{"token"}, args...), stdout: &out, stderr: &said}
	if code := o.main(); code != 0 {
		t.Fatalf("token: %d\n%s", code, &said)
	}
	_, entry, _ = strings.Cut(said.String(), "\n\n")
	return strings.TrimSpace(out.String()), entry
}

// call sends a request to the API and decodes the answer.
func (s *served) call(token, method, path string, body, into any) int {
	s.t.Helper()
	var r io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			s.t.Fatal(err)
		}
		r = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, s.url+path, r)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if s.key != "" {
		req.Header.Set("Idempotency-Key", s.key)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if into != nil && resp.StatusCode < 300 {
		if err := json.Unmarshal(text, into); err != nil {
			s.t.Fatalf("%s %s: %v\n%s", method, path, err, text)
		}
	}
	if strings.Contains(string(text), os.TempDir()) {
		s.t.Errorf("%s %s shows a path of the machine: %s", method, path, text)
	}
	if resp.StatusCode >= 300 {
		s.t.Logf("%s %s: %d %s", method, path, resp.StatusCode, strings.TrimSpace(string(text)))
	}
	return resp.StatusCode
}

// polite is how often a script may ask in the long run.
const polite = 150 * time.Millisecond

// A script of a CI submits, follows, reads and cancels, with a token that the
// configuration has the hash of.
func TestServeAPI(t *testing.T) {
	t.Parallel()
	token, entry := mint(t, "ci", "--scope", "submit", "--expires", "2999-12-31")
	reader, more := mint(t, "monitor", "--scope", "read")
	s, repo := newServed(t, 12, 7, "1ms")
	file := filepath.Join(t.TempDir(), "serve.yaml")
	text := "listen: 127.0.0.1:0\nopen: nothing\nrepos:\n  linux: " + repo + "\n" + entry + strings.TrimPrefix(more, "tokens:\n")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.args = []string{"--config", file}
	s.listen = "" // the configuration's
	s.start()
	defer s.stop()

	series := map[string]any{"repo": "linux", "base": "main~8", "head": "main", "tests": []string{"cow/fork-basic/base"}}
	if code := s.call("", "POST", "/api/v1/jobs/series", series, nil); code != http.StatusUnauthorized {
		t.Errorf("without a token: %d", code)
	}
	if code := s.call(reader, "POST", "/api/v1/jobs/series", series, nil); code != http.StatusForbidden {
		t.Errorf("with a token for reading: %d", code)
	}
	if code := s.call("", "GET", "/api/v1/jobs", nil, nil); code != http.StatusUnauthorized {
		t.Errorf("reading without a token: %d", code)
	}
	var job struct{ ID, URL string }
	if code := s.call(token, "POST", "/api/v1/jobs/series", series, &job); code != http.StatusCreated {
		t.Fatalf("submit: %d", code)
	}
	var got struct{ Status, Owner, Verdict string }
	for got.Status != "done" {
		time.Sleep(polite)
		if code := s.call(reader, "GET", "/api/v1/jobs/"+job.ID, nil, &got); code != http.StatusOK || got.Status == "failed" {
			t.Fatalf("%d %+v", code, got)
		}
	}
	if got.Owner != "ci" || !strings.Contains(got.Verdict, "introduces a failure") {
		t.Errorf("%+v", got)
	}
	var res kernel.SeriesResult
	if code := s.call(reader, "GET", "/api/v1/jobs/"+job.ID+"/result?format=json", nil, &res); code != http.StatusOK || len(res.Commits) != 8 || len(res.FirstBad) != 1 {
		t.Errorf("result: %d, %d commits, first bad %v", code, len(res.Commits), res.FirstBad)
	}
	bisect := map[string]any{"repo": "linux", "good": "main~8", "bad": "main", "programs": []any{map[string]string{"name": "flaky.sh", "text": "exit 1\n"}}, "confidence": 0.95}
	if code := s.call(token, "POST", "/api/v1/jobs/bisect", bisect, &job); code != http.StatusCreated {
		t.Fatalf("bisect: %d", code)
	}
	// One job for a key, however often it is asked for.
	s.key = "nightly-2026-11-23"
	var first, second struct {
		ID       string
		Existing bool
	}
	for _, into := range []any{&first, &second} {
		if code := s.call(token, "POST", "/api/v1/jobs/check", map[string]any{"repo": "linux", "rev": "main", "tests": []string{"cow/fork-basic/base"}}, into); code != http.StatusCreated {
			t.Fatalf("check: %d", code)
		}
	}
	if s.key = ""; first.ID != second.ID || first.Existing || !second.Existing {
		t.Errorf("%+v, %+v", first, second)
	}
	for _, c := range []struct {
		name string
		body map[string]any
		want int
	}{
		{"no such commit", map[string]any{"repo": "linux", "base": "nowhere", "head": "main"}, http.StatusUnprocessableEntity},
		{"no such repository", map[string]any{"repo": "windows", "base": "main~1", "head": "main"}, http.StatusUnprocessableEntity},
		{"no such field", map[string]any{"repo": "linux", "base": "main~1", "head": "main", "speed": 9}, http.StatusUnprocessableEntity},
		{"a path", map[string]any{"repo": "/srv/linux", "base": "main~1", "head": "main"}, http.StatusUnprocessableEntity},
		{"an option", map[string]any{"repo": "linux", "base": "--upload-pack=x", "head": "main"}, http.StatusUnprocessableEntity},
	} {
		if code := s.call(token, "POST", "/api/v1/jobs/series", c.body, nil); code != c.want {
			t.Errorf("%s: %d, want %d", c.name, code, c.want)
		}
	}
	for got.Status = ""; got.Status != "done"; time.Sleep(polite) {
		if code := s.call(reader, "GET", "/api/v1/jobs/"+job.ID, nil, &got); code != http.StatusOK || got.Status == "failed" {
			t.Fatalf("%d %+v", code, got)
		}
	}
	if !strings.Contains(got.Verdict, "change 7") {
		t.Errorf("%+v", got)
	}
	if code := s.call(token, "POST", "/api/v1/jobs/"+job.ID+"/cancel", nil, nil); code != http.StatusConflict {
		t.Errorf("cancelling what has ended: %d", code)
	}
	for _, path := range []string{"/api/v1/tests", "/api/v1/kernels", "/api/v1/workers", "/api/v1/profiles", "/api/v1/repos", "/api/v1/version", "/api/v1/jobs/" + job.ID + "/runs", "/openapi.json"} {
		if code := s.call(reader, "GET", path, nil, nil); code != http.StatusOK {
			t.Errorf("%s: %d", path, code)
		}
	}
	// Nothing is shown to who has no token, but that the service lives.
	for path, want := range map[string]int{"/": 404, "/jobs": 404, "/healthz": 200} {
		if code, _ := s.get(path); code != want {
			t.Errorf("%s: %d, want %d", path, code, want)
		}
	}
}

// A mailbox is applied and its patches tested.
func TestServeMailbox(t *testing.T) {
	t.Parallel()
	s, repo := newServed(t, 12, 7, "1ms")
	token, entry := mint(t, "ci")
	file := filepath.Join(t.TempDir(), "serve.yaml")
	if err := os.WriteFile(file, []byte("listen: 127.0.0.1:0\nrepos:\n  linux: "+repo+"\n"+entry), 0o600); err != nil {
		t.Fatal(err)
	}
	s.args, s.listen = []string{"--config", file}, ""
	s.start()
	defer s.stop()
	mbox, err := exec.Command("git", "-C", repo, "format-patch", "--stdout", "main~3..main").Output()
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest("POST", s.url+"/api/v1/jobs/series?repo=linux&base=main~3", bytes.NewReader(mbox))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "message/rfc822")
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	var job struct{ ID string }
	if err := json.Unmarshal(text, &job); err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("%s: %s", resp.Status, text)
	}
	for s.active() > 0 {
		time.Sleep(20 * time.Millisecond)
	}
	var res kernel.SeriesResult
	if code := s.call(token, "GET", "/api/v1/jobs/"+job.ID+"/result?format=json", nil, &res); code != http.StatusOK || len(res.Commits) != 3 || res.Commits[0].Subject != "mm: change 9" {
		t.Errorf("%d, %+v", code, res.Commits)
	}
}

// With --server a command does as it does here: the report, and the status.
func TestServer(t *testing.T) {
	s, repo := newServed(t, 30, 24, "1ms")
	token, entry := mint(t, "ci")
	file := filepath.Join(t.TempDir(), "serve.yaml")
	if err := os.WriteFile(file, []byte("listen: 127.0.0.1:0\nrepos:\n  linux: "+repo+"\n"+entry), 0o600); err != nil {
		t.Fatal(err)
	}
	s.args, s.listen = []string{"--config", file}, ""
	s.start()
	defer s.stop()
	dir := t.TempDir()
	own := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	git := func(args ...string) string {
		out, err := exec.Command("git", append([]string{"-C", repo}, args...)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	git("branch", "side", "main~3")
	mail := own("mail", git("format-patch", "--stdout", "main~3..main"))
	longer := own("longer", git("format-patch", "--stdout", "main~8..main"))
	patches := filepath.Join(dir, "patches")
	git("format-patch", "-o", patches, "main~8..main")
	in, err := os.Open(mail)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer func(was *os.File) { os.Stdin = was }(os.Stdin)
	os.Stdin = in
	for _, c := range []struct {
		token  string
		args   string
		status int
		stdout string // or stderr
	}{
		{token, "series --mbox " + mail + " --repo linux --test cow/fork-basic/base --format json", 0, `"subject": "mm: change 29"`},
		{token, "series --mbox - --base side --repo linux --test cow/fork-basic/base --format json", 0, `"subject": "mm: change 29"`},
		{token, "series --mbox " + own("text", "hello\n") + " --repo linux", exitUsage, "the mail: 0 mails without a patch"},
		{token, "series main~8..main --repo linux --test cow/fork-basic/base", exitBad, `"mm: change 24" breaks cow/fork-basic/base`},
		{token, "series main~3..main~1 --repo linux --test cow/fork-basic/base --format json", exitBad, `"schema": "kbisect/series/v1"`},
		{token, "bisect --repo linux --good main~20 --bad main --script " + own("own.sh", "exit 0\n"), 0, "found: "},
		{token, "bisect --repo linux --mbox " + longer + " --base main~8 --test cow/fork-basic/base --max-runs 60", exitNoConclusion, `] mm: change 21`}, // its commits are others, which never fail here
		{token, "series --mbox " + patches + " --base main~8 --repo linux --test cow/fork-basic/base --format json", 0, `"subject": "mm: change 29"`},
		{token, "bisect --repo linux --mbox " + patches + " --base main~8 --test cow/fork-basic/base --max-runs 60", exitNoConclusion, `] mm: change 21`},
		{token, "series --mbox " + t.TempDir() + " --repo linux", exitUsage, "no mail in it"},
		{token, "bisect --repo linux --good main~8 --bad main --base side --test cow/fork-basic/base", exitUsage, "--base is for --mbox"},
		{token, "check --repo linux --rev main~12 --test cow/fork-basic/base", 0, "good"},
		{token, "check --repo linux --rev main~12 --test cow/fork-basic/base --test-timeout 90s --kconfig " + own("debug.config", "CONFIG_DEBUG_VM=y\n"), 0, "--kconfig debug.config --test-timeout 1m30s"},
		{token, "check --repo linux --rev main --kconfig " + own("bad.config", "DEBUG_VM\n"), exitUsage, "bad.config"},
		{token, "check --repo linux --rev main --allow-console " + own("allowed", "WARNING.*\n"), exitUsage, "no reason"},
		{token, "check --repo linux --rev main --test-timeout 1500ms", exitUsage, "whole seconds"},
		{token, "series nowhere..main --repo linux", exitUsage, "no such revision: nowhere"},
		{token, "series main~3..main --repo windows", exitUsage, "neither a configured repository"},
		{token, "series main~3..main --repo linux --test cow/none", exitUsage, "matches no test"},
		{token, "series main~3..main --repo linux --no-sandbox", exitUsage, "--no-sandbox is not for a service"},
		{"kb_aaaa_aaaa", "series main~3..main --repo linux", exitUsage, "token"},
	} {
		t.Setenv(tokenVariable, c.token)
		var stdout, stderr bytes.Buffer
		o := &options{args: append(strings.Fields(c.args), "--server", s.url), stdout: &stdout, stderr: &stderr}
		if status := o.main(); status != c.status || !strings.Contains(stdout.String()+stderr.String(), c.stdout) {
			t.Errorf("%s: status %d, want %d\n%s%s", c.args, status, c.status, &stdout, &stderr)
		}
	}
	t.Setenv(tokenVariable, token)
	var stderr bytes.Buffer
	o := &options{args: strings.Fields("check --repo linux --server http://127.0.0.1:1"), stdout: io.Discard, stderr: &stderr}
	if status := o.main(); status != exitInfra || strings.Count(stderr.String(), "\n") != 1 {
		t.Errorf("no server: %d, %s", status, &stderr)
	}
}
