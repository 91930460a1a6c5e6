package imagecache

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

var (
	key   = strings.Repeat("ab", 32)
	other = "ab" + strings.Repeat("cd", 31) // in the same subdirectory
)

func open(t *testing.T, dir string) *Cache {
	t.Helper()
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func holds(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s holds %q (%v), want %q", path, got, err, want)
	}
}

// imageDigest is the sha256 of "image".
const imageDigest = "6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d"

var good = kernel.Build{Status: kernel.BuildOK, Seconds: 12.5, Objects: 42,
	Kernel: kernel.Kernel{Key: key, Digest: imageDigest, Release: "6.12.0", ConfigDigest: "d2"}}

// put stores a good build and returns its record.
func put(t *testing.T, c *Cache, key string) kernel.Build {
	t.Helper()
	made := good
	made.Log, made.Kernel.Image, made.Kernel.Config = "/elsewhere/log", "/elsewhere/image", "/elsewhere/config"
	b, err := c.Put(key, made, file(t, "image"), file(t, "config"), []byte("log"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func get(t *testing.T, c *Cache, key string) kernel.Build {
	t.Helper()
	b, ok, err := c.Get(key)
	if err != nil || !ok {
		t.Fatalf("Get: %v, %v", ok, err)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "yet", "there")
	c := open(t, dir)
	if _, ok, err := c.Get(key); ok || err != nil {
		t.Fatalf("an empty cache has a build: %v, %v", ok, err)
	}
	stored := put(t, c, key)
	if stored.Cached {
		t.Error("a build just made is marked as cached")
	}
	for _, c := range []*Cache{c, open(t, dir)} { // also in the next process
		got := get(t, c, key)
		want := stored
		want.Cached = true
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		holds(t, got.Kernel.Image, "image")
		holds(t, got.Kernel.Config, "config")
		holds(t, got.Log, "log")
	}
	if _, ok, err := c.Get(other); ok || err != nil {
		t.Errorf("another key: %v, %v", ok, err)
	}
}

// What a failed build says is worth as much as a kernel; it has no files but
// the log.
func TestFailedBuild(t *testing.T) {
	c := open(t, t.TempDir())
	for _, status := range []kernel.BuildStatus{kernel.BuildFailed, kernel.BuildRefused} {
		failed := kernel.Build{Status: status, Error: "mm/memory.c:1:2: error: \"x\" \x1b[31m"}
		if _, err := c.Put(key, failed, "", "", []byte("log\n")); err != nil {
			t.Fatal(err)
		}
		got := get(t, c, key)
		if got.Status != status || got.Error != failed.Error || got.Kernel != (kernel.Kernel{}) {
			t.Errorf("%+v", got)
		}
		holds(t, got.Log, "log\n")
	}
}

func TestPutReplaces(t *testing.T) {
	c := open(t, t.TempDir())
	put(t, c, key)
	put(t, c, other)
	if _, err := c.Put(key, kernel.Build{Status: kernel.BuildFailed}, "", "", nil); err != nil {
		t.Fatal(err)
	}
	got := get(t, c, key)
	if got.Status != kernel.BuildFailed {
		t.Errorf("%+v", got)
	}
	if files, _ := os.ReadDir(filepath.Dir(got.Log)); len(files) != 2 {
		t.Errorf("files of the old entry are left: %v", files)
	}
	if b := get(t, c, other); b.Status != kernel.BuildOK {
		t.Error("the neighbour was hit")
	}
}

// Entries hold no absolute path: a cache that was moved to a larger disk works.
func TestRelocation(t *testing.T) {
	top := t.TempDir()
	from, to := filepath.Join(top, "from"), filepath.Join(top, "to")
	put(t, open(t, from), key)
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
	b := get(t, open(t, to), key)
	for _, path := range []string{b.Kernel.Image, b.Kernel.Config, b.Log} {
		if !strings.HasPrefix(path, to+"/") {
			t.Errorf("%s is not below %s", path, to)
		}
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(b.Log), recordFile))
	if err != nil || strings.Contains(string(text), top) || strings.Contains(string(text), "/elsewhere") {
		t.Errorf("the record holds a path (%v): %s", err, text)
	}
}

// A Put that was killed leaves nothing that looks like an entry, and what it
// leaves goes with the next Open.
func TestHalfEntries(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	put(t, c, key)
	half := filepath.Join(dir, ".new-123")
	if err := os.Mkdir(half, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(half, imageFile), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(half, long, long); err != nil {
		t.Fatal(err)
	}
	underWay := filepath.Join(dir, ".new-456") // of a job beside this one
	if err := os.Mkdir(underWay, 0o700); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, other[:2], other)
	if err := os.MkdirAll(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	c = open(t, dir)
	if left, _ := filepath.Glob(filepath.Join(dir, ".new-*")); len(left) != 1 || left[0] != underWay {
		t.Errorf("left: %v", left)
	}
	if _, ok, err := c.Get(other); ok || err != nil {
		t.Errorf("an entry without a record is a build: %v, %v", ok, err)
	}
	put(t, c, other)
	get(t, c, key)
	get(t, c, other)
}

// A failed Put leaves the cache as it was.
func TestFailedPut(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	put(t, c, key)
	missing := filepath.Join(dir, "no-such-file")
	for _, args := range [][2]string{{missing, file(t, "config")}, {file(t, "image"), missing}} {
		if _, err := c.Put(key, good, args[0], args[1], nil); err == nil {
			t.Error("a build without its files was stored")
		}
	}
	holds(t, get(t, c, key).Kernel.Image, "image")
	if left, _ := filepath.Glob(filepath.Join(dir, ".new-*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// A damaged entry is built again; a record that cannot be read at all is an
// error, for "not there" would hide that the disk is bad.
func TestDamagedEntries(t *testing.T) {
	for _, d := range []struct {
		name   string
		damage func(dir string) error
		fails  bool
	}{
		{"empty record", func(d string) error { return os.WriteFile(filepath.Join(d, recordFile), nil, 0o600) }, false},
		{"cut off record", func(d string) error {
			return os.WriteFile(filepath.Join(d, recordFile), []byte(`{"status": "ok", "ker`), 0o600)
		}, false},
		{"no image", func(d string) error { return os.Remove(filepath.Join(d, imageFile)) }, false},
		{"cut off image", func(d string) error { return os.Truncate(filepath.Join(d, imageFile), 2) }, false},
		{"other image", func(d string) error { return os.WriteFile(filepath.Join(d, imageFile), []byte("igame"), 0o600) }, false},
		{"directory", func(d string) error {
			p := filepath.Join(d, recordFile)
			_ = os.Remove(p)
			return os.Mkdir(p, 0o700)
		}, true},
	} {
		t.Run(d.name, func(t *testing.T) {
			c := open(t, t.TempDir())
			b := put(t, c, key)
			if err := d.damage(filepath.Dir(b.Log)); err != nil {
				t.Fatal(err)
			}
			_, ok, err := c.Get(key)
			if ok || d.fails != (err != nil) || err != nil && !strings.Contains(err.Error(), key[:12]) {
				t.Errorf("%v, %v", ok, err)
			}
			put(t, c, key) // and it can be replaced
			get(t, c, key)
		})
	}
}

func TestOpenWhereAFileIs(t *testing.T) {
	if _, err := Open(filepath.Join(file(t, ""), "cache")); err == nil {
		t.Error("opened")
	}
}
