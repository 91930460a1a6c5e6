package runner

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The tail of a console is told once a second while it grows, and no more once
// the run is over.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		text := ""
		var told []string
		stop := follow(func() []byte { mu.Lock(); defer mu.Unlock(); return []byte(text) }, func(s string) { told = append(told, s) })
		say := func(s string) { mu.Lock(); text += s; mu.Unlock() }
		say("Linux version\n")
		time.Sleep(tailEvery + tailEvery/2)
		time.Sleep(5 * tailEvery) // nothing new
		say(strings.Repeat("x", 2*tailSize) + "\x1b[31mend")
		time.Sleep(tailEvery)
		say("more")
		stop()
		time.Sleep(10 * tailEvery)
		if len(told) != 2 || told[0] != "Linux version\n" || !strings.HasSuffix(told[1], "end") || len(told[1]) > tailSize || strings.Contains(told[1], "\x1b") {
			t.Errorf("%q", told)
		}
	})
}
