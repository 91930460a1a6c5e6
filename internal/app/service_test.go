package app

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
	"github.com/kernel-bisect/kbisect/internal/job"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
	"github.com/kernel-bisect/kbisect/internal/store"
)

// simulated stands for compilers and guests: commits whose subject has "bad" or
// whose ancestors have fail four of ten runs, by what number of run it is. The
// k-th run of a test on a commit in a job has the same outcome always, so that
// a job that was killed must come to the answer of one that was not.
type simulated struct {
	job.Record
	mu    sync.Mutex
	made  map[string]int    // runs recorded, by cell
	cells map[string]string // the cell of what a run is one of: a confirmation's is another than the search's
	last  string            // cell that has no runs yet, asked for before its first
}

func newSimulation(bad func(sha string) bool, always bool, slow time.Duration) *simulation {
	return &simulation{lab: func(l *job.Lab) {
		l.Build = func(ctx context.Context, c kernel.Commit) (kernel.Build, error) {
			if err := pause(ctx, 3*slow); err != nil {
				return kernel.Build{}, err
			}
			return kernel.Build{Status: kernel.BuildOK, Kernel: kernel.Kernel{Digest: c.SHA, Release: "6.1.0-simulated"}}, nil
		}
		l.BuildClean = l.Build
		l.Boot = func(ctx context.Context, k kernel.Kernel) (job.Bench, kernel.Boot, error) {
			return &simulatedBench{k.Digest, bad, always, slow}, kernel.Boot{Status: kernel.BootOK, Release: k.Release}, pause(ctx, slow)
		}
	}, record: func(l *job.Lab) {
		s := &simulated{Record: l.Record, made: map[string]int{}, cells: map[string]string{}}
		l.Record, l.Fresh = s, true
		l.Revert = func(context.Context, kernel.Commit, kernel.Commit) (kernel.Commit, string, error) {
			return kernel.Commit{}, "it is simulated", nil
		}
		boot := l.Boot
		l.Boot = func(ctx context.Context, k kernel.Kernel) (job.Bench, kernel.Boot, error) {
			b, how, err := boot(ctx, k)
			if b == nil {
				return b, how, err
			}
			return &numberedBench{b, s, k.Digest}, how, err
		}
	}}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *simulated) Runs(ctx context.Context, cell, job string) ([]kernel.Run, error) {
	runs, err := s.Record.Runs(ctx, cell, job)
	if strings.HasSuffix(cell, "-shared") { // no guest is shared here
		return runs, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made[cell], s.last = len(runs), cell
	if len(runs) > 0 { // they come first
		s.cells[cellOf(runs[0])], s.last = cell, ""
	}
	return runs, err
}

func (s *simulated) AppendRun(ctx context.Context, job, cell string, r kernel.Run) error {
	err := s.Record.AppendRun(ctx, job, cell, r)
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.made[cell]++
	}
	return err
}

// cellOf is what a run is one of.
func cellOf(r kernel.Run) string { return fmt.Sprintf("%s %s x%d", r.Commit, r.Test, r.Iterations) }

// numberedBench tells who makes a run which of its cell it is.
type numberedBench struct {
	job.Bench
	s   *simulated
	sha string
}

func (b *numberedBench) Run(ctx context.Context, p runner.Program) (kernel.Run, error) {
	key := cellOf(kernel.Run{Test: p.Name, Commit: b.sha, Iterations: p.Iterations})
	b.s.mu.Lock()
	if b.s.last != "" {
		b.s.cells[key], b.s.last = b.s.last, ""
	}
	k := b.s.made[b.s.cells[key]]
	b.s.mu.Unlock()
	p.Argv = append(slices.Clone(p.Argv), strconv.Itoa(k))
	return b.Bench.Run(ctx, p)
}

type simulatedBench struct {
	sha    string
	bad    func(sha string) bool
	always bool // else four runs of ten fail
	slow   time.Duration
}

func (b *simulatedBench) Run(ctx context.Context, p runner.Program) (kernel.Run, error) {
	r := kernel.Run{Test: p.Name, Commit: b.sha, Iterations: p.Iterations, Outcome: kernel.Pass, Duration: b.slow, Output: "ran\n", Console: "[    0.000000] Linux version 6.1\n"}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s", cellOf(r), p.Argv[len(p.Argv)-1]))
	if b.bad(b.sha) && (b.always || binary.BigEndian.Uint16(sum[:])%10 < 4) {
		r.Outcome, r.Reason = kernel.Fail, "the parent's page changed <script>alert(1)</script>"
		r.Signature = kernel.Signature{Kind: "fail", Title: "missed COW"}
	}
	return r, pause(ctx, b.slow)
}

