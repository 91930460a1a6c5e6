package web

import (
	"context"
	"sync"
)

// backlog is how many events a reader may be behind before it is dropped. A
// browser loses nothing by that: it comes again and reads the state.
const backlog = 64

// Hub passes events on to whoever looks on. Its zero value is ready.
type Hub struct {
	mu      sync.Mutex // guards the following fields
	readers map[*reader]bool
	last    map[string]Event // job -> its last event
}

type reader struct {
	job string // "" is all
	ch  chan Event
}

// Publish tells all readers, and waits for none.
func (h *Hub) Publish(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last == nil {
		h.last = map[string]Event{}
	}
	h.last[e.Job] = e
	for r := range h.readers {
		if r.job != "" && r.job != e.Job {
			continue
		}
		select {
		case r.ch <- e:
		default:
			h.drop(r)
		}
	}
}

// Forget drops the last event of a job that is over.
func (h *Hub) Forget(job string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.last, job)
}

// Now is the last event of a job.
func (h *Hub) Now(job string) (Event, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e, ok := h.last[job]
	return e, ok
}

// Events gives what a job does from now on, as Live has it.
func (h *Hub) Events(ctx context.Context, job string) <-chan Event {
	r := &reader{job: job, ch: make(chan Event, backlog)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.readers == nil {
		h.readers = map[*reader]bool{}
	}
	h.readers[r] = true
	context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.drop(r)
	})
	return r.ch
}

func (h *Hub) drop(r *reader) {
	if h.readers[r] {
		delete(h.readers, r)
		close(r.ch)
	}
}
