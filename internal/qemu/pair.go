package qemu

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// pair is a socketpair: our end as a connection, QEMU's as a file.
type pair struct {
	ours   *net.UnixConn
	theirs *os.File
}

func newPair() (pair, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return pair{}, fmt.Errorf("socketpair: %w", err)
	}
	f := os.NewFile(uintptr(fds[0]), "ours")
	defer f.Close()
	theirs := os.NewFile(uintptr(fds[1]), "theirs")
	c, err := net.FileConn(f)
	if err != nil {
		_ = theirs.Close()
		return pair{}, fmt.Errorf("socketpair: %w", err)
	}
	return pair{c.(*net.UnixConn), theirs}, nil
}

func (p *pair) closeTheirs() {
	if p.theirs != nil {
		_ = p.theirs.Close()
		p.theirs = nil
	}
}
