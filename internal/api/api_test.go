package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// routes are all routes with a request that each likes.
var routes = []struct {
	method, path, body string
	scope              Scope
	want               int
	inAnswer           string
}{
	{"POST", "/jobs/check", `{"repo":"linux","rev":"v6.1"}`, Submit, 201, `{"id":"check-9","url":"/api/v1/jobs/check-9","existing":false}`},
	{"POST", "/jobs/series", `{"repo":"linux","base":"v6.1","head":"cow"}`, Submit, 201, `"id":"series-9"`},
	{"POST", "/jobs/bisect", `{"repo":"linux","good":"v6.1","bad":"v6.2","tests":["cow/a/base"]}`, Submit, 201, `"id":"bisect-9"`},
	{"GET", "/jobs", "", Read, 200, `{"jobs":[{"id":"bisect-3","kind":"bisect","status":"queued"`},
	{"GET", "/jobs/check-1", "", Read, 200, `"verdict":"All good."`},
	{"GET", "/jobs/check-1/result", "", Read, 200, `"schema": "kbisect/check/v1"`},
	{"POST", "/jobs/series-2/cancel", "", Submit, 200, `"status":"cancelled"`},
	{"POST", "/jobs/series-2/retry", "", Submit, 200, `"status":"queued"`},
	{"POST", "/jobs/check-1/undo", `{"last":2}`, Submit, 200, `{"withdrawn":2}`},
	{"GET", "/jobs/check-1/runs", "", Read, 200, `"outcome":"pass"`},
	{"GET", "/runs/2", "", Read, 200, `"outcome":"fail"`},
	{"GET", "/runs/2/console", "", Read, 200, "Linux <script>"},
	{"GET", "/runs/2/output", "", Read, 200, "ok 1\n"},
	{"GET", "/artifacts/log/" + strings.Repeat("ab", 32), "", Read, 200, "CC mm/memory.o"},
	{"GET", "/jobs/check-1/events", "", Read, 200, "event: end\n"},
	{"GET", "/tests", "", Read, 200, `"fails":1`},
	{"GET", "/tests/cow/a/base", "", Read, 200, `"on":[]`},
	{"GET", "/kernels", "", Read, 200, `"digest":"ab12"`},
	{"GET", "/workers", "", Read, 200, `{"workers":[]}`},
	{"GET", "/profiles", "", Read, 200, `"name":"cow"`},
	{"GET", "/repos", "", Read, 200, `{"repos":[{"name":"linux"}]}`},
	{"GET", "/version", "", Read, 200, `{"version":"test","api":1}`},
}

func TestRoutesAndTokens(t *testing.T) {
	nothing := func(Scope) bool { return false }
	for _, c := range []struct {
		who       string
		anonymous bool
		token     func(w *world) string
		allowed   func(Scope) bool
		refused   int
	}{
		{"no token", false, func(*world) string { return "" }, nothing, 401},
		{"no token, reading is free", true, func(*world) string { return "" }, func(s Scope) bool { return s == Read }, 401},
		{"garbage, reading is free", true, func(*world) string { return "garbage" }, nothing, 401},
		{"unknown", false, func(*world) string { text, _, _ := Mint("x", []Scope{Admin}, time.Time{}); return text }, nothing, 401},
		{"wrong secret", false, func(w *world) string { return w.mint(t, Admin) + "a" }, nothing, 401},
		{"expired", false, func(w *world) string {
			text, token, _ := Mint("x", []Scope{Admin}, time.Now().Add(-time.Second))
			w.tokens[token.ID] = token
			return text
		}, nothing, 401},
		{"reader", false, func(w *world) string { return w.mint(t, Read) }, func(s Scope) bool { return s == Read }, 403},
		{"submitter", false, func(w *world) string { return w.mint(t, Submit) }, func(s Scope) bool { return s != Admin }, 403},
		{"admin", false, func(w *world) string { return w.mint(t, Admin) }, func(Scope) bool { return true }, 403},
	} {
		t.Run(c.who, func(t *testing.T) {
			w := newWorld()
			o := w.options()
			o.AnonymousRead = c.anonymous
			h, token := New(o), c.token(w)
			for _, r := range routes {
				w.jobs, w.asked, w.done = newWorld().jobs, nil, nil
				got := ask(t, h, r.method, "/api/v1"+r.path, token, r.body)
				where := r.method + " " + r.path
				if !c.allowed(r.scope) {
					var p Problem
					if got.Code != c.refused || json.Unmarshal(got.Body.Bytes(), &p) != nil || p.Status != c.refused || got.Header().Get("Content-Type") != "application/problem+json" {
						t.Errorf("%s: %d %s, want %d", where, got.Code, got.Body, c.refused)
					}
					if c.refused == 401 && got.Header().Get("WWW-Authenticate") == "" {
						t.Errorf("%s: no WWW-Authenticate", where)
					}
					if len(w.asked)+len(w.done) > 0 {
						t.Errorf("%s: it was done all the same", where)
					}
					continue
				}
				if got.Code != r.want || !strings.Contains(got.Body.String(), r.inAnswer) {
					t.Errorf("%s: %d %s, want %d %s", where, got.Code, got.Body, r.want, r.inAnswer)
				}
				g := got.Header()
				if g.Get("X-Content-Type-Options") != "nosniff" || g.Get(VersionHeader) != "1" || g.Get("X-Request-Id") == "" {
					t.Errorf("%s: headers %v", where, g)
				}
			}
		})
	}
}

