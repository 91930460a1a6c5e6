// Package guest is the host's side of the agent protocol: it waits for a
// guest's hello, asks for runs, and gathers the evidence of each. It must not
// know how the guest was started: it gets a connection, a console and a signal
// that the machine has ended. Nothing that the guest sends is trusted.
package guest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
	"github.com/kernel-bisect/kbisect/internal/console"
	"github.com/kernel-bisect/kbisect/internal/verdict"
)

// Console is the guest's console as captured so far.
type Console interface {
	// WaitFor waits until mark was printed; false when the console or ctx ended first.
	WaitFor(ctx context.Context, mark string) bool
	Bytes() []byte
}

// Machine is a running guest.
type Machine struct {
	Agent   net.Conn
	Console Console
	Exited  <-chan struct{} // closed when the machine is gone and its console drained
	End     func() (reason string, panicked bool, qemuError string)
}

// Limits of patience, for a guest under emulation on a loaded machine.
type Limits struct {
	Boot    time.Duration // from power-on to hello
	Silence time.Duration // without a heartbeat, which comes every second
	Grace   time.Duration // beyond the test's own time limit
	Drain   time.Duration // for the console, after the result
}

// DefaultLimits: a slim kernel boots in 2 s under TCG and a distribution kernel
// in about 10; a soft lockup is reported by the kernel after 20 s, and the
// silence is longer so that the report is there before we give up.
var DefaultLimits = Limits{Boot: 120 * time.Second, Silence: 45 * time.Second, Grace: 15 * time.Second, Drain: 5 * time.Second}

// MaxOutput bounds what is kept of a test's output. maxGarbage lines that are
// no messages end a session: a guest must not keep the host busy.
const (
	MaxOutput  = 1 << 20
	maxGarbage = 10_000
	// maxDelay spreads the starts of runs over a tick of the guest's clock
	// (HZ=250): guests forked from one snapshot must not run in step with it.
	maxDelay = 4 * time.Millisecond
)

// Session is a conversation with one guest.
type Session struct {
	m      Machine
	limits Limits
	msgs   chan incoming
	stop   chan struct{}
	last   string // id of the latest run
}

type incoming struct {
	msg agentproto.Message
	err error
}

// New starts a conversation. Close must be called.
func New(m Machine, l Limits) *Session {
	s := &Session{m: m, limits: l, msgs: make(chan incoming), stop: make(chan struct{})}
	go s.read()
	return s
}

// Close ends the conversation; the machine itself is the caller's to end.
func (s *Session) Close() {
	close(s.stop)
	_ = s.m.Agent.Close()
}

func (s *Session) read() {
	r := agentproto.NewReader(s.m.Agent)
	for {
		m, err := r.Next()
		select {
		case s.msgs <- incoming{m, err}:
		case <-s.stop:
			return
		}
		if err != nil && !errors.Is(err, agentproto.ErrGarbage) {
			return
		}
	}
}

// BootError says that the guest never said hello. It is the kernel's doing
// unless Infra is set.
type BootError struct {
	Reason string
	Infra  bool
}

func (e *BootError) Error() string { return "boot: " + e.Reason }

// Hello waits for the agent. A *BootError says how the boot ended instead.
func (s *Session) Hello(ctx context.Context) (agentproto.Hello, error) {
	timer := time.NewTimer(s.limits.Boot)
	defer timer.Stop()
	still := newStandstill()
	defer still.close()
	for {
		select {
		case <-still.tick.C:
			still.look()
		case in := <-s.msgs:
			if in.err == nil && in.msg.Type == agentproto.TypeHello {
				return *in.msg.Hello, nil
			}
			if in.err != nil && !errors.Is(in.err, agentproto.ErrGarbage) {
				s.msgs = nil // the machine is about to end; its end is the answer
			}
		case <-s.m.Exited:
			reason, panicked, qemuErr := s.m.End()
			switch {
			case panicked:
				return agentproto.Hello{}, &BootError{Reason: "the kernel panicked"}
			case reason == "":
				return agentproto.Hello{}, &BootError{Reason: "qemu died: " + console.Clean([]byte(qemuErr), 300), Infra: true}
			}
			return agentproto.Hello{}, &BootError{Reason: "the machine ended (" + reason + ") before the agent spoke"}
		case <-timer.C:
			if err := still.err(); err != nil {
				return agentproto.Hello{}, &BootError{Reason: err.Error(), Infra: true}
			}
			return agentproto.Hello{}, &BootError{Reason: fmt.Sprintf("the agent did not speak within %s", s.limits.Boot)}
		case <-ctx.Done():
			return agentproto.Hello{}, ctx.Err()
		}
	}
}

