package agent

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// launcher starts programs. One may have been started before it is wanted: in a
// guest forked under TCG to start a program takes some 40 of 130 ms of a run.
type launcher struct {
	waiting *child
	program string // its path
	input   int    // writing end of its standard input
}

// prepareFor is how long a prepared program may take until it waits.
const prepareFor = 10 * time.Second

// prepare starts a program that will wait for its arguments, and returns when
// it says that it does: by a NUL on its standard output.
func (l *launcher) prepare(argv []string) error {
	if l.waiting != nil {
		return fmt.Errorf("%s waits already", l.program)
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	c, err := start(argv, pipe[0])
	_ = unix.Close(pipe[0])
	if err != nil {
		_ = unix.Close(pipe[1])
		return err
	}
	if err := c.awaitNUL(); err != nil {
		_ = unix.Close(pipe[1])
		c.discard()
		return fmt.Errorf("%s: %w", argv[0], err)
	}
	l.waiting, l.program, l.input = c, argv[0], pipe[1]
	return nil
}

func (c *child) awaitNUL() error {
	fds := []unix.PollFd{{Fd: int32(c.output), Events: unix.POLLIN}}
	if err := poll(fds, prepareFor); err != nil {
		return err
	}
	if fds[0].Revents == 0 {
		return fmt.Errorf("does not wait after %s", prepareFor)
	}
	said := make([]byte, 80)
	n, err := ignoringEINTR(func() (int, error) { return unix.Read(c.output, said) })
	if err == nil && (n != 1 || said[0] != 0) {
		err = fmt.Errorf("does not wait but says %q", said[:max(n, 0)])
	}
	return err
}

// launch starts a program, or lets go the one that waits if it is the same.
func (l *launcher) launch(argv []string) (*child, error) {
	if c := l.waiting; c != nil && argv[0] == l.program {
		l.waiting = nil
		_, err := port(l.input).Write([]byte(strings.Join(argv[1:], "\x00") + "\x00"))
		_ = unix.Close(l.input)
		if err == nil {
			return c, nil
		}
		c.discard() // something killed it while it waited
	}
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(null)
	return start(argv, null)
}

// child is a started program, the leader of its own process group.
type child struct {
	pid, pidfd int
	output     int // reading end of the pipe that is its stdout and stderr
}

func start(argv []string, stdin int) (*child, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	defer unix.Close(pipe[1])
	c := &child{output: pipe[0]}
	var err error
	c.pid, err = syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{
		Dir:   "/tmp",
		Env:   []string{"PATH=/bin:/user", "HOME=/tmp", "TERM=dumb"},
		Files: []uintptr{uintptr(stdin), uintptr(pipe[1]), uintptr(pipe[1])},
		Sys:   &syscall.SysProcAttr{Setpgid: true, PidFD: &c.pidfd},
	})
	if err != nil {
		_ = unix.Close(c.output)
		return nil, fmt.Errorf("%s: %w", argv[0], err)
	}
	if c.pidfd < 0 { // before Linux 5.3
		c.kill()
		c.close()
		return nil, errors.New("this kernel has no pidfd")
	}
	return c, nil
}

func (c *child) kill() { _ = unix.Kill(-c.pid, unix.SIGKILL) }

// discard ends a program that will not be run.
func (c *child) discard() {
	c.kill()
	_, _ = ignoringEINTR(func() (int, error) { return unix.Wait4(c.pid, nil, 0, nil) })
	c.close()
}

func (c *child) close() {
	_ = unix.Close(c.output)
	_ = unix.Close(c.pidfd)
}
