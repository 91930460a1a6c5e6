package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestSubmit(t *testing.T) {
	yes := true
	for _, c := range []struct {
		kind Kind
		body string
		want Request
	}{
		{Check, `{"repo":"linux","rev":"v6.1^{commit}","tests":["cow/*"],"profile":"cow","runs":3,"max_runs":9,"priority":"waiting","fresh":true,"share_guests":true}`,
			Request{Repo: "linux", Rev: "v6.1^{commit}", Plan: Plan{Tests: []string{"cow/*"}, Profile: "cow", Runs: 3, MaxRuns: 9, Priority: Waiting, Fresh: true, ShareGuests: &yes}}},
		{Series, `{"repo":"linux","base":"v6.1","head":"HEAD~3","programs":[{"name":"a.c","text":"int main;\n","settings":"timeout: 3m\n"}]}`,
			Request{Repo: "linux", Base: "v6.1", Head: "HEAD~3", Plan: Plan{Programs: []Program{{"a.c", "int main;\n", "timeout: 3m\n"}}}}},
		{Bisect, `{"repo":"linux","good":"v6.1","bad":"v6.2","tests":["cow/a/base"],"find_fix":true,"confidence":0.95,"paths":["mm"],"suspects":["mm/gup.c"],"max_runs":500,"max_seconds":60}`,
			Request{Repo: "linux", Good: "v6.1", Bad: "v6.2", Plan: Plan{Tests: []string{"cow/a/base"}, MaxRuns: 500},
				Search: Search{FindFix: true, Confidence: 0.95, Paths: []string{"mm"}, Suspects: []string{"mm/gup.c"}, MaxSeconds: 60}}},
	} {
		w := newWorld()
		got := ask(t, New(w.options()), "POST", "/api/v1/jobs/"+string(c.kind), w.mint(t, Submit), c.body, "Idempotency-Key", "k-1")
		if got.Code != 201 || len(w.asked) != 1 || got.Header().Get("Location") != "/api/v1/jobs/"+string(c.kind)+"-9" {
			t.Errorf("%s: %d %s", c.body, got.Code, got.Body)
			continue
		}
		c.want.Kind, c.want.Owner, c.want.Key = c.kind, "jane", "k-1"
		if d := cmp.Diff(c.want, w.asked[0]); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.body, d)
		}
	}
}

func TestSubmitTwice(t *testing.T) {
	w := newWorld()
	h, token := New(w.options()), w.mint(t, Submit)
	for i, want := range []bool{false, true} {
		got := ask(t, h, "POST", "/api/v1/jobs/check", token, `{"repo":"linux","rev":"v6.1"}`, "Idempotency-Key", "same")
		var s Submitted
		ok(t, json.Unmarshal(got.Body.Bytes(), &s))
		if got.Code != 201 || s.Existing != want {
			t.Errorf("%d: %d %s", i, got.Code, got.Body)
		}
	}
}

