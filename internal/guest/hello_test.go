package guest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
)

func hello(g *fakeGuest) {
	g.send(agentproto.Message{Type: agentproto.TypeHello, Hello: &agentproto.Hello{Release: "6.12.1", CPUs: 2}})
}

func TestHello(t *testing.T) {
	for _, c := range []struct {
		name string
		play func(*fakeGuest)
		want string // part of the error, "" for a hello
		inf  bool
	}{
		{"at once", hello, "", false},
		{"after garbage", func(g *fakeGuest) {
			g.say("Booting Linux\n\x00\xff\n{}\n{\"v\":99,\"type\":\"hello\",\"hello\":{}}\n")
			g.say(strings.Repeat("x", 3*agentproto.MaxLine) + "\n")
			hello(g)
		}, "", false},
		{"after other messages", func(g *fakeGuest) { g.beat("1"); g.result("1", agentproto.Result{}); hello(g) }, "", false},
		{"never", func(*fakeGuest) {}, "within 2m0s", false},
		{"garbage only", func(g *fakeGuest) {
			for range 2 * maxGarbage {
				g.say("garbage\n")
			}
		}, "within 2m0s", false},
		{"channel closes, machine stays", func(g *fakeGuest) { _ = g.conn.Close() }, "within 2m0s", false},
		{"panic", func(g *fakeGuest) { g.reason, g.panicked = "guest-panic", true; g.exit() }, "panicked", false},
		{"reset", func(g *fakeGuest) { g.reason = "guest-reset"; g.exit() }, "guest-reset", false},
		{"qemu dies", func(g *fakeGuest) { g.qemuError = "out of memory"; g.exit() }, "out of memory", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			talk(t, c.play, func(t *testing.T, s *Session) {
				h, err := s.Hello(t.Context())
				if c.want == "" {
					if err != nil || h.Release != "6.12.1" || h.CPUs != 2 {
						t.Errorf("%+v, %v", h, err)
					}
					return
				}
				var boot *BootError
				if !errors.As(err, &boot) || !strings.Contains(err.Error(), c.want) || boot.Infra != c.inf {
					t.Errorf("error %#v, want %q, infra %v", err, c.want, c.inf)
				}
			})
		})
	}
}

func TestHelloIsCancelled(t *testing.T) {
	talk(t, func(*fakeGuest) {}, func(t *testing.T, s *Session) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var boot *BootError
		if _, err := s.Hello(ctx); !errors.Is(err, context.Canceled) || errors.As(err, &boot) {
			t.Errorf("error %v: a cancelled job says nothing about the kernel", err)
		}
	})
}
