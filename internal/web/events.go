package web

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Times of an event stream. Proxies close what is silent for a minute; a client
// that takes nothing for writeWait is gone or asleep.
const (
	keepAlive = 15 * time.Second
	writeWait = 10 * time.Second
)

// events is /events?job=ID, or of all jobs: server-sent events "progress", each
// an Event as JSON. After "hello" a reader should look at the state again, as
// it may have missed something.
func (s *server) events(w http.ResponseWriter, r *http.Request) {
	select {
	case s.clients <- struct{}{}:
		defer func() { <-s.clients }()
	default:
		w.Header().Set("Retry-After", "30")
		http.Error(w, "Too many are looking on. Pages still show the state when they are loaded.", http.StatusServiceUnavailable)
		return
	}
	ctx, cancel := context.WithCancel(r.Context()) // releases the channel of a client that was dropped
	defer cancel()
	ch := s.Live.Events(ctx, r.URL.Query().Get("job"))

	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	out := http.NewResponseController(w)
	send := func(text string) bool {
		if out.SetWriteDeadline(time.Now().Add(writeWait)) != nil {
			return false
		}
		_, err := w.Write([]byte(text))
		return err == nil && out.Flush() == nil
	}
	ok := send("retry: 2000\nevent: hello\ndata: {}\n\n")
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for ok {
		select {
		case <-ctx.Done():
			return
		case <-s.Stop:
			return
		case <-tick.C:
			ok = send(": still here\n\n")
		case e, more := <-ch:
			if !more { // too slow: it comes again
				return
			}
			b, err := json.Marshal(e) // on one line, as the protocol needs it
			if err != nil {
				s.Log(r, err)
				return
			}
			ok = send("event: progress\ndata: " + string(b) + "\n\n")
		}
	}
}