func TestSubmitRejects(t *testing.T) {
	w := newWorld()
	h, token := New(w.options()), w.mint(t, Submit)
	deep := strings.Repeat(`[`, 1_000_000)
	for _, c := range []struct {
		kind Kind
		body string
		want int
		text string // of the detail
	}{
		{Check, ``, 422, "JSON"},
		{Check, `null`, 422, "object"},
		{Check, `[]`, 422, "object"},
		{Check, `{}`, 422, "name a repository"},
		{Check, `{"repo":"linux"}`, 422, "which commit"},
		{Check, `{"repo":"linux","rev":"v6.1","test":["a"]}`, 422, "body.test: unexpected property"},
		{Check, `{"repo":"linux","rev":"v6.1"} {}`, 422, "JSON"},
		{Check, `{"repo":"linux","rev":"v6.1"`, 422, "JSON"},
		{Check, `{"repo":7,"rev":"v6.1"}`, 422, "body.repo"},
		{Check, `{"repo":"linux","rev":"--upload-pack=x"}`, 422, "body.rev: expected string to be a git revision"},
		{Check, `{"repo":"linux","rev":"a b"}`, 422, "body.rev"},
		{Check, `{"repo":"linux","rev":"a\u0000b"}`, 422, "body.rev"},
		{Check, `{"repo":"linux","rev":"a\nb"}`, 422, "body.rev"},
		{Check, `{"repo":"linux","rev":"v6.1..v6.2"}`, 422, "rev: that is a range"},
		{Check, `{"repo":"linux","rev":"v6.1","runs":0}`, 422, "body.runs"},
		{Check, `{"repo":"linux","rev":"v6.1","runs":1e300}`, 422, "body.runs"},
		{Check, `{"repo":"linux","rev":"v6.1","runs":2.5}`, 422, "body.runs"},
		{Check, `{"repo":"linux","rev":"v6.1","priority":"root"}`, 422, "body.priority"},
		{Check, `{"repo":"linux","rev":"v6.1","tests":["a\u0000"]}`, 422, "body.tests[0]"},
		{Check, `{"repo":"linux","rev":"v6.1","tests":[""]}`, 422, "body.tests[0]"},
		{Check, `{"repo":"linux","rev":"v6.1","programs":[{"name":"../../etc/cron","text":"x"}]}`, 422, "body.programs[0].name"},
		{Check, `{"repo":"linux","rev":"v6.1","programs":[{"name":"a.c","text":"x\u0000"}]}`, 422, "body.programs[0].text"},
		{Check, `{"repo":"linux","rev":"v6.1","programs":[{"name":"a.c","text":"` + strings.Repeat("x", 300_000) + `"}]}`, 422, "body.programs[0].text"},
		{Check, "{\"repo\":\"\xff\",\"rev\":\"v6.1\"}", 422, "UTF-8"},
		{Check, deep, 422, "JSON"},
		{Check, `{"tests":` + deep, 422, "JSON"},
		{Check, `{"repo":"` + strings.Repeat("x", 5<<20) + `"}`, 413, "larger than 4194304 bytes"},
		{Series, `{"repo":"linux","base":"v6.1"}`, 422, "where does the series end"},
		{Series, `{"repo":"linux","head":"x"}`, 422, "what does the series stand on"},
		{Series, `{"repo":"linux","head":"v6.1"}`, 422, "base"},
		{Series, `{"repo":"","base":"v6.1","head":"x"}`, 422, "body.repo"},
		{Series, `{"repo":"linux","base":"a..b","head":"x"}`, 422, "base: that is a range"},
		{Bisect, `{"repo":"linux","good":"v6.1","bad":"v6.2"}`, 422, "follows one test"},
		{Bisect, `{"repo":"linux","good":"v6.1","bad":"v6.2","tests":["a","b"]}`, 422, "follows one test"},
		{Bisect, `{"repo":"linux","good":"v6.1","bad":"v6.2","tests":["a"],"share_guests":true}`, 422, "share_guests"},
		{Bisect, `{"repo":"linux","good":"v6.1","bad":"v6.2","tests":["a"],"confidence":1}`, 422, "body.confidence"},
		{Bisect, `{"repo":"linux","good":"v6.1","tests":["a"]}`, 422, "bad"},
	} {
		got := ask(t, h, "POST", "/api/v1/jobs/"+string(c.kind), token, c.body, "Content-Type", jsonType)
		var p Problem
		if got.Code != c.want || json.Unmarshal(got.Body.Bytes(), &p) != nil || !strings.Contains(p.Detail, c.text) || len(p.Detail) > 600 || len(w.asked) > 0 {
			t.Errorf("%.80s: %d %.600s, want %d %s", c.body, got.Code, got.Body, c.want, c.text)
		}
		if got.Body.Len() > 10_000 {
			t.Errorf("%.80s: the answer repeats the request", c.body)
		}
	}
}

