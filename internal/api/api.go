// Package api is the HTTP API of a service: jobs are submitted, read, followed
// and ended, described as OpenAPI 3.1 from the Go types of this package. It must
// not know how jobs are kept, queued or carried out: that is behind the
// interfaces of world.go. What clients send is untrusted: bounded, checked
// against the description, and never repeated into errors or logs unescaped.
package api

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Version of the API. It grows when a client that knows an older one would
// misread an answer; further fields and routes do not change it.
const Version = 1

// VersionHeader carries Version on every answer, so that a client knows with
// the first one whether it can talk to this server.
const VersionHeader = "Kbisect-Api"

// Options are what the API needs. All interfaces are required.
type Options struct {
	Jobs      Jobs
	Runs      Runs
	Submitter Submitter
	Live      Live
	Record    Record
	Artifacts Artifacts
	Tokens    Tokens

	Profiles []kernel.Profile
	Repos    []Repo

	// AnonymousRead lets everybody read without a token.
	AnonymousRead bool
	// Rate is how many requests per second a token, or an address without one,
	// may make in the long run, and Burst how many at once; 0 is 10 and 50.
	Rate  float64
	Burst int
	// Limits of what is uploaded; 0 is the default.
	Limits Limits
	// Uploads is the directory where files lie while they are received, "" is
	// the system's for temporary files.
	Uploads string
	// Stop ends all streams when it is closed, so that a server that shuts down
	// need not wait for them; nil is never.
	Stop <-chan struct{}
	// Build is the version of the program.
	Build string
	Log   *zap.Logger // nil logs nothing
}

// Limits bound bodies, in bytes.
type Limits struct {
	JSON    int64 // of a request; default 4 MiB, programs included
	Mbox    int64 // default 32 MiB
	Kernel  int64 // an image; default 256 MiB
	Modules int64 // an archive; default 1 GiB
}

type server struct {
	Options
	mux   *http.ServeMux
	api   huma.API
	limit *limiter
	spec  []byte

	streams atomic.Int32 // that are open
}

// New makes the handler for /api/v1/ and /openapi.json. A missing interface is a
// mistake of the program and panics.
func New(o Options) http.Handler {
	s := &server{Options: o.withDefaults(), mux: http.NewServeMux()}
	s.limit = newLimiter(s.Rate, s.Burst)
	s.api = humago.New(s.mux, huma.Config{
		OpenAPI:       description(),
		Formats:       huma.DefaultFormats,
		DefaultFormat: "application/json",
		// A misspelt filter would silently show everything.
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{plain},
	})
	s.api.UseMiddleware(s.guard)
	s.submitRoutes()
	s.jobRoutes()
	s.runRoutes()
	s.artifactRoutes()
	s.eventRoutes()
	s.listRoutes()
	s.spec = describe(s.api.OpenAPI())
	s.mux.HandleFunc("GET /openapi.json", s.serveSpec)
	return s.outermost()
}

func (o Options) withDefaults() Options {
	for name, v := range map[string]any{"Jobs": o.Jobs, "Runs": o.Runs, "Submitter": o.Submitter, "Live": o.Live, "Record": o.Record, "Tokens": o.Tokens} {
		if v == nil {
			panic(fmt.Sprintf("api.Options.%s is missing", name))
		}
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Rate == 0 {
		o.Rate = 10
	}
	if o.Burst == 0 {
		o.Burst = 50
	}
	if o.Uploads == "" {
		o.Uploads = os.TempDir()
	}
	for _, l := range []struct {
		v    *int64
		size int64
	}{{&o.Limits.JSON, 4 << 20}, {&o.Limits.Mbox, 32 << 20}, {&o.Limits.Kernel, 256 << 20}, {&o.Limits.Modules, 1 << 30}} {
		if *l.v == 0 {
			*l.v = l.size
		}
	}
	return o
}

func (s *server) serveSpec(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.spec))
}
