package guest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
)

// Forks of one snapshot share the state of the generator.
func TestWakeBringsEntropy(t *testing.T) {
	ids, entropies := map[string]bool{}, map[string]bool{}
	talk(t, func(g *fakeGuest) {
		for range 20 {
			m := g.nextWake()
			ids[m.ID], entropies[string(m.Wake.Entropy)] = true, true
			if len(m.Wake.Entropy) != 32 {
				t.Errorf("%d bytes of entropy", len(m.Wake.Entropy))
			}
			g.result(m.ID, agentproto.Result{})
		}
	}, func(t *testing.T, s *Session) {
		for range 20 {
			if err := s.Wake(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
	if len(ids) != 20 || len(entropies) != 20 {
		t.Errorf("%d ids, %d entropies of 20 guests", len(ids), len(entropies))
	}
}

// What a guest does instead of answering is for the run to find out.
func TestWake(t *testing.T) {
	for _, c := range []struct {
		name  string
		play  func(*fakeGuest, string)
		want  string        // part of the error
		after time.Duration // how long it takes
	}{
		{"answers", func(g *fakeGuest, id string) { g.result(id, agentproto.Result{}) }, "", 0},
		{"answers among garbage", func(g *fakeGuest, id string) {
			g.say("Booting\n")
			g.beat(id)
			g.result("feed", agentproto.Result{})
			time.Sleep(time.Second)
			g.result(id, agentproto.Result{})
		}, "", time.Second},
		{"cannot", func(g *fakeGuest, id string) { g.result(id, agentproto.Result{Error: "no urandom"}) }, "no urandom", 0},
		{"is silent", func(*fakeGuest, string) {}, "", testLimits.Silence},
		{"panics", func(g *fakeGuest, _ string) { g.panicked = true; g.exit() }, "", 0},
		{"hangs up", func(g *fakeGuest, _ string) { _ = g.conn.Close() }, "", 0},
		{"chatters", func(g *fakeGuest, _ string) {
			for range 2 * int(testLimits.Silence/time.Second) {
				time.Sleep(time.Second + time.Millisecond) // never at the same time as the limit
				g.beat("feed")
			}
		}, "", testLimits.Silence},
	} {
		t.Run(c.name, func(t *testing.T) {
			talk(t, func(g *fakeGuest) { c.play(g, g.nextWake().ID) }, func(t *testing.T, s *Session) {
				start := time.Now()
				err := s.Wake(t.Context())
				if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
					t.Errorf("error %v, want %q", err, c.want)
				}
				if d := time.Since(start); d != c.after {
					t.Errorf("after %s, want %s", d, c.after)
				}
			})
		})
	}
}

func TestWakeIsCancelled(t *testing.T) {
	talk(t, func(g *fakeGuest) { g.nextWake() }, func(t *testing.T, s *Session) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Wake(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}