func TestContentTypes(t *testing.T) {
	for _, c := range []struct {
		kind        Kind
		contentType string
		want        int
	}{
		{Check, "application/json; charset=utf-8", 201},
		{Check, "", 415}, {Check, "text/plain", 415}, {Check, "application/x-www-form-urlencoded", 415}, {Check, "application/xml", 415},
		{Check, "a/b/c; ;;", 415}, {Check, mboxType, 415}, {Check, "multipart/form-data", 400}, {Check, "multipart/form-data; boundary=x", 422},
		{Bisect, "multipart/form-data; boundary=x", 422},
	} {
		w := newWorld()
		got := ask(t, New(w.options()), "POST", "/api/v1/jobs/"+string(c.kind), w.mint(t, Submit), `{"repo":"linux","rev":"v6.1"}`, "Content-Type", c.contentType)
		if got.Code != c.want {
			t.Errorf("%q: %d %s, want %d", c.contentType, got.Code, got.Body, c.want)
		}
	}
}

// form makes a multipart body of name, content pairs.
func form(t *testing.T, fields ...string) (contentType, body string) {
	t.Helper()
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	for i := 0; i < len(fields); i += 2 {
		f, err := m.CreateFormFile(fields[i], "../../etc/passwd")
		ok(t, err)
		_, _ = io.WriteString(f, fields[i+1])
	}
	ok(t, m.Close())
	return m.FormDataContentType(), b.String()
}

func TestUploads(t *testing.T) {
	series := `{"repo":"linux","base":"v6.1"}`
	bisect := `{"repo":"linux","tests":["a"]}`
	for _, c := range []struct {
		name   string
		kind   Kind
		fields []string
		want   int
		text   string
	}{
		{"mailbox", Series, []string{"request", series, "mbox", "From x\n"}, 201, ""},
		{"mailbox first", Series, []string{"mbox", "From x\n", "request", series}, 201, ""},
		{"mailbox to bisect", Bisect, []string{"request", bisect, "mbox", "From x\n"}, 201, ""},
		{"mailbox and good", Bisect, []string{"request", `{"repo":"linux","tests":["a"],"good":"v6.1"}`, "mbox", "From x\n"}, 422, "leave good and bad out"},
		{"mailbox and bad", Bisect, []string{"request", `{"repo":"linux","tests":["a"],"bad":"v6.1"}`, "mbox", "From x\n"}, 422, "leave good and bad out"},
		{"kernel to bisect", Bisect, []string{"request", bisect, "kernel", "x"}, 422, "means nothing here: kernel"},
		{"kernel", Check, []string{"request", `{}`, "kernel", "bzImage"}, 201, ""},
		{"kernel and modules", Check, []string{"request", `{"tests":["a"]}`, "kernel", "bzImage", "modules", "tar"}, 201, ""},
		{"no request", Series, []string{"mbox", "From x\n"}, 422, "no field request"},
		{"mailbox and head", Series, []string{"request", `{"repo":"linux","base":"v6.1","head":"x"}`, "mbox", "From"}, 422, "leave head out"},
		{"empty mailbox", Series, []string{"request", series, "mbox", " \n"}, 422, "the mailbox is empty"},
		{"large mailbox", Series, []string{"request", series, "mbox", strings.Repeat("x", 3000)}, 413, "the mailbox is larger than 2000 bytes"},
		{"large kernel", Check, []string{"request", `{}`, "kernel", strings.Repeat("x", 3000)}, 413, "kernel is larger than 2000 bytes"},
		{"empty kernel", Check, []string{"request", `{}`, "kernel", ""}, 422, "kernel is empty"},
		{"modules alone", Check, []string{"request", `{}`, "modules", "tar"}, 422, "modules without a kernel"},
		{"kernel and repo", Check, []string{"request", `{"repo":"linux","rev":"x"}`, "kernel", "bzImage"}, 422, "leave repo and rev out"},
		{"unknown field", Check, []string{"request", `{}`, "kernel", "bzImage", "initrd", "x"}, 422, "means nothing here: initrd"},
		{"of another kind", Check, []string{"request", `{}`, "mbox", "x"}, 422, "means nothing here: mbox"},
		{"twice", Check, []string{"kernel", "a", "kernel", "b", "request", "{}"}, 422, "twice"},
		{"unknown in JSON", Check, []string{"request", `{"x":1}`, "kernel", "bzImage"}, 422, "body.x"},
		{"all of it", Check, []string{"request", `{}`, "kernel", "a", "modules", "b", "mbox", strings.Repeat("x", 5<<20)}, 422, "mbox"},
		{"large in all", Check, []string{"request", `{"repo":"` + strings.Repeat("x", 5<<20) + `"}`}, 413, "larger than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			o := w.options()
			o.Uploads = t.TempDir()
			o.Limits = Limits{Mbox: 2000, Kernel: 2000, Modules: 2000}
			contentType, body := form(t, c.fields...)
			got := ask(t, New(o), "POST", "/api/v1/jobs/"+string(c.kind), w.mint(t, Submit), body, "Content-Type", contentType)
			if got.Code != c.want || !strings.Contains(got.Body.String(), c.text) {
				t.Errorf("%d %.500s, want %d %s", got.Code, got.Body, c.want, c.text)
			}
			if left, _ := os.ReadDir(o.Uploads); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if c.want != 201 {
				return
			}
			if r := w.asked[0]; c.kind != Check && string(r.Mbox) != "From x\n" || c.kind == Check && w.files[r.Kernel] != "bzImage" ||
				len(c.fields) == 6 && w.files[r.Modules] != "tar" {
				t.Errorf("%+v %v", r, w.files)
			}
		})
	}
}

