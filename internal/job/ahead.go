package job

import (
	"context"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// ahead builds the commit that will be wanted next while the runs of another go
// on: a build leaves most of a processor idle while it links, and so do runs.
// One goroutine may use it.
type ahead struct {
	build func(ctx context.Context, c kernel.Commit) (kernel.Build, error)
	under *underway
}

// underway is a build in the background.
type underway struct {
	sha  string
	end  context.CancelFunc
	done chan struct{}
	// Valid when done is closed.
	build kernel.Build
	err   error
}

// soon begins to build a commit, unless one is under way.
func (a *ahead) soon(ctx context.Context, c kernel.Commit) {
	if a.under != nil {
		return
	}
	ctx, end := context.WithCancel(ctx)
	u := &underway{sha: c.SHA, end: end, done: make(chan struct{})}
	a.under = u
	go func() {
		defer close(u.done)
		u.build, u.err = a.build(ctx, c)
	}()
}

// get returns the kernel of a commit. A build of another that is under way is
// given up.
func (a *ahead) get(ctx context.Context, c kernel.Commit) (kernel.Build, error) {
	u := a.under
	a.under = nil
	if u != nil {
		if u.sha != c.SHA {
			u.end()
		}
		<-u.done // it ends with ctx
		u.end()
		if u.sha == c.SHA {
			return u.build, u.err
		}
	}
	return a.build(ctx, c)
}

// close gives up what is under way.
func (a *ahead) close() {
	if a.under != nil {
		a.under.end()
		<-a.under.done
		a.under = nil
	}
}
