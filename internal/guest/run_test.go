package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
	"github.com/kernel-bisect/kbisect/internal/verdict"
)

const limit = 60 * time.Second

func TestRun(t *testing.T) {
	passed := agentproto.Result{Exit: 0, WallMS: 5}
	for _, c := range []struct {
		name string
		play func(g *fakeGuest, id string)
		want verdict.Evidence
	}{
		{"happy", func(g *fakeGuest, id string) {
			g.print("[    1.0] all is well\n" + agentproto.EndMark + id + "\n")
			g.output(id, "one ")
			g.beat(id)
			g.output(id, "two")
			g.result(id, agentproto.Result{Exit: 1, TimedOut: true, Signal: "SIGKILL", Error: "e"})
		}, verdict.Evidence{Result: true, Exit: 1, TimedOut: true, Signal: "SIGKILL", AgentError: "e", Output: []byte("one two")}},
		{"slow but alive", func(g *fakeGuest, id string) {
			for range 70 { // past the silence, short of the hard limit
				time.Sleep(time.Second)
				g.beat(id)
			}
			g.result(id, passed)
		}, verdict.Evidence{Result: true}},
		{"another run's answer", func(g *fakeGuest, id string) {
			g.output("feed", "not mine")
			g.result("feed", passed)
			g.result(id, agentproto.Result{Exit: 7})
		}, verdict.Evidence{Result: true, Exit: 7, Garbage: 2}},
		{"only another run's answer", func(g *fakeGuest, _ string) { g.result("feed", passed) },
			verdict.Evidence{Garbage: 1, Lost: "the guest fell silent for 45s"}},
		{"another run's heartbeat is no sign of life", func(g *fakeGuest, _ string) {
			for range 50 {
				time.Sleep(1100 * time.Millisecond) // never at the same time as the limit
				g.beat("feed")
			}
		}, verdict.Evidence{Garbage: 40, Lost: "the guest fell silent for 45s"}},
		{"garbage is no sign of life", func(g *fakeGuest, _ string) {
			for range 50 {
				time.Sleep(1100 * time.Millisecond)
				g.say("garbage\n")
			}
		}, verdict.Evidence{Garbage: 40, Lost: "the guest fell silent for 45s"}},
		{"garbage around a result", func(g *fakeGuest, id string) {
			g.say("{\"v\":1\n\xff\xfe\n")
			g.result(id, passed)
		}, verdict.Evidence{Result: true, Garbage: 2}},
		{"garbage flood", func(g *fakeGuest, _ string) {
			for range 2 * maxGarbage {
				g.say("garbage\n")
			}
		}, verdict.Evidence{Garbage: maxGarbage}},
		{"flood of another run's messages", func(g *fakeGuest, _ string) {
			for range 2 * maxGarbage {
				g.beat("feed")
			}
		}, verdict.Evidence{Garbage: maxGarbage}},
		{"a line without an end", func(g *fakeGuest, _ string) {
			for range 1000 {
				g.say(strings.Repeat("x", 64<<10))
			}
			g.reason = "guest-reset"
			g.exit()
		}, verdict.Evidence{Ended: true, EndReason: "guest-reset"}},
		{"NULs and invalid UTF-8", func(g *fakeGuest, id string) {
			g.say("\x00\xff\xfe\x00\n\x1b]0;owned\a\n")
			g.say(`{"v":1,"type":"result","id":"` + id + "\xff" + `","result":{"exit":0}}` + "\n")
			g.result(id, agentproto.Result{Exit: 1})
		}, verdict.Evidence{Result: true, Exit: 1, Garbage: 3}},
		{"what only the host says, and hello again", func(g *fakeGuest, id string) {
			g.send(agentproto.Message{Type: agentproto.TypeRun, ID: id, Run: &agentproto.Run{Argv: []string{"x"}}})
			g.send(agentproto.Message{Type: agentproto.TypeWake, ID: id, Wake: &agentproto.Wake{}})
			g.send(agentproto.Message{Type: agentproto.TypeHello, Hello: &agentproto.Hello{Release: "forged"}})
			g.result(id, agentproto.Result{Exit: 1})
		}, verdict.Evidence{Result: true, Exit: 1, Garbage: 1}},
		{"silence", func(*fakeGuest, string) {}, verdict.Evidence{Lost: "the guest fell silent for 45s"}},
		{"alive for ever", func(g *fakeGuest, id string) {
			for range 200 {
				time.Sleep(time.Second)
				g.beat(id)
			}
		}, verdict.Evidence{Lost: "no result 15s after the time limit of 1m0s"}},
		{"panic", func(g *fakeGuest, id string) {
			g.output(id, "before the panic")
			g.print("Kernel panic\n")
			g.reason, g.panicked = "guest-panic", true
			g.exit()
		}, verdict.Evidence{Ended: true, EndReason: "guest-panic", Panicked: true, Output: []byte("before the panic"), Console: []byte("Kernel panic\n")}},
		{"reset", func(g *fakeGuest, _ string) { g.reason = "guest-reset"; g.exit() },
			verdict.Evidence{Ended: true, EndReason: "guest-reset"}},
		{"qemu dies", func(g *fakeGuest, _ string) { g.qemuError = "killed"; g.exit() },
			verdict.Evidence{Ended: true, QEMUError: "killed"}},
		{"channel closes, machine stays", func(g *fakeGuest, _ string) { _ = g.conn.Close() },
			verdict.Evidence{Lost: "the guest fell silent for 45s"}},
		{"channel closes, machine ends later", func(g *fakeGuest, _ string) {
			_ = g.conn.Close()
			time.Sleep(10 * time.Second)
			g.reason = "guest-reset"
			close(g.exited)
		}, verdict.Evidence{Ended: true, EndReason: "guest-reset"}},
		{"output flood", func(g *fakeGuest, id string) {
			for range 2 * MaxOutput / agentproto.OutputChunk {
				g.output(id, strings.Repeat("x", agentproto.OutputChunk-1))
			}
			g.result(id, passed)
		}, verdict.Evidence{Result: true, Output: []byte(strings.Repeat("x", MaxOutput))}},
		{"output behind the result", func(g *fakeGuest, id string) { g.result(id, passed); g.output(id, "too late") },
			verdict.Evidence{Result: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			talk(t, func(g *fakeGuest) { c.play(g, g.next().ID) }, func(t *testing.T, s *Session) {
				got, err := s.Run(t.Context(), []string{"/bin/repro", "x"}, limit)
				if err != nil {
					t.Fatal(err)
				}
				if got.Limit != limit || got.Wall <= 0 && got.Lost != "" {
					t.Errorf("limit %s, wall %s", got.Limit, got.Wall)
				}
				if c.name == "happy" { // its console carries the random id
					if !strings.Contains(string(got.Console), "all is well") {
						t.Errorf("console %q", got.Console)
					}
					got.Console = nil
				}
				if bytes.Equal(got.Output, c.want.Output) { // cmp takes its time over a MiB
					got.Output, c.want.Output = nil, nil
				}
				if diff := cmp.Diff(c.want, got, cmpopts.IgnoreFields(verdict.Evidence{}, "Limit", "Wall"), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			})
		})
	}
}

// Only the first answer counts, and not for the run that follows.
func TestAnswersTwice(t *testing.T) {
	talk(t, func(g *fakeGuest) {
		id := g.next().ID
		g.print(agentproto.EndMark + id + "\n")
		g.result(id, agentproto.Result{Exit: 1})
		g.result(id, agentproto.Result{})
		second := g.next().ID
		g.result(id, agentproto.Result{})
		g.print(agentproto.EndMark + second + "\n")
		g.result(second, agentproto.Result{Exit: 2})
	}, func(t *testing.T, s *Session) {
		for i, garbage := range []int{0, 2} {
			e, err := s.Run(t.Context(), []string{"x"}, limit)
			if err != nil || e.Exit != i+1 || e.Garbage != garbage {
				t.Errorf("run %d: %+v, %v", i, e, err)
			}
		}
	})
}

// What the guest said before its end counts, in whatever order the end and the
// messages are seen here.
func TestMessagesBeforeTheEnd(t *testing.T) {
	for range 20 {
		talk(t, func(g *fakeGuest) {
			id := g.next().ID
			g.reason = "guest-reset"
			close(g.exited) // the channel still holds what follows
			g.output(id, "last words")
			_ = g.conn.Close()
		}, func(t *testing.T, s *Session) {
			e, err := s.Run(t.Context(), []string{"x"}, limit)
			if err != nil || !e.Ended || string(e.Output) != "last words" {
				t.Errorf("%+v, %v", e, err)
			}
		})
	}
}

// The crash that a test provoked may be printed after the test was through.
func TestConsoleIsDrained(t *testing.T) {
	for _, c := range []struct {
		name string
		late time.Duration
		want string
	}{{"in time", 4 * time.Second, "oops"}, {"never", time.Hour, ""}} {
		t.Run(c.name, func(t *testing.T) {
			talk(t, func(g *fakeGuest) {
				id := g.next().ID
				g.result(id, agentproto.Result{})
				time.Sleep(c.late)
				g.print("oops " + agentproto.EndMark + id)
			}, func(t *testing.T, s *Session) {
				start := time.Now()
				e, err := s.Run(t.Context(), []string{"x"}, limit)
				if err != nil || !e.Result || !strings.HasPrefix(string(e.Console), c.want) {
					t.Errorf("%+v, %v", e, err)
				}
				if waited := time.Since(start); waited > maxDelay+testLimits.Drain { // of the bubble's clock
					t.Errorf("waited %s", waited)
				}
			})
		})
	}
}

// In a guest that runs again, a complaint that came after the end of the first run
// is not lost, and one that was judged with it does not come back.
func TestConsoleOfTheNextRun(t *testing.T) {
	talk(t, func(g *fakeGuest) {
		g.print("boot\n")
		for i := range 3 {
			m := g.next()
			g.print(agentproto.BeginMark + m.ID + "\n" + fmt.Sprint("in ", i, "\n") + agentproto.EndMark + m.ID + "\n")
			g.result(m.ID, agentproto.Result{})
			time.Sleep(time.Second)
			g.print(fmt.Sprint("behind ", i, "\n"))
		}
	}, func(t *testing.T, s *Session) {
		for i, want := range []string{"in 0", "behind 0 in 1", "behind 1 in 2"} {
			e, err := s.Run(t.Context(), []string{"x"}, limit)
			if err != nil {
				t.Fatal(err)
			}
			got := slices.DeleteFunc(strings.Split(string(e.Console), "\n"), func(line string) bool { return line == "" || strings.HasPrefix(line, "kbisect: ") })
			if strings.Join(got, " ") != want {
				t.Errorf("run %d: %q, want %q", i, got, want)
			}
			time.Sleep(2 * time.Second)
		}
	})
}

// A guest that never reads, and one that is gone before the first message: the
// latter's end must be known, or the death of a QEMU would count as a hang.
func TestGuestTakesNoMessages(t *testing.T) {
	talk(t, func(*fakeGuest) {}, func(t *testing.T, s *Session) {
		e, err := s.Run(t.Context(), []string{"x"}, limit)
		if err != nil || e.Ended || !strings.Contains(e.Lost, "does not take messages") {
			t.Errorf("%+v, %v", e, err)
		}
	})
	talk(t, func(g *fakeGuest) {
		_ = g.conn.Close()
		time.Sleep(time.Second) // QEMU is reaped a little later
		g.qemuError = "killed"
		close(g.exited)
	}, func(t *testing.T, s *Session) {
		time.Sleep(time.Millisecond)
		e, err := s.Run(t.Context(), []string{"x"}, limit)
		if err != nil || !e.Ended || e.QEMUError != "killed" {
			t.Errorf("%+v, %v", e, err)
		}
	})
}

func TestRunIsCancelled(t *testing.T) {
	talk(t, func(g *fakeGuest) { g.next() }, func(t *testing.T, s *Session) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Run(ctx, []string{"x"}, limit); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}

// Every run has an id that another cannot have guessed, and none starts in step
// with its guest's clock.
func TestRunsDiffer(t *testing.T) {
	ids, starts := map[string]bool{}, map[time.Duration]bool{}
	talk(t, func(g *fakeGuest) {
		for range 20 {
			before := time.Now()
			m := g.next()
			ids[m.ID], starts[time.Since(before)] = true, true
			if m.Run.TimeoutMS != 60_000 || m.Run.MaxOutput != MaxOutput || !slices.Equal(m.Run.Argv, []string{"/bin/repro", "x"}) || time.Since(before) > maxDelay {
				t.Errorf("%+v after %s", m.Run, time.Since(before))
			}
			g.print(agentproto.EndMark + m.ID)
			g.result(m.ID, agentproto.Result{})
		}
	}, func(t *testing.T, s *Session) {
		for range 20 {
			if e, err := s.Run(t.Context(), []string{"/bin/repro", "x"}, limit); err != nil || !e.Result {
				t.Fatalf("%+v, %v", e, err)
			}
		}
	})
	if len(ids) != 20 || len(starts) < 10 {
		t.Errorf("%d ids, %d delays of 20 runs", len(ids), len(starts))
	}
}

// Close ends the reader wherever it is: waiting for the guest, or holding a
// message that nobody takes.
func TestCloseEndsTheReader(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, first := range []string{"", "garbage\n", "garbage\ngarbage\n"} {
		ours, theirs := net.Pipe()
		s := New(Machine{Agent: ours, Console: &fakeGuest{}, Exited: make(chan struct{})}, testLimits)
		if first != "" {
			if _, err := theirs.Write([]byte(first)); err != nil {
				t.Error(err)
			}
		}
		s.Close()
		_ = theirs.Close()
	}
}
