//go:build e2e

package tests

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// server is a running `orchestrator serve`.
type server struct {
	cmd  *exec.Cmd
	url  string
	gone chan struct{} // closed when it has closed its standard error
}

var servedAt = regexp.MustCompile(`kbisect is at (http://\S+)/ `)

// serve starts the service and waits until it says where it is.
func serve(t *testing.T, args ...string) *server {
	t.Helper()
	args = append([]string{"serve", "--listen", "127.0.0.1:0", "--repo", "linux=" + seriesRepo}, args...)
	s := &server{cmd: command(context.WithoutCancel(t.Context()), args...), gone: make(chan struct{})}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	at := make(chan string, 1)
	go func() {
		defer close(s.gone)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if m := servedAt.FindStringSubmatch(lines.Text()); m != nil {
				at <- m[1]
			} else if os.Getenv("KBISECT_VERBOSE") != "" {
				t.Log(lines.Text())
			}
		}
	}()
	select {
	case s.url = <-at:
	case <-s.gone:
		_ = s.cmd.Wait()
		t.Fatal("the service does not start")
	}
	return s
}

// end sends a signal and waits for the end.
func (s *server) end(t *testing.T, how syscall.Signal) {
	t.Helper()
	_ = s.cmd.Process.Signal(how)
	<-s.gone
	if err := s.cmd.Wait(); err != nil && how != syscall.SIGKILL {
		t.Errorf("the service ended with %v", err)
	}
	waitNone(t)
}

func (s *server) get(t *testing.T, path string) string {
	t.Helper()
	resp, err := http.Get(s.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", path, resp.Status, err)
	}
	return string(body)
}

// submit asks for a job as the page does, and returns its id.
func (s *server) submit(t *testing.T, form url.Values) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, s.url+"/submit", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	id, ok := strings.CutPrefix(resp.Header.Get("Location"), "/jobs/")
	if !ok {
		t.Fatalf("submit %v: %s", form, resp.Status)
	}
	return id
}

// ask asks the API for a job, and returns its id.
func (s *server) ask(t *testing.T, token, kind string, what map[string]any) string {
	t.Helper()
	body, err := json.Marshal(what)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, s.url+"/api/v1/jobs/"+kind, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	var job struct{ ID string }
	if err := json.Unmarshal(text, &job); err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("%s: %s %s", kind, resp.Status, text)
	}
	return job.ID
}

// working says whether a job is queued or under way.
func (s *server) working(t *testing.T) bool {
	t.Helper()
	for _, status := range []string{"running", "queued", "running"} { // a job may go from one list to the other meanwhile
		if strings.Contains(s.get(t, "/jobs?status="+status), `href="/jobs/`) && !strings.Contains(s.get(t, "/jobs?status="+status), "No job") {
			return true
		}
	}
	return false
}

// A service with guests up is killed and started again, three times: every job
// comes to its end with the right answer, and nothing is left running.
func TestServeSurvivesKill(t *testing.T) {
	made := run(t, "token", "e2e")
	_, entry, _ := strings.Cut(made.stderr, "\n\n")
	config := filepath.Join(t.TempDir(), "serve.yaml")
	if err := os.WriteFile(config, []byte(entry), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, "--config", config)
	ask := func(kind string, what map[string]any) string {
		what["repo"], what["tests"], what["fresh"] = "linux", []string{plantedTest}, true
		return s.ask(t, strings.TrimSpace(made.stdout), kind, what)
	}
	bisect := ask("bisect", map[string]any{"good": "base", "bad": "series"})
	series := ask("series", map[string]any{"base": "series~5", "head": "series", "runs": 20})
	for kills := range 3 {
		time.Sleep(time.Second + time.Duration(rand.Int64N(int64(5*time.Second))))
		s.end(t, syscall.SIGKILL)
		t.Logf("kill %d: %s has %d runs, %s %d", kills+1, bisect, recordedRuns(t, bisect), series, recordedRuns(t, series))
		s = serve(t, "--config", config)
	}
	for s.working(t) {
		time.Sleep(200 * time.Millisecond)
	}
	s.end(t, syscall.SIGINT)
	b := decode[kernel.BisectResult](t, 0, "report", bisect)
	if b.Status != kernel.Found || b.Culprit == nil || b.Culprit.Subject != plantedSubject || b.Confirmation == nil {
		t.Errorf("bisect: %s, %v", b.Status, b.Culprit)
	}
	r := decode[kernel.SeriesResult](t, 0, "report", series)
	if r.Status != "done" || len(r.Commits) != 5 || len(r.FirstBad) != 1 {
		t.Errorf("series: %s, %d commits, first bad %v", r.Status, len(r.Commits), r.FirstBad)
	}
}

// browser is a page in chromium.
type browser struct {
	t     *testing.T
	tab   context.Context //nolint:containedctx // that is what a tab is to chromedp
	shots string          // directory for screenshots, "" for none
}

