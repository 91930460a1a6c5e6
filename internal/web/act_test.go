package web

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSubmit(t *testing.T) {
	for name, tt := range map[string]struct {
		typed string // a query
		want  Form
		wrong string // words beside the field
	}{
		"a pasted range":   {typed: "kind=series&repo=linux&range=+v6.1..cow-rework%0A", want: Form{Kind: "series", Repo: "linux", Base: "v6.1", Head: "cow-rework", Tests: []string{}}},
		"up to now":        {typed: "kind=series&repo=linux&range=v6.1..", want: Form{Kind: "series", Repo: "linux", Base: "v6.1", Head: "HEAD", Tests: []string{}}},
		"a bisection":      {typed: "kind=bisect&repo=mm&range=v6.0..v6.1&tests=cow/a/b&profile=slim", want: Form{Kind: "bisect", Repo: "mm", Profile: "slim", Good: "v6.0", Bad: "v6.1", Tests: []string{"cow/a/b"}}},
		"a repair":         {typed: "kind=bisect&repo=mm&range=v6.0..v6.1&tests=cow/a/b&find_fix=1", want: Form{Kind: "bisect", Repo: "mm", Good: "v6.1", Bad: "v6.0", FindFix: true, Tests: []string{"cow/a/b"}}},
		"a check":          {typed: "kind=check&repo=mm&range=HEAD~3&tests=cow/*,+x/y", want: Form{Kind: "check", Repo: "mm", Rev: "HEAD~3", Tests: []string{"cow/*", "x/y"}}},
		"nothing":          {typed: "kind=series&repo=linux", wrong: "Which commits?"},
		"one end":          {typed: "kind=series&repo=linux&range=v6.1", wrong: "such as v6.1..v6.1"},
		"three dots":       {typed: "kind=series&repo=linux&range=a...b", wrong: "not three"},
		"no older end":     {typed: "kind=series&repo=linux&range=..b", wrong: "older end"},
		"an option":        {typed: "kind=series&repo=linux&range=a..--upload-pack=x", wrong: "dash"},
		"a sentence":       {typed: "kind=series&repo=linux&range=a..b+c", wrong: "no blanks"},
		"too long":         {typed: "kind=series&repo=linux&range=" + strings.Repeat("a", 400), wrong: "too long"},
		"check of a range": {typed: "kind=check&repo=linux&range=a..b", wrong: "takes one commit"},
		"no test":          {typed: "kind=bisect&repo=linux&range=a..b", wrong: "name the one that fails"},
		"two tests":        {typed: "kind=bisect&repo=linux&range=a..b&tests=x+y", wrong: "name the one that fails"},
		"another repo":     {typed: "kind=series&repo=/etc&range=a..b", wrong: "Choose one of the repositories"},
		"another profile":  {typed: "kind=series&repo=mm&range=a..b&profile=x", wrong: "no such profile"},
		"another kind":     {typed: "kind=x&repo=mm&range=a..b", wrong: "Choose what to do"},
		"hostile":          {typed: "kind=series&repo=mm&range=" + url.QueryEscape(evil), wrong: "no blanks"},
	} {
		f := newFake(t)
		w := post(New(options(f)), "/submit", tt.typed)
		if tt.wrong == "" {
			if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/jobs/series-5" {
				t.Errorf("%s: %d to %s", name, w.Code, w.Header().Get("Location"))
			}
			if d := cmp.Diff(tt.want, f.asks); d != "" {
				t.Errorf("%s: %s", name, d)
			}
			continue
		}
		if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), tt.wrong) || f.asks.Kind != "" {
			t.Errorf("%s: %d without %q, or it was taken: %+v", name, w.Code, tt.wrong, f.asks)
		}
		if strings.Contains(w.Body.String(), "<script>") {
			t.Errorf("%s: what was typed comes back as markup", name)
		}
	}
}

// TestRefused is a form that only the service itself can judge.
func TestRefused(t *testing.T) {
	f := newFake(t)
	f.fail = &BadInput{"range", "There is no v6.9 in linux."}
	w := post(New(options(f)), "/submit", "kind=series&repo=linux&range=v6.9..x&tests=cow/a/*")
	body := w.Body.String()
	if w.Code != 422 || !strings.Contains(body, "There is no v6.9 in linux.") || !strings.Contains(body, `value="v6.9..x"`) || !strings.Contains(body, `value="cow/a/*"`) {
		t.Errorf("%d; the sentence and what was typed are expected:\n%s", w.Code, body)
	}
	f.fail = errBroken
	if w := post(New(options(f)), "/submit", "kind=series&repo=linux&range=a..b"); w.Code != 500 || strings.Contains(w.Body.String(), "disk full") {
		t.Errorf("%d for trouble of the service", w.Code)
	}
}

