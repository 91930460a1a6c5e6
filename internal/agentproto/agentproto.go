// Package agentproto is the language between the orchestrator and the agent
// in the guest: versioned messages, one JSON object on a line. Both ends import
// it, so it must stay small and must not know about QEMU, files or processes.
//
// The guest is not trusted: a kernel under test may corrupt anything it sends.
// Reader therefore bounds every line and reports garbage as an error value
// instead of trusting it.
package agentproto

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Version of the protocol. The agent is packed into the image that the same
// orchestrator ships, so a mismatch means that somebody mixed two builds.
const Version = 1

// PortName is the name of the virtio-serial port, as
// /sys/class/virtio-ports/*/name shows it in the guest.
const PortName = "kbisect.agent"

// Env is what a kernel is to hand to the agent, as arguments that it does not know
// itself (Documentation/admin-guide/kernel-parameters.rst): settings of the Go
// runtime, which reads them before it does anything.
//   - Collecting garbage costs every run more than it frees: a run leaves some
//     100 KiB, and a guest rarely sees a second one.
//   - The agent does one thing at a time. Threads that look for work, and signals to
//     whoever takes longer than 10 ms, as all do under TCG, are code that each guest
//     translates anew: 3 of 100 blocks of a forked run (QEMU's log in_asm, 2026-11).
const Env = "GOGC=off GOMEMLIMIT=64MiB GOMAXPROCS=1 GODEBUG=asyncpreemptoff=1"

// WakeMark, BeginMark and EndMark start the lines which the agent writes to the
// kernel log when it wakes up, before a run and after it, followed by the id. What the kernel said
// about the run stands between them on the console; what stands before the first
// BeginMark belongs to the boot.
const (
	WakeMark  = "kbisect: forked guest is awake "
	BeginMark = "kbisect: begin of run "
	EndMark   = "kbisect: end of run "
)

// MaxLine bounds one message. Output is sent in pieces of at most OutputChunk
// bytes, which base64 and JSON make a third longer, so a real agent stays far
// below.
const (
	MaxLine     = 256 << 10
	OutputChunk = 32 << 10
)

// Type names a message.
type Type string

// The messages. Hello, Output, Heartbeat and Result come from the guest; Prepare,
// Wake and Run from the host, and each is answered by a Result.
const (
	TypeHello     Type = "hello"
	TypePrepare   Type = "prepare"
	TypeWake      Type = "wake"
	TypeRun       Type = "run"
	TypeOutput    Type = "output"
	TypeHeartbeat Type = "heartbeat"
	TypeResult    Type = "result"
)

// Message is one line on the channel. Exactly the member that Type names is set.
type Message struct {
	V       int      `json:"v"`
	Type    Type     `json:"type"`
	ID      string   `json:"id,omitempty"` // of what the host asked for; empty in hello
	Hello   *Hello   `json:"hello,omitempty"`
	Prepare *Prepare `json:"prepare,omitempty"`
	Wake    *Wake    `json:"wake,omitempty"`
	Run     *Run     `json:"run,omitempty"`
	Output  []byte   `json:"output,omitempty"`
	Result  *Result  `json:"result,omitempty"`
}

// Hello tells what the guest really has, after the agent has set it up.
type Hello struct {
	Release      string   `json:"release"`    // uname -r
	ConfigCRC    string   `json:"config_crc"` // CRC-32 of the .config in /proc/config.gz, "" without it
	CPUs         int      `json:"cpus"`
	MemoryKiB    int64    `json:"memory_kib"`
	SwapKiB      int64    `json:"swap_kib"`
	THPSizes     []int64  `json:"thp_sizes"` // bytes, PMD size included
	HugetlbSizes []int64  `json:"hugetlb"`   // bytes, sizes with at least one page reserved
	Features     []string `json:"features"`  // e.g. gup_test, io_uring, soft_dirty
	Problems     []string `json:"problems"`  // what the agent could not set up
}

