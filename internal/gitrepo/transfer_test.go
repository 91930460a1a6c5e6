package gitrepo

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFetchFromAnotherMachine(t *testing.T) {
	src := newUser(t)
	first := src.commit("first", "a", "one")
	second := src.commit("second", "a", "two")
	here, there := t.TempDir(), t.TempDir()
	repo, err := Open(t.Context(), here, src.dir)
	if err != nil {
		t.Fatal(err)
	}
	h, err := Serve(here)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	s := httptest.NewServer(http.StripPrefix("/git", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.Header.Get("Authorization") != "Basic c2VjcmV0" {
			http.Error(w, "who?", http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})))
	defer s.Close()
	fetch := func(sha, auth string) (*Repo, error) {
		r, err := Fetched(t.Context(), there, repo.Mirror())
		if err != nil {
			t.Fatal(err)
		}
		return r, r.Fetch(t.Context(), Origin{URL: s.URL + "/git/" + repo.Mirror(), Authorization: auth}, sha)
	}
	if _, err := fetch(second, "Basic bm9ib2R5"); err == nil || strings.Contains(err.Error(), "c2VjcmV0") {
		t.Errorf("a stranger: %v", err)
	}
	for _, sha := range []string{second, first, second} {
		got, err := fetch(sha, "Basic c2VjcmV0")
		if err != nil {
			t.Fatal(err)
		}
		slot := got.Worktree(filepath.Join(there, "slot"))
		if err := slot.Checkout(t.Context(), sha); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(there, "slot", "a"))
		want := map[string]string{first: "one", second: "two"}[sha]
		if err != nil || strings.TrimSpace(string(text)) != want {
			t.Errorf("%.12s: %q, %v", sha, text, err)
		}
	}
	before := asked
	if _, err := fetch(first, "Basic c2VjcmV0"); err != nil || asked != before {
		t.Errorf("fetched again: %v, %d requests", err, asked-before)
	}
	if _, err := Fetched(t.Context(), there, "../x"); err == nil {
		t.Error("a path is taken for a mirror")
	}
	for _, path := range []string{"/git/../mirrors/x", "/git/" + repo.Mirror() + "/git-receive-pack", "/git/" + repo.Mirror() + "/config"} {
		req, _ := http.NewRequest(http.MethodPost, s.URL+path, strings.NewReader("0000"))
		req.Header.Set("Authorization", "Basic c2VjcmV0")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode < 400 {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}