// Guest has what the tests need.
func (b *simulatedBench) Guest() agentproto.Hello {
	return agentproto.Hello{THPSizes: []int64{2 << 20}, SwapKiB: 1 << 17}
}
func (b *simulatedBench) PlanOut(runner.Program) (kernel.Run, bool) { return kernel.Run{}, false }
func (b *simulatedBench) Close()                                    {}
func (b *simulatedBench) RunTogether(context.Context, []runner.Program) (map[string]kernel.Run, error) {
	return nil, nil
}

// serveSimulated is the program of the tests: `orchestrator` with a simulated
// lab, in which the commits named in BAD_COMMITS are bad.
func serveSimulated() {
	bad := os.Getenv("BAD_COMMITS")
	slow, _ := time.ParseDuration(os.Getenv("SLOW"))
	o := &options{args: os.Args[1:], stdout: os.Stdout, stderr: os.Stderr, simulate: newSimulation(func(sha string) bool { return strings.Contains(bad, sha) }, os.Getenv("FAILS") == "always", slow)}
	os.Exit(o.main())
}

// smallKernel makes a repository with so many commits that looks like a
// kernel's, and returns it and the commits, oldest first.
func smallKernel(t *testing.T, commits int) (dir string, shas []string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "linux")
	git := func(args ...string) string {
		cmd := exec.Command("git", append([]string{"-C", dir}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org",
			"GIT_AUTHOR_DATE=2021-12-21T00:00:00Z", "GIT_COMMITTER_DATE=2021-12-21T00:00:00Z", "GIT_CONFIG_GLOBAL=/dev/null")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	for _, f := range []string{"Kconfig", "Kbuild", "scripts/kconfig/merge_config.sh", "arch/x86/Kconfig"} {
		path := filepath.Join(dir, f)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	git("init", "-q", "-b", "main")
	git("add", ".")
	for i := range commits {
		if err := os.WriteFile(filepath.Join(dir, "change"), fmt.Append(nil, i), 0o644); err != nil {
			t.Fatal(err)
		}
		git("add", ".")
		git("commit", "-q", "-m", fmt.Sprintf("mm: change %d", i))
		shas = append(shas, git("rev-parse", "HEAD"))
	}
	return dir, shas
}

// served is a service under test, in a process of its own.
type served struct {
	t      *testing.T
	home   string
	bad    string
	always bool // its runs fail, else four of ten
	slow   string
	args   []string
	listen string
	key    string // of idempotency, of calls of the API
	cmd    *exec.Cmd
	url    string
	log    *bytes.Buffer
	done   chan struct{}
}

var serving = regexp.MustCompile(`kbisect is at (http://\S+)/ `)

// start starts the service and waits until it says where it is.
func (s *served) start() {
	s.t.Helper()
	args := []string{"serve"}
	if s.listen != "" {
		args = append(args, "--listen", s.listen)
	}
	s.cmd = exec.Command(os.Args[0], append(args, s.args...)...)
	s.cmd.Env = s.env()
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.log, s.done = &bytes.Buffer{}, make(chan struct{})
	at := make(chan string, 1)
	go func() {
		defer close(s.done)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			fmt.Fprintln(s.log, lines.Text())
			if m := serving.FindStringSubmatch(lines.Text()); m != nil {
				at <- m[1]
			}
		}
	}()
	select {
	case s.url = <-at:
	case <-s.done:
		_ = s.cmd.Wait()
		s.t.Fatalf("the service does not start:\n%s", s.log)
	}
}

func (s *served) env(more ...string) []string {
	if s.always {
		more = append(more, "FAILS=always")
	}
	return programEnv(s.home, s.bad, s.slow, more...)
}

// programEnv is what serveSimulated reads.
func programEnv(home, bad, slow string, more ...string) []string {
	return append(append(os.Environ(), "KBISECT_HOME="+home, "KBISECT_TEST_SERVE=1", "BAD_COMMITS="+bad, "SLOW="+slow), more...)
}

// kill ends it as a power cut would.
func (s *served) kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
	_ = s.cmd.Wait()
}

