// Package imagecache keeps finished builds by content key: the kernel image,
// its configuration, the build's log and record. Failed builds are kept too,
// for a commit that does not compile will not compile the second time. It must
// not know how a build is made.
package imagecache

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Cache is a directory of builds.
type Cache struct{ dir string }

// Names of the files of an entry.
const (
	imageFile  = "image"
	configFile = "config"
	logFile    = "build.log"
	recordFile = "build.json"
)

// newPrefix is of entries that are being written.
const newPrefix = ".new-"

// Open returns the cache in dir, and removes what an interrupted Put left.
func Open(dir string) (*Cache, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("kernel cache: %w", err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, newPrefix+"*"))
	for _, d := range left {
		// Another job may be at it right now.
		if st, err := os.Stat(d); err == nil && time.Since(st.ModTime()) > time.Hour {
			_ = os.RemoveAll(d)
		}
	}
	return &Cache{dir}, nil
}

func (c *Cache) entry(key string) string { return filepath.Join(c.dir, key[:2], key) }

// Get returns the build of key, marked as cached; false when there is none. An
// entry that a power cut or somebody's hand has damaged is none: it is built
// again and replaced.
func (c *Cache) Get(key string) (kernel.Build, bool, error) {
	dir := c.entry(key)
	text, err := os.ReadFile(filepath.Join(dir, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return kernel.Build{}, false, nil
	}
	if err != nil {
		return kernel.Build{}, false, fmt.Errorf("kernel cache %s: %w", key[:12], err)
	}
	b, ok := decode(text, dir, same)
	if ok {
		c.touch(key)
	}
	return b, ok, nil
}

// record is what stands beside an image.
type record struct {
	kernel.Build
	// Check is the CRC-32C of the image, by which damage is seen: over 8 MB it
	// takes 1 ms, and the digest 40.
	Check uint32 `json:"image_crc32c,omitempty"`
}

// decode reads a record; false when it or the image beside it is damaged.
func decode(text []byte, dir string, intact func(r record, image string) bool) (kernel.Build, bool) {
	var r record
	if json.Unmarshal(text, &r) != nil || r.Status == "" {
		return kernel.Build{}, false
	}
	place(&r.Build, dir)
	if r.Status == kernel.BuildOK && !intact(r, r.Kernel.Image) {
		return kernel.Build{}, false
	}
	r.Cached = true
	return r.Build, true
}

// same says whether an image is the one that was kept.
func same(r record, image string) bool {
	sum, err := read(image, io.Discard)
	return err == nil && r.Check == sum
}

// genuine says whether an image is the one that a record is about, whoever wrote it.
func genuine(r record, image string) bool {
	digest := sha256.New()
	sum, err := read(image, digest)
	return err == nil && r.Check == sum && hex.EncodeToString(digest.Sum(nil)) == r.Kernel.Digest
}

// read writes a file to w, piece by piece, and returns its CRC-32C.
func read(file string, w io.Writer) (uint32, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	_, err = io.Copy(io.MultiWriter(w, sum), f)
	return sum.Sum32(), err
}

// Put stores a build: image and config are paths of files to copy, both empty
// for a failed build. The entry appears whole or not at all.
func (c *Cache) Put(key string, b kernel.Build, image, config string, log []byte) (kernel.Build, error) {
	tmp, err := os.MkdirTemp(c.dir, newPrefix)
	if err != nil {
		return b, fmt.Errorf("kernel cache: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := fill(tmp, b, image, config, log); err != nil {
		return b, fmt.Errorf("kernel cache: %w", err)
	}
	if err := c.settle(key, tmp); err != nil {
		return b, err
	}
	place(&b, c.entry(key))
	return b, nil
}

// settle makes a directory the entry of key, instead of one that may be there.
func (c *Cache) settle(key, tmp string) error {
	dir := c.entry(key)
	err := os.MkdirAll(filepath.Dir(dir), 0o755)
	if err == nil {
		err = os.RemoveAll(dir)
	}
	if err == nil {
		err = os.Rename(tmp, dir)
	}
	if err != nil {
		return fmt.Errorf("kernel cache: %w", err)
	}
	return nil
}

func fill(dir string, b kernel.Build, image, config string, log []byte) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	r := record{Build: b}
	for from, to := range map[string]string{image: imageFile, config: configFile} {
		if from == "" {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, to), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		sum, err := read(from, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		if to == imageFile {
			r.Check = sum
		}
	}
	if err := os.WriteFile(filepath.Join(dir, logFile), log, 0o644); err != nil {
		return err
	}
	r.Log, r.Kernel.Image, r.Kernel.Config = "", "", "" // paths depend on where the cache is
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, recordFile), buf.Bytes(), 0o644)
}

// place fills in the paths of an entry's files.
func place(b *kernel.Build, dir string) {
	b.Log = filepath.Join(dir, logFile)
	if b.Status == kernel.BuildOK {
		b.Kernel.Image, b.Kernel.Config = filepath.Join(dir, imageFile), filepath.Join(dir, configFile)
	}
}
