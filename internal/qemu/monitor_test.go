package qemu

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/digitalocean/go-qemu/qmp"
	"go.uber.org/goleak"
)

const greeting = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}`

// command is what a fake QEMU was asked.
type command struct {
	ID      string          `json:"id"`
	Execute string          `json:"execute"`
	Args    json.RawMessage `json:"arguments"`
}

// fakeQMP is QEMU's end of the socketpair.
type fakeQMP struct {
	t    *testing.T
	conn *net.UnixConn
	r    *bufio.Reader
}

// next returns the next command; false when the monitor has hung up.
func (f *fakeQMP) next() (command, bool) {
	line, err := f.r.ReadBytes('\n')
	if err != nil {
		return command{}, false
	}
	var c command
	if err := json.Unmarshal(line, &c); err != nil {
		f.t.Errorf("the monitor sent %q: %v", line, err)
	}
	return c, true
}

func (f *fakeQMP) say(format string, args ...any) {
	// An error here is a monitor that hung up, which the test itself sees.
	_, _ = fmt.Fprintf(f.conn, format+"\r\n", args...)
}

// answer answers c with a return value in JSON.
func (f *fakeQMP) answer(c command, value string) { f.say(`{"return": %s, "id": %q}`, value, c.ID) }

// newFake returns a monitor that is not connected yet and QEMU's end of it.
// Both are closed, and goroutines looked for, when the test ends.
func newFake(t *testing.T, timeout time.Duration, onEvent func(qmp.Event)) (*Monitor, *fakeQMP) {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	p, err := newPair()
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.FileConn(p.theirs)
	p.closeTheirs()
	if err != nil {
		t.Fatal(err)
	}
	m := NewMonitor(p.ours, timeout, onEvent)
	f := &fakeQMP{t, c.(*net.UnixConn), bufio.NewReader(c)}
	t.Cleanup(func() { _, _ = f.conn.Close(), m.Disconnect() })
	return m, f
}

// connect returns a connected monitor; serve plays QEMU after the greeting and
// the capabilities, and is over when the test ends.
func connect(t *testing.T, timeout time.Duration, onEvent func(qmp.Event), serve func(*fakeQMP)) *Monitor {
	t.Helper()
	m, f := newFake(t, timeout, onEvent)
	var served sync.WaitGroup
	served.Go(func() {
		f.say(greeting)
		c, _ := f.next()
		if c.Execute != "qmp_capabilities" {
			t.Errorf("the first command is %q", c.Execute)
		}
		f.answer(c, "{}")
		serve(f)
	})
	t.Cleanup(func() { _, _ = f.conn.Close(), m.Disconnect(); served.Wait() })
	if err := m.Connect(); err != nil {
		t.Fatal(err)
	}
	return m
}

// patient is the time limit where none is expected to pass.
const patient = 20 * time.Second

// echo answers every command with its own name.
func echo(f *fakeQMP) {
	for c, ok := f.next(); ok; c, ok = f.next() {
		f.answer(c, fmt.Sprintf("%q", c.Execute))
	}
}

func run(t *testing.T, m *Monitor, execute string) (string, error) {
	t.Helper()
	out, err := m.Run([]byte(`{"execute": "` + execute + `"}`))
	var r struct {
		Return json.RawMessage `json:"return"`
	}
	if err == nil {
		if err := json.Unmarshal(out, &r); err != nil {
			t.Errorf("reply %.80q: %v", out, err)
		}
	}
	return string(r.Return), err
}

func TestRun(t *testing.T) {
	m := connect(t, patient, nil, echo)
	for _, name := range []string{"query-status", "stop"} {
		if got, err := run(t, m, name); err != nil || got != `"`+name+`"` {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	if _, err := m.Run([]byte("no JSON")); err == nil {
		t.Error("a command that is no JSON was sent")
	}
}

// go-qemu's own monitor is dead for good after a reply over 64 KiB.
func TestLargeReply(t *testing.T) {
	big := `"` + strings.Repeat("x", 300<<10) + `"`
	m := connect(t, patient, nil, func(f *fakeQMP) {
		c, _ := f.next()
		f.answer(c, big)
		echo(f)
	})
	if got, err := run(t, m, "query-qmp-schema"); err != nil || got != big {
		t.Errorf("%d bytes, %v; want %d", len(got), err, len(big))
	}
	if _, err := run(t, m, "query-status"); err != nil {
		t.Errorf("after the large reply: %v", err)
	}
}

func TestReplyWithoutEnd(t *testing.T) {
	m := connect(t, patient, nil, func(f *fakeQMP) {
		f.next()
		chunk := strings.Repeat("x", 1<<20)
		for range maxReply>>20 + 2 { // no newline ever
			if _, err := f.conn.Write([]byte(chunk)); err != nil {
				return
			}
		}
	})
	if _, err := run(t, m, "query-status"); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("error %v", err)
	}
}

func TestCommandError(t *testing.T) {
	m := connect(t, patient, nil, func(f *fakeQMP) {
		c, _ := f.next()
		f.say(`{"id": %q, "error": {"class": "CommandNotFound", "desc": "The command foo has not been found"}}`, c.ID)
	})
	_, err := run(t, m, "foo")
	var refused *CommandError
	if !errors.As(err, &refused) || refused.Class != "CommandNotFound" || !strings.Contains(err.Error(), "has not been found") {
		t.Errorf("error %#v", err)
	}
}

// Lines that are no messages, answers to nobody and answers with numbers for
// ids must neither end the connection nor be taken for an answer.
func TestGarbageLines(t *testing.T) {
	m := connect(t, patient, nil, func(f *fakeQMP) {
		c, _ := f.next()
		for _, g := range []string{"", "garbage", `{"id": 7}`, `[]`, `null`, "\xff\xfe", `{"return": 1}`, `{"return": 1, "id": "999"}`, `{"event": 5}`, `{"event": "X", "data": []}`} {
			f.say("%s", g)
		}
		f.answer(c, `"right"`)
		for range 5 { // the same id again
			f.answer(c, `"too late"`)
		}
		echo(f)
	})
	for _, want := range []string{`"right"`, `"stop"`} {
		if got, err := run(t, m, "stop"); err != nil || got != want {
			t.Errorf("got %s, %v; want %s", got, err, want)
		}
	}
}

func TestServerDiesMidCommand(t *testing.T) {
	m := connect(t, patient, nil, func(f *fakeQMP) {
		f.next()
		_, _ = f.conn.Write([]byte(`{"return": {"half`))
		_ = f.conn.Close()
	})
	events, err := m.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the command under way, and one after the end
		if _, err := run(t, m, "query-status"); err == nil {
			t.Error("a dead QEMU answers")
		}
	}
	<-m.Done()
	if _, ok := <-events; ok {
		t.Error("an event from a dead QEMU")
	}
	if _, err := m.Events(t.Context()); err == nil {
		t.Error("a dead QEMU has events")
	}
}

