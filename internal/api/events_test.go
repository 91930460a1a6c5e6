package api

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// flow is an answer that can be read while it is written.
type flow struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	header http.Header
	broken bool
}

func (f *flow) Header() http.Header { return f.header }
func (f *flow) WriteHeader(int)     {}
func (f *flow) Flush()              {}
func (f *flow) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken {
		return 0, fmt.Errorf("broken pipe")
	}
	return f.buf.Write(b)
}

// since is what was written since the last time.
func (f *flow) since() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.buf.Reset()
	return f.buf.String()
}

// watch starts a stream inside a bubble.
func watch(t *testing.T, w *world, path, last string) (f *flow, ended chan struct{}, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f, ended = &flow{header: http.Header{}}, make(chan struct{})
	r := httptest.NewRequestWithContext(ctx, "GET", "/api/v1"+path, nil)
	r.Header.Set("Authorization", "Bearer "+w.mint(t, Read))
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	h := New(w.options())
	go func() {
		defer close(ended)
		h.ServeHTTP(f, r)
	}()
	synctest.Wait()
	return f, ended, cancel
}

// phases are the events in a piece of a stream, with their ids.
func phases(text string) (out string) {
	id := ""
	for line := range strings.Lines(text) {
		switch name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); name {
		case "id":
			id = value
		case "event":
			out += value + id + " "
			id = ""
		}
	}
	return strings.TrimSpace(out)
}

func TestFollowJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		f, ended, stop := watch(t, w, "/jobs/series-2/events", "")
		defer stop()
		if got := f.since(); phases(got) != "outcome2" || strings.Count(got, "\ndata: ") != 1 || !strings.Contains(got, `"text":"old\nnew"`) {
			t.Errorf("at first: %s", got)
		}
		if ct := f.header.Get("Content-Type"); ct != "text/event-stream" {
			t.Error(ct)
		}
		w.change(Event{Job: "series-2", Phase: "build", Text: "a\n\nevent: end"}, nil)
		synctest.Wait()
		if got := f.since(); phases(got) != "build" {
			t.Errorf("progress: %s", got)
		}
		// A run on record is told by what the record says, once.
		w.change(Event{Job: "series-2", Phase: PhaseOutcome, ID: 7}, func() { w.runs = append(w.runs, Run{ID: 7, Job: "series-2", Outcome: kernel.Pass}) })
		w.change(Event{Job: "series-2", Phase: "run", ID: 99}, nil)
		synctest.Wait()
		if got := phases(f.since()); got != "run outcome7" && got != "outcome7 run" {
			t.Errorf("a run: %s", got)
		}
		time.Sleep(pulse)
		synctest.Wait()
		if got := f.since(); !strings.HasPrefix(got, ": ") {
			t.Errorf("the pulse: %q", got)
		}
		w.change(Event{Job: "series-2", Phase: PhaseStatus, Status: Done}, func() {
			w.runs = append(w.runs, Run{ID: 8, Job: "series-2"})
			w.jobs[1].Status = Done
		})
		<-ended
		if got := phases(f.since()); got != "status outcome8 end" {
			t.Errorf("at last: %s", got)
		}
	})
}

// A change that nobody announced is seen at the next pulse.
func TestFollowUnannounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		f, ended, stop := watch(t, w, "/jobs/series-2/events", "2")
		defer stop()
		w.mu.Lock()
		w.jobs[1].Status = Failed
		w.mu.Unlock()
		<-ended
		if got := f.since(); phases(got) != "end" || !strings.Contains(got, `"status":"failed"`) {
			t.Error(got)
		}
	})
}

func TestFollowResumes(t *testing.T) {
	w := newWorld()
	w.runs = nil
	for i := range 2*replayPage + 10 {
		w.runs = append(w.runs, Run{ID: int64(i + 1), Job: "check-1"})
	}
	h, token := New(w.options()), w.mint(t, Read)
	for last, want := range map[string]int{"": 1010, "0": 1010, "7": 1003, "1000": 10, "1010": 0, "5000": 0} {
		got := ask(t, h, "GET", "/api/v1/jobs/check-1/events", token, "", "Last-Event-ID", last)
		if n := strings.Count(got.Body.String(), "event: outcome\n"); n != want || strings.Count(got.Body.String(), "event: end\n") != 1 {
			t.Errorf("after %q: %d outcomes, want %d", last, n, want)
		}
	}
	for _, bad := range []string{"-1", "x", "1;2"} {
		if got := ask(t, h, "GET", "/api/v1/jobs/check-1/events", token, "", "Last-Event-ID", bad); got.Code != 422 {
			t.Errorf("Last-Event-ID %q: %d", bad, got.Code)
		}
	}
}

func TestFollowAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		f, _, stop := watch(t, w, "/events", "")
		g, _, stop2 := watch(t, w, "/events", "1")
		if got := phases(f.since()); got != "" {
			t.Errorf("from now on: %s", got)
		}
		if got := phases(g.since()); got != "outcome2 outcome3" {
			t.Errorf("from the first on: %s", got)
		}
		w.change(Event{Job: "check-1", Phase: "boot"}, nil)
		synctest.Wait()
		if a, b := phases(f.since()), phases(g.since()); a != "boot" || b != "boot" {
			t.Errorf("%s, %s", a, b)
		}
		stop()
		stop2()
		synctest.Wait()
		if w.watched() {
			t.Error("somebody is still subscribed")
		}
	})
}

// A server that shuts down ends its streams; so many are open at a time.
func TestFollowStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, stop := newWorld(), make(chan struct{})
		o := w.options()
		o.Stop = stop
		h, token := New(o), w.mint(t, Read)
		var open sync.WaitGroup
		for range maxStreams {
			open.Go(func() { ask(t, h, "GET", "/api/v1/events", token, "") })
		}
		synctest.Wait()
		if got := ask(t, h, "GET", "/api/v1/events", token, ""); got.Code != 503 || got.Header().Get("Retry-After") == "" {
			t.Errorf("one too many: %d %s", got.Code, got.Body)
		}
		close(stop)
		open.Wait()
		if got := ask(t, h, "GET", "/api/v1/events", token, ""); got.Code != 200 {
			t.Errorf("when the others have gone: %d", got.Code)
		}
	})
}

// A reader that is dropped, or has gone, ends the stream.
func TestFollowEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		_, ended, stop := watch(t, w, "/events", "")
		defer stop()
		w.dropAll()
		<-ended
		f, ended, stop := watch(t, w, "/events", "")
		defer stop()
		f.mu.Lock()
		f.broken = true
		f.mu.Unlock()
		<-ended // at the next pulse
		synctest.Wait()
		if w.watched() {
			t.Error("somebody is still subscribed")
		}
	})
}