// stop ends it in order.
func (s *served) stop() {
	s.t.Helper()
	_ = s.cmd.Process.Signal(os.Interrupt)
	<-s.done
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("stopped: %v\n%s", err, s.log)
	}
}

func (s *served) get(path string) (int, string) {
	s.t.Helper()
	resp, err := http.Get(s.url + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// post sends a form as the pages do and returns where it leads.
func (s *served) post(path string, form url.Values) (status int, location, body string) {
	s.t.Helper()
	req, err := http.NewRequest(http.MethodPost, s.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header.Get("Location"), string(text)
}

// jobs reads the record of a service that is down: its jobs, and how many runs
// each has made.
func (s *served) jobs() (list []store.Job, runs map[string]int) {
	s.t.Helper()
	db, err := store.Open(s.t.Context(), s.home)
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	list, err = db.Jobs(s.t.Context(), 100)
	if err != nil {
		s.t.Fatal(err)
	}
	runs = map[string]int{}
	for i := range list {
		if list[i], err = db.Job(s.t.Context(), list[i].ID); err != nil {
			s.t.Fatal(err)
		}
		made, err := db.RunSince(s.t.Context(), list[i].ID, 0, 1e6)
		if err != nil {
			s.t.Fatal(err)
		}
		runs[list[i].ID] = len(made)
	}
	return list, runs
}

// cliJob records a job of the command line on some repository.
func (s *served) cliJob(repo string) {
	s.t.Helper()
	if err := os.MkdirAll(s.home, 0o755); err != nil {
		s.t.Fatal(err)
	}
	db, err := store.Open(s.t.Context(), s.home)
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	text, _ := json.Marshal(request{Kind: "series", Repo: repo})
	if err := db.NewJob(s.t.Context(), "series-11111111", "series", text); err != nil {
		s.t.Fatal(err)
	}
	if err := db.SaveJob(s.t.Context(), "series-11111111", store.Done, nil); err != nil {
		s.t.Fatal(err)
	}
}

func (s *served) active() int {
	n := 0
	for _, status := range []string{"running", "queued", "running"} {
		_, body := s.get("/jobs?status=" + status)
		n += strings.Count(body, `href="/jobs/bisect-`) + strings.Count(body, `href="/jobs/series-`) + strings.Count(body, `href="/jobs/check-`)
	}
	return n
}

func (s *served) submit(form url.Values) string {
	s.t.Helper()
	status, where, body := s.post("/submit", form)
	id, ok := strings.CutPrefix(where, "/jobs/")
	if !ok {
		s.t.Fatalf("submit %v: %d %q\n%s", form, status, where, body)
	}
	return id
}

func newServed(t *testing.T, commits, firstBad int, slow string) (s *served, repo string) {
	repo, shas := smallKernel(t, commits)
	return &served{t: t, home: filepath.Join(t.TempDir(), "home"), bad: strings.Join(shas[firstBad:], " "), slow: slow, listen: "127.0.0.1:0", args: []string{"--repo", "linux=" + repo}}, repo
}

// threeJobs asks for one of each kind that is worth resuming.
func (s *served) threeJobs() {
	s.submit(url.Values{"kind": {"bisect"}, "repo": {"linux"}, "range": {"main~29..main"}, "tests": {"cow/fork-basic/base"}})
	s.submit(url.Values{"kind": {"bisect"}, "repo": {"linux"}, "range": {"main~20..main"}, "tests": {"cow/vmsplice-child-unmap/thp-pmd"}})
	s.submit(url.Values{"kind": {"series"}, "repo": {"linux"}, "range": {"main~8..main~2"}, "tests": {"cow/fork-basic/base cow/fork-basic/thp-pmd"}})
}

// A service that is killed at any moment, over and over, ends every job with the
// answer of one that is left alone, with no run lost and none made twice.
func TestServeSurvivesKill(t *testing.T) {
	t.Parallel()
	want := undisturbed(t)

	kills, slow := 8, "3ms"
	if os.Getenv("KBISECT_NOISE") != "" {
		kills, slow = 60, "8ms"
	}
	s, _ := newServed(t, 30, 24, slow)
	s.start()
	s.threeJobs()
	for range kills {
		time.Sleep(time.Duration(rand.Int64N(int64(400 * time.Millisecond))))
		s.kill()
		s.start()
	}
	s.settle()
	s.stop()
	jobs, runs := s.jobs()
	if diff := cmp.Diff(want, answers(t, jobs, runs)); diff != "" {
		t.Errorf("after %d kills:\n%s", kills, diff)
	}
	attempts := 0
	for _, j := range jobs {
		attempts += j.Attempt
	}
	t.Logf("%d kills, %d attempts at 3 jobs", kills, attempts)
	if attempts <= len(jobs) {
		t.Error("no job was cut short: the test is too easy")
	}
}

// answers are the results of jobs by what was asked, without times and ids.
func answers(t *testing.T, jobs []store.Job, recorded map[string]int) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, j := range jobs {
		req, err := decodeRequest(j.Request)
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("%s %s, %d runs recorded:", j.Status, j.Error, recorded[j.ID])
		switch j.Kind {
		case "bisect":
			var r kernel.BisectResult
			if err := json.Unmarshal(j.Result, &r); err != nil {
				t.Fatalf("%s: %v (%s)", j.ID, err, text)
			}
			text += fmt.Sprintf(" %s %v %d runs %d steps", r.Status, r.Culprit, r.Runs, len(r.Steps))
		case "series":
			var r kernel.SeriesResult
			if err := json.Unmarshal(j.Result, &r); err != nil {
				t.Fatalf("%s: %v (%s)", j.ID, err, text)
			}
			for _, c := range r.Commits {
				for _, x := range c.Tests {
					text += fmt.Sprintf(" %s:%s:%d/%d", c.Subject, x.Verdict, x.Fails, x.Runs)
				}
			}
		}
		out[j.Kind+" "+strings.Join(req.Tests, " ")] = text
	}
	return out
}

// What a user does first: look, ask for a series, follow it, read its page.
func TestServePages(t *testing.T) {
	t.Parallel()
	s, _ := newServed(t, 12, 7, "1ms")
	s.cliJob(t.TempDir())
	s.start()
	defer s.stop()
	for _, path := range []string{"/", "/jobs", "/submit", "/tests", "/kernels", "/workers"} {
		if status, body := s.get(path); status != http.StatusOK || !strings.Contains(body, "</html>") {
			t.Errorf("%s: %d\n%s", path, status, body)
		}
	}
	// Another repository was used on the command line: the form must offer what is configured.
	if _, body := s.get("/submit"); !strings.Contains(body, `name="repo" value="linux"`) {
		t.Errorf("the form:\n%s", body)
	}
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ready", "/metrics": "kbisect_jobs_queued 0"} {
		if status, body := s.get(path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d\n%s", path, status, body)
		}
	}
	for _, path := range []string{"/", "/api/v1/jobs", "/openapi.json"} { // a page of a stranger may have its own name lead here
		req, err := http.NewRequest(http.MethodGet, s.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "evil.example.org"
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _ = resp.Body.Close(); resp.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("%s under another name: %s", path, resp.Status)
		}
	}
	if status, _ := s.get("/jobs/bisect-00000000"); status != http.StatusNotFound {
		t.Errorf("a job that is not: %d", status)
	}
	form := url.Values{"kind": {"series"}, "repo": {"linux"}, "range": {"main~8..main"}, "tests": {"cow/fork-basic/base"}}
	id := s.submit(form)
	s.settle()
	_, page := s.get("/jobs/" + id)
	for _, want := range []string{"mm: change 7", "cow/fork-basic/base", "done"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page of %s has no %q:\n%s", id, want, page)
		}
	}
	if strings.Contains(page, "<script>alert") {
		t.Error("what a test said is markup")
	}
	if _, body := s.get("/metrics"); !strings.Contains(body, `kbisect_jobs_total{kind="series",status="done"} 1`) || !strings.Contains(body, `kbisect_runs_total{outcome="fail"}`) {
		t.Errorf("metrics:\n%s", body)
	}
	// Mistakes are said beside the form, and queue nothing.
	for _, c := range []struct {
		field, value, want string
	}{{"range", "nowhere..main", "nowhere"}, {"tests", "cow/no-such", "no-such"}, {"repo", "windows", "epository"}, {"profile", "tiny", "rofile"}} {
		bad := url.Values{}
		for k, v := range form {
			bad[k] = v
		}
		bad.Set(c.field, c.value)
		if status, where, body := s.post("/submit", bad); status != http.StatusUnprocessableEntity && status != http.StatusBadRequest || where != "" || !strings.Contains(body, c.want) {
			t.Errorf("%s %s: %d, %q\n%s", c.field, c.value, status, where, body)
		}
	}
}

