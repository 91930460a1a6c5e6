package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

const (
	// pulse is how long a stream is silent at most: proxies cut what is silent
	// for a minute, and it is how soon a change that nobody announced is seen.
	pulse = 15 * time.Second
	// writeTime is how long a reader may keep a stream from being written.
	writeTime = 30 * time.Second
	// maxStreams are open at a time: each holds a connection for as long as its
	// reader likes.
	maxStreams = 256
	// replayPage is how many recorded runs are read at once.
	replayPage = 500
)

// LastEvent is where a stream goes on.
type LastEvent struct {
	LastEventID int64 `header:"Last-Event-ID" minimum:"0" doc:"The last outcome that was seen"`
}

type jobEventsInput struct {
	JobPath
	LastEvent
}

func (s *server) eventRoutes() {
	op := operation("GET", "/jobs/{id}/events", "follow-job", "events",
		"Follow a job: its outcomes so far, or after Last-Event-ID, what it does, and at last an end", Read, 404, 503)
	register(s, s.eventStream(op), func(ctx context.Context, in *jobEventsInput) (*huma.StreamResponse, error) {
		if _, err := s.Jobs.Job(ctx, in.ID); err != nil {
			return nil, err
		}
		return s.follow(ctx, in.ID, in.LastEventID)
	})
	op = operation("GET", "/events", "follow-all", "events", "Follow all jobs from now on, or from Last-Event-ID", Read, 503)
	register(s, s.eventStream(op), func(ctx context.Context, in *LastEvent) (*huma.StreamResponse, error) {
		after := in.LastEventID
		if after == 0 {
			newest, err := s.Runs.Runs(ctx, RunFilter{Newest: true, Limit: 1})
			if err != nil {
				return nil, err
			}
			if len(newest) > 0 {
				after = newest[0].ID
			}
		}
		return s.follow(ctx, "", after)
	})
}

func (s *server) eventStream(op huma.Operation) huma.Operation {
	op = streamed(op)
	op.Responses["200"].Content["text/event-stream"] = &huma.MediaType{Schema: &huma.Schema{
		Type: "string", Description: "Server-sent events; event: is the phase, data: an Event",
	}}
	schemaOf[Event](s)
	return op
}

// follow streams what a job does, "" for all. Outcomes are read from the record,
// so that they come whole and in order whatever the reader missed; what is live
// says when to look, and tells of progress, which nobody misses.
func (s *server) follow(ctx context.Context, job string, after int64) (*huma.StreamResponse, error) {
	return &huma.StreamResponse{Body: func(huma.Context) {
		defer s.streams.Add(-1)
		if s.streams.Add(1) > maxStreams {
			w := exchangeOf(ctx).w
			w.Header().Set("Retry-After", "30")
			writeProblem(w, problem(http.StatusServiceUnavailable, "too many streams are open: try again later"))
			return
		}
		st := &stream{s: s, ctx: ctx, x: exchangeOf(ctx), job: job, after: after}
		if err := st.run(); err != nil && ctx.Err() == nil {
			_ = s.problem(ctx, err) // it is logged; the reader comes again
		}
	}}, nil
}

type stream struct {
	s     *server
	ctx   context.Context //nolint:containedctx // it lives as long as the one request
	x     *exchange
	job   string
	after int64 // the last outcome that was sent
}

func (st *stream) run() error {
	h := st.x.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
	// The server's limit on reading a request would end the stream.
	_ = http.NewResponseController(st.x.w).SetReadDeadline(time.Time{})
	ctx, cancel := context.WithCancel(st.ctx)
	defer cancel()
	// Subscribed before the record is read: what happens in between is not lost.
	live := st.s.Live.Events(ctx, st.job)
	if err := st.write(": kbisect\n\n"); err != nil {
		return err
	}
	tick := time.NewTicker(pulse)
	defer tick.Stop()
	for {
		over, err := st.catchUp()
		if err != nil || over {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-st.s.Stop:
			return nil
		case <-tick.C:
			err = st.write(": alive\n\n")
		case e, ok := <-live:
			if !ok {
				return nil // too slow: the reader comes again, with the last outcome it saw
			}
			err = st.pass(e, live)
		}
		if err != nil {
			return err
		}
	}
}

// pass sends an event and those that wait behind it, so that the record is read
// once for all of them.
func (st *stream) pass(e Event, live <-chan Event) error {
	for {
		if e.Phase != PhaseOutcome && e.Phase != PhaseEnd {
			e.ID = 0
			if err := st.send(e); err != nil {
				return err
			}
		}
		select {
		case next, ok := <-live:
			if !ok {
				return nil // seen again by who reads next
			}
			e = next
		default:
			return nil
		}
	}
}

// catchUp sends the outcomes on record, and the end of a job that is over.
func (st *stream) catchUp() (over bool, err error) {
	var j Job
	if st.job != "" {
		// Its status first: what is recorded by then is what there will be.
		if j, err = st.s.Jobs.Job(st.ctx, st.job); err != nil {
			return false, err
		}
	}
	for {
		runs, err := st.s.Runs.Runs(st.ctx, RunFilter{Job: st.job, After: st.after, Limit: replayPage})
		if err != nil {
			return false, err
		}
		for _, r := range runs {
			e := Event{ID: r.ID, Job: r.Job, Phase: PhaseOutcome, At: r.At, Commit: r.Commit, Test: r.Test, Outcome: r.Outcome, Text: r.Reason}
			if err := st.send(e); err != nil {
				return false, err
			}
			st.after = r.ID
		}
		if len(runs) < replayPage {
			break
		}
	}
	if st.job == "" || !j.Over() {
		return false, nil
	}
	return true, st.send(Event{Job: j.ID, Phase: PhaseEnd, At: j.Ended, Status: j.Status, Text: j.Verdict})
}

func (st *stream) send(e Event) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	id := ""
	if e.ID > 0 {
		id = fmt.Sprintf("id: %d\n", e.ID)
	}
	return st.write(fmt.Sprintf("%sevent: %s\ndata: %s\n\n", id, phaseName(e.Phase), data))
}

// phaseName keeps a phase on its line.
func phaseName(p string) string {
	for _, c := range p {
		if c < 'a' || c > 'z' {
			return "message"
		}
	}
	return p
}

func (st *stream) write(text string) error {
	c := http.NewResponseController(st.x.w)
	_ = c.SetWriteDeadline(time.Now().Add(writeTime)) // where it cannot be set there is none
	if _, err := st.x.w.Write([]byte(text)); err != nil {
		return err
	}
	return c.Flush()
}