// The table has every route but the stream without an end.
func TestRoutesAreAll(t *testing.T) {
	s := ask(t, New(newWorld().options()), "GET", "/openapi.json", "", "").Body.String()
	if got, want := strings.Count(s, `"operationId"`), len(routes)+1; got != want {
		t.Errorf("%d routes are described, %d tested", got, want)
	}
}

func TestOtherAddresses(t *testing.T) {
	w := newWorld()
	h, token := New(w.options()), w.mint(t, Admin)
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/", 404}, {"GET", "/api/v1", 404}, {"GET", "/api/v2/jobs", 404}, {"GET", "/docs", 404}, {"GET", "/schemas/Job.json", 404},
		{"DELETE", "/api/v1/jobs", 405}, {"POST", "/openapi.json", 405}, {"BREW", "/api/v1/version", 405},
		{"GET", "/api/v1/jobs/nothing", 404}, {"GET", "/api/v1/jobs/series-2/result", 404},
		{"GET", "/api/v1/runs/99", 404}, {"GET", "/api/v1/runs/99/console", 404}, {"GET", "/api/v1/jobs/nothing/runs", 404},
		{"GET", "/api/v1/jobs/nothing/events", 404}, {"GET", "/api/v1/tests/nothing", 404},
		{"POST", "/api/v1/jobs/nothing/cancel", 404}, {"POST", "/api/v1/jobs/check-1/cancel", 409}, {"POST", "/api/v1/jobs/check-1/retry", 409},
		{"GET", "/api/v1/jobs/check-1/result?format=mail", 406}, {"GET", "/api/v1/jobs/check-1/result?format=pdf", 422},
		{"GET", "/api/v1/jobs?kind=all", 422}, {"GET", "/api/v1/jobs?state=done", 422}, {"GET", "/api/v1/jobs?limit=0", 422}, {"GET", "/api/v1/jobs?limit=x", 422},
		{"GET", "/api/v1/runs/0", 422}, {"GET", "/api/v1/runs/1e3", 422}, {"GET", "/api/v1/runs/99999999999999999999", 422},
		// ids that would be paths, or more than one line
		{"GET", "/api/v1/jobs/%2e%2e%2f%2e%2e%2fetc%2fpasswd", 422}, {"GET", "/api/v1/jobs/a%00b", 422}, {"GET", "/api/v1/jobs/a%0ab", 422},
		{"GET", "/api/v1/jobs/" + strings.Repeat("a", 5000), 422}, {"GET", "/api/v1/jobs/-rf", 422}, {"GET", "/api/v1/tests/a%0ab", 422},
		{"GET", "/api/v1/jobs?before=%27%20OR%201", 422},
	} {
		got := ask(t, h, c.method, c.path, token, "")
		var p Problem
		if got.Code != c.want || json.Unmarshal(got.Body.Bytes(), &p) != nil || p.Status != c.want || p.Title == "" || p.Detail == "" ||
			strings.ContainsAny(p.Detail, "\n\x00") || len(p.Detail) > 600 {
			t.Errorf("%s %.100s: %d %.500s, want %d", c.method, c.path, got.Code, got.Body, c.want)
		}
		if c.want == 405 && got.Header().Get("Allow") == "" {
			t.Errorf("%s %s: no Allow", c.method, c.path)
		}
	}
}