// The same question asked twice while it is open is one job; it can be cancelled,
// and asked again.
func TestServeCancelAndRetry(t *testing.T) {
	t.Parallel()
	s, _ := newServed(t, 30, 24, "30ms")
	s.start()
	defer s.stop()
	form := url.Values{"kind": {"bisect"}, "repo": {"linux"}, "range": {"main~29..main"}, "tests": {"cow/fork-basic/base"}}
	id := s.submit(form)
	if again := s.submit(form); again != id {
		t.Errorf("asked twice: %s and %s", id, again)
	}
	if status, _, body := s.post("/jobs/"+id+"/cancel", nil); status != http.StatusSeeOther {
		t.Fatalf("cancel: %d\n%s", status, body)
	}
	for s.active() > 0 {
		time.Sleep(10 * time.Millisecond)
	}
	if _, page := s.get("/jobs/" + id); !strings.Contains(page, "cancelled") {
		t.Errorf("after cancel:\n%s", page)
	}
	if status, _, body := s.post("/jobs/"+id+"/retry", nil); status != http.StatusSeeOther {
		t.Fatalf("retry: %d\n%s", status, body)
	}
	s.settle()
	if _, page := s.get("/jobs/" + id); !strings.Contains(page, "mm: change 24") {
		t.Errorf("after retry:\n%s", page)
	}
}

