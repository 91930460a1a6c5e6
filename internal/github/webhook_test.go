package github

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // to show that it is not taken
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
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
	s := httptest.NewServer(h)
	defer s.Close()
	var slow []*io.PipeWriter
	for i := range atOnce + 1 {
		body, w := io.Pipe()
		slow = append(slow, w)
		req, err := http.NewRequest(http.MethodPost, s.URL, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-GitHub-Event", "ping")
		req.Header.Set("X-GitHub-Delivery", strconv.Itoa(i))
		req.Header.Set("X-Hub-Signature-256", "sha256=00")
		done := make(chan struct{})
		go func() {
			defer close(done)
			if resp, err := http.DefaultClient.Do(req); err == nil {
				_ = resp.Body.Close()
			}
		}()
		if _, err := w.Write([]byte("{")); err != nil {
			t.Fatal(err)
		}
		if i == atOnce { // the first ends: this one has its turn
			_ = slow[0].Close()
			_ = w.Close()
			<-done
		}
	}
	for _, w := range slow {
		_ = w.Close()
	}
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
