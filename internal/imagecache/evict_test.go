package imagecache

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The builds used longest ago go first, and none that a job has used since it
// began.
func TestEvict(t *testing.T) {
	c := open(t, t.TempDir())
	keys := []string{strings.Repeat("11", 32), strings.Repeat("22", 32), strings.Repeat("33", 32)}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i, k := range keys {
		put(t, c, k)
		when := at.Add(time.Duration(i) * time.Hour)
		if err := os.Chtimes(filepath.Join(c.entry(k), recordFile), when, when); err != nil {
			t.Fatal(err)
		}
	}
	all, err := c.Entries()
	if err != nil || len(all) != 3 || all[0].Key != keys[0] || all[0].Bytes < 100 || !all[0].Used.Equal(at) {
		t.Fatalf("%+v, %v", all, err)
	}
	get(t, c, keys[0]) // it is the last now
	one := all[0].Bytes
	if n, freed, err := c.Evict(3*one, at.Add(24*time.Hour)); n != 0 || freed != 0 || err != nil {
		t.Errorf("there is room: %d, %d, %v", n, freed, err)
	}
	if n, freed, err := c.Evict(2*one, at.Add(24*time.Hour)); n != 1 || freed != one || err != nil {
		t.Errorf("one too many: %d, %d, %v", n, freed, err)
	}
	if _, ok, _ := c.Get(keys[1]); ok {
		t.Error("the one used longest ago is still there")
	}
	if n, _, err := c.Evict(0, at.Add(time.Hour)); n != 0 || err != nil {
		t.Errorf("one that is in use: %d, %v", n, err)
	}
	if n, _, err := c.Evict(0, time.Now().Add(time.Hour)); n != 2 || err != nil {
		t.Errorf("all: %d, %v", n, err)
	}
	put(t, c, keys[1])
	get(t, c, keys[1])
}
