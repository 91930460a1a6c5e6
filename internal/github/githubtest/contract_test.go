package githubtest

import (
	"net/http"
	"strings"
	"testing"
)

// What goes against GitHub's description is seen, in requests and in answers.
func TestProblems(t *testing.T) {
	Require(t)
	sha := strings.Repeat("1", 40)
	s := New(t, Options{Token: "ghs_x"})
	s.AddRepo("a/b", "", map[string]string{"main": sha})
	s.OpenPull("a/b", Pull{Head: sha, Base: sha, Commits: []string{sha}})
	for _, tt := range []struct {
		name, method, path, body string
		wrong                    bool
	}{
		{"a status", "POST", "/repos/a/b/statuses/" + sha, `{"state":"success","context":"x"}`, false},
		{"without a state", "POST", "/repos/a/b/statuses/" + sha, `{"context":"x"}`, true},
		{"a state that there is not", "POST", "/repos/a/b/statuses/" + sha, `{"state":"good"}`, true},
		{"a description that is a number", "POST", "/repos/a/b/statuses/" + sha, `{"state":"success","description":1}`, true},
		{"a check run", "POST", "/repos/a/b/check-runs", `{"name":"x","head_sha":"` + sha + `","status":"queued"}`, false},
		{"a conclusion that there is not", "POST", "/repos/a/b/check-runs", `{"name":"x","head_sha":"` + sha + `","status":"completed","conclusion":"bad"}`, true},
		{"a remark without a line", "POST", "/repos/a/b/check-runs", `{"name":"x","head_sha":"` + sha + `","output":{"title":"t","summary":"s","annotations":[{"path":"a","annotation_level":"failure","message":"m"}]}}`, true},
		{"a comment without a body", "POST", "/repos/a/b/issues/1/comments", `{}`, true},
		{"something that is not served", "GET", "/repos/a/b/zen", ``, true},
	} {
		req, err := http.NewRequest(tt.method, s.URL+prefix+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer ghs_x")
		if tt.body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := s.Problems(); len(got) > 0 != tt.wrong {
			t.Errorf("%s: %d %q", tt.name, resp.StatusCode, got)
		}
		s.problems = nil
	}
	// An answer of ours that GitHub would not give.
	s.repos["a/b"].pulls[1].Head = ""
	old := s.contract.doc.Components.Examples["pull-request"].Value.Value
	s.contract.doc.Components.Examples["pull-request"].Value.Value = map[string]any{}
	defer func() { s.contract.doc.Components.Examples["pull-request"].Value.Value = old }()
	req, _ := http.NewRequest(http.MethodGet, s.URL+prefix+"/repos/a/b/pulls/1", nil)
	req.Header.Set("Authorization", "Bearer ghs_x")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if len(s.Problems()) == 0 {
		t.Error("half an answer is taken for a whole one")
	}
	s.problems = nil
}
