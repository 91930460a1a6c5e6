package agent

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
)

// heartbeatEvery tells a slow test from a dead guest. The host waits for many
// of them to be missing before it judges.
const heartbeatEvery = time.Second

// sender writes messages to the port, one at a time.
type sender struct {
	mu sync.Mutex
	w  interface{ Write([]byte) (int, error) }
}

func (s *sender) send(m agentproto.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return agentproto.Encode(s.w, m)
}

// execute runs one program and streams its output.
func execute(r agentproto.Run, id string, w *sender) agentproto.Result {
	if err := addEntropy(r.Entropy); err != nil {
		return agentproto.Result{Exit: -1, Error: "add entropy: " + err.Error()}
	}
	time.Sleep(time.Duration(r.DelayUS) * time.Microsecond)

	out := &outputWriter{id: id, left: r.MaxOutput, to: w}
	cmd := exec.Command(r.Argv[0], r.Argv[1:]...)
	cmd.Dir = "/tmp"
	cmd.Env = []string{"PATH=/bin:/user", "HOME=/tmp", "TERM=dumb"}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// Something the test left behind may hold its output open.
	cmd.WaitDelay = 500 * time.Millisecond

	start := time.Now()
	if err := cmd.Start(); err != nil {
		return agentproto.Result{Exit: -1, Error: "start the test: " + err.Error()}
	}
	kill := func() { _ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	timedOut := false
	timer := time.NewTimer(time.Duration(r.TimeoutMS) * time.Millisecond)
	defer timer.Stop()
	beat := time.NewTicker(heartbeatEvery)
	defer beat.Stop()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var err error
	for running := true; running; {
		select {
		case err = <-done:
			running = false
		case <-timer.C:
			timedOut = true
			kill()
		case <-beat.C:
			_ = w.send(agentproto.Message{Type: agentproto.TypeHeartbeat, ID: id})
		}
	}
	kill() // children that the test forgot
	res := agentproto.Result{TimedOut: timedOut, Truncated: out.truncated, WallMS: time.Since(start).Milliseconds()}
	st, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case !ok:
		res.Exit, res.Error = -1, "no exit status"
	case st.Signaled():
		res.Exit, res.Signal = -1, unix.SignalName(st.Signal())
	default:
		res.Exit = st.ExitStatus()
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		res.Error = err.Error()
	}
	return res
}

// outputWriter sends a test's output as it comes, up to a limit: a hang must
// not swallow what was printed before it.
type outputWriter struct {
	id        string
	left      int64
	to        *sender
	truncated bool
}

func (o *outputWriter) Write(p []byte) (int, error) {
	keep := p
	if int64(len(keep)) > o.left {
		keep, o.truncated = keep[:o.left], true
	}
	o.left -= int64(len(keep))
	for piece := range slices.Chunk(keep, agentproto.OutputChunk) {
		_ = o.to.send(agentproto.Message{Type: agentproto.TypeOutput, ID: o.id, Output: piece})
	}
	return len(p), nil
}

// addEntropy feeds the guest's random generator and reseeds it: all forks of
// one snapshot start with the same state. random(4), RNDADDENTROPY.
func addEntropy(seed []byte) error {
	if len(seed) == 0 {
		return nil
	}
	f, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// struct rand_pool_info { int entropy_count; int buf_size; __u32 buf[]; }
	buf := make([]uint32, 2+(len(seed)+3)/4)
	buf[0], buf[1] = uint32(len(seed)*8), uint32(len(seed))
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&buf[2])), len(buf[2:])*4), seed)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&buf[0]))); e != 0 {
		return e
	}
	// RNDRESEEDCRNG is refused until the generator is first ready; then the
	// new entropy is used anyway.
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.RNDRESEEDCRNG, 0)
	return nil
}
