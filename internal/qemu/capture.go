package qemu

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
)

// Capture keeps the beginning and the end of a stream, however much of it
// there is: a guest may print without end. The reading side never stalls, so
// that a flood cannot block the guest's other channels.
type Capture struct {
	mu    sync.Mutex // mu guards the following fields
	head  []byte
	tail  []byte // the newest bytes behind head, at most 2*maxTail
	total int64
	wake  chan struct{} // closed and replaced at every write
	ended bool
}

// What is kept of a console. The head holds the boot log of a slim kernel
// (about 20 KB) many times over; the tail holds the stacks of a crash.
const (
	maxHead = 128 << 10
	maxTail = 256 << 10
)

// NewCapture returns an empty capture.
func NewCapture() *Capture { return &Capture{wake: make(chan struct{})} }

// ReadFrom drains r until its end.
func (c *Capture) ReadFrom(r io.Reader) (int64, error) {
	defer c.end()
	buf := make([]byte, 32<<10)
	var n int64
	for {
		k, err := r.Read(buf)
		_, _ = c.Write(buf[:k])
		n += int64(k)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// Write appends p. It never fails.
func (c *Capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total += int64(len(p))
	rest := p
	if room := maxHead - len(c.head); room > 0 {
		k := min(room, len(rest))
		c.head, rest = append(c.head, rest[:k]...), rest[k:]
	}
	c.tail = append(c.tail, rest...)
	if len(c.tail) > 2*maxTail {
		c.tail = append(c.tail[:0], c.tail[len(c.tail)-maxTail:]...)
	}
	c.broadcast()
	return len(p), nil
}

func (c *Capture) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.broadcast()
}

func (c *Capture) broadcast() {
	close(c.wake)
	c.wake = make(chan struct{})
}

// Bytes returns what is kept, with a line in the gap that says how much is
// missing there.
func (c *Capture) Bytes() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := bytes.Clone(c.head)
	tail := c.tail[max(0, len(c.tail)-maxTail):]
	if cut := c.total - int64(len(c.head)) - int64(len(tail)); cut > 0 {
		out = fmt.Appendf(out, "\n… %d bytes cut …\n", cut)
	}
	return append(out, tail...)
}

// WaitFor waits until what is kept contains mark; false when the stream or
// ctx ends first.
func (c *Capture) WaitFor(ctx context.Context, mark string) bool {
	for {
		c.mu.Lock()
		// The mark may lie across the seam of head and tail.
		seam := append(bytes.Clone(c.head[max(0, len(c.head)-len(mark)):]), c.tail[:min(len(c.tail), len(mark))]...)
		found := bytes.Contains(c.tail, []byte(mark)) || bytes.Contains(c.head, []byte(mark)) || bytes.Contains(seam, []byte(mark))
		ended, wake := c.ended, c.wake
		c.mu.Unlock()
		if found || ended {
			return found
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return false
		}
	}
}
