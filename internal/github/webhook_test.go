package github

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // to show that it is not taken
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func mac(h func() hash.Hash, secret, body string) string {
	m := hmac.New(h, []byte(secret))
	m.Write([]byte(body))
	return hex.EncodeToString(m.Sum(nil))
}

// What is not signed with the secret is not taken, and what is taken is kept
// before it is answered.
func TestWebhook(t *testing.T) {
	const secret = "s3cret"
	const body = `{"action":"opened","number":5,"pull_request":{"number":5},"repository":{"full_name":"a/b"}}`
	kept := map[string]string{}
	full := false
	h, err := Webhook([]byte(secret), func(_ context.Context, id, event string, body []byte) error {
		if full {
			return errors.New("disk full")
		}
		kept[id] = event + " " + string(body)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	post := func(header map[string]string, body string) (int, string) {
		t.Helper()
		r := httptest.NewRequest(http.MethodPost, "/github/webhook", strings.NewReader(body))
		for k, v := range map[string]string{"Content-Type": "application/json", "X-GitHub-Event": "pull_request", "X-GitHub-Delivery": "12-ab",
			"X-Hub-Signature-256": "sha256=" + mac(sha256.New, secret, body)} {
			r.Header.Set(k, v)
		}
		for k, v := range header {
			r.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := w.Body.String(); strings.Count(got, "\n") > 1 || strings.Contains(got, secret) {
			t.Errorf("%q", got)
		}
		return w.Code, w.Body.String()
	}
	for _, tt := range []struct {
		name   string
		header map[string]string
		body   string
		want   int
	}{
		{"not signed", map[string]string{"X-Hub-Signature-256": ""}, body, 401},
		{"signed with SHA-1", map[string]string{"X-Hub-Signature-256": "", "X-Hub-Signature": "sha1=" + mac(sha1.New, secret, body)}, body, 401},
		{"SHA-1 where SHA-256 belongs", map[string]string{"X-Hub-Signature-256": "sha1=" + mac(sha1.New, secret, body)}, body, 401},
		{"another secret", map[string]string{"X-Hub-Signature-256": "sha256=" + mac(sha256.New, "", body)}, body, 401},
		{"signature of nothing", map[string]string{"X-Hub-Signature-256": "sha256="}, body, 401},
		{"no delivery", map[string]string{"X-GitHub-Delivery": ""}, body, 400},
		{"a delivery that is markup", map[string]string{"X-GitHub-Delivery": "<x>"}, body, 400},
		{"no event", map[string]string{"X-GitHub-Event": ""}, body, 400},
		{"an event of our own", map[string]string{"X-GitHub-Event": polled}, `{}`, 400},
		{"text", map[string]string{"Content-Type": "text/plain"}, body, 401},
		{"not JSON", nil, "{", 400},
		{"too long", nil, strings.Repeat(" ", maxPayload+1), 413},
		{"ping", map[string]string{"X-GitHub-Event": "ping"}, `{"zen":"x"}`, 200},
		{"nothing of ours", map[string]string{"X-GitHub-Event": "star"}, `{}`, 202},
		{"an event of the future", map[string]string{"X-GitHub-Event": "teleported"}, `{}`, 202},
		{"labelled", nil, strings.Replace(body, "opened", "labeled", 1), 202},
	} {
		if got, text := post(tt.header, tt.body); got != tt.want {
			t.Errorf("%s: %d %s, want %d", tt.name, got, text, tt.want)
		}
	}
	if len(kept) != 0 {
		t.Errorf("kept %q", kept)
	}
	if got, text := post(nil, body); got != 202 || kept["12-ab"] != "pull_request "+body {
		t.Errorf("%d %s, kept %q", got, text, kept)
	}
	form := "payload=" + url.QueryEscape(body)
	if got, text := post(map[string]string{"Content-Type": "application/x-www-form-urlencoded", "X-GitHub-Delivery": "13"}, form); got != 202 || kept["13"] != "pull_request "+body {
		t.Errorf("a form: %d %s, kept %q", got, text, kept)
	}
	full = true
	if got, _ := post(nil, body); got != 503 {
		t.Errorf("disk full: %d", got)
	}
	r := httptest.NewRecorder()
	h.ServeHTTP(r, httptest.NewRequest(http.MethodGet, "/github/webhook", nil))
	if r.Code != 405 {
		t.Errorf("GET: %d", r.Code)
	}
	if _, err := Webhook(nil, nil); !errors.Is(err, ErrNoSecret) {
		t.Errorf("no secret: %v", err)
	}
}

// A comment that a webhook tells of and that is polled as well is one delivery.
func TestCommentIsOneDelivery(t *testing.T) {
	s, c := asApp(t)
	cur := &Cursor{}
	poll := func() []Event {
		t.Helper()
		events, err := c.Poll(t.Context(), repoName, nil, cur)
		if err != nil {
			t.Fatal(err)
		}
		return events
	}
	poll()
	s.PushPull(repoName, 1, base, []string{base})
	number := s.AddComment(repoName, 1, "ann", "/kbisect test")
	var polled Event
	for _, e := range poll() {
		if e.Kind == Commented {
			polled = e
		}
	}
	want, _, _, err := polled.Delivery()
	if err != nil || polled.Comment != number {
		t.Fatalf("%+v, %v", polled, err)
	}
	var id string
	var told Event
	h, err := Webhook([]byte("x"), func(_ context.Context, d, event string, body []byte) (err error) {
		id = d
		told, _, err = Decode(event, body)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"action":"created","issue":{"number":1},"comment":{"id":%d,"body":"/kbisect test","user":{"login":"ann"},"created_at":%q},"repository":{"full_name":%q}}`,
		number, polled.At.Format(time.RFC3339), repoName)
	r := httptest.NewRequest(http.MethodPost, "/github/webhook", strings.NewReader(body))
	for k, v := range map[string]string{"Content-Type": "application/json", "X-GitHub-Event": "issue_comment", "X-GitHub-Delivery": "12-ab",
		"X-Hub-Signature-256": "sha256=" + mac(sha256.New, "x", body)} {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != http.StatusAccepted {
		t.Fatal(w.Code, w.Body)
	}
	if polled.id = ""; id != want || told != polled {
		t.Errorf("delivered as %s, polled as %s\n%+v\n%+v", id, want, told, polled)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("pull_request", []byte(`{"action":"opened","number":5,"repository":{"full_name":"a/b"}}`))
	f.Add("issue_comment", []byte(`{"action":"created","comment":{"id":1,"body":"/kbisect test"},"issue":{"number":1},"repository":{"full_name":"a/b"}}`))
	f.Add("check_run", []byte(`{"action":"requested_action","requested_action":{"identifier":"x"},"repository":{"full_name":"a/b"}}`))
	f.Add("push", []byte(`{"ref":"refs/heads/x","after":"1","repository":{"full_name":"a/b"}}`))
	f.Add("polled", []byte(`{}`))
	f.Fuzz(func(t *testing.T, event string, body []byte) {
		e, ok, err := Decode(event, body)
		if ok && err != nil || ok && event != polled && !RepoName(e.Repo) {
			t.Errorf("%q %q: %+v, %v", event, body, e, err)
		}
	})
}

// Who sends slowly keeps others waiting, not without bound, and holds no memory
// beyond that.
func TestWebhookAtOnce(t *testing.T) {
	h, err := Webhook([]byte("x"), func(context.Context, string, string, []byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	reads := make(chan struct{}, 2*atOnce)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = &firstRead{ReadCloser: r.Body, tell: reads}
		h.ServeHTTP(w, r)
	}))
	defer s.Close()
	var conns []net.Conn
	send := func(body string) {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-GitHub-Event: ping\r\nX-GitHub-Delivery: 1\r\nX-Hub-Signature-256: sha256=00\r\nContent-Length: 2\r\n\r\n"+body); err != nil {
			t.Fatal(err)
		}
	}
	for range atOnce {
		send("{")
		<-reads
	}
	send("{}")
	select {
	case <-reads:
		t.Error("one more is read than there may be")
	case <-time.After(200 * time.Millisecond):
		_, _ = io.WriteString(conns[0], "}") // now it has its turn
		<-reads
	}
	for _, c := range conns {
		_ = c.Close()
	}
}

// firstRead tells when a body is begun to be read.
type firstRead struct {
	io.ReadCloser
	once sync.Once
	tell chan<- struct{}
}

func (f *firstRead) Read(b []byte) (int, error) {
	f.once.Do(func() { f.tell <- struct{}{} })
	return f.ReadCloser.Read(b)
}

// hurried is a writer whose connection keeps to a time.
type hurried struct {
	*httptest.ResponseRecorder
	until time.Time
}

func (h *hurried) SetReadDeadline(t time.Time) error {
	h.until = t
	return nil
}

// A payload has to come in time, and not in the time that a whole kernel has.
func TestWebhookInTime(t *testing.T) {
	h, err := Webhook([]byte("x"), func(context.Context, string, string, []byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}"))
		r.Header.Set("X-GitHub-Event", "ping")
		r.Header.Set("X-GitHub-Delivery", "1")
		r.Header.Set("X-Hub-Signature-256", "sha256=00")
		w := &hurried{ResponseRecorder: httptest.NewRecorder()}
		h.ServeHTTP(w, r)
		if got := time.Until(w.until); got != 15*time.Second {
			t.Errorf("it may take %s", got)
		}
	})
}

// What is not signed is not kept, whatever it is, and what is signed ends in an
// answer to GitHub.
func FuzzWebhook(f *testing.F) {
	const secret = "s3cret"
	kept := 0
	h, err := Webhook([]byte(secret), func(context.Context, string, string, []byte) error { kept++; return nil })
	if err != nil {
		f.Fatal(err)
	}
	f.Add(http.MethodPost, "pull_request", "12-ab", "application/json", "", `{"action":"opened","number":5,"pull_request":{"number":5},"repository":{"full_name":"a/b"}}`)
	f.Add(http.MethodPost, "issue_comment", "1", "application/x-www-form-urlencoded", "sha256=00", "payload=%7b%7d&payload=1")
	f.Add(http.MethodPut, "ping", "\r\nX: y", "text/plain; charset=\xff", "sha256=", "{")
	f.Add(http.MethodPost, "push", "1", "multipart/form-data; boundary=x", "sha1=x", "--x\r\n\r\n")
	f.Fuzz(func(t *testing.T, method, event, id, contentType, signature, body string) {
		for _, signed := range []bool{false, true} {
			if right := "sha256=" + mac(sha256.New, secret, body); signed {
				signature = right
			} else if signature == right {
				return
			}
			kept = 0
			r := httptest.NewRequest(http.MethodPost, "/github/webhook", strings.NewReader(body))
			r.Method = method
			for k, v := range map[string]string{"Content-Type": contentType, "X-GitHub-Event": event, "X-GitHub-Delivery": id, "X-Hub-Signature-256": signature} {
				r.Header[http.CanonicalHeaderKey(k)] = []string{v}
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if kept > 0 && (!signed || method != http.MethodPost || w.Code != http.StatusAccepted) || w.Code >= 500 || !signed && w.Code < 400 {
				t.Errorf("signed %v: %d, %d kept", signed, w.Code, kept)
			}
		}
	})
}
