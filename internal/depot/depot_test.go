package depot

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/imagecache"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

const key = "abababababababababababababababababababababababababababababababab"

// rig is an orchestrator's depot and a worker.
type rig struct {
	files, data string
	cache       *imagecache.Cache
	*Client
}

func cache(t *testing.T) *imagecache.Cache {
	t.Helper()
	c, err := imagecache.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newRig(t *testing.T) rig {
	t.Helper()
	r := rig{files: t.TempDir(), data: t.TempDir(), cache: cache(t)}
	h, err := New(Options{Data: r.data, Files: r.files, Cache: r.cache, Log: zap.NewNop(),
		Known: func(name, secret string) bool { return name == "w1" && secret == "s" }})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	r.Client = &Client{URL: s.URL, Name: "w1", Secret: "s", HTTP: s.Client()}
	return r
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func put(t *testing.T, c *imagecache.Cache) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"image", "config"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b := kernel.Build{Status: kernel.BuildOK, Kernel: kernel.Kernel{Key: key, Digest: digest("image")}}
	if _, err := c.Put(key, b, filepath.Join(dir, "image"), filepath.Join(dir, "config"), []byte("log")); err != nil {
		t.Fatal(err)
	}
}

func TestKernels(t *testing.T) {
	r := newRig(t)
	one, two := cache(t), cache(t)
	if ok, err := r.Pull(t.Context(), key, one); ok || err != nil {
		t.Fatalf("pulled what is not there: %v, %v", ok, err)
	}
	put(t, one)
	for range 2 { // again is no error
		if err := r.Push(t.Context(), key, one); err != nil {
			t.Fatal(err)
		}
	}
	if ok, err := r.Pull(t.Context(), key, two); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if b, ok, err := two.Get(key); !ok || err != nil || b.Kernel.Digest != digest("image") {
		t.Errorf("%+v, %v, %v", b, ok, err)
	}
	if err := r.Push(t.Context(), strings.Repeat("cd", 32), one); err == nil {
		t.Error("pushed what is not there")
	}
	if r.cache.Has(strings.Repeat("cd", 32)) {
		t.Error("half a build is in the shared cache")
	}
}

func TestFiles(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	good, bad := digest("hello"), digest("other")
	for name, text := range map[string]string{good: "hello", bad: "not other"} {
		if err := os.WriteFile(filepath.Join(r.files, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	path, err := r.File(t.Context(), good, dir)
	if text, rerr := os.ReadFile(path); err != nil || rerr != nil || string(text) != "hello" {
		t.Errorf("%q, %v, %v", text, err, rerr)
	}
	if _, err := r.File(t.Context(), bad, dir); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Error(err)
	}
	if _, err := r.File(t.Context(), digest("none"), dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if path, err := r.File(t.Context(), "../"+filepath.Base(dir)+"/"+good, dir); err == nil {
		t.Errorf("a path is taken for a digest: %s", path)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%d files are left", len(left))
	}
}

func TestStrangers(t *testing.T) {
	r := newRig(t)
	stranger := *r.Client
	stranger.Secret = "guess"
	if _, err := stranger.Pull(t.Context(), key, cache(t)); err == nil || !strings.Contains(err.Error(), "no worker of that name has that secret") {
		t.Error(err)
	}
	for _, path := range []string{"/files/..%2f..%2fetc%2fpasswd", "/files/x", "/kernels/x", "/git/x/info/refs", "/git/..%2f/config"} {
		req, _ := http.NewRequest(http.MethodGet, r.URL+path, nil)
		req.SetBasicAuth("w1", "s")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}

func TestRepo(t *testing.T) {
	r := newRig(t)
	src := t.TempDir()
	git := func(args ...string) string {
		cmd := exec.Command("git", append([]string{"-C", src, "-c", "user.name=Ada", "-c", "user.email=ada@example.org"}, args...)...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "-q")
	git("commit", "-q", "--allow-empty", "-m", "one")
	sha := git("rev-parse", "HEAD")
	repo, err := gitrepo.Open(t.Context(), r.data, src)
	if err != nil {
		t.Fatal(err)
	}
	got, err := gitrepo.Fetched(t.Context(), t.TempDir(), repo.Mirror())
	if err == nil {
		err = r.Fetch(t.Context(), got, repo.Mirror(), sha)
	}
	if err != nil {
		t.Fatal(err)
	}
	if c, err := got.Commit(t.Context(), sha); err != nil || c.Subject != "one" {
		t.Errorf("%+v, %v", c, err)
	}
}
