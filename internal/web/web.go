// Package web is the pages of the service: what jobs do and did, for people
// with a browser, readable without JavaScript. It asks a Record, a Live and a
// Doer, and must not know how jobs are kept, queued or carried out. Subjects,
// test names and consoles come from strangers and are escaped here.
package web

import (
	"bytes"
	"compress/gzip"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kernel-bisect/kbisect/internal/report"
)

// Options are what New needs.
type Options struct {
	Record Record
	Live   Live
	Doer   Doer // nil is ReadOnly

	// Artifacts has logs and kernels, by kind and digest; nil has none.
	Artifacts http.Handler

	// ReadOnly hides and refuses everything that changes something.
	ReadOnly bool
	// Choices are what the form offers.
	Choices Choices
	// Hosts are the names (and ports, as browsers send them) that the service
	// is reached by; requests for others are refused. Empty allows any, which a
	// service without authentication must not: a page of a stranger could have
	// its own name lead here (DNS rebinding).
	Hosts []string
	// MaxClients bounds the event streams open at a time; 0 is 256.
	MaxClients int
	// Stop ends all event streams when it is closed. Close it before
	// http.Server.Shutdown (RegisterOnShutdown), which waits for them.
	Stop <-chan struct{}
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Log is told of what became a page "something went wrong"; nil drops it.
	Log func(r *http.Request, err error)
}

// Choices are what the form offers.
type Choices struct {
	Repos    []string  // names of the configured repositories
	Profiles []Profile // the first is chosen unless the user says otherwise
	Tests    []string  // names to complete, the user may type others
	Example  string    // a range shown as an example, such as v6.1..my-branch
}

// Profile is a profile of the form.
type Profile struct{ Name, Description string }

// server is the pages.
type server struct {
	Options
	clients chan struct{} // one for each open event stream

	mu     sync.Mutex
	bodies map[string]rendered // mu guards it; by job, attempt and end
}

// New returns the pages, below "/": /static/ and /events too, but not /api/.
// POST requests from other sites are refused by what the browser says of their
// origin (Sec-Fetch-Site, else Origin against Host), so no token is in a form.
func New(o Options) http.Handler {
	if o.MaxClients == 0 {
		o.MaxClients = 256
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = func(*http.Request, error) {}
	}
	o.ReadOnly = o.ReadOnly || o.Doer == nil
	o.Choices.Tests = slices.DeleteFunc(slices.Clone(o.Choices.Tests), func(t string) bool { return report.Plain(t) != t }) // nobody can type those
	s := &server{Options: o, clients: make(chan struct{}, o.MaxClients), bodies: map[string]rendered{}}

	mux := http.NewServeMux()
	get := func(path string, h func(*http.Request) (*page, error)) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			p, err := h(r)
			s.show(w, r, p, err)
		})
	}
	get("/{$}", s.overview)
	get("/jobs", s.jobs)
	get("/jobs/{id}", s.job)
	get("/jobs/{id}/live", s.jobLive)
	get("/jobs/{id}/body", s.jobBody)
	get("/runs", s.runs)
	get("/runs/{id}", s.run)
	get("/tests", s.tests)
	get("/test", s.test)
	get("/kernels", s.kernels)
	get("/workers", s.workers)
	get("/submit", s.form)
	get("/", func(*http.Request) (*page, error) { return nil, ErrNotFound })
	mux.HandleFunc("GET /jobs/{id}/report/{format}", s.file)
	mux.HandleFunc("GET /runs/{id}/{text}", s.text)
	if s.Artifacts != nil {
		mux.Handle("GET /artifacts/{kind}/{digest}", s.Artifacts)
	}
	mux.HandleFunc("GET /events", s.events)
	mux.HandleFunc("GET /static/{file}", s.static)
	mux.HandleFunc("POST /submit", s.submit)
	mux.HandleFunc("POST /jobs/{id}/cancel", s.act(s.cancel))
	mux.HandleFunc("POST /jobs/{id}/retry", s.act(s.retry))
	mux.HandleFunc("POST /jobs/{id}/undo", s.act(s.undo))
	return s.guard(mux)
}

// show writes a page, or what to say instead of it.
func (s *server) show(w http.ResponseWriter, r *http.Request, p *page, err error) {
	if err != nil {
		p = s.trouble(r, err)
	}
	p.ReadOnly, p.Path = s.ReadOnly, r.URL.Path
	var b bytes.Buffer
	if err := p.write(&b); err != nil {
		s.Log(r, err)
		http.Error(w, "This page could not be made.", http.StatusInternalServerError)
		return
	}
	if p.Status == http.StatusNoContent {
		w.WriteHeader(p.Status)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	h.Set("Vary", "Accept-Encoding")
	packed := b.Len() >= packFrom && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip")
	if packed {
		h.Set("Content-Encoding", "gzip")
	}
	if p.Status != 0 {
		w.WriteHeader(p.Status)
	}
	switch {
	case r.Method == http.MethodHead:
	case packed:
		z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed) // a level there is
		_, _ = z.Write(b.Bytes())
		_ = z.Close() // a client that is gone
	default:
		_, _ = w.Write(b.Bytes())
	}
}

// packFrom is from how many bytes on a page is compressed. A series of 500
// commits and 12 tests is 1.3 MB, and 20 times smaller then.
const packFrom = 8 << 10

// trouble is the page of an error: a plain sentence.
func (s *server) trouble(r *http.Request, err error) *page {
	var bad *BadInput
	switch {
	case errors.Is(err, ErrNotFound):
		return sorry(http.StatusNotFound, "There is no such page", "Nothing is kept under this address. It may have been removed, or the address is incomplete.")
	case errors.Is(err, errReadOnly):
		return sorry(http.StatusForbidden, "This service is for reading", "It takes no jobs and changes nothing. Use the command line on its machine, or ask who runs it.")
	case errors.As(err, &bad):
		return sorry(http.StatusBadRequest, "That cannot be done", bad.Text)
	}
	s.Log(r, err)
	return sorry(http.StatusInternalServerError, "Something went wrong here", "It is not your fault, and the log of the service has the cause. Jobs go on; try again in a while.")
}

func sorry(status int, title, text string) *page {
	return &page{name: "sorry.html", Title: title, Status: status, Data: text}
}

var errReadOnly = errors.New("read-only")