func TestCutOffForm(t *testing.T) {
	contentType, body := form(t, "request", `{}`, "kernel", strings.Repeat("x", 1000))
	for _, n := range []int{1, 50, 200, 700, len(body) - 5} {
		w := newWorld()
		o := w.options()
		o.Uploads = t.TempDir()
		got := ask(t, New(o), "POST", "/api/v1/jobs/check", w.mint(t, Submit), body[:n], "Content-Type", contentType)
		if got.Code != 400 && got.Code != 422 || len(w.asked) > 0 {
			t.Errorf("cut off after %d: %d %s", n, got.Code, got.Body)
		}
		if left, _ := os.ReadDir(o.Uploads); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// What stands before the first field of a form is of no field, and bounded too.
func TestLongPreamble(t *testing.T) {
	w := newWorld()
	o := w.options()
	o.Limits = Limits{JSON: 1000, Kernel: 1000, Modules: 1000}
	contentType, body := form(t, "request", `{}`, "kernel", "x")
	got := ask(t, New(o), "POST", "/api/v1/jobs/check", w.mint(t, Submit), strings.Repeat("x\r\n", 2000)+body, "Content-Type", contentType)
	if got.Code != 413 || !strings.Contains(got.Body.String(), "the request is larger than 3000 bytes") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}

// A directory that cannot be written is not the client's fault.
func TestUploadsGone(t *testing.T) {
	w := newWorld()
	o := w.options()
	o.Uploads = "/nonexistent/uploads"
	contentType, body := form(t, "request", `{}`, "kernel", "x")
	got := ask(t, New(o), "POST", "/api/v1/jobs/check", w.mint(t, Submit), body, "Content-Type", contentType)
	if got.Code != 500 || strings.Contains(got.Body.String(), "nonexistent") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}

func TestMboxAsBody(t *testing.T) {
	for _, c := range []struct {
		query, body, contentType string
		want                     int
		text                     string
	}{
		{"?repo=linux&base=v6.1&test=a&test=b&profile=cow", "From x\n", mboxType, 201, ""},
		{"?repo=linux&base=v6.1&test=a&test=b&profile=cow", "From x\n", mailType, 201, ""},
		{"?repo=linux", "From x\n", mboxType, 201, ""},
		{"?base=v6.1", "From x\n", mboxType, 422, "repo"},
		{"?repo=linux&base=v6.1&runs=3", "From x\n", mboxType, 422, "runs"},
		{"?repo=linux&base=-x", "From x\n", mboxType, 422, "base"},
		{"?repo=linux&base=v6.1", "\n", mboxType, 422, "empty"},
		{"?repo=linux&base=v6.1", `{"repo":"linux","base":"v6.1","head":"x"}`, jsonType, 422, "put them into the JSON"},
	} {
		w := newWorld()
		got := ask(t, New(w.options()), "POST", "/api/v1/jobs/series"+c.query, w.mint(t, Submit), c.body, "Content-Type", c.contentType)
		if got.Code != c.want || !strings.Contains(got.Body.String(), c.text) {
			t.Errorf("%s %s: %d %s", c.query, c.contentType, got.Code, got.Body)
		}
		if c.want != 201 || len(w.asked) != 1 {
			continue
		}
		want := Request{Kind: Series, Repo: "linux", Mbox: []byte("From x\n")}
		if c.query != "?repo=linux" {
			want.Base, want.Plan = "v6.1", Plan{Profile: "cow", Tests: []string{"a", "b"}}
		}
		if d := cmp.Diff(want, w.asked[0], cmpopts.IgnoreFields(Request{}, "Owner")); d != "" {
			t.Error(d)
		}
	}
}

// Whatever is sent, the answer is a job or a problem, and what is handed over
// keeps the rules of the description.
func FuzzSubmit(f *testing.F) {
	for _, seed := range []string{`{"repo":"linux","rev":"v6.1"}`, `{"repo":"linux","base":"a","head":"b"}`,
		`{"repo":"linux","good":"a","bad":"b","tests":["x"]}`, `{"REPO":"x","Rev":"y"}`, `{"repo":"a","repo":"b","rev":"c"}`, `[[[[`, "\xff", `{"rev":"\u0000"}`,
		"--x\r\nContent-Disposition: form-data; name=\"request\"\r\n\r\n{}\r\n--x\r\nContent-Disposition: form-data; name=\"kernel\"\r\n\r\nk\r\n--x--\r\n"} {
		f.Add(0, jsonType, seed)
		f.Add(1, multipartType+"; boundary=x", seed)
		f.Add(2, mboxType, seed)
	}
	w := newWorld()
	o := w.options()
	o.Uploads = f.TempDir()
	h, token := New(o), w.mint(f, Submit)
	f.Fuzz(func(t *testing.T, kind int, contentType, body string) {
		w.asked, w.files, w.jobs = nil, map[string]string{}, nil
		k := []Kind{Check, Series, Bisect}[uint(kind)%3]
		path := "/api/v1/jobs/" + string(k)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
		r.Header["Content-Type"] = []string{contentType}
		r.Header.Set("Authorization", "Bearer "+token)
		got := httptest.NewRecorder()
		h.ServeHTTP(got, r)
		if got.Code != 201 {
			var p Problem
			if got.Code < 400 || got.Code >= 500 || json.Unmarshal(got.Body.Bytes(), &p) != nil || p.Detail == "" || len(p.Detail) > 700 {
				t.Errorf("%d %s", got.Code, got.Body)
			}
			return
		}
		a := w.asked[0]
		for _, rev := range []string{a.Rev, a.Base, a.Head, a.Good, a.Bad} {
			if strings.HasPrefix(rev, "-") || strings.ContainsAny(rev, " \n\x00:") || strings.Contains(rev, "..") || len(rev) > 200 {
				t.Errorf("revision %q", rev)
			}
		}
		for _, p := range a.Plan.Programs {
			if strings.ContainsAny(p.Name, "/\x00") || strings.HasPrefix(p.Name, ".") || strings.Contains(p.Text, "\x00") {
				t.Errorf("program %q", p.Name)
			}
		}
		if a.Kind != k || fmt.Sprint(a.Plan.Priority) == "root" || len(a.Plan.Tests) > 200 {
			t.Errorf("%+v", a)
		}
	})
}
