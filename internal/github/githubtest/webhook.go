package githubtest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// hook is where webhooks go.
type hook struct{ url, secret string }

// Hook sets where webhooks go, "" for nowhere.
func (s *Server) Hook(url, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = hook{url, secret}
}

// Delivered waits until all webhooks so far are answered.
func (s *Server) Delivered() { s.hooks.Wait() }

// tell delivers an event of a repository, if there is a webhook.
func (s *Server) tell(name, event, action string, pull int, extra map[string]any) {
	s.mu.Lock()
	h, r := s.hook, s.repos[name]
	payload := map[string]any{"repository": s.fullRepo(r), "sender": user("somebody"), "installation": map[string]any{"id": installation}}
	if action != "" {
		payload["action"] = action
	}
	if p := r.pulls[pull]; p != nil {
		payload["number"], payload["pull_request"] = pull, s.pull(r, p, "pull-request")
	}
	for k, v := range extra {
		payload[k] = v
	}
	s.mu.Unlock()
	if h.url == "" {
		return
	}
	body, err := json.Marshal(payload)
	if err != nil {
		s.problem("webhook: %v", err)
		return
	}
	s.hooks.Go(func() {
		resp, err := Deliver(h.url, h.secret, event, random(8), body)
		if err != nil {
			return // GitHub does not try again by itself, either
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	})
}

// Deliver sends a webhook as GitHub does.
func Deliver(url, secret, event, id string, body []byte) (*http.Response, error) {
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	m := hmac.New(sha256.New, []byte(secret))
	m.Write(body)
	for k, v := range map[string]string{
		"Content-Type": "application/json", "User-Agent": "GitHub-Hookshot/0000000", "X-GitHub-Event": event, "X-GitHub-Delivery": id,
		"X-Hub-Signature-256": "sha256=" + hex.EncodeToString(m.Sum(nil)),
	} {
		req.Header.Set(k, v)
	}
	return http.DefaultClient.Do(req)
}

// Example is a webhook of GitHub's own collection.
type Example struct {
	Event   string
	Payload json.RawMessage
}

// Examples are GitHub's official examples of all webhooks.
func Examples(t testing.TB) []Example {
	t.Helper()
	Require(t)
	text, err := os.ReadFile(filepath.Join(Directory(t), "webhooks.json"))
	if err != nil {
		t.Fatal(err)
	}
	var events []struct {
		Name     string
		Examples []json.RawMessage
	}
	if err := json.Unmarshal(text, &events); err != nil {
		t.Fatal(err)
	}
	var out []Example
	for _, e := range events {
		for _, p := range e.Examples {
			out = append(out, Example{e.Name, p})
		}
	}
	return out
}
