package guest

import (
	"bytes"
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
)

var testLimits = Limits{Boot: 120 * time.Second, Silence: 45 * time.Second, Grace: 15 * time.Second, Drain: 5 * time.Second}

// fakeGuest is the far end of a session: an agent, a console and a machine that
// can end. It works inside a synctest bubble: net.Pipe blocks durably.
type fakeGuest struct {
	t      *testing.T
	conn   net.Conn
	r      *agentproto.Reader
	exited chan struct{}
	gone   sync.WaitGroup

	// what the machine's end tells; set before exit
	reason, qemuError string
	panicked          bool

	mu      sync.Mutex // mu guards the following field
	printed []byte
}

var _ Console = (*fakeGuest)(nil)

// WaitFor looks now and then; time is free in a bubble.
func (g *fakeGuest) WaitFor(ctx context.Context, mark string) bool {
	for {
		if bytes.Contains(g.Bytes(), []byte(mark)) {
			return true
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-g.exited:
			return bytes.Contains(g.Bytes(), []byte(mark))
		case <-ctx.Done():
			return false
		}
	}
}

func (g *fakeGuest) Bytes() []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	return bytes.Clone(g.printed)
}

func (g *fakeGuest) print(s string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.printed = append(g.printed, s...)
}

// exit ends the machine: the channel closes, then the end is known.
func (g *fakeGuest) exit() {
	_ = g.conn.Close()
	close(g.exited)
}

// send sends a message; the session may have hung up, which is no error here.
func (g *fakeGuest) send(m agentproto.Message) { _ = agentproto.Encode(g.conn, m) }

func (g *fakeGuest) say(s string) { _, _ = g.conn.Write([]byte(s)) }

func (g *fakeGuest) output(id, s string) {
	g.send(agentproto.Message{Type: agentproto.TypeOutput, ID: id, Output: []byte(s)})
}

func (g *fakeGuest) beat(id string) {
	g.send(agentproto.Message{Type: agentproto.TypeHeartbeat, ID: id})
}

func (g *fakeGuest) result(id string, r agentproto.Result) {
	g.send(agentproto.Message{Type: agentproto.TypeResult, ID: id, Result: &r})
}

// next returns the run that the session asks for.
func (g *fakeGuest) next() agentproto.Message {
	m, err := g.r.Next()
	if err != nil {
		return agentproto.Message{Run: &agentproto.Run{}} // hung up
	}
	if m.Type != agentproto.TypeRun {
		g.t.Errorf("the host sent %+v", m)
	}
	return m
}

// nextWake returns the wake message that the session sends.
func (g *fakeGuest) nextWake() agentproto.Message {
	m, err := g.r.Next()
	if err != nil || m.Type != agentproto.TypeWake {
		g.t.Errorf("the host sent %+v, %v", m, err)
		return agentproto.Message{Wake: &agentproto.Wake{}}
	}
	return m
}

// talk runs f in a bubble with a session whose far end is played by play. A
// goroutine that outlives the session fails the test.
func talk(t *testing.T, play func(*fakeGuest), f func(t *testing.T, s *Session)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		g := &fakeGuest{t: t, conn: theirs, r: agentproto.NewReader(theirs), exited: make(chan struct{})}
		s := New(Machine{
			Agent: ours, Console: g, Exited: g.exited,
			End: func() (string, bool, string) { return g.reason, g.panicked, g.qemuError },
		}, testLimits)
		g.gone.Go(func() { play(g) })
		f(t, s)
		s.Close()
		_ = theirs.Close()
		g.gone.Wait()
	})
}
