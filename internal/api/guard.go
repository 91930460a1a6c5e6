package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/zap"
)

// exchange is the request that a handler answers.
type exchange struct {
	id    string // of the request, as logs and answers have it
	token Token  // of who asks, zero for nobody known
	w     *answer
	r     *http.Request
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange { return ctx.Value(exchangeKey{}).(*exchange) }

// answer remembers how a request was answered.
type answer struct {
	http.ResponseWriter
	status int
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// outermost sets what every answer has, and answers where no route does.
func (s *server) outermost() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var b [6]byte
		_, _ = rand.Read(b[:]) // never fails
		x := &exchange{id: hex.EncodeToString(b[:]), w: &answer{ResponseWriter: w}}
		x.r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
		h := w.Header()
		h.Set(VersionHeader, strconv.Itoa(Version))
		h.Set("X-Request-Id", x.id)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		start := time.Now()
		defer s.finish(x, start)
		// HTTP/1.0 and odd methods too: what the mux does not know is told in
		// the words of the API.
		if handler, pattern := s.mux.Handler(x.r); pattern == "" {
			s.noRoute(x, handler)
			return
		}
		s.mux.ServeHTTP(x.w, x.r)
	})
}

// noRoute says 404 or 405 as the mux would.
func (s *server) noRoute(x *exchange, handler http.Handler) {
	probe := &discard{header: http.Header{}}
	handler.ServeHTTP(probe, x.r)
	if probe.status == http.StatusMethodNotAllowed {
		allow := probe.header.Get("Allow")
		x.w.Header().Set("Allow", allow)
		writeProblem(x.w, problem(probe.status, "this address takes "+allow))
		return
	}
	writeProblem(x.w, problem(http.StatusNotFound, "there is nothing at this address; /openapi.json lists what there is"))
}

type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }

// finish logs the request, and answers it if its handler broke. Neither the
// query nor a header is logged: that is where secrets are.
func (s *server) finish(x *exchange, start time.Time) {
	fields := []zap.Field{zap.String("request", x.id), zap.String("method", x.r.Method), zap.String("path", x.r.URL.Path)}
	switch p := recover(); {
	case p == http.ErrAbortHandler: //nolint:errorlint // it is panicked with as it is
		panic(p)
	case p != nil:
		s.Log.Error("request broke", append(fields, zap.String("panic", fmt.Sprint(p)), zap.ByteString("stack", debug.Stack()))...)
		if x.w.status == 0 {
			writeProblem(x.w, problem(http.StatusInternalServerError, "the server could not do it; its log says why under request "+x.id))
		}
	}
	fields = append(fields, zap.Int("status", x.w.status), zap.String("token", x.token.ID), zap.Duration("took", time.Since(start)))
	if x.r.Method == http.MethodGet || x.r.Method == http.MethodHead {
		s.Log.Debug("request", fields...)
		return
	}
	s.Log.Info("request", fields...)
}

const tokenScheme = "token"

// scopeOf is the scope that an operation wants, as its description has it.
func scopeOf(op *huma.Operation) Scope { return Scope(op.Security[0][tokenScheme][0]) }

// guard lets a request through to its handler if it may do what it wants to, and
// not too often.
func (s *server) guard(ctx huma.Context, next func(huma.Context)) {
	x := exchangeOf(ctx.Context())
	if p := s.admit(x, scopeOf(ctx.Operation())); p != nil {
		writeProblem(x.w, p)
		return
	}
	if limit := ctx.Operation().MaxBodyBytes; limit > 0 {
		x.r.Body = http.MaxBytesReader(x.w, x.r.Body, limit)
	}
	next(ctx)
}

// admit finds who asks, and why it may not.
func (s *server) admit(x *exchange, want Scope) *Problem {
	text, given, p := bearer(x.r.Header)
	who, authErr := "address "+address(x.r.RemoteAddr), error(nil)
	if p == nil && given {
		x.token, authErr = authenticate(x.r.Context(), s.Tokens, text, time.Now())
		if authErr == nil {
			who = "token " + x.token.ID
		}
	}
	if d := s.limit.wait(who); d > 0 {
		after := strconv.Itoa(retryAfter(d))
		x.w.Header().Set("Retry-After", after)
		return problem(http.StatusTooManyRequests, "too many requests: wait "+after+" s")
	}
	switch {
	case p != nil:
	case errors.Is(authErr, errNoToken):
		p = problem(http.StatusUnauthorized, errNoToken.Error()+": ask who runs this server for another")
	case authErr != nil:
		return s.problem(x.r.Context(), authErr)
	case given && !x.token.Allows(want):
		return problem(http.StatusForbidden, fmt.Sprintf("this token may not %s: it needs the scope %s", doing(want), want))
	case !given && (want != Read || !s.AnonymousRead):
		p = problem(http.StatusUnauthorized, "this needs a token: send it as Authorization: Bearer kb_...")
	}
	if p != nil {
		x.w.Header().Set("WWW-Authenticate", `Bearer realm="kbisect"`)
	}
	return p
}

func doing(s Scope) string {
	if s == Admin {
		return "administer"
	}
	return string(s)
}

// bearer finds the token in a request's headers.
func bearer(h http.Header) (text string, given bool, p *Problem) {
	all := h.Values("Authorization")
	if len(all) == 0 {
		return "", false, nil
	}
	scheme, text, _ := strings.Cut(all[0], " ")
	if len(all) > 1 || !strings.EqualFold(scheme, "Bearer") {
		return "", true, problem(http.StatusUnauthorized, "the Authorization header is not understood: send Authorization: Bearer kb_...")
	}
	return strings.TrimSpace(text), true, nil
}
