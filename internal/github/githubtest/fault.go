package githubtest

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// What may go wrong.
const (
	Secondary   = "403 secondary limit"
	Primary     = "403 primary limit"
	TooMany     = "429"
	Broken      = "500"
	BadBefore   = "502, nothing done"
	BadAfter    = "502, done"
	Slow        = "slow"
	Truncated   = "truncated JSON"
	Reset       = "connection reset"
	Expired     = "401"
	NotAllowed  = "403 not accessible by integration"
	Vanished    = "404"
	Unprocessed = "422"
)

// Fault is what happens to the next requests that fit.
type Fault struct {
	Kind   string
	Method string // "" for any
	Path   string // part of it, "" for any
	Times  int    // 0 is once
	After  time.Duration
}

// Fault adds one.
func (s *Server) Fault(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.Times = max(f.Times, 1)
	s.faults = append(s.faults, &f)
}

// Heal takes back the faults that have not happened yet.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Faults counts those that have not happened yet.
func (s *Server) Faults() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, f := range s.faults {
		n += f.Times
	}
	return n
}

func (s *Server) fault(r *http.Request) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if f.Times > 0 && (f.Method == "" || f.Method == r.Method) && strings.Contains(r.URL.Path, f.Path) {
			f.Times--
			return f
		}
	}
	return nil
}

const docs = "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits"

// misbehave answers as a fault says; do is what would have been done.
func misbehave(w http.ResponseWriter, r *http.Request, f *Fault, do func(http.ResponseWriter)) {
	refuse := func(code int, message, docs string) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(code)
		_, _ = w.Write([]byte(`{"message":` + strconv.Quote(message) + `,"documentation_url":` + strconv.Quote(docs) + `}`))
	}
	switch f.Kind {
	case Secondary:
		w.Header().Set("Retry-After", strconv.Itoa(int(f.After.Seconds())))
		refuse(http.StatusForbidden, "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.", docs)
	case Primary:
		w.Header().Set("X-RateLimit-Limit", "5000")
		w.Header().Set("X-RateLimit-Remaining", "0")
		w.Header().Set("X-RateLimit-Reset", strconv.FormatInt(time.Now().Add(f.After).Unix(), 10))
		refuse(http.StatusForbidden, "API rate limit exceeded for installation ID 1.", "https://docs.github.com/rest")
	case TooMany:
		w.Header().Set("Retry-After", strconv.Itoa(int(f.After.Seconds())))
		refuse(http.StatusTooManyRequests, "Too many requests", "https://docs.github.com/rest")
	case Broken:
		refuse(http.StatusInternalServerError, "Server Error", "")
	case BadBefore:
		w.WriteHeader(http.StatusBadGateway)
		_, _ = w.Write([]byte("<html><body>502 Bad Gateway</body></html>"))
	case BadAfter:
		do(&sink{header: http.Header{}})
		w.WriteHeader(http.StatusBadGateway)
		_, _ = w.Write([]byte("<html><body>502 Bad Gateway</body></html>"))
	case Slow:
		time.Sleep(f.After)
		do(w)
	case Truncated:
		k := &sink{header: w.Header()}
		do(k)
		w.WriteHeader(k.code)
		_, _ = w.Write(k.body.Bytes()[:k.body.Len()/2])
	case Reset:
		panic(http.ErrAbortHandler)
	case Expired:
		refuse(http.StatusUnauthorized, "Bad credentials", "https://docs.github.com/rest")
	case NotAllowed:
		refuse(http.StatusForbidden, "Resource not accessible by integration", "https://docs.github.com/rest")
	case Vanished:
		refuse(http.StatusNotFound, "Not Found", "https://docs.github.com/rest")
	case Unprocessed:
		refuse(http.StatusUnprocessableEntity, "Validation Failed", "https://docs.github.com/rest")
	}
}

// sink takes an answer that does not arrive.
type sink struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (s *sink) Header() http.Header  { return s.header }
func (s *sink) WriteHeader(code int) { s.code = code }
func (s *sink) Write(b []byte) (int, error) {
	if s.code == 0 {
		s.code = http.StatusOK
	}
	return s.body.Write(b)
}