func TestErrorsOfTheService(t *testing.T) {
	w := newWorld()
	core, logs := observer.New(zap.DebugLevel)
	o := w.options()
	o.Log = zap.New(core)
	h, token := New(o), w.mint(t, Admin)
	for _, c := range []struct {
		err  error
		want int
		text string
	}{
		{&BadInput{"base", "there is no v9.9 in linux"}, 422, "base: there is no v9.9 in linux"},
		{&NotFound{"repository linux"}, 404, "there is no repository linux"},
		{&Conflict{"the queue is full: try later"}, 409, "the queue is full: try later"},
		{fmt.Errorf("submit: %w", &BadInput{"", "no"}), 422, "no"},
		{errInside, 500, "request"},
	} {
		w.err = c.err
		got := ask(t, h, "POST", "/api/v1/jobs/check", token, `{"repo":"linux","rev":"v6.1"}`)
		var p Problem
		ok(t, json.Unmarshal(got.Body.Bytes(), &p))
		if got.Code != c.want || !strings.Contains(p.Detail, c.text) || strings.Contains(got.Body.String(), "secret") {
			t.Errorf("%v: %d %s", c.err, got.Code, got.Body)
		}
		if c.want == 500 && !strings.Contains(p.Detail, got.Header().Get("X-Request-Id")) {
			t.Errorf("the id to look for in the log is not said: %s", got.Body)
		}
	}
	if n := logs.FilterField(zap.Error(errInside)).Len(); n != 1 {
		t.Errorf("%d log lines say why", n)
	}
	for _, l := range logs.All() {
		if _, secret, _ := splitToken(token); strings.Contains(fmt.Sprint(l.Message, l.ContextMap()), secret) {
			t.Errorf("the secret of a token is in the log: %v", l)
		}
	}
}

type panicking struct{ *world }

func (panicking) Kernels(context.Context, string, int) ([]KernelStat, error) {
	panic("a bug at /secret/path")
}

func TestPanic(t *testing.T) {
	w := newWorld()
	o := w.options()
	o.Record = panicking{w}
	got := ask(t, New(o), "GET", "/api/v1/kernels", w.mint(t, Read), "")
	if got.Code != 500 || strings.Contains(got.Body.String(), "secret") || !strings.Contains(got.Body.String(), "log") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}

func TestMissingInterface(t *testing.T) {
	defer func() {
		if p := fmt.Sprint(recover()); p != "api.Options.Runs is missing" {
			t.Error(p)
		}
	}()
	o := newWorld().options()
	o.Runs = nil
	New(o)
}

func TestPages(t *testing.T) {
	w := newWorld()
	h, token := New(w.options()), w.mint(t, Read)
	var seen []string
	for next, pages := "", 0; ; pages++ {
		var l JobList
		ok(t, json.Unmarshal(ask(t, h, "GET", "/api/v1/jobs?limit=2"+next, token, "").Body.Bytes(), &l))
		for _, j := range l.Jobs {
			seen = append(seen, j.ID)
		}
		if l.Next == "" || pages > 5 {
			break
		}
		next = "&before=" + l.Next
	}
	if d := cmp.Diff([]string{"bisect-3", "series-2", "check-1"}, seen); d != "" {
		t.Error(d)
	}
	var runs []int64
	for after, pages := int64(0), 0; ; pages++ {
		var l RunList
		ok(t, json.Unmarshal(ask(t, h, "GET", fmt.Sprintf("/api/v1/jobs/check-1/runs?limit=1&after=%d", after), token, "").Body.Bytes(), &l))
		for _, r := range l.Runs {
			runs = append(runs, r.ID)
		}
		if after = l.Next; after == 0 || pages > 5 {
			break
		}
	}
	if d := cmp.Diff([]int64{1, 3}, runs); d != "" {
		t.Error(d)
	}
}

