package runner

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// failing prepares nothing, slowly; its errors are numbered.
type failing struct {
	mu      sync.Mutex // mu guards the following fields
	started int
	ended   int
}

func (f *failing) prepare(ctx context.Context) prepared {
	f.mu.Lock()
	f.started++
	n := f.started
	f.mu.Unlock()
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended++
	return prepared{err: fmt.Errorf("guest %d", n)}
}

func TestAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &failing{}
		a := newAhead(t.Context(), f.prepare)
		synctest.Wait()
		if f.started != 0 {
			t.Errorf("%d guests before the first is wanted", f.started)
		}
		taken := map[string]bool{}
		begin := time.Now()
		for i := range 5 {
			p := a.take(t.Context())
			if p.err == nil || taken[p.err.Error()] {
				t.Errorf("got %v again", p.err)
			}
			taken[p.err.Error()] = true
			synctest.Wait()
			if f.started != i+1+min(i, depth) {
				t.Errorf("%d guests started when %d were taken", f.started, i+1)
			}
			time.Sleep(600 * time.Millisecond) // the run
		}
		// The first two are waited for; from the fourth on two are on their way.
		if d := time.Since(begin); d != 2*time.Second+2*400*time.Millisecond+5*600*time.Millisecond {
			t.Errorf("five runs took %s", d)
		}
		a.close()
		if f.started != f.ended {
			t.Errorf("%d started, %d ended", f.started, f.ended)
		}
	})
}

// A guest that was not waited for stays the next one.
func TestAheadCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &failing{}
		a := newAhead(t.Context(), f.prepare)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if p := a.take(ctx); !errors.Is(p.err, context.DeadlineExceeded) {
			t.Errorf("got %v", p.err)
		}
		a.take(t.Context())
		synctest.Wait()
		if f.started != 1 {
			t.Errorf("%d started for one", f.started)
		}
		a.take(t.Context())
		begin := time.Now()
		a.close()
		if d := time.Since(begin); d != 0 {
			t.Errorf("close waited %s for guests that nobody wants", d)
		}
	})
}
