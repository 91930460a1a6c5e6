package web

import (
	"compress/gzip"
	"flag"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden are pages by the name of their file.
var golden = map[string]string{
	"overview": "/", "jobs": "/jobs", "jobs-done": "/jobs?status=done&kind=series", "submit": "/submit", "workers": "/workers", "kernels": "/kernels",
	"tests": "/tests", "tests-flaky": "/tests?flaky=1", "test": "/test?name=cow/vmsplice-child-unmap/thp-pmd",
	"series": "/jobs/series-3", "series-running": "/jobs/series-4", "series-queued": "/jobs/series-5", "bisect": "/jobs/bisect-8",
	"check": "/jobs/check-17", "matrix": "/jobs/matrix-7", "failed": "/jobs/check-18",
	"runs": "/runs", "runs-cell": "/runs?test=cow/vmsplice-child-unmap/thp-pmd&commit=c49f4c1dc49f4c1dc49f4c1dc49f4c1dc49f4c1d",
	"run-crash": "/runs/3", "run-fail": "/runs/2", "not-found": "/jobs/none", "live": "/jobs/series-4/live",
}

// What has its goldens elsewhere, or changes with every style, is left out.
var (
	versionRE = regexp.MustCompile(`\?v=[0-9a-f]{12}"`)
	bodyRE    = regexp.MustCompile(`(?s)(<div id="body"[^>]*>)<header.*</footer>`)
	haveRE    = regexp.MustCompile(`have=\w+`)
)

func TestGolden(t *testing.T) {
	h := New(options(newFake(t)))
	for name, path := range golden {
		got := versionRE.ReplaceAllString(get(h, path).Body.String(), `?v=0"`)
		got = haveRE.ReplaceAllString(bodyRE.ReplaceAllString(got, "${1}the report"), "have=0")
		file := filepath.Join("testdata", name+".html")
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), got); d != "" {
			t.Errorf("%s: page differs (-want +got):\n%s", name, d)
		}
	}
}

var hrefRE = regexp.MustCompile(`\s(?:href|src|hx-get|data-events)="([^"]*)"`)

// visit loads every page that can be reached from the first, and gives them by
// their address.
func visit(t *testing.T, h http.Handler) map[string]string {
	t.Helper()
	pages := map[string]string{}
	for todo := []string{"/"}; len(todo) > 0; todo = todo[1:] {
		path, _, _ := strings.Cut(todo[0], "#")
		if _, seen := pages[path]; seen || path == "" || strings.HasPrefix(path, "/events") {
			continue
		}
		w := get(h, path)
		if w.Code != 200 && w.Code != 204 {
			t.Errorf("%s: %d", path, w.Code)
		}
		pages[path] = w.Body.String()
		if !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") || w.Header().Get("Content-Disposition") != "" {
			pages[path] = "" // not a page
			continue
		}
		for _, m := range hrefRE.FindAllStringSubmatch(pages[path], -1) {
			todo = append(todo, html.UnescapeString(m[1]))
		}
	}
	return pages
}

var (
	siteOnce sync.Once
	site     map[string]string
)

// wholeSite is every page of the fake service.
func wholeSite(t *testing.T) map[string]string {
	siteOnce.Do(func() { site = visit(t, New(options(newFake(t)))) })
	return site
}

// TestLinks follows every link of a site, to the last anchor.
func TestLinks(t *testing.T) {
	pages := wholeSite(t)
	if len(pages) < 40 {
		t.Errorf("only %d pages were reached", len(pages))
	}
	for path, body := range pages {
		for _, m := range hrefRE.FindAllStringSubmatch(body, -1) {
			to, anchor, ok := strings.Cut(html.UnescapeString(m[1]), "#")
			if !ok {
				continue
			}
			if to == "" {
				to = path
			}
			if anchor == "main" || strings.HasSuffix(path, "/live") || strings.HasSuffix(path, "/body") {
				continue
			}
			if target := pages[to]; !strings.Contains(target, `id="`+anchor+`"`) {
				t.Errorf("%s: nothing at %s", path, m[1])
			}
		}
		if strings.Contains(body, "(MISSING)") || strings.Contains(body, "ZgotmplZ") || strings.Contains(body, "<no value>") {
			t.Errorf("%s: a template was not filled in", path)
		}
	}
}