// Prepare has the guest start a program that waits for its arguments
// (agentproto.Prepare), for the sake of the guests that will be forked from it. A
// guest that cannot is an error that spoils nothing: its runs take longer.
func (s *Session) Prepare(ctx context.Context, argv []string) error {
	said, err := s.ask(ctx, agentproto.Message{Type: agentproto.TypePrepare, Prepare: &agentproto.Prepare{Argv: argv}})
	switch {
	case err != nil:
		return err
	case said == nil:
		return fmt.Errorf("prepare %s: no answer", argv[0])
	case said.Error != "":
		return fmt.Errorf("prepare %s: the guest says: %.200q", argv[0], said.Error)
	}
	return nil
}

// Wake makes a guest that was just forked different from its siblings and
// returns when it has answered, so that the run to come does not pay for the
// way from restore to agent: under TCG a forked guest translates all code anew,
// and what it reaches on that way is a third of what a short test reaches. A
// guest that does not answer is no error: the run will show what ails it.
func (s *Session) Wake(ctx context.Context) error {
	entropy := make([]byte, 32)
	if _, err := rand.Read(entropy); err != nil {
		return fmt.Errorf("randomness: %w", err)
	}
	said, err := s.ask(ctx, agentproto.Message{Type: agentproto.TypeWake, Wake: &agentproto.Wake{Entropy: entropy}})
	if err == nil && said != nil && said.Error != "" {
		return fmt.Errorf("wake a forked guest: it says: %.200q", said.Error)
	}
	return err
}

