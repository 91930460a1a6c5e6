package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/kernel-bisect/kbisect/internal/api"
)

const (
	// silence after which a stream counts as dead: the server is never silent
	// for more than 15 s.
	silence = time.Minute
	// patience with a server that was there and is not any more: it is being
	// installed anew, or its machine starts.
	patience = 15 * time.Minute
	// firstWait before the stream is opened again, doubled each time.
	firstWait = time.Second
	// greeting is how many lines a server says that has nothing to say.
	greeting = 2
	// maxLine bounds a line of a stream.
	maxLine = 1 << 20
)

// Follow calls see with what a job does until it is over: every outcome once and
// in order, whatever becomes of connections, and progress while there is one.
// The last event is an end. An error says that the server cannot be reached any
// more, or does not want to.
func (c *Client) Follow(ctx context.Context, id string, see func(api.Event)) error {
	f := &following{c: c, path: jobPath(id, "/events"), see: see}
	var lost time.Time // since when there was nothing
	wait := firstWait
	for {
		began := f.lines
		err := f.once(ctx)
		if f.over {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		var busy *busyError
		if err != nil && (!f.opened || !errors.As(err, &busy)) {
			return err
		}
		if f.lines > began+greeting {
			lost, wait = time.Time{}, firstWait
		}
		if lost.IsZero() {
			lost = time.Now()
		}
		if time.Since(lost) > patience {
			if err == nil {
				err = fmt.Errorf("server %s: it says nothing of the job any more", c.base)
			}
			return err
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		wait = min(2*wait, maxWait/2)
	}
}

type following struct {
	c      *Client
	path   string
	see    func(api.Event)
	last   int64 // the last outcome that was seen
	lines  int   // of all streams so far
	opened bool  // there was a stream
	over   bool
}

// once reads one stream to its end. An error of the stream itself is none: it is
// opened again.
func (f *following) once(ctx context.Context) error {
	header := http.Header{"Accept": {"text/event-stream"}}
	if f.last > 0 {
		header.Set("Last-Event-ID", strconv.FormatInt(f.last, 10))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tries := tries
	if f.opened {
		tries = 1 // Follow has its own patience
	}
	res, err := f.c.send(ctx, http.MethodGet, f.path, header, nil, tries)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if !accepts(res, "text/event-stream") {
		return fmt.Errorf("server %s: it does not answer with events", f.c.base)
	}
	f.opened = true
	alive := time.AfterFunc(silence, cancel)
	defer alive.Stop()
	_ = readEvents(res.Body, func() { f.lines++; alive.Reset(silence) }, f.event)
	return nil
}

var errOver = errors.New("the job is over")

// event takes one event in. What cannot be read is left out: a newer server may
// say more.
func (f *following) event(data string) error {
	e, readable := decodeEvent(data)
	if !readable || e.ID > 0 && e.ID <= f.last { // the latter was seen before
		return nil
	}
	f.last = max(f.last, e.ID)
	f.see(e)
	if e.Phase == api.PhaseEnd {
		f.over = true
		return errOver
	}
	return nil
}

func decodeEvent(data string) (e api.Event, readable bool) {
	err := json.Unmarshal([]byte(data), &e)
	return e, err == nil
}

// readEvents reads server-sent events. line is called at every line, see with
// the data of every event that is whole.
func readEvents(r io.Reader, line func(), see func(data string) error) error {
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxLine)
	var data []string
	size := 0
	for in.Scan() {
		line()
		field, value, _ := strings.Cut(in.Text(), ":")
		switch {
		case in.Text() == "":
			if data != nil {
				if err := see(strings.Join(data, "\n")); err != nil {
					return err
				}
			}
			data, size = nil, 0
		case field == "data":
			if size += len(value) + 1; size > maxLine {
				return bufio.ErrTooLong
			}
			data = append(data, strings.TrimPrefix(value, " "))
		}
	}
	return in.Err()
}