// Somebody who waits does not wait for a nightly to end: it gives way.
func TestWaitingBeforeNightly(t *testing.T) {
	t.Parallel()
	s, repo := newServed(t, 30, 24, "10ms")
	token, entry := mint(t, "ci")
	file := filepath.Join(t.TempDir(), "serve.yaml")
	if err := os.WriteFile(file, []byte("listen: 127.0.0.1:0\nslots: 1\nrepos:\n  linux: "+repo+"\n"+entry), 0o600); err != nil {
		t.Fatal(err)
	}
	s.args, s.listen = []string{"--config", file}, ""
	s.start()
	defer s.stop()
	ask := func(priority, test string) string {
		var job struct{ ID string }
		if code := s.call(token, "POST", "/api/v1/jobs/series", map[string]any{"repo": "linux", "base": "main~28", "head": "main~4", "tests": []string{test}, "priority": priority, "runs": 5}, &job); code != http.StatusCreated {
			t.Fatal(code)
		}
		return job.ID
	}
	status := func(id string) string {
		var got struct{ Status string }
		s.call(token, "GET", "/api/v1/jobs/"+id, nil, &got)
		return got.Status
	}
	nightly, second := ask("nightly", "cow/fork-basic/base"), ask("nightly", "cow/fork-basic/thp-pmd")
	for status(nightly) != "running" {
		time.Sleep(polite)
	}
	waiting := ask("waiting", "cow/vmsplice-child-unmap/thp-pmd")
	for status(waiting) != "done" {
		time.Sleep(polite)
	}
	if a, b := status(nightly), status(second); a != "running" || b != "queued" {
		t.Errorf("nightly %s, second %s: want it to have given way, and one at a time", a, b)
	}
	if _, text := s.get("/metrics"); !strings.Contains(text, "kbisect_worker_slots 1\n") || !strings.Contains(text, "kbisect_jobs_queued 1\n") {
		t.Errorf("metrics:\n%s", text)
	}
	for _, id := range []string{nightly, second} {
		if code := s.call(token, "POST", "/api/v1/jobs/"+id+"/cancel", nil, nil); code != http.StatusOK {
			t.Error(code)
		}
	}
}

// Who cancels a job while it is taken from the queue finds nobody who carries it
// out: the wish is in the record, and read.
func TestCancelledWhileTaken(t *testing.T) {
	db, err := store.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s := &service{ws: &workspace{store: db}, log: zap.NewNop(), running: map[string]underWay{}}
	if _, _, err := db.Enqueue(t.Context(), store.NewJob{ID: "check-1", Kind: "check", Request: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	j, _, err := db.Next(t.Context(), store.Nightly)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cancel(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancelCause(t.Context())
	defer end(nil)
	if s.begin(j, end); !errors.Is(context.Cause(ctx), errCancelled) {
		t.Error(context.Cause(ctx))
	}
}