// TestHostile looks for anything that acts in what strangers wrote, on every
// page there is.
func TestHostile(t *testing.T) {
	pages := wholeSite(t)
	shown := 0
	for path, body := range pages {
		if strings.Contains(body, "&lt;script&gt;alert(1)") {
			shown++
		}
		if !utf8.ValidString(body) {
			t.Errorf("%s: invalid UTF-8", path)
		}
		for _, bad := range []string{"<script>", "<img", "\x1b", "\u202e", "\x00", " style=", "<style", "javascript:"} {
			if i := strings.Index(body, bad); i >= 0 {
				t.Errorf("%s: %q in …%q…", path, bad, body[max(0, i-60):min(len(body), i+60)])
			}
		}
	}
	if shown < 10 {
		t.Errorf("the stranger's text was shown on %d pages only: this test looks at nothing", shown)
	}
}

var onRE = regexp.MustCompile(`(?i)<[^>"']*(?:"[^"]*"[^>"']*|'[^']*'[^>"']*)*\son\w+=`)

// TestPolicy holds every answer to the headers, and every page to what they
// allow: no script or style of its own.
func TestPolicy(t *testing.T) {
	h := New(options(newFake(t)))
	for _, path := range []string{"/", "/jobs/series-9", "/none", "/static/live.js", "/static/style.css", "/runs/6", "/jobs/series-3/report/html", "/runs/6/console", "/jobs/bisect-9/report/mail"} {
		w := get(h, path)
		if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
		for k, v := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin"} {
			if w.Header().Get(k) != v {
				t.Errorf("%s: no %s: %s", path, k, v)
			}
		}
		if w.Header().Get("Content-Type") == "" {
			t.Errorf("%s: no content type", path)
		}
	}
	for path, body := range wholeSite(t) {
		if onRE.MatchString(body) {
			t.Errorf("%s: a handler in the page", path)
		}
	}
}

// TestReadable asks of every page what people without a script or a mouse or
// eyes need.
func TestReadable(t *testing.T) {
	labelRE := regexp.MustCompile(`<(?:input|select)[^>]*>`)
	idRE := regexp.MustCompile(`\sid="([^"]*)"`)
	for path, body := range wholeSite(t) {
		if !strings.HasPrefix(body, "<!DOCTYPE html>") {
			continue
		}
		for _, want := range []string{`<html lang="en">`, `<nav aria-label=`, `<main id="main">`, `class="skip"`, `name="viewport"`, "<title>"} {
			if !strings.Contains(body, want) {
				t.Errorf("%s: no %s", path, want)
			}
		}
		if n := strings.Count(body, "<h1"); n != 1 {
			t.Errorf("%s: %d first headings", path, n)
		}
		if n := strings.Count(body, "<main"); n != 1 {
			t.Errorf("%s: %d main landmarks", path, n)
		}
		if strings.Contains(body, "<th>") || strings.Contains(body, "<th class=\"n\">") {
			t.Errorf("%s: a heading of a table without a scope", path)
		}
		for _, in := range labelRE.FindAllStringIndex(body, -1) {
			tag, before := body[in[0]:in[1]], body[:in[0]]
			inside := strings.LastIndex(before, "<label") > strings.LastIndex(before, "</label>")
			if id := idRE.FindStringSubmatch(tag); !inside && !strings.Contains(tag, `type="hidden"`) && (id == nil || !strings.Contains(body, `for="`+id[1]+`"`)) {
				t.Errorf("%s: no label for %s", path, tag)
			}
		}
		ids := map[string]bool{}
		for _, m := range idRE.FindAllStringSubmatch(body, -1) {
			if ids[m[1]] {
				t.Errorf("%s: id %s twice", path, m[1])
			}
			ids[m[1]] = true
		}
	}
}