func TestActions(t *testing.T) {
	f := newFake(t)
	h := New(options(f))
	for path, to := range map[string]string{"/jobs/series-4/cancel": "/jobs/series-4", "/jobs/check-18/retry": "/jobs/check-18", "/jobs/series-3/undo": "/jobs/series-3?undone=3"} {
		if w := post(h, path, "last=2&commit=abc"); w.Code != http.StatusSeeOther || w.Header().Get("Location") != to {
			t.Errorf("%s: %d to %q", path, w.Code, w.Header().Get("Location"))
		}
	}
	if len(f.did) != 3 {
		t.Errorf("done: %v", f.did)
	}
	if !strings.Contains(get(h, "/jobs/series-3?undone=3").Body.String(), "3 runs taken back") {
		t.Error("the page does not say what was taken back")
	}
	for _, n := range []string{"-1", "x", ""} {
		if w := post(h, "/jobs/series-3/undo", "last="+n); w.Code != 400 {
			t.Errorf("undo of %q runs: %d", n, w.Code)
		}
	}
	f.fail = ErrNotFound
	if w := post(h, "/jobs/none/cancel", ""); w.Code != 404 {
		t.Errorf("cancel of no job: %d", w.Code)
	}
	f.fail = &BadInput{"", "It is over already."}
	if w := post(h, "/jobs/series-3/cancel", ""); w.Code != 400 || !strings.Contains(w.Body.String(), "It is over already.") {
		t.Errorf("cancel of a job that is over: %d", w.Code)
	}
}

var changes = []string{"/submit", "/jobs/series-4/cancel", "/jobs/check-18/retry", "/jobs/series-3/undo"}

const filled = "kind=series&repo=linux&range=a..b&last=1"

// TestForgery is a page of another site that sends our forms.
func TestForgery(t *testing.T) {
	f := newFake(t)
	h := New(options(f))
	for _, path := range changes {
		for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Sec-Fetch-Site", "", "Origin", "https://evil.example"}, {"Sec-Fetch-Site", "", "Origin", "null"}} {
			if w := post(h, path, filled, header...); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "<h1>That came from another site") {
				t.Errorf("%s with %v: %d", path, header, w.Code)
			}
		}
	}
	if len(f.did) > 0 || f.asks.Kind != "" {
		t.Errorf("done for another site: %v", f.did)
	}
	for _, path := range changes { // an image or a link
		if w := get(h, path); path != "/submit" && w.Code == 200 {
			t.Errorf("GET %s: %d", path, w.Code)
		}
	}
	if len(f.did) > 0 {
		t.Errorf("done by looking: %v", f.did)
	}
}

func TestReadOnly(t *testing.T) {
	f := newFake(t)
	both := options(f)
	both.ReadOnly = true
	none := options(f)
	none.Doer = nil
	for _, o := range []Options{both, none} {
		h := New(o)
		for _, path := range changes {
			if w := post(h, path, filled); w.Code != http.StatusForbidden {
				t.Errorf("%s: %d", path, w.Code)
			}
		}
		if w := get(h, "/submit"); w.Code != http.StatusForbidden {
			t.Errorf("the form: %d", w.Code)
		}
		for path, body := range visit(t, h) {
			if strings.Contains(body, `method="post"`) || strings.Contains(body, `href="/submit"`) {
				t.Errorf("%s offers what is refused", path)
			}
		}
	}
	if len(f.did) > 0 {
		t.Errorf("done: %v", f.did)
	}
}

func TestHosts(t *testing.T) {
	o := options(newFake(t))
	o.Hosts = []string{"bisect.example:8080"}
	h := New(o)
	for host, want := range map[string]int{"bisect.example:8080": 200, "evil.example:8080": 421, "": 421} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("host %q: %d, want %d", host, w.Code, want)
		}
	}
}

func TestLargeForm(t *testing.T) {
	f := newFake(t)
	w := post(New(options(f)), "/submit", filled+"&tests="+strings.Repeat("x", 1<<20))
	if w.Code < 400 || f.asks.Kind != "" {
		t.Errorf("a form of 1 MiB: %d", w.Code)
	}
}

// FuzzRevisions: what is taken is a word for git, and no option of it.
func FuzzRevisions(f *testing.F) {
	for _, s := range []string{"v6.1..x", "a...b", "..", "-a..b", "a..-b", "HEAD", "a..b..c", "\u202e..\x00"} {
		for _, kind := range []string{"check", "series", "bisect"} {
			f.Add(s, kind)
		}
	}
	f.Fuzz(func(t *testing.T, text, kind string) {
		revs, err := revisions(text, kind)
		var bad *BadInput
		if err != nil {
			if !errors.As(err, &bad) || bad.Text == "" {
				t.Errorf("%q: %v is no sentence for the user", text, err)
			}
			return
		}
		if want := map[string]int{"check": 1, "series": 2, "bisect": 2}[kind]; len(revs) != want || want == 0 {
			t.Fatalf("%s of %q: %q", kind, text, revs)
		}
		for _, r := range revs {
			if r == "" || strings.HasPrefix(r, "-") || strings.Contains(r, "..") || strings.ContainsAny(r, " \t\n\x00\x1b") {
				t.Errorf("%q was taken: %q", text, revs)
			}
		}
	})
}

// A job that ended before it started, by a clock that was set back, took nothing.
func TestClockSetBack(t *testing.T) {
	f := newFake(t)
	for i := range f.jobsKept {
		if f.jobsKept[i].ID == "check-17" {
			f.jobsKept[i].Ended = f.jobsKept[i].Started.AddDate(-1, 0, 0)
		}
	}
	if body := get(New(options(f)), "/jobs/check-17").Body.String(); strings.Count(body, "<dt>Took</dt>") != 1 { // its report's
		t.Errorf("the page of a job that took less than nothing:\n%s", body)
	}
}