// What was answered counts, even if QEMU is gone before anybody looks: quit.
func TestAnswerThenEnd(t *testing.T) {
	m := NewMonitor(nil, patient, nil)
	m.end(errors.New("gone"))
	for range 100 {
		ch := make(chan reply, 1)
		ch <- reply{out: []byte("{}")}
		if out, err := m.await(ch, nil); err != nil || string(out) != "{}" {
			t.Fatalf("%s, %v", out, err)
		}
	}
}

func TestNoAnswer(t *testing.T) {
	m := connect(t, 50*time.Millisecond, nil, func(f *fakeQMP) {
		late, _ := f.next()
		c, _ := f.next()
		f.answer(late, `"of the first"`)
		f.answer(c, `"of the second"`)
	})
	if _, err := run(t, m, "query-status"); err == nil || !strings.Contains(err.Error(), `no answer to "query-status"`) {
		t.Errorf("error %v", err)
	}
	m.timeout = patient // the goroutine that reads does not look at it
	if got, err := run(t, m, "stop"); err != nil || got != `"of the second"` {
		t.Errorf("got %s, %v: a late answer was taken for another's", got, err)
	}
}

func TestConnectFails(t *testing.T) {
	t.Run("QEMU dies", func(t *testing.T) {
		m, f := newFake(t, patient, nil)
		_ = f.conn.Close()
		if err := m.Connect(); err == nil {
			t.Error("connected to nobody")
		}
	})
	t.Run("no greeting", func(t *testing.T) {
		m, _ := newFake(t, 20*time.Millisecond, nil)
		if err := m.Connect(); err == nil || !strings.Contains(err.Error(), "greeting") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("capabilities refused", func(t *testing.T) {
		m, f := newFake(t, patient, nil)
		go func() {
			f.say(greeting)
			c, _ := f.next()
			f.say(`{"id": %q, "error": {"class": "GenericError", "desc": "no"}}`, c.ID)
		}()
		if err := m.Connect(); err == nil {
			t.Error("connected without capabilities")
		}
	})
}