// patience is how long a page may take to show what is waited for: the kernels
// of a series are booted meanwhile.
const patience = 5 * time.Minute

// do carries out actions, waits until an expression of the page is true, and
// takes a picture.
func (b *browser) do(name, until string, actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.tab, actions...); err != nil {
		b.t.Fatalf("%s: %v", name, err)
	}
	defer b.picture(name)
	for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		// A page that is being replaced has no document for a moment.
		if done, err := chromedp.Run(b.tab, chromedp.Evaluate[bool]("Boolean("+until+")")); err == nil && done {
			return
		} else if time.Since(start) > patience {
			b.t.Fatalf("%s: %s does not become true (%v):\n%s", name, until, err, b.text("document.documentElement.outerHTML"))
		}
	}
}

func (b *browser) picture(name string) {
	if b.shots == "" {
		return
	}
	if png, err := chromedp.Run(b.tab, chromedp.CaptureScreenshot()); err == nil {
		_ = os.WriteFile(filepath.Join(b.shots, name+".png"), png, 0o644)
	}
}

// text evaluates an expression that is a string.
func (b *browser) text(expression string) string {
	b.t.Helper()
	s, err := chromedp.Run(b.tab, chromedp.Evaluate[string](expression))
	if err != nil {
		b.t.Errorf("%s: %v", expression, err)
	}
	return s
}

const pageText = `document.querySelector("main").innerText`

// A new user with a browser: a range is pasted, the job is watched to its end
// without a reload, and the failing cell leads to its console.
// KBISECT_SCREENSHOTS=DIR keeps pictures.
func TestServeInABrowser(t *testing.T) {
	if _, err := exec.LookPath("chromium"); err != nil {
		t.Skip("no chromium here: deploy/install-deps --tests installs it")
	}
	s := serve(t)
	defer s.end(t, syscall.SIGINT)
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.WindowSize(1280, 1000))
	alloc, cancel := chromedp.NewExecAllocator(t.Context(), opts...)
	defer cancel()
	ctx, cancel := chromedp.NewContext(alloc, chromedp.WithErrorf(t.Logf))
	defer cancel()
	b := &browser{t, ctx, os.Getenv("KBISECT_SCREENSHOTS")}

	b.do("overview", `document.querySelector('a[href^="/submit"]')`, chromedp.Navigate(s.url+"/"))
	b.do("form", `document.querySelector("#range")`, chromedp.Navigate(s.url+"/submit"))
	b.do("running", `location.pathname.startsWith("/jobs/series-")`,
		chromedp.SendKeys("#range", "series~5..series"), chromedp.SendKeys("#tests", plantedTest),
		// A click of the mouse may meet the list of names that unfolds over the button.
		chromedp.Evaluate[chromedp.Void](`document.querySelector("form.submit button").click()`))
	loaded := b.text("String(performance.timeOrigin)")
	b.do("series", `document.querySelector("h1").innerText.startsWith("1 of 5 commits introduces a failure")`)
	if b.text("String(performance.timeOrigin)") != loaded {
		t.Error("the page was loaded again: it does not go on by itself")
	}
	if text := b.text(pageText); !strings.Contains(text, plantedSubject) {
		t.Errorf("the page of the series:\n%s", text)
	}
	// From the cell of the first bad commit to its runs, and to the console of one.
	b.do("runs", `location.pathname == "/runs"`, chromedp.Evaluate[chromedp.Void](`[...document.querySelectorAll('td a[href^="/runs?"]')].find(a => a.innerText.startsWith("!")).click()`))
	b.do("run", `location.pathname.startsWith("/runs/")`, chromedp.Evaluate[chromedp.Void](`document.querySelector('a[href^="/runs/"]').click()`))
	if text := b.text(pageText); !strings.Contains(text, plantedTest) || !strings.Contains(text, "missed COW") {
		t.Errorf("the page of a run:\n%s", text)
	}
	bisect := s.submit(t, url.Values{"kind": {"bisect"}, "repo": {"linux"}, "range": {"base..series"}, "tests": {plantedTest}})
	b.do("bisect", `document.querySelector("h1").innerText.startsWith("found: ")`, chromedp.Navigate(s.url+"/jobs/"+bisect))
	charts := b.text(`[...document.querySelectorAll("main svg")].map(x => Math.round(x.getBoundingClientRect().height)).join(" ")`)
	if f := strings.Fields(charts); len(f) < 2 || len(f[0]) < 2 { // two, and no flat line
		t.Errorf("charts of heights %q", charts)
	}
	b.do("phone", `document.querySelector("h1")`, chromedp.EmulateViewport(390, 844), chromedp.Navigate(s.url+"/jobs/"+bisect))
	if w := b.text("String(document.documentElement.scrollWidth)"); w != "390" {
		t.Errorf("on a phone the page is %s pixels wide", w)
	}
}
