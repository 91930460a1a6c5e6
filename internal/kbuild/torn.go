package kbuild

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A make that is killed leaves what it was writing: half an object, or a whole one
// whose list of included files is the old one, newer than what it is made of, so that
// the next make takes it for done. A make that is interrupted deletes it. So builds
// that nobody wants any more are interrupted, as by Ctrl-C; where one was killed all
// the same, or we were, all that it has made is deleted before the next.

// grace is how long an interrupted build may take to end: make waits for its
// children, of which the longest are a linker's 3 s. Until then it is interrupted
// again and again: a shell that has just forked with vfork(2), as dash does, swallows
// what its child is told (onsig in its trap.c), and all wait for that child.
var (
	grace = 5 * time.Second
	again = 500 * time.Millisecond
)

func markFile(objects string) string { return objects + ".begun" }

// mark notes when files begin to be made in an object tree that is configured: what
// is older is of builds that came to an end, and has been made of what is known.
func (b *Builder) mark() error { return os.WriteFile(markFile(b.Objects), nil, 0o644) }

func unmark(objects string) error {
	if err := os.Remove(markFile(objects)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("object tree: %w", err)
	}
	return nil
}

// mend makes good what a build left that was killed. One that was configuring leaves
// stamps that cannot be told from those of another configuration: there all is
// deleted, as it is where nobody knows what the last build came to.
func (b *Builder) mend() error {
	mark := markFile(b.Objects)
	st, err := os.Lstat(mark)
	known, ok := b.kept()
	backwards := err == nil && st.ModTime().After(time.Now()) // somebody set the clock
	switch {
	case ok && err == nil && !backwards:
		if err := Remove(b.Objects, "-mindepth", "1", "-not", "-type", "d", "-newer", mark); err != nil {
			return fmt.Errorf("object tree: %w", err)
		}
		known.Trees = nil // objects are missing, of anything
		if err := known.save(b.readsFile()); err != nil {
			return err
		}
	case !ok || backwards:
		if left, _ := os.ReadDir(b.Objects); len(left) == 0 {
			break
		}
		if err := emptyDir(b.Objects); err != nil {
			return fmt.Errorf("object tree: %w", err)
		}
	}
	return unmark(b.Objects)
}

// interruption ends a build that nobody wants any more.
type interruption struct {
	group  atomic.Int64 // process group of the build, once it may run; 0: not yet
	killed atomic.Bool
	ended  atomic.Bool
}

// cancel interrupts a command and kills it after a while; at once where it went over
// a limit, or was not begun.
func (i *interruption) cancel(ctx context.Context, cmd *exec.Cmd) error {
	kill := func() error {
		i.killed.Store(true)
		return unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	}
	var s *stopped
	group := i.group.Load()
	if group == 0 || errors.As(context.Cause(ctx), &s) || unix.Kill(-int(group), unix.SIGINT) != nil {
		return kill()
	}
	end := time.Now().Add(grace)
	var next func()
	next = func() {
		switch {
		case i.ended.Load():
		case time.Now().After(end):
			_ = kill()
		default: // make and the compiler block it while they delete what they were writing
			_ = unix.Kill(-int(group), unix.SIGINT)
			time.AfterFunc(again, next)
		}
	}
	time.AfterFunc(again, next)
	return nil
}

// torn says whether a command that has ended may have left files half written.
func (i *interruption) torn(state *os.ProcessState) bool {
	if state == nil || i.killed.Load() {
		return true
	}
	status, ok := state.Sys().(syscall.WaitStatus)
	return !ok || status.Signaled() && status.Signal() != syscall.SIGINT || status.ExitStatus() == 128+int(syscall.SIGKILL)
}
