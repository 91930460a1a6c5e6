package imagecache

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// exported is a cache with one build of key, and that build as an archive.
func exported(t *testing.T, b kernel.Build) (text []byte, want kernel.Build) {
	t.Helper()
	c := open(t, t.TempDir())
	b.Kernel.Key = key
	image, config := file(t, "image"), file(t, "config")
	if b.Status != kernel.BuildOK {
		image, config = "", ""
	}
	if _, err := c.Put(key, b, image, config, []byte("log")); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := c.Export(key, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), get(t, c, key)
}

func TestTransfer(t *testing.T) {
	for _, b := range []kernel.Build{good, {Status: kernel.BuildFailed, Error: "mm/memory.c:1: error"}} {
		text, want := exported(t, b)
		dir := t.TempDir()
		c := open(t, dir)
		if c.Has(key) {
			t.Error("an empty cache has it")
		}
		if err := c.Import(key, bytes.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		got := get(t, c, key)
		if !c.Has(key) || filepath.Dir(got.Log) != filepath.Join(dir, key[:2], key) {
			t.Error(got.Log)
		}
		holds(t, got.Log, "log")
		got.Log, got.Kernel.Image, got.Kernel.Config = want.Log, want.Kernel.Image, want.Kernel.Config
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
}

func TestImportRefuses(t *testing.T) {
	text, _ := exported(t, good)
	pack := func(files ...string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for i := 0; i < len(files); i += 2 {
			_ = w.WriteHeader(&tar.Header{Name: files[i], Size: int64(len(files[i+1])), Mode: 0o644})
			_, _ = w.Write([]byte(files[i+1]))
		}
		_ = w.Close()
		return b.Bytes()
	}
	var link bytes.Buffer
	w := tar.NewWriter(&link)
	_ = w.WriteHeader(&tar.Header{Name: logFile, Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"})
	_ = w.Close()
	record := `{"status":"ok","kernel":{"key":"` + key + `","digest":"` + good.Kernel.Digest + `"}}`
	for name, in := range map[string][]byte{
		"nothing":            {},
		"half":               text[:len(text)/2],
		"noise":              []byte("no archive"),
		"outside":            pack("../../x", "y"),
		"another file":       pack(recordFile, record, "x", "y"),
		"twice":              pack(recordFile, record, recordFile, record),
		"a link":             link.Bytes(),
		"another's image":    pack(recordFile, record, imageFile, "no image"),
		"no record":          pack(imageFile, "image"),
		"a record of no one": pack(recordFile, `{"status":"failed"}`),
	} {
		dir := t.TempDir()
		c := open(t, dir)
		if err := c.Import(key, bytes.NewReader(in)); err == nil {
			t.Errorf("%s: taken", name)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
			t.Errorf("%s: left %v", name, left)
		}
	}
	c := open(t, t.TempDir())
	if err := c.Import(other, bytes.NewReader(text)); err == nil {
		t.Error("the build of another key is taken")
	}
	if err := c.Import("../x", bytes.NewReader(text)); err == nil {
		t.Error("a path is taken for a key")
	}
	if c.Has("x") || c.Has("../x") {
		t.Error("a path is taken for a key")
	}
	if err := c.Export(other, &bytes.Buffer{}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func FuzzImport(f *testing.F) {
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		c := open(t, dir)
		if c.Import(key, bytes.NewReader(text)) == nil {
			if _, ok, err := c.Get(key); !ok || err != nil {
				t.Errorf("imported, and not there: %v", err)
			}
		}
	})
}