// TestTrouble holds what goes wrong to a sentence, without what is inside.
func TestTrouble(t *testing.T) {
	f := newFake(t)
	var logged error
	o := options(f)
	o.Log = func(_ *http.Request, err error) { logged = err }
	h := New(o)
	for path, want := range map[string]int{"/nothing": 404, "/jobs/none": 404, "/runs/99": 404, "/runs/x": 404, "/runs?before=x": 400, "/static/none": 404,
		"/jobs/series-3/report/mail": 404, "/jobs/series-5/report/html": 404, "/jobs/series-3/report/pdf": 404, "/runs/3/secret": 404} {
		w := get(h, path)
		if w.Code != want || !strings.Contains(w.Body.String(), "<h1>T") {
			t.Errorf("%s: %d, want %d with a sentence", path, w.Code, want)
		}
	}
	f.err = errBroken
	for _, path := range []string{"/", "/jobs", "/jobs/series-3", "/jobs/series-3/live", "/jobs/series-3/body", "/jobs/series-3/report/html", "/runs", "/runs/3", "/runs/3/console", "/tests", "/test?name=x", "/kernels"} {
		logged = nil
		w := get(h, path)
		if w.Code != 500 || logged == nil || strings.Contains(w.Body.String(), "disk full") {
			t.Errorf("%s: %d, logged %v", path, w.Code, logged)
		}
	}
}

func TestEmpty(t *testing.T) {
	h := New(options(&fake{}))
	for path, want := range map[string]string{"/": "Nothing runs.", "/jobs": "No such jobs.", "/runs": "No such runs", "/tests": "No such tests", "/kernels": "No kernel was run yet.", "/workers": "Nobody is here"} {
		if w := get(h, path); w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d without %q", path, w.Code, want)
		}
	}
}

func TestPaging(t *testing.T) {
	f := newFake(t)
	first := f.runsKept[len(f.runsKept)-1]
	f.runsKept = nil
	for i := range 120 {
		r := first
		r.ID = int64(120 - i)
		f.runsKept = append(f.runsKept, r)
	}
	h, seen := New(options(f)), 0
	for path := "/runs?test=" + first.Run.Test; path != ""; {
		body := get(h, path).Body.String()
		seen += strings.Count(body, `<th scope="row"`)
		m := regexp.MustCompile(`rel="next" href="([^"]*)"`).FindStringSubmatch(body)
		if path = ""; m != nil {
			path = html.UnescapeString(m[1])
		}
	}
	if seen != 120 {
		t.Errorf("%d runs on all pages, want 120", seen)
	}
}

// TestUnchanged holds the report to be sent only when it is another one.
func TestUnchanged(t *testing.T) {
	f := newFake(t)
	h := New(options(f))
	have := regexp.MustCompile(`/body\?have=(\w+)"`).FindStringSubmatch(get(h, "/jobs/series-4").Body.String())
	if have == nil {
		t.Fatal("the report of a running job is not renewed")
	}
	if w := get(h, "/jobs/series-4/body?have="+have[1]); w.Code != 204 || w.Body.Len() > 0 {
		t.Errorf("the same report: %d, %d bytes", w.Code, w.Body.Len())
	}
	f.results["series-4"] = f.results["series-3"]
	if w := get(h, "/jobs/series-4/body?have="+have[1]); w.Code != 200 || w.Body.Len() == 0 {
		t.Errorf("another report: %d, %d bytes", w.Code, w.Body.Len())
	}
}

// TestUnderWay holds a job that goes on to be called so, and not interrupted.
func TestUnderWay(t *testing.T) {
	f := newFake(t)
	h := New(options(f))
	h1 := func() string {
		_, rest, _ := strings.Cut(get(h, "/jobs/series-4").Body.String(), "<h1>")
		head, _, _ := strings.Cut(rest, "</h1>")
		return head
	}
	if got := h1(); !strings.HasPrefix(got, "running, 4 of 6 commits so far") {
		t.Errorf("a running series is called %q", got)
	}
	b := *f.results["bisect-8"].(*kernel.BisectResult)
	b.Status, b.Culprit, b.Steps = kernel.NoConclusion, nil, b.Steps[:4]
	f.results["series-4"] = &b
	if got := h1(); !strings.HasPrefix(got, "searching: 97 candidates left") {
		t.Errorf("a running bisection is called %q", got)
	}
	if b.Status != kernel.NoConclusion {
		t.Error("the record's own result was changed")
	}
}

