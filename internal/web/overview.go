package web

import (
	"net/http"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/console"
	"github.com/kernel-bisect/kbisect/internal/report"
)

// How many lines a page has.
const (
	pageLines = 50
	lastJobs  = 12 // of the overview
)

// now is a job that runs, with how far it is.
type now struct {
	Job
	Progress progress
}

// maxTail bounds what is shown of a guest that runs.
const maxTail = 8 << 10

// progress is how far a job is, as far as it can tell.
type progress struct {
	Known    bool
	Share    int    // per cent
	At       string // commit 3 of 14
	Phase    string // build, boot, run
	Commit   string
	Runs     string // 5 of 26 runs
	Text     string
	Tail     string // of the guest's console
	Measured bool   // Share means something
	Left     string
}

func progressOf(e Event, ok bool) progress {
	if !ok {
		return progress{}
	}
	p := progress{Known: true, Phase: report.Plain(e.Phase), Commit: report.Plain(abbrev(e.Commit)), Text: report.Plain(e.Text), Tail: strings.TrimRight(console.Clean([]byte(e.Tail), maxTail), "\n")}
	part := 0.0
	if e.Of > 0 {
		part = float64(min(e.Done, e.Of)) / float64(e.Of)
		p.Runs = number(e.Done) + " of " + count(e.Of, "run")
	} else if e.Done > 0 {
		p.Runs = count(e.Done, "run")
	}
	if e.Total > 0 {
		p.At = "commit " + number(e.Index) + " of " + number(e.Total)
		if e.Phase == "done" {
			part = 1
		}
		p.Measured, p.Share = true, int(100*(float64(max(e.Index-1, 0))+part)/float64(e.Total))
		p.Share = min(max(p.Share, 0), 100)
	}
	return p
}

// roughly is a duration that is a guess.
func roughly(seconds float64) string {
	switch {
	case seconds < 100:
		return "a minute"
	case seconds < 7200:
		return number(int(seconds/60+0.5)) + " min"
	}
	return number(int(seconds/3600+0.5)) + " hours"
}

// overviewData is what goes on.
type overviewData struct {
	Running     []now
	Queue, Last []Job
	Workers     []Worker
	Slots, Busy int
	ReadOnly    bool
}

func (s *server) overview(r *http.Request) (*page, error) {
	running, err := s.Record.Jobs(r.Context(), JobFilter{Status: "running", Limit: pageLines})
	if err != nil {
		return nil, err
	}
	d := overviewData{Queue: s.Live.Queue(), Workers: s.Live.Workers(), ReadOnly: s.ReadOnly}
	for _, j := range running {
		d.Running = append(d.Running, s.now(j))
	}
	all, err := s.Record.Jobs(r.Context(), JobFilter{Limit: lastJobs + len(running) + len(d.Queue)})
	if err != nil {
		return nil, err
	}
	for _, j := range all {
		if !j.Active() && len(d.Last) < lastJobs {
			d.Last = append(d.Last, j)
		}
	}
	for _, w := range d.Workers {
		d.Slots, d.Busy = d.Slots+w.Slots, d.Busy+w.Busy
	}
	p := &page{name: "overview.html", Title: "Overview", Nav: "overview", Events: "/events", Data: d}
	if r.URL.Query().Get("part") == "live" {
		p.part = "live"
	}
	return p, nil
}

// minShare is how many per cent of a job must be done before its pace says
// something: the first build alone may take half of the time.
const minShare = 10

func (s *server) now(j Job) now {
	e, ok := s.Live.Now(j.ID)
	n := now{j, progressOf(e, ok)}
	if p := &n.Progress; p.Measured && p.Share >= minShare && p.Share < 100 && !j.Started.IsZero() {
		spent := s.Now().Sub(j.Started).Seconds()
		p.Left = "about " + roughly(spent*float64(100-p.Share)/float64(p.Share)) + " left at this pace"
	}
	return n
}

func (s *server) workers(*http.Request) (*page, error) {
	return &page{name: "workers.html", Title: "Workers", Nav: "workers", Data: s.Live.Workers()}, nil
}
