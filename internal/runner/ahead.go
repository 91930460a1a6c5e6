package runner

import (
	"context"

	"github.com/kernel-bisect/kbisect/internal/guest"
	"github.com/kernel-bisect/kbisect/internal/qemu"
)

// prepared is a guest that has run nothing yet, or why there is none.
type prepared struct {
	vm      *qemu.VM
	session *guest.Session
	err     error
}

func (p prepared) close() {
	if p.err == nil {
		p.session.Close()
		p.vm.Kill()
	}
}

// depth is how many guests are prepared at a time. Under TCG preparing one
// takes 90 ms and a short test 80 ms, each on one CPU; with two on their way a
// run seldom waits (101 ms per run on two CPUs, 108 ms with depth 1, 130 ms when
// they follow one another). A kernel that all tests pass on has one run or two,
// though, and a guest that nobody takes is 150 ms of a CPU for nothing: so none is
// prepared before the first was taken, and only one before the second.
const depth = 2

// ahead prepares the next guests while a run goes on in the last one.
type ahead struct {
	prepare func() prepared
	cancel  context.CancelFunc
	ready   chan prepared // depth of them fit
	pending int           // started and not taken
	taken   int
}

// newAhead prepares guests that live until ctx or close ends them; the first
// when it is wanted.
func newAhead(ctx context.Context, prepare func(context.Context) prepared) *ahead {
	ctx, cancel := context.WithCancel(ctx)
	return &ahead{prepare: func() prepared { return prepare(ctx) }, cancel: cancel, ready: make(chan prepared, depth)}
}

// take returns the guest that was ready first and has others prepared.
func (a *ahead) take(ctx context.Context) prepared {
	a.fill(1)
	select {
	case p := <-a.ready:
		a.pending--
		a.fill(min(a.taken, depth))
		a.taken++
		return p
	case <-ctx.Done():
		return prepared{err: ctx.Err()}
	}
}

func (a *ahead) fill(n int) {
	for ; a.pending < n; a.pending++ {
		go func() { a.ready <- a.prepare() }()
	}
}

// close ends the guests that nobody took.
func (a *ahead) close() {
	a.cancel()
	for ; a.pending > 0; a.pending-- {
		p := <-a.ready
		p.close()
	}
}
