package pulls

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/github"
)

// What was pushed to a branch before is told of to its end, whether that comes
// before or after the next push.
func TestEarlierPush(t *testing.T) {
	a, b, c := strings.Repeat("a", 40), strings.Repeat("b", 40), strings.Repeat("c", 40)
	s := &stage{running: true}
	f, record := s.follower(t)
	push := func(before, after string) {
		t.Helper()
		if err := f.Handle(t.Context(), "d", github.Event{Kind: github.Pushed, Repo: "a/b", Branch: "main", Before: before, After: after}); err != nil {
			t.Fatal(err)
		}
	}
	told := map[string]string{} // commit -> last status
	send := func() {
		t.Helper()
		for {
			l, ok, _, err := record.Due(t.Context(), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				return
			}
			for _, sha := range []string{a, b, c} {
				if bytes.Contains(l.Content, []byte(sha)) {
					told[sha[:1]] = map[bool]string{true: "pending", false: "ended"}[bytes.Contains(l.Content, []byte("pending"))]
				}
			}
			if err := record.Sent(t.Context(), l.Place, l.Digest, "1"); err != nil {
				t.Fatal(err)
			}
		}
	}
	push("base", a)
	push(a, b)
	send()
	if told["a"] != "pending" || told["b"] != "pending" {
		t.Fatalf("%v while both are under way", told)
	}
	s.running = false
	for _, job := range []string{"job 1 " + a, "job 2 " + b} {
		if err := f.Sync(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}
	send()
	if told["a"] != "ended" || told["b"] != "ended" {
		t.Errorf("%v after both have ended", told)
	}
	// One that has ended and was not told of when the next one comes.
	s.running = true
	push(b, c)
	s.running = false
	push(c, a)
	if err := f.SyncAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	send()
	if told["c"] != "ended" || told["a"] != "ended" {
		t.Errorf("%v after a third and a fourth", told)
	}
	if open, err := record.OpenPulls(t.Context()); err != nil || len(open) != 1 {
		t.Errorf("%d on record as open, %v: want the branch", len(open), err)
	}
}
