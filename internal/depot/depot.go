// Package depot brings sources, kernels and files to workers on other machines,
// over HTTP and beside the queue: what is too long for a message, and worth
// keeping. A worker asks under its name and with its secret. It must not know
// what they are for.
//
//	GET  /git/MIRROR/…        commits, by git's protocol
//	GET  /kernels/KEY         a build of the shared cache, as an archive; also HEAD
//	PUT  /kernels/KEY         a build for it
//	GET  /files/DIGEST        what somebody uploaded
package depot

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/imagecache"
)

// maxBuild bounds an archive that comes in: an image of 15 MB and the log.
const maxBuild = 512 << 20

// Options of the orchestrator's side.
type Options struct {
	Data  string // whose mirrors are given out
	Files string // directory of files named by their sha256
	Cache *imagecache.Cache
	// Known says whether a worker of that name has that secret.
	Known func(name, secret string) bool
	Log   *zap.Logger
}

// New returns the handler, below "/".
func New(o Options) (http.Handler, error) {
	git, err := gitrepo.Serve(o.Data)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/git/", http.StripPrefix("/git", git))
	mux.HandleFunc("GET /kernels/{key}", o.giveKernel)
	mux.HandleFunc("PUT /kernels/{key}", o.takeKernel)
	mux.HandleFunc("GET /files/{digest}", o.giveFile)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, secret, ok := r.BasicAuth()
		if !ok || !o.Known(name, secret) {
			w.Header().Set("WWW-Authenticate", `Basic realm="kbisect workers"`)
			http.Error(w, "no worker of that name has that secret", http.StatusUnauthorized)
			return
		}
		// A kernel's tree is 250 MB, and the line may be slow.
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(time.Now().Add(time.Hour))
		_ = rc.SetWriteDeadline(time.Now().Add(time.Hour))
		mux.ServeHTTP(w, r)
	}), nil
}

func (o *Options) giveKernel(w http.ResponseWriter, r *http.Request) {
	key := r.PathValue("key")
	if !o.Cache.Has(key) {
		http.Error(w, "no such build", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/x-tar")
	if r.Method == http.MethodHead {
		return
	}
	if err := o.Cache.Export(key, w); err != nil {
		o.Log.Warn("a build does not reach a worker", zap.String("key", key), zap.Error(err))
		panic(http.ErrAbortHandler) // half an archive must not look whole
	}
}

func (o *Options) takeKernel(w http.ResponseWriter, r *http.Request) {
	name, _, _ := r.BasicAuth()
	key := r.PathValue("key")
	if !imagecache.IsKey(key) {
		http.Error(w, "no key of a build", http.StatusBadRequest)
		return
	}
	if o.Cache.Has(key) { // never replaced: others may have booted it
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if err := o.Cache.Import(key, http.MaxBytesReader(w, r.Body, maxBuild)); err != nil {
		o.Log.Warn("a worker's build is refused", zap.String("worker", name), zap.Error(err))
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (o *Options) giveFile(w http.ResponseWriter, r *http.Request) {
	digest := r.PathValue("digest")
	if !imagecache.IsKey(digest) { // 64 hexadecimal digits as well
		http.NotFound(w, r)
		return
	}
	http.ServeFile(w, r, filepath.Join(o.Files, digest))
}

// Client is a worker's side.
type Client struct {
	URL          string // of the depot
	Name, Secret string
	CA           string // file of certificates to trust, "" for the system's
	HTTP         *http.Client
}

// Fetch gets a commit of a mirror.
func (c *Client) Fetch(ctx context.Context, into *gitrepo.Repo, mirror, sha string) error {
	basic := base64.StdEncoding.EncodeToString([]byte(c.Name + ":" + c.Secret))
	return into.Fetch(ctx, gitrepo.Origin{URL: c.URL + "/git/" + mirror, Authorization: "Basic " + basic, CA: c.CA}, sha)
}

// Pull takes a build of the shared cache into ours; false when there is none.
func (c *Client) Pull(ctx context.Context, key string, into *imagecache.Cache) (bool, error) {
	resp, err := c.do(ctx, http.MethodGet, "/kernels/"+key, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = resp.Body.Close() }()
	return true, into.Import(key, io.LimitReader(resp.Body, maxBuild))
}

// Push gives a build of our cache to the shared one.
func (c *Client) Push(ctx context.Context, key string, from *imagecache.Cache) error {
	resp, err := c.do(ctx, http.MethodHead, "/kernels/"+key, nil)
	if err == nil {
		return resp.Body.Close() // it has it
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(from.Export(key, pw)) }()
	resp, err = c.do(ctx, http.MethodPut, "/kernels/"+key, pr)
	_ = pr.Close()
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// File gets an uploaded file into a directory, under its digest.
func (c *Client) File(ctx context.Context, digest, dir string) (path string, err error) {
	if !imagecache.IsKey(digest) { // 64 hexadecimal digits as well
		return "", fmt.Errorf("%.80q is no digest of a file", digest)
	}
	path = filepath.Join(dir, digest)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	resp, err := c.do(ctx, http.MethodGet, "/files/"+digest, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	return path, keep(path, digest, resp.Body)
}

// do makes a request; what is not there is fs.ErrNotExist.
func (c *Client) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, body)
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth(c.Name, c.Secret)
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the orchestrator: %w", err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
	if resp.StatusCode == http.StatusNotFound {
		return nil, fmt.Errorf("the orchestrator has no %s: %w", path, fs.ErrNotExist)
	}
	return nil, fmt.Errorf("the orchestrator says %s to %s %s: %s", resp.Status, method, path, strings.TrimSpace(string(said)))
}