func TestPacked(t *testing.T) {
	h := New(options(newFake(t)))
	r := httptest.NewRequest("GET", "/jobs/series-3", nil)
	r.Header.Set("Accept-Encoding", "gzip, br")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	z, err := gzip.NewReader(w.Body)
	if err != nil || w.Header().Get("Content-Encoding") != "gzip" {
		t.Fatalf("%v, %v", err, w.Header())
	}
	got, err := io.ReadAll(z)
	if want := get(h, "/jobs/series-3").Body.String(); err != nil || string(got) != want {
		t.Errorf("compressed it is another page: %v", err)
	}
}

func TestStatic(t *testing.T) {
	h := New(options(newFake(t)))
	w := get(h, "/static/style.css?v="+version)
	if !strings.Contains(w.Body.String(), ".matrix") || !strings.Contains(w.Body.String(), ".site") || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
		t.Error("the style is not that of reports and pages, kept by browsers")
	}
	if c := get(h, "/static/live.js?v=old").Header().Get("Cache-Control"); strings.Contains(c, "immutable") {
		t.Errorf("another version is kept: %s", c)
	}
}

func TestWilson(t *testing.T) {
	for _, tt := range []struct {
		fails, runs    int
		mean, low, top float64
	}{{0, 0, 0, 0, 0}, {0, 10, 0, 0, 0.278}, {10, 10, 1, 0.722, 1}, {5, 10, 0.5, 0.237, 0.763}, {1, 100, 0.01, 0.002, 0.054}} {
		i := wilson(tt.fails, tt.runs)
		for what, d := range map[string]float64{"mean": i.Mean - tt.mean, "low": i.Low - tt.low, "high": i.High - tt.top} {
			if d > 0.001 || d < -0.001 {
				t.Errorf("%d of %d: %s is off by %g", tt.fails, tt.runs, what, d)
			}
		}
	}
}

// The report of a job that has ended is rendered once, and again after it has
// run again.
func TestReportIsKept(t *testing.T) {
	f := newFake(t)
	h := New(Options{Record: f, Live: f})
	first := get(h, "/jobs/series-3").Body.String()
	r := *f.results["series-3"].(*kernel.SeriesResult)
	r.Commits = r.Commits[:1]
	f.results["series-3"] = &r
	if again := get(h, "/jobs/series-3").Body.String(); again != first {
		t.Error("it was rendered again")
	}
	f.jobsKept[3].Attempt++
	if again := get(h, "/jobs/series-3").Body.String(); again == first || len(again) > len(first) {
		t.Error("it was not rendered again after another attempt")
	}
	running := get(h, "/jobs/series-4").Body.String()
	r4 := *f.results["series-4"].(*kernel.SeriesResult)
	r4.Commits = nil
	f.results["series-4"] = &r4
	if get(h, "/jobs/series-4").Body.String() == running {
		t.Error("the report of a job that runs is kept")
	}
	for i := range 3 * maxBodies {
		f.jobsKept[3].Attempt = 10 + i
		get(h, "/jobs/series-3")
	}
}

// What a guest that runs says is on the page of its job as it comes, harmless.
func TestTail(t *testing.T) {
	f := newFake(t)
	h := New(Options{Record: f, Live: f})
	if page := get(h, "/jobs/series-4").Body.String(); strings.Contains(page, "as it comes") {
		t.Error("a console of nothing")
	}
	f.Publish(Event{Job: "series-4", Phase: "run", Text: "cow/a/base", Tail: "[    1.0] BUG: <script>\x1b[31m\n", At: at})
	for _, path := range []string{"/jobs/series-4", "/jobs/series-4/live"} {
		if page := get(h, path).Body.String(); !strings.Contains(page, "as it comes") || !strings.Contains(page, "BUG: &lt;script&gt;</pre>") || strings.Contains(page, "\x1b") {
			t.Errorf("%s:\n%s", path, page)
		}
	}
}
