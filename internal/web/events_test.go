package web

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// stream gives how a server answers, and its events, a block of lines each.
func stream(t *testing.T, ctx context.Context, url string) (kind string, next func() string) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	in := bufio.NewReader(resp.Body)
	return resp.Status + " " + resp.Header.Get("Content-Type"), func() string {
		var b strings.Builder
		for {
			l, err := in.ReadString('\n')
			if err != nil || l == "\n" {
				return b.String()
			}
			b.WriteString(l)
		}
	}
}

func readers(h *Hub) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.readers)
}

// until waits for what another goroutine does on its own time.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("never: " + what)
}

func TestEvents(t *testing.T) {
	f := newFake(t)
	srv := httptest.NewServer(New(options(f)))
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	kind, next := stream(t, ctx, srv.URL+"/events?job=series-4")
	if kind != "200 OK text/event-stream" {
		t.Errorf("answer %q", kind)
	}
	if hello := next(); !strings.Contains(hello, "retry: 2000\n") || !strings.Contains(hello, "event: hello\n") {
		t.Errorf("the stream starts with %q", hello)
	}
	f.Publish(Event{Job: "series-3", Phase: "run"})
	f.Publish(Event{Job: "series-4", Phase: "run", Text: "two\nlines <b>\n\nevent: evil", Done: 3, Of: 9})
	got := next()
	if !strings.HasPrefix(got, "event: progress\ndata: {") || strings.Count(got, "\n") != 2 || !strings.Contains(got, `"job":"series-4"`) || strings.Contains(got, "<b>") {
		t.Errorf("event %q", got)
	}
	cancel()
	until(t, "the reader of a client that is gone is dropped", func() bool { return readers(&f.Hub) == 0 })
}

// TestLeftAlone holds 30 clients, who all go: no goroutine may be left.
func TestLeftAlone(t *testing.T) {
	f := newFake(t)
	o := options(f)
	o.MaxClients = 30
	srv := httptest.NewServer(New(o))
	defer srv.Close()
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(t.Context())
	for range o.MaxClients {
		_, next := stream(t, ctx, srv.URL+"/events")
		next()
	}
	resp, err := http.Get(srv.URL + "/events")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("one client too many: %s", resp.Status)
	}
	cancel()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	until(t, "30 clients leave nothing", func() bool { return runtime.NumGoroutine() <= before+2 && readers(&f.Hub) == 0 })
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	if kind, _ := stream(t, ctx, srv.URL+"/events"); !strings.HasPrefix(kind, "200") {
		t.Errorf("no room after all are gone: %s", kind)
	}
}

func TestStop(t *testing.T) {
	f, stop := newFake(t), make(chan struct{})
	o := options(f)
	o.Stop = stop
	srv := httptest.NewServer(New(o))
	_, next := stream(t, t.Context(), srv.URL+"/events")
	next()
	close(stop)
	if rest := next(); rest != "" {
		t.Errorf("after the stop: %q", rest)
	}
	srv.Close() // which waits for all streams
}

// TestSlowClient never reads. The job goes on; the client is dropped.
func TestSlowClient(t *testing.T) {
	f := newFake(t)
	srv := httptest.NewServer(New(options(f)))
	defer srv.Close()
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET /events HTTP/1.1\r\nHost: %s\r\n\r\n", srv.Listener.Addr())
	until(t, "the client is there", func() bool { return readers(&f.Hub) == 1 })
	text := strings.Repeat("x", 64<<10)
	for i := 0; readers(&f.Hub) > 0; i++ { // until sockets and backlog are full
		if i == 10_000 {
			t.Fatal("640 MB are kept for a client that reads nothing")
		}
		f.Publish(Event{Job: "series-4", Text: text})
	}
	if e, ok := f.Now("series-4"); !ok || e.Text != text {
		t.Error("the last event is not known")
	}
}

// TestHub: who reads nothing is dropped, others lose nothing.
func TestHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Hub
		ctx, cancel := context.WithCancel(t.Context())
		slow, all, other := h.Events(ctx, "a"), h.Events(ctx, ""), h.Events(ctx, "b")
		got := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range all {
				got++
			}
		}()
		for range 2 * backlog {
			h.Publish(Event{Job: "a"})
			synctest.Wait()
		}
		n := 0
		for range slow {
			n++
		}
		if n != backlog || readers(&h) != 2 {
			t.Errorf("%d events for who reads nothing, then %d readers", n, readers(&h))
		}
		if len(other) > 0 {
			t.Error("events of another job")
		}
		cancel()
		<-done
		synctest.Wait()
		if got != 2*backlog {
			t.Errorf("%d of %d events for who reads", got, 2*backlog)
		}
		h.Publish(Event{Job: "a"}) // to nobody
		h.Forget("a")
		if _, ok := h.Now("a"); ok || readers(&h) != 0 {
			t.Error("a job that is forgotten has an event, or somebody reads on")
		}
	})
}

// still is a response that takes everything, and counts.
type still struct {
	httptest.ResponseRecorder
	writes int
}

func (s *still) SetWriteDeadline(time.Time) error { return nil }

func (s *still) Write(b []byte) (int, error) {
	s.writes++
	if s.writes > 5 {
		return 0, errors.New("gone")
	}
	return s.ResponseRecorder.Write(b)
}

// TestKeepAlive is an hour in which nothing happens.
func TestKeepAlive(t *testing.T) {
	f := newFake(t)
	synctest.Test(t, func(t *testing.T) {
		h := New(options(f))
		start, w := time.Now(), &still{ResponseRecorder: *httptest.NewRecorder()}
		h.ServeHTTP(w, httptest.NewRequest("GET", "/events?job=none", nil))
		if d := time.Since(start); d != 5*keepAlive {
			t.Errorf("the client that was gone at the fifth sign of life was seen to be so after %v", d)
		}
		synctest.Wait()
	})
	if n := readers(&f.Hub); n != 0 {
		t.Errorf("%d readers are left", n)
	}
}

var look = flag.String("look", "", "serve the pages of the tests at this address, for a browser")

func TestLook(t *testing.T) {
	if *look == "" {
		t.Skip("-look ADDRESS serves the pages that the tests use")
	}
	f := newFake(t)
	go func() {
		for i := 0; ; i = (i + 1) % 26 {
			time.Sleep(time.Second)
			e, _ := f.Now("series-4")
			e.Done = i
			f.Publish(e)
		}
	}()
	t.Log(http.ListenAndServe(*look, New(options(f))))
}
