package artifact

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func open(t *testing.T, where string) *Store {
	t.Helper()
	s, err := Open(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func put(t *testing.T, s *Store, k Kind, text string) string {
	t.Helper()
	d, err := s.Put(t.Context(), k, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func get(t *testing.T, s *Store, k Kind, digest string) (string, error) {
	t.Helper()
	r, err := s.Get(t.Context(), k, digest)
	if err != nil {
		return "", err
	}
	defer func() { _ = r.Close() }()
	b, err := io.ReadAll(r)
	return string(b), err
}

func TestKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "artifacts")
	for _, where := range []string{dir, "mem://"} {
		s := open(t, where)
		log := strings.Repeat("  CC mm/memory.o\n", 10_000)
		d := put(t, s, Log, log)
		sum := sha256.Sum256([]byte(log))
		if d != hex.EncodeToString(sum[:]) || put(t, s, Log, log) != d {
			t.Error(d)
		}
		if got, err := get(t, s, Log, d); err != nil || got != log {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if got, err := get(t, s, Log, put(t, s, Log, "")); err != nil || got != "" {
			t.Errorf("%q, %v", got, err)
		}
		for _, no := range [][2]string{{string(Kernel), d}, {"log", strings.Repeat("0", 64)}, {"log", "../../x"}, {"../log", d}, {"", ""}} {
			if _, err := get(t, s, Kind(no[0]), no[1]); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%v: %v", no, err)
			}
		}
		if _, err := s.Put(t.Context(), "page", nil); err == nil {
			t.Error("a kind that there is not")
		}
	}
	packed, err := os.ReadDir(filepath.Join(dir, "log"))
	if err != nil || len(packed) != 2 {
		t.Errorf("%v, %v", packed, err)
	}
	// Opened again it has them still.
	if got, err := get(t, open(t, dir), Log, put(t, open(t, dir), Log, "x")); err != nil || got != "x" {
		t.Errorf("%q, %v", got, err)
	}
}

// Nothing but a digest names an artifact, and so a file of the store.
func TestValid(t *testing.T) {
	sum := strings.Repeat("0a", 32)
	for _, bad := range []string{"", sum[1:], sum + "0", strings.ToUpper(sum), "../" + sum[3:], sum[:63] + "/", sum + "\n", "\n" + sum} {
		if Valid(Log, bad) {
			t.Errorf("%q", bad)
		}
	}
	if !Valid(Log, sum) || Valid("../x", sum) || Valid("", sum) {
		t.Error("kinds")
	}
}

func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	one, two := put(t, s, Log, "one"), put(t, s, Log, "two")
	path := func(d string) string { return filepath.Join(dir, "log", d[:2], d+".zst") }
	text, err := os.ReadFile(path(two))
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{"another's": text, "half": text[:len(text)/2], "noise": []byte("no zstd")} {
		if err := os.WriteFile(path(one), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := get(t, s, Log, one); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	old, young, kernel := put(t, s, Log, "old"), put(t, s, Log, "young"), put(t, s, Kernel, "old")
	long := time.Now().Add(-48 * time.Hour)
	for _, p := range []string{"log/" + old[:2] + "/" + old, "kernel/" + kernel[:2] + "/" + kernel} {
		if err := os.Chtimes(filepath.Join(dir, p+".zst"), long, long); err != nil {
			t.Fatal(err)
		}
	}
	foreign := filepath.Join(dir, "log", "notes.txt")
	if err := os.WriteFile(foreign, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(foreign, long, long); err != nil {
		t.Fatal(err)
	}
	n, size, err := s.Sweep(t.Context(), Keep{Log: 24 * time.Hour}, time.Now())
	if err != nil || n != 1 || size == 0 {
		t.Errorf("%d, %d, %v", n, size, err)
	}
	if _, err := get(t, s, Log, old); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for k, d := range map[Kind]string{Log: young, Kernel: kernel} {
		if _, err := get(t, s, k, d); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Error("what is not ours is gone")
	}
	// What is left again lives on.
	if err := os.Chtimes(filepath.Join(dir, "kernel", kernel[:2], kernel+".zst"), long, long); err != nil {
		t.Fatal(err)
	}
	put(t, s, Kernel, "old")
	if n, _, err := s.Sweep(t.Context(), Keep{Kernel: 24 * time.Hour}, time.Now()); n != 0 || err != nil {
		t.Error(n, err)
	}
}

func TestExpired(t *testing.T) {
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	keep := Keep{Log: 10 * time.Hour}
	for _, c := range []struct {
		kind Kind
		age  time.Duration
		want bool
	}{{Log, 11 * time.Hour, true}, {Log, 10 * time.Hour, false}, {Log, -time.Hour, false}, {Kernel, 1e6 * time.Hour, false}} {
		if got := keep.expired(c.kind, now.Add(-c.age), now); got != c.want {
			t.Errorf("%s after %s: %v", c.kind, c.age, got)
		}
	}
}

func TestWrongPlaces(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, where := range []string{file, "ftp://x", "nowhere", ""} {
		if s, err := Open(t.Context(), where); err == nil {
			_ = s.Close()
			t.Errorf("%q is opened", where)
		} else if strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "artifacts") {
			t.Errorf("%q: %v", where, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("log/ab/" + strings.Repeat("ab", 32) + ".zst")
	f.Fuzz(func(t *testing.T, object string) {
		if k, d, ok := parse(object); ok && name(k, d) != object {
			t.Errorf("%q is %s %s", object, k, d)
		}
	})
}

// A link in the store leads nowhere: what comes has to have the digest.
func TestLinkInTheStore(t *testing.T) {
	dir, secret := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	s := open(t, dir)
	path := func(d string) string { return filepath.Join(dir, "log", d[:2], d+".zst") }
	one := put(t, s, Log, "one")
	at := path(one)
	packed, err := os.ReadFile(path(put(t, s, Log, "two")))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{[]byte("root:x:0:0"), packed} {
		if err := errors.Join(os.WriteFile(secret, text, 0o600), os.Remove(at), os.Symlink(secret, at)); err != nil {
			t.Fatal(err)
		}
		if got, err := get(t, s, Log, one); err == nil {
			t.Errorf("%q", got)
		}
	}
}
