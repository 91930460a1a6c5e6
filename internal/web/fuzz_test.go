package web

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Whatever is asked: a page that is no trouble of ours, with all the headers that
// keep strangers' words from acting, and nothing done for pages of others, for who
// comes under another name, and where all is for reading.
func FuzzRequests(f *testing.F) {
	for _, host := range []string{"localhost", "evil.example"} {
		for _, path := range golden {
			f.Add(false, []byte("GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nAccept-Encoding: gzip\r\nHX-Request: true\r\n\r\n"))
		}
		for _, path := range append(changes, "/static/../web.go", "/static/%2e%2e%2fweb.go", "/artifacts/log/..%2f..", "/jobs/%00%0d%0aX-Evil:1/report/html", "/events?job=%ff", "/runs?before=1e9", "//evil.example/", "*", "/jobs/series-3/report/..") {
			for _, from := range []string{"Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site", "Origin: http://evil.example", "Origin: null", "X-None: 1"} {
				f.Add(true, []byte("POST "+path+" HTTP/1.1\r\nHost: "+host+"\r\n"+from+"\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 40\r\n\r\n"+filled))
				f.Add(false, []byte("POST "+path+"?"+filled+" HTTP/1.1\r\nHost: "+host+"\r\n"+from+"\r\nContent-Type: multipart/form-data; boundary=x\r\nTransfer-Encoding: chunked\r\n\r\nzz"))
			}
		}
	}
	fk := newFake(f)
	o := options(fk)
	over := make(chan struct{})
	close(over) // or a stream would not end
	o.Hosts, o.Stop = []string{"localhost"}, over
	var broke error
	o.Log = func(_ *http.Request, err error) { broke = err }
	all := New(o)
	o.ReadOnly = true
	reading := New(o)
	f.Fuzz(func(t *testing.T, readOnly bool, request []byte) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(string(request))))
		if err != nil {
			return // the server's own to refuse
		}
		fk.did, fk.asks, broke = nil, Form{}, nil
		h := all
		if readOnly {
			h = reading
		}
		site, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r.WithContext(t.Context()))
		others := site != "" && site != "same-origin" && site != "none" || site == "" && origin != "" && origin != "http://localhost" && origin != "https://localhost"
		if did := len(fk.did) > 0 || fk.asks.Kind != ""; did && (readOnly || others || r.Host != "localhost" || r.Method != http.MethodPost) {
			t.Errorf("done: %v %+v", fk.did, fk.asks)
		}
		g := w.Header()
		if w.Code >= 500 || broke != nil {
			t.Errorf("%d, %v", w.Code, broke)
		}
		if g.Get("Content-Security-Policy") != policy || g.Get("X-Content-Type-Options") != "nosniff" || g.Get("X-Frame-Options") != "DENY" || g.Get("Referrer-Policy") != "same-origin" || g.Get("X-Evil") != "" {
			t.Errorf("%d %v", w.Code, g)
		}
		if body := w.Body.String(); strings.HasPrefix(g.Get("Content-Type"), "text/html") && (strings.Contains(body, "<script>") || strings.Contains(body, "<img")) {
			t.Errorf("markup of a stranger")
		}
		if to := g.Get("Location"); to != "" && (!strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\r\n\\")) {
			t.Errorf("leads away: %q", to)
		}
	})
}
