package imagecache

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// maxFile bounds each file of an entry that comes from elsewhere. A
// distribution's image is 15 MB, its build log 5 MB.
const maxFile = 1 << 30

var keyForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// IsKey tells keys from what may lead out of the cache.
func IsKey(s string) bool { return keyForm.MatchString(s) }

// Has says whether a build is kept, as Get would find it but for damage.
func (c *Cache) Has(key string) bool {
	if !IsKey(key) {
		return false
	}
	_, err := os.Stat(filepath.Join(c.entry(key), recordFile))
	return err == nil
}

// Export writes the entry of key as a tar archive; one that is not there is
// fs.ErrNotExist.
func (c *Cache) Export(key string, w io.Writer) error {
	if !c.Has(key) {
		return fs.ErrNotExist
	}
	t := tar.NewWriter(w)
	for _, name := range []string{recordFile, imageFile, configFile, logFile} {
		err := exportFile(t, c.entry(key), name)
		if errors.Is(err, fs.ErrNotExist) { // a failed build has no image
			continue
		}
		if err != nil {
			return fmt.Errorf("kernel cache %s: %w", key[:12], err)
		}
	}
	return t.Close()
}

func exportFile(t *tar.Writer, dir, name string) error {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: st.Size(), Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err = io.Copy(t, io.LimitReader(f, st.Size()))
	return err
}

// Import stores what Export wrote as the entry of key. What is not whole, not
// of this key, or whose image is another than its record says, is refused.
func (c *Cache) Import(key string, r io.Reader) error {
	if !IsKey(key) {
		return fmt.Errorf("kernel cache: %.80q is no key", key)
	}
	tmp, err := os.MkdirTemp(c.dir, newPrefix)
	if err != nil {
		return fmt.Errorf("kernel cache: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := unpack(tmp, r); err != nil {
		return fmt.Errorf("kernel cache: import of %s: %w", key[:12], err)
	}
	text, err := os.ReadFile(filepath.Join(tmp, recordFile))
	if err != nil {
		return fmt.Errorf("kernel cache: import of %s: it has no record", key[:12])
	}
	var b kernel.Build
	if _, ok := decode(text, tmp, genuine); !ok || json.Unmarshal(text, &b) != nil || b.Kernel.Key != key {
		return fmt.Errorf("kernel cache: import of %s: damaged, or the build of something else", key[:12])
	}
	return c.settle(key, tmp)
}

// unpack reads an archive of an entry's files and nothing else.
func unpack(dir string, r io.Reader) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	known := map[string]bool{recordFile: true, imageFile: true, configFile: true, logFile: true}
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !known[h.Name] || h.Typeflag != tar.TypeReg || h.Size > maxFile {
			return fmt.Errorf("%.80q: no file of a build", h.Name)
		}
		known[h.Name] = false // once
		//nolint:gosec // only the four names above, none with a slash
		f, err := os.OpenFile(filepath.Join(dir, h.Name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, t)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
}
