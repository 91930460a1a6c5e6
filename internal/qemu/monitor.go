package qemu

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/digitalocean/go-qemu/qmp"
	"golang.org/x/sys/unix"
)

// Monitor is a QMP connection over one end of a socketpair. It implements
// go-qemu's qmp.Monitor so that qmp/raw and qemu.Domain work on top of it.
//
// go-qemu's own SocketMonitor is not used: its line scanner dies on replies
// over 64 KiB (query-qmp-schema has 207 KB), it hands one buffer to two
// goroutines (a panic under event load), it drops an event that arrives with
// the capabilities reply, and a call has no deadline.
type Monitor struct {
	conn    *net.UnixConn
	timeout time.Duration
	onEvent func(qmp.Event) // called in order from the reading goroutine; must not block

	mu      sync.Mutex // mu guards the following fields
	nextID  int
	pending map[string]chan reply // command id -> where its reply goes
	subs    map[chan qmp.Event]struct{}
	err     error         // why the connection ended, once it has
	done    chan struct{} // closed with err
}

type reply struct {
	out []byte
	err error
}

// Limits of what a monitor keeps. The largest reply of QEMU 10's schema is
// below 300 KB; QEMU itself is attacked by its guest, so it is bounded too.
const (
	maxReply     = 8 << 20
	eventBacklog = 64
)

// CommandError is QEMU's refusal of a command.
type CommandError struct{ Class, Desc string }

func (e *CommandError) Error() string { return fmt.Sprintf("qmp: %.*s", maxSaid, e.Desc) }

var _ qmp.Monitor = (*Monitor)(nil)

// NewMonitor returns a monitor on conn. Every command fails after timeout.
// onEvent may be nil.
func NewMonitor(conn *net.UnixConn, timeout time.Duration, onEvent func(qmp.Event)) *Monitor {
	return &Monitor{
		conn:    conn,
		timeout: timeout,
		onEvent: onEvent,
		pending: map[string]chan reply{},
		subs:    map[chan qmp.Event]struct{}{},
		done:    make(chan struct{}),
	}
}

// Connect reads the greeting and negotiates capabilities.
func (m *Monitor) Connect() error {
	r := bufio.NewReaderSize(m.conn, 64<<10)
	_ = m.conn.SetReadDeadline(time.Now().Add(m.timeout))
	if _, err := readLine(r); err != nil {
		return fmt.Errorf("qmp greeting: %w", err)
	}
	_ = m.conn.SetReadDeadline(time.Time{})
	go m.read(r)
	_, err := m.Run([]byte(`{"execute":"qmp_capabilities"}`))
	return err
}

// Disconnect closes the connection; commands under way fail.
func (m *Monitor) Disconnect() error { return m.conn.Close() }

// Done is closed when the connection has ended and every event was delivered.
func (m *Monitor) Done() <-chan struct{} { return m.done }

// Run sends one command, a JSON object with "execute", and returns the whole
// reply object, as go-qemu's raw package expects.
func (m *Monitor) Run(command []byte) ([]byte, error) { return m.RunWithFile(command, -1) }

// RunWithFile is Run with a file descriptor passed along (for getfd), -1 for none.
func (m *Monitor) RunWithFile(command []byte, fd int) ([]byte, error) {
	var obj map[string]json.RawMessage
	if err := json.Unmarshal(command, &obj); err != nil {
		return nil, fmt.Errorf("qmp command: %w", err)
	}
	ch := make(chan reply, 1)
	m.mu.Lock()
	if m.err != nil {
		defer m.mu.Unlock()
		return nil, m.err
	}
	m.nextID++
	// A string, because qemu.Domain decodes ids into one.
	id := strconv.Itoa(m.nextID)
	m.pending[id] = ch
	m.mu.Unlock()
	defer m.forget(id)

	obj["id"] = json.RawMessage(strconv.Quote(id))
	line, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("qmp command: %w", err)
	}
	if err := m.send(append(line, '\n'), fd); err != nil {
		return nil, fmt.Errorf("qmp send: %w", err)
	}
	return m.await(ch, obj["execute"])
}

// await waits for a reply. One that has come counts even if the connection has
// ended since: QEMU may answer and exit.
func (m *Monitor) await(ch <-chan reply, command []byte) ([]byte, error) {
	timer := time.NewTimer(m.timeout)
	defer timer.Stop()
	select {
	case r := <-ch:
		return r.out, r.err
	case <-m.done:
		select {
		case r := <-ch:
			return r.out, r.err
		default:
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		return nil, m.err
	case <-timer.C:
		return nil, fmt.Errorf("qmp: no answer to %s within %s", command, m.timeout)
	}
}

func (m *Monitor) send(line []byte, fd int) error {
	_ = m.conn.SetWriteDeadline(time.Now().Add(m.timeout))
	if fd < 0 {
		_, err := m.conn.Write(line)
		return err
	}
	_, _, err := m.conn.WriteMsgUnix(line, unix.UnixRights(fd), nil)
	return err
}

func (m *Monitor) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pending, id)
}

// Events returns a channel of the events from now on. A reader that falls
// more than 64 events behind loses the newest; the channel is closed when the
// connection or ctx ends.
func (m *Monitor) Events(ctx context.Context) (<-chan qmp.Event, error) {
	ch := make(chan qmp.Event, eventBacklog)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, m.err
	}
	m.subs[ch] = struct{}{}
	context.AfterFunc(ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if _, ok := m.subs[ch]; ok {
			delete(m.subs, ch)
			close(ch)
		}
	})
	return ch, nil
}

// read runs until the connection ends.
func (m *Monitor) read(r *bufio.Reader) {
	for {
		line, err := readLine(r)
		if err != nil {
			m.end(fmt.Errorf("qmp connection ended: %w", err))
			return
		}
		m.dispatch(line)
	}
}

func (m *Monitor) dispatch(line []byte) {
	var msg struct {
		ID    string          `json:"id"`
		Event string          `json:"event"`
		Error json.RawMessage `json:"error"`
	}
	if json.Unmarshal(line, &msg) != nil {
		return // not ours to judge: the command it may have answered times out
	}
	if msg.Event != "" {
		var ev qmp.Event
		if json.Unmarshal(line, &ev) == nil {
			m.deliver(ev)
		}
		return
	}
	rep := reply{out: line}
	if msg.Error != nil {
		e := &CommandError{}
		_ = json.Unmarshal(msg.Error, e)
		rep = reply{err: e}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if ch, ok := m.pending[msg.ID]; ok {
		ch <- rep
		delete(m.pending, msg.ID)
	}
}

func (m *Monitor) deliver(ev qmp.Event) {
	if m.onEvent != nil {
		m.onEvent(ev)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for ch := range m.subs {
		select {
		case ch <- ev:
		default:
		}
	}
}

func (m *Monitor) end(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
	for ch := range m.subs {
		close(ch)
	}
	clear(m.subs)
	close(m.done)
}

// readLine reads one line of at most maxReply bytes.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			return bytes.TrimRight(line, "\r\n"), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		if len(line) > maxReply {
			return nil, fmt.Errorf("a reply of more than %d bytes", maxReply)
		}
	}
}
