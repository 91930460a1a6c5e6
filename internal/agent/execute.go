package agent

import (
	"errors"
	"fmt"
	"io"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
)

// heartbeatEvery tells a slow test from a dead guest. The host waits for many
// of them to be missing before it judges.
const heartbeatEvery = time.Second

// drainFor is how long the output is read on after the test's end: something
// that it left behind outside its process group may hold the pipe open.
const drainFor = 500 * time.Millisecond

// execute runs one program and streams its output through send.
//
// It polls instead of starting goroutines and uses bare descriptors instead of
// os/exec, because its cost is most of a forked run's: a guest forked under TCG
// starts with an empty translation cache, every block of code it reaches is
// translated anew at about 8 µs, and of 20,000 blocks a third were the Go
// runtime's (QEMU's log in_asm, 2026-11).
func (l *launcher) execute(r agentproto.Run, id string, send func(agentproto.Message) error) agentproto.Result {
	c, err := l.launch(r.Argv)
	if err != nil {
		return agentproto.Result{Exit: -1, Error: "start the test: " + err.Error()}
	}
	defer c.close()
	out := &output{id: id, left: r.MaxOutput, send: send}
	began := time.Now()
	timedOut, err := c.watch(began.Add(time.Duration(r.TimeoutMS)*time.Millisecond), out)
	c.kill() // also children that the test forgot
	res := agentproto.Result{TimedOut: timedOut, WallMS: time.Since(began).Milliseconds()}
	var st unix.WaitStatus
	if err == nil {
		_, err = ignoringEINTR(func() (int, error) { return unix.Wait4(c.pid, &st, 0, nil) })
	}
	c.drain(time.Now().Add(drainFor), out)
	res.Truncated = out.truncated
	switch {
	case err != nil:
		res.Exit, res.Error = -1, err.Error()
	case st.Signaled():
		res.Exit, res.Signal = -1, unix.SignalName(st.Signal())
	default:
		res.Exit = st.ExitStatus()
	}
	return res
}

// watch passes output on until the child is dead, kills it at the deadline, and
// tells the host every second that the guest is alive.
func (c *child) watch(deadline time.Time, out *output) (timedOut bool, err error) {
	fds := []unix.PollFd{{Fd: int32(c.output), Events: unix.POLLIN}, {Fd: int32(c.pidfd), Events: unix.POLLIN}}
	for beat := time.Now().Add(heartbeatEvery); ; {
		until := beat
		if !timedOut && deadline.Before(beat) {
			until = deadline
		}
		if err := poll(fds, time.Until(until)); err != nil {
			return timedOut, err
		}
		if fds[0].Revents != 0 && out.copyFrom(c.output) != nil {
			fds[0].Fd = -1 // closed; its end follows
		}
		if fds[1].Revents != 0 {
			return timedOut, nil
		}
		now := time.Now()
		if !timedOut && !now.Before(deadline) {
			timedOut = true
			c.kill()
		}
		if !now.Before(beat) {
			_ = out.send(agentproto.Message{Type: agentproto.TypeHeartbeat, ID: out.id})
			beat = now.Add(heartbeatEvery)
		}
	}
}

// drain reads what is left in the pipe.
func (c *child) drain(deadline time.Time, out *output) {
	fds := []unix.PollFd{{Fd: int32(c.output), Events: unix.POLLIN}}
	for left := drainFor; left > 0; left = time.Until(deadline) {
		if poll(fds, left) != nil || fds[0].Revents != 0 && out.copyFrom(c.output) != nil {
			return
		}
	}
}

// poll waits for fds, at most d.
func poll(fds []unix.PollFd, d time.Duration) error {
	for i := range fds {
		fds[i].Revents = 0
	}
	ms := max(0, (d+time.Millisecond-1)/time.Millisecond)
	if _, err := unix.Poll(fds, int(ms)); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("poll: %w", err)
	}
	return nil
}

func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// output sends a test's output as it comes, up to a limit: a hang must not
// swallow what was printed before it.
type output struct {
	id        string
	left      int64
	send      func(agentproto.Message) error
	truncated bool
	buf       [agentproto.OutputChunk]byte
}

// copyFrom passes on what fd has now; io.EOF at its end.
func (o *output) copyFrom(fd int) error {
	n, err := ignoringEINTR(func() (int, error) { return unix.Read(fd, o.buf[:]) })
	if err != nil {
		return err
	}
	if n == 0 {
		return io.EOF
	}
	if int64(n) > o.left {
		n, o.truncated = int(o.left), true
	}
	if n > 0 {
		o.left -= int64(n)
		_ = o.send(agentproto.Message{Type: agentproto.TypeOutput, ID: o.id, Output: o.buf[:n]})
	}
	return nil
}

// addEntropy feeds the guest's random generator and reseeds it: all forks of
// one snapshot start with the same state. random(4), RNDADDENTROPY.
func addEntropy(seed []byte) error {
	fd, err := unix.Open("/dev/urandom", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// struct rand_pool_info { int entropy_count; int buf_size; __u32 buf[]; }
	buf := make([]uint32, 2+(len(seed)+3)/4)
	buf[0], buf[1] = uint32(len(seed)*8), uint32(len(seed))
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&buf[2])), len(buf[2:])*4), seed)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&buf[0]))); e != 0 {
		return e
	}
	// RNDRESEEDCRNG is refused until the generator is first ready; then the
	// new entropy is used anyway.
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.RNDRESEEDCRNG, 0)
	return nil
}
