package githubtest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

// Variable names the directory of GitHub's descriptions. Where it is set they
// must be there.
const Variable = "KBISECT_GITHUB_DESCRIPTION"

// Directory is where tests/github-description puts them, "" where it has not
// been run.
func Directory(t testing.TB) string {
	t.Helper()
	dir, wanted := os.LookupEnv(Variable)
	if !wanted {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(cache, "kbisect-github")
	}
	for _, name := range []string{"api.github.com.json", "webhooks.json"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			if wanted {
				t.Fatalf("%s: %v", Variable, err)
			}
			return ""
		}
	}
	return dir
}

// Require skips a test that is about the description where that is not there.
func Require(t testing.TB) {
	t.Helper()
	if Directory(t) == "" {
		t.Skip("GitHub's description of its API is not here: tests/github-description fetches it")
	}
}

// contract is GitHub's description.
type contract struct {
	doc    *openapi3.T
	router routers.Router
}

var (
	once   sync.Once
	loaded *contract
	failed error
)

// load reads the description, once in a process: it has 13 MB.
func load(t testing.TB) *contract {
	t.Helper()
	dir := Directory(t)
	if dir == "" {
		return nil
	}
	once.Do(func() { loaded, failed = read(filepath.Join(dir, "api.github.com.json")) })
	if failed != nil {
		t.Fatal(failed)
	}
	return loaded
}

func read(path string) (*contract, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	text, err = reduce(text)
	if err != nil {
		return nil, err
	}
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		return nil, err
	}
	doc.Servers = openapi3.Servers{{URL: "/"}}
	router, err := gorillamux.NewRouter(doc)
	return &contract{doc, router}, err
}

// served are the operations that the fake has, by their paths.
var served = []string{
	"/app", "/repos/{owner}/{repo}/installation", "/app/installations/{installation_id}/access_tokens", "/user",
	"/repos/{owner}/{repo}", "/repos/{owner}/{repo}/pulls", "/repos/{owner}/{repo}/pulls/{pull_number}",
	"/repos/{owner}/{repo}/issues/comments", "/repos/{owner}/{repo}/issues/comments/{comment_id}",
	"/repos/{owner}/{repo}/issues/comments/{comment_id}/reactions", "/repos/{owner}/{repo}/issues/{issue_number}/comments",
	"/repos/{owner}/{repo}/statuses/{sha}", "/repos/{owner}/{repo}/commits/{ref}/statuses",
	"/repos/{owner}/{repo}/check-runs", "/repos/{owner}/{repo}/check-runs/{check_run_id}", "/repos/{owner}/{repo}/commits/{ref}/check-runs",
	"/repos/{owner}/{repo}/collaborators/{username}/permission", "/repos/{owner}/{repo}/git/ref/{ref}",
}

// reduce leaves the operations that are served: the others cost a second.
func reduce(text []byte) ([]byte, error) {
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	var paths map[string]json.RawMessage
	if err := json.Unmarshal(doc["paths"], &paths); err != nil {
		return nil, err
	}
	some := map[string]json.RawMessage{}
	for _, p := range served {
		some[p] = paths[p]
	}
	var err error
	if doc["paths"], err = json.Marshal(some); err != nil {
		return nil, err
	}
	delete(doc, "x-webhooks")
	return json.Marshal(doc)
}

// example is an answer of the description's own, as a base for ours.
func (c *contract) example(name string) map[string]any {
	if c == nil || c.doc.Components.Examples[name] == nil {
		return map[string]any{}
	}
	text, err := json.Marshal(c.doc.Components.Examples[name].Value.Value)
	out := map[string]any{}
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		return map[string]any{}
	}
	return out
}

// checked holds a request and its answer against the description.
func (c *contract) checked(r *http.Request, body []byte, code int, header http.Header, answer []byte) error {
	if bytes.Equal(bytes.TrimSpace(body), []byte("null")) {
		body = nil // ghinstallation asks so for a token without options, and GitHub gives it
	}
	r = r.Clone(context.Background())
	r.Body = io.NopCloser(bytes.NewReader(body))
	route, params, err := c.router.FindRoute(r)
	if err != nil {
		return err
	}
	in := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, MultiError: false, IncludeResponseStatus: code < 400}}
	// A wrong request is GitHub's to refuse, too: what it refused was seen.
	if err := openapi3filter.ValidateRequest(context.Background(), in); err != nil {
		return err
	}
	if code >= 400 || code == http.StatusNotModified {
		return nil
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: code, Header: header, Options: in.Options}
	out.SetBodyBytes(answer)
	return openapi3filter.ValidateResponse(context.Background(), out)
}
