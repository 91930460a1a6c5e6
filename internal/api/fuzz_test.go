package api

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Whatever is asked, by whomever: an answer that is no trouble of ours, with the
// headers that every one has, and nothing changed without a token that may.
func FuzzRequests(f *testing.F) {
	raw := func(method, path, body string, headers ...string) {
		text := method + " " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + strings.Join(headers, "")
		for who := range uint8(3) {
			f.Add(who, []byte(fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", text, len(body), body)))
		}
		f.Add(uint8(2), []byte(text+"Transfer-Encoding: chunked\r\n\r\n5\r\n"+body+"\r\n0\r\n\r\n"))
	}
	for _, r := range routes {
		raw(r.method, "/api/v1"+r.path, r.body)
	}
	for _, path := range []string{"/api/v1/artifacts/log/../../../../etc/passwd", "/api/v1/artifacts/log/%2e%2e%2f%2e%2e", "/api/v1/artifacts/..%2flog/" + strings.Repeat("ab", 32),
		"/api/v1/artifacts/log/" + strings.Repeat("ab", 32) + "%00", "//api//v1/jobs", "/api/v1/jobs/%ff%00", "/api/v1/jobs/a%0d%0aX-Evil: 1", "http://evil.example/api/v1/jobs", "*", "/api/v1/events"} {
		raw("GET", path, "", "Range: bytes=0-1,3-99999999999999999999\r\n", "Last-Event-ID: -1\r\n", "Accept: x/y;q=9\r\n")
		raw("POST", path, `{"repo":1}`, "Authorization: Bearer kb_a_a\r\n", "Authorization: Basic eDp5\r\n", "Origin: http://evil.example\r\n")
	}
	w := newWorld()
	o := w.options()
	over := make(chan struct{})
	close(over) // or a stream would not end
	o.AnonymousRead, o.Uploads, o.Stop = true, f.TempDir(), over
	h := New(o)
	tokens := []string{"", w.mint(f, Read), w.mint(f, Submit)}
	jobs := newWorld().jobs
	f.Fuzz(func(t *testing.T, who uint8, request []byte) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(string(request))))
		if err != nil {
			return // the server's own to refuse
		}
		w.jobs, w.asked, w.done, w.files = append([]Job(nil), jobs...), nil, nil, map[string]string{}
		token := tokens[int(who)%len(tokens)]
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		r.RemoteAddr = "192.0.2.1:1"
		got := httptest.NewRecorder()
		h.ServeHTTP(got, r.WithContext(t.Context()))
		if token != tokens[2] && len(w.asked)+len(w.done) > 0 {
			t.Errorf("done: %v %v", w.asked, w.done)
		}
		g := got.Header()
		if got.Code >= 500 || g.Get("X-Content-Type-Options") != "nosniff" || g.Get(VersionHeader) != "1" || g.Get("X-Request-Id") == "" || g.Get("Cache-Control") == "" || g.Get("X-Evil") != "" {
			t.Errorf("%d %v", got.Code, g)
		}
		if g.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("pages of others may read it: %v", g)
		}
		if p := (Problem{}); got.Code >= 400 && got.Code != 416 && r.Method != http.MethodHead && (json.Unmarshal(got.Body.Bytes(), &p) != nil || p.Status != got.Code || p.Detail == "" || len(p.Detail) > 700) {
			t.Errorf("%d %s", got.Code, got.Body)
		}
	})
}