// Prepare asks the agent to start a program that takes its arguments, each ended
// by a NUL, from standard input. The first run of Argv[0] uses that process
// instead of a new one. Meant for a guest that forks are to be made of.
type Prepare struct {
	Argv []string `json:"argv"`
}

// Wake is the first message to a guest that was forked from a snapshot.
type Wake struct {
	Entropy []byte `json:"entropy"` // fed to the guest's generator: forks share its state otherwise
}

// Run asks the agent to run one program once.
type Run struct {
	Argv      []string `json:"argv"`
	TimeoutMS int64    `json:"timeout_ms"`
	MaxOutput int64    `json:"max_output"`
}

// Result is the end of a run.
type Result struct {
	Exit      int    `json:"exit"`             // exit status, -1 when killed by a signal
	Signal    string `json:"signal,omitempty"` // name of the signal
	TimedOut  bool   `json:"timed_out,omitempty"`
	Truncated bool   `json:"truncated,omitempty"` // output beyond MaxOutput was dropped
	Error     string `json:"error,omitempty"`     // the agent could not start the program
	WallMS    int64  `json:"wall_ms"`
}

// Encode writes m as one line.
func Encode(w io.Writer, m Message) error {
	m.V = Version
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode %s: %w", m.Type, err)
	}
	if len(b) >= MaxLine {
		return fmt.Errorf("encode %s: %d bytes exceed the limit of %d", m.Type, len(b), MaxLine)
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// ErrGarbage is wrapped by the errors of Reader.Next for a line that is not a
// message: the peer is broken or hostile, the channel itself still works.
var ErrGarbage = errors.New("garbage on the agent channel")

// Reader reads messages.
type Reader struct{ r *bufio.Reader }

// NewReader returns a reader of the messages on r.
func NewReader(r io.Reader) *Reader { return &Reader{bufio.NewReaderSize(r, 64<<10)} }

// Next returns the next message. A line that is none gives an error that wraps
// ErrGarbage, and the following call goes on behind that line; any other error
// is the channel's own. Memory stays below MaxLine however long the line is.
func (r *Reader) Next() (Message, error) {
	line, err := r.line()
	if err != nil {
		return Message{}, err
	}
	var m Message
	if err := json.Unmarshal(line, &m); err != nil {
		return Message{}, fmt.Errorf("%w: %w", ErrGarbage, err)
	}
	if err := m.check(); err != nil {
		return Message{}, err
	}
	return m, nil
}

// line returns the next line without its end. A line over MaxLine is read to
// its end, dropped, and reported as garbage.
func (r *Reader) line() ([]byte, error) {
	var line []byte
	tooLong := false
	for {
		part, err := r.r.ReadSlice('\n')
		if !tooLong && len(line)+len(part) > MaxLine {
			tooLong, line = true, nil
		}
		if !tooLong {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return nil, err
		case tooLong:
			return nil, fmt.Errorf("%w: a line of more than %d bytes", ErrGarbage, MaxLine)
		}
		return line[:len(line)-1], nil
	}
}

// check says what a message lacks; the error wraps ErrGarbage.
func (m Message) check() error {
	if m.V != Version {
		return fmt.Errorf("%w: protocol version %d, want %d", ErrGarbage, m.V, Version)
	}
	ok := false
	switch m.Type {
	case TypeHello:
		ok = m.Hello != nil
	case TypePrepare:
		ok = m.Prepare != nil && len(m.Prepare.Argv) > 0 && m.ID != ""
	case TypeRun:
		ok = m.Run != nil && len(m.Run.Argv) > 0 && m.ID != ""
	case TypeWake:
		ok = m.Wake != nil && m.ID != ""
	case TypeOutput, TypeHeartbeat:
		ok = m.ID != ""
	case TypeResult:
		ok = m.Result != nil && m.ID != ""
	default:
		return fmt.Errorf("%w: unknown message %q", ErrGarbage, clip(string(m.Type)))
	}
	if !ok {
		return fmt.Errorf("%w: incomplete %s message", ErrGarbage, m.Type)
	}
	return nil
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}