// ask sends m and waits for its result, which is nil if the guest gives none.
func (s *Session) ask(ctx context.Context, m agentproto.Message) (*agentproto.Result, error) {
	var err error
	if m.ID, err = drawID(); err != nil {
		return nil, err
	}
	_ = s.m.Agent.SetWriteDeadline(time.Now().Add(s.limits.Silence))
	if agentproto.Encode(s.m.Agent, m) != nil {
		return nil, nil
	}
	timer := time.NewTimer(s.limits.Silence)
	defer timer.Stop()
	for {
		select {
		case in := <-s.msgs:
			switch {
			case errors.Is(in.err, agentproto.ErrGarbage):
			case in.err != nil:
				return nil, nil
			case in.msg.Type == agentproto.TypeResult && in.msg.ID == m.ID:
				return in.msg.Result, nil
			}
		case <-s.m.Exited:
			return nil, nil
		case <-timer.C:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Run asks for one execution and waits for its end. It returns an error only
// when ctx ends, randomness cannot be had or this process was stopped meanwhile;
// whatever the guest does is evidence. In a guest that ran something before, what
// the kernel said since the end of that is evidence, too: it may come late.
func (s *Session) Run(ctx context.Context, argv []string, limit time.Duration) (verdict.Evidence, error) {
	e := verdict.Evidence{Limit: limit}
	id, err := drawID()
	if err != nil {
		return e, err
	}
	delay, err := rand.Int(rand.Reader, big.NewInt(int64(maxDelay)))
	if err != nil {
		return e, fmt.Errorf("randomness: %w", err)
	}
	time.Sleep(time.Duration(delay.Int64()))
	start := time.Now()
	_ = s.m.Agent.SetWriteDeadline(start.Add(s.limits.Silence))
	err = agentproto.Encode(s.m.Agent, agentproto.Message{Type: agentproto.TypeRun, ID: id, Run: &agentproto.Run{
		Argv: argv, TimeoutMS: limit.Milliseconds(), MaxOutput: MaxOutput,
	}})
	if err != nil {
		e.Lost = "the guest does not take messages: " + err.Error()
		// Often the machine has just ended, which says more.
		select {
		case <-s.m.Exited:
			s.ended(&e)
		case <-time.After(s.limits.Drain):
		case <-ctx.Done():
		}
	} else if err := s.watch(ctx, id, limit, &e); err != nil {
		return e, err
	}
	if e.Result {
		drain, cancel := context.WithTimeout(ctx, s.limits.Drain)
		s.m.Console.WaitFor(drain, agentproto.EndMark+id)
		cancel()
	}
	begin := agentproto.BeginMark + id
	if s.last != "" {
		begin = agentproto.EndMark + s.last
	}
	e.Console = since(s.m.Console.Bytes(), begin)
	s.last = id
	e.Wall = time.Since(start)
	return e, ctx.Err()
}

// since cuts off what a console showed before the first line with mark: a
// warning of the boot is not the test's. Without the mark everything counts.
func since(log []byte, mark string) []byte {
	i := bytes.Index(log, []byte(mark))
	if i < 0 {
		return log
	}
	_, rest, _ := bytes.Cut(log[i:], []byte("\n"))
	return rest
}

// watch collects, and notices when this process did not run.
func (s *Session) watch(ctx context.Context, id string, limit time.Duration, e *verdict.Evidence) error {
	still := newStandstill()
	defer still.close()
	if err := s.collect(ctx, id, limit, still, e); err != nil {
		return err
	}
	return still.err()
}

// collect gathers messages until the result, the machine's end, or the end of
// patience.
func (s *Session) collect(ctx context.Context, id string, limit time.Duration, still *standstill, e *verdict.Evidence) error {
	hard := time.NewTimer(limit + s.limits.Grace)
	defer hard.Stop()
	silence := time.NewTimer(s.limits.Silence)
	defer silence.Stop()
	msgs, exited := s.msgs, s.m.Exited
	for {
		select {
		case <-still.tick.C:
			still.look()
		case in := <-msgs:
			switch {
			case errors.Is(in.err, agentproto.ErrGarbage) || in.err == nil && in.msg.ID != id:
				if e.Garbage++; e.Garbage >= maxGarbage {
					return nil
				}
				continue // garbage is no sign of life, nor is an answer for another run
			case in.err != nil:
				if e.Ended {
					return nil
				}
				msgs = nil // the machine's end follows, or the silence
				continue
			}
			silence.Reset(s.limits.Silence)
			switch in.msg.Type {
			case agentproto.TypeOutput:
				room := MaxOutput - len(e.Output)
				e.Output = append(e.Output, in.msg.Output[:min(room, len(in.msg.Output))]...)
			case agentproto.TypeResult:
				r := in.msg.Result
				e.Result, e.Exit, e.Signal, e.TimedOut, e.AgentError = true, r.Exit, r.Signal, r.TimedOut, r.Error
				return nil
			}
		case <-exited:
			s.ended(e)
			if msgs == nil {
				return nil
			}
			exited = nil // what the guest said before its end is still in the channel
		case <-silence.C:
			e.Lost = fmt.Sprintf("the guest fell silent for %s", s.limits.Silence)
			return nil
		case <-hard.C:
			e.Lost = fmt.Sprintf("no result %s after the time limit of %s", s.limits.Grace, limit)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Session) ended(e *verdict.Evidence) {
	e.Ended = true
	e.EndReason, e.Panicked, e.QEMUError = s.m.End()
}

// drawID returns an id that a guest cannot guess from another's.
func drawID() (string, error) {
	buf := make([]byte, 8)
	if _, err := rand.Read(buf); err != nil {
		return "", fmt.Errorf("randomness: %w", err)
	}
	return hex.EncodeToString(buf), nil
}