func TestResultFormats(t *testing.T) {
	w := newWorld()
	w.results["check-1"] = &kernel.CheckResult{ID: "check-1", Tests: []kernel.TestResult{{Name: "cow/<script>", Verdict: kernel.Good}}}
	w.results["bisect-3"] = &kernel.BisectResult{ID: "bisect-3", Status: kernel.NotReproduced}
	h, token := New(w.options()), w.mint(t, Read)
	for _, c := range []struct{ url, contentType, part string }{
		{"check-1/result", "application/json", `"name": "cow/<script>"`},
		{"check-1/result?format=text", "text/plain; charset=utf-8", "cow/<script>"},
		{"check-1/result?format=html", "text/html; charset=utf-8", "cow/&lt;script&gt;"},
		{"check-1/result?format=junit", "application/xml", `name="cow/&lt;script&gt;"`},
		{"check-1/result?format=kcidb", "application/json", `"path": "cow._script_"`},
		{"check-1/result?format=markdown", "text/markdown; charset=utf-8", "cow/&#60;script&#62;"},
		{"bisect-3/result?format=mail", "text/plain; charset=utf-8", ""},
	} {
		got := ask(t, h, "GET", "/api/v1/jobs/"+c.url, token, "")
		if got.Code != 200 || got.Header().Get("Content-Type") != c.contentType || !strings.Contains(got.Body.String(), c.part) ||
			!strings.Contains(got.Header().Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: %d %v\n%.300s", c.url, got.Code, got.Header(), got.Body)
		}
	}
}

func TestRangesOfTexts(t *testing.T) {
	w := newWorld()
	w.console = strings.Repeat("0123456789", 1000)
	h, token := New(w.options()), w.mint(t, Read)
	for _, c := range []struct {
		headers []string
		want    int
		body    string
	}{
		{nil, 200, w.console},
		{[]string{"Range", "bytes=5-7"}, 206, "567"},
		{[]string{"Range", "bytes=-3"}, 206, "789"},
		{[]string{"Range", "bytes=9998-"}, 206, "89"},
		{[]string{"Range", "bytes=10000-"}, 416, ""},
		{[]string{"Range", "bytes=9-1"}, 416, ""},
		{[]string{"If-None-Match", `"run-1-console"`}, 304, ""},
		{[]string{"Range", "bytes=5-7", "If-Range", `"run-1-console"`}, 206, "567"},
		{[]string{"Range", "bytes=5-7", "If-Range", `"another"`}, 200, w.console},
	} {
		got := ask(t, h, "GET", "/api/v1/runs/1/console", token, "", c.headers...)
		if got.Code != c.want || c.body != "" && got.Body.String() != c.body {
			t.Errorf("%v: %d %.100s", c.headers, got.Code, got.Body)
		}
		if got.Code < 300 && got.Header().Get("Content-Disposition") != `attachment; filename="run-1-console.txt"` {
			t.Errorf("%v: a browser would show it: %v", c.headers, got.Header())
		}
	}
	if got := ask(t, h, "HEAD", "/api/v1/runs/1/console", token, ""); got.Code != 200 || got.Header().Get("Content-Length") != "10000" || got.Body.Len() > 0 {
		t.Errorf("HEAD: %d %v", got.Code, got.Header())
	}
}

func TestUndo(t *testing.T) {
	w := newWorld()
	h, token := New(w.options()), w.mint(t, Submit)
	for _, c := range []struct {
		body string
		want int
		done string
	}{
		{`{"last":3}`, 200, `undo "" 3 check-1`},
		{`{"commit":"abcd"}`, 200, `undo "abcd" 0 check-1`},
		{`{"commit":"abcd","last":1}`, 200, `undo "abcd" 1 check-1`},
		{`{"all":true}`, 200, `undo "" 0 check-1`},
		{`{}`, 422, ""}, {`{"all":true,"last":1}`, 422, ""}, {`{"last":0}`, 422, ""}, {`{"last":-1}`, 422, ""},
		{`{"commit":"HEAD"}`, 422, ""}, {`{"lsat":3}`, 422, ""}, {`[]`, 422, ""}, {`{`, 422, ""},
		{`{"commit":"` + strings.Repeat("a", 70<<10) + `"}`, 413, ""},
	} {
		w.done = nil
		got := ask(t, h, "POST", "/api/v1/jobs/check-1/undo", token, c.body)
		if done := strings.Join(w.done, ", "); got.Code != c.want || done != c.done {
			t.Errorf("%.50s: %d %.300s, done %q", c.body, got.Code, got.Body, done)
		}
	}
}

func TestHumanAnswers(t *testing.T) {
	got := ask(t, New(newWorld().options()), "GET", "/api/v1/version", "", "")
	if !bytes.Contains(got.Body.Bytes(), []byte("send it as Authorization: Bearer kb_")) {
		t.Error(got.Body)
	}
	w := newWorld()
	got = ask(t, New(w.options()), "GET", "/api/v1/version", w.mint(t, Read), "", "Authorization", "Basic amFuZTpwdw==")
	if got.Code != http.StatusUnauthorized || strings.Contains(got.Body.String(), "amFuZTpwdw") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}
