package imagecache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Entry is one build that is kept.
type Entry struct {
	Key   string
	Bytes int64
	Used  time.Time // when it was made or asked for last
}

// touch marks an entry as used now. That it cannot be, on a read-only disk say,
// harms nobody: it goes earlier.
func (c *Cache) touch(key string) {
	now := time.Now()
	_ = os.Chtimes(filepath.Join(c.entry(key), recordFile), now, now)
}

// Entries are all builds that are kept, the one that was used longest ago first.
func (c *Cache) Entries() ([]Entry, error) {
	var out []Entry
	records, err := filepath.Glob(filepath.Join(c.dir, "??", "*", recordFile))
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		st, err := os.Stat(r)
		if errors.Is(err, fs.ErrNotExist) {
			continue // replaced just now
		}
		if err != nil {
			return nil, fmt.Errorf("kernel cache: %w", err)
		}
		e := Entry{Key: filepath.Base(filepath.Dir(r)), Used: st.ModTime()}
		files, err := os.ReadDir(filepath.Dir(r))
		if err != nil {
			return nil, fmt.Errorf("kernel cache: %w", err)
		}
		for _, f := range files {
			if st, err := f.Info(); err == nil {
				e.Bytes += st.Size()
			}
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Entry) int { return a.Used.Compare(b.Used) })
	return out, nil
}

// Evict deletes the builds that were used longest ago until those left have at
// most so many bytes, but none that was used since. It returns how many it
// deleted, and their bytes.
func (c *Cache) Evict(most int64, since time.Time) (n int, freed int64, err error) {
	entries, err := c.Entries()
	if err != nil {
		return 0, 0, err
	}
	total := int64(0)
	for _, e := range entries {
		total += e.Bytes
	}
	for _, e := range entries {
		if total-freed <= most || !e.Used.Before(since) {
			break
		}
		if err := c.Remove(e.Key); err != nil {
			return n, freed, err
		}
		n++
		freed += e.Bytes
	}
	return n, freed, nil
}

// Remove deletes a build.
func (c *Cache) Remove(key string) error {
	// The record goes first: half an entry is none.
	dir := c.entry(key)
	err := os.Remove(filepath.Join(dir, recordFile))
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = os.RemoveAll(dir)
	}
	if err != nil {
		return fmt.Errorf("kernel cache: %w", err)
	}
	return nil
}
