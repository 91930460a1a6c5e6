package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/cgi" //nolint:gosec // it drops the Proxy header since Go 1.6.3, and we run on later ones
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

// Mirror names a repository on its way to another machine: see Serve and Fetch.
func (r *Repo) Mirror() string { return filepath.Base(r.mirror) }

var mirrorForm = regexp.MustCompile(`^[0-9a-f]{12}\.git$`)

// Serve gives out the commits of all mirrors under dataDir, by git's smart HTTP
// protocol and below /MIRROR: any commit that somebody can name, and nothing
// can be pushed. Who may ask is the caller's to say.
func Serve(dataDir string) (http.Handler, error) {
	git, err := exec.LookPath("git")
	if err != nil {
		return nil, errors.New("git is not installed: deploy/install-deps installs it")
	}
	env := append(cleanEnv(), "GIT_PROJECT_ROOT="+filepath.Join(dataDir, "mirrors"), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=4")
	for i, kv := range []string{
		"safe.directory=*",
		// A mirror has no refs: jobs name commits.
		"uploadpack.allowAnySHA1InWant=true",
		"http.receivepack=false",
		"gc.auto=0",
	} {
		k, v, _ := strings.Cut(kv, "=")
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, k), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, v))
	}
	h := &cgi.Handler{Path: git, Args: []string{"http-backend"}, Env: env}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		if !mirrorForm.MatchString(name) {
			http.NotFound(w, r)
			return
		}
		r = r.Clone(r.Context())
		r.Header.Del("Authorization") // not the backend's business
		h.ServeHTTP(w, r)
	}), nil
}

// fetching is held while commits come in: git locks a repository's list of
// shallow commits, and one fetch at a time is what a line carries anyway.
var fetching sync.Mutex

// Origin is a mirror on another machine, which Serve gives out.
type Origin struct {
	URL           string // with the mirror's name at its end
	Authorization string // the HTTP header of that name
	CA            string // file of certificates to trust, "" for the system's
}

// Fetched opens what was fetched of the mirror of that name: nothing, at first.
func Fetched(ctx context.Context, dataDir, mirror string) (*Repo, error) {
	if !mirrorForm.MatchString(mirror) {
		return nil, fmt.Errorf("fetch: %.80q is no name of a mirror", mirror)
	}
	fetching.Lock()
	defer fetching.Unlock()
	dir := filepath.Join(dataDir, "fetched", mirror)
	if _, err := os.Stat(filepath.Join(dir, "objects/info")); err != nil {
		r := &Repo{owner: dataDir, source: dir}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		if _, err := r.git(ctx, dir, "init", "--quiet", "--bare", "--template=", dir); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(filepath.Join(dir, "objects/info"), 0o755); err != nil {
			return nil, err
		}
	}
	return Open(ctx, dataDir, dir)
}

// Fetch gets one commit with its files and without its history into a
// repository that Fetched opened. What was fetched before is not fetched again.
func (r *Repo) Fetch(ctx context.Context, from Origin, sha string) error {
	fetching.Lock()
	defer fetching.Unlock()
	ref := "refs/kbisect/" + sha
	if _, err := r.git(ctx, r.source, "rev-parse", "--verify", "--quiet", ref); err == nil {
		return nil
	}
	// In the environment, where other users do not see it.
	env := []string{"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http.extraHeader", "GIT_CONFIG_VALUE_0=Authorization: " + from.Authorization}
	if from.CA != "" {
		env = append(env, "GIT_SSL_CAINFO="+from.CA)
	}
	if _, err := r.gitEnv(ctx, r.source, env, "fetch", "--quiet", "--no-tags", "--depth=1", from.URL, sha+":"+ref); err != nil {
		return fmt.Errorf("fetch %.12s from the orchestrator: %w", sha, err)
	}
	_, err := Open(ctx, r.owner, r.source) // the mirror learns what is shallow
	return err
}
