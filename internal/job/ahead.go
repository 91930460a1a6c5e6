package job

import (
	"context"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// ahead builds the commits that will be wanted next, in their order, while the
// runs of another go on: a build leaves most of a processor idle while it links,
// and so do runs. One goroutine may use it.
type ahead struct {
	build func(ctx context.Context, c kernel.Commit) (kernel.Build, error)
	under *underway
}

// atMostAhead is how many builds may wait for their runs. Where a commit breaks
// something its runs take as long as several builds; a patch that is given up costs
// the builds that were made for nothing.
const atMostAhead = 4

// underway are builds in the background.
type underway struct {
	next  []kernel.Commit // whose builds were not taken
	end   context.CancelFunc
	built chan outcome // of next, in order
}

// outcome is what came of a build.
type outcome struct {
	build kernel.Build
	err   error
}

// soon begins to build commits, unless some are under way.
func (a *ahead) soon(ctx context.Context, next []kernel.Commit) {
	if a.under != nil || len(next) == 0 {
		return
	}
	ctx, end := context.WithCancel(ctx)
	// One more is under way or waits to be handed over.
	u := &underway{next: next, end: end, built: make(chan outcome, atMostAhead-1)}
	a.under = u
	go func() {
		defer close(u.built)
		for _, c := range next {
			b, err := a.build(ctx, c)
			select {
			case u.built <- outcome{b, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
}

// only is soon for one commit in the place of whatever is under way.
func (a *ahead) only(ctx context.Context, c kernel.Commit) {
	if a.under != nil && a.under.next[0].SHA != c.SHA {
		a.close()
	}
	a.soon(ctx, []kernel.Commit{c})
}

// get returns the kernel of a commit. Builds of others that are under way are
// given up.
func (a *ahead) get(ctx context.Context, c kernel.Commit) (kernel.Build, error) {
	if u := a.under; u != nil && u.next[0].SHA == c.SHA {
		o, ok := <-u.built // it ends with ctx
		if u.next = u.next[1:]; !ok || o.err != nil || len(u.next) == 0 {
			a.close()
		}
		if ok {
			return o.build, o.err
		}
	}
	a.close()
	return a.build(ctx, c)
}

// close gives up what is under way.
func (a *ahead) close() {
	u := a.under
	if u == nil {
		return
	}
	a.under = nil
	u.end()
	for range u.built { // until the last build has ended
	}
}
