package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/api"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// service is a server with one job, whose connections are in memory, so that it
// can live in a bubble of synctest.
type service struct {
	mu     sync.Mutex // guards the following fields
	job    api.Job
	runs   []api.Run
	result any
	asked  []api.Request
	files  []string // what was uploaded
	lost   int      // how many answers are still to be lost

	token api.Token
	// around is what stands before the API, nil for nothing.
	around func(http.Handler) http.Handler
}

func (s *service) Jobs(_ context.Context, f api.JobFilter) ([]api.Job, error) {
	if f.Text != "" {
		return nil, nil
	}
	return []api.Job{s.job, {ID: "old-1"}}[:min(2, f.Limit)], nil
}

func (s *service) Job(_ context.Context, id string) (api.Job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id != s.job.ID {
		return api.Job{}, &api.NotFound{What: "job " + id}
	}
	return s.job, nil
}
func (s *service) Result(context.Context, string) (any, error) { return s.result, nil }
func (s *service) Runs(_ context.Context, f api.RunFilter) (list []api.Run, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.runs {
		if r.ID > f.After {
			list = append(list, r)
		}
	}
	return list, nil
}
func (s *service) Run(context.Context, int64) (api.Run, error)                   { return api.Run{}, nil }
func (s *service) Texts(context.Context, int64) (o, c string, err error)         { return "", "", nil }
func (s *service) Workers(context.Context) ([]api.Worker, error)                 { return nil, nil }
func (s *service) Tests(context.Context, api.TestFilter) ([]api.TestStat, error) { return nil, nil }
func (s *service) Test(context.Context, string) (api.TestHistory, error) {
	return api.TestHistory{}, nil
}
func (s *service) Kernels(context.Context, string, int) ([]api.KernelStat, error) { return nil, nil }
func (s *service) ByID(_ context.Context, id string) (api.Token, error) {
	if id != s.token.ID {
		return api.Token{}, &api.NotFound{What: "token"}
	}
	return s.token, nil
}

func (s *service) Submit(_ context.Context, r api.Request) (string, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, old := range s.asked {
		if old.Key == r.Key {
			return "j-1", true, nil
		}
	}
	if r.Repo == "nowhere" {
		return "", false, &api.BadInput{Field: "repo", Text: "there is no nowhere \x1b[2J"}
	}
	for _, path := range []string{r.Kernel, r.Modules} {
		if b, err := os.ReadFile(path); err == nil {
			s.files = append(s.files, string(b))
		}
	}
	s.asked = append(s.asked, r)
	return "j-1", false, nil
}

func (s *service) Cancel(context.Context, string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.job.Status = api.Cancelled
	return nil
}
func (s *service) Retry(context.Context, string) error                    { return &api.Conflict{Text: "it is done"} }
func (s *service) Undo(context.Context, string, string, int) (int, error) { return 4, nil }

// Events are none: what is recorded is seen at the next pulse.
func (s *service) Events(ctx context.Context, _ string) <-chan api.Event {
	c := make(chan api.Event)
	context.AfterFunc(ctx, func() { close(c) })
	return c
}

// record adds runs, and ends the job.
func (s *service) record(status string, ids ...int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		s.runs = append(s.runs, api.Run{ID: id, Job: "j-1", Outcome: kernel.Pass})
	}
	s.job.Status = status
}

// pipes is a listener without a network.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- addressed{there}:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.closed:
		return nil, errors.New("connection refused")
	}
}

// addressed is a pipe with an address, which the API holds to a rate.
type addressed struct{ net.Conn }

func (addressed) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// start starts a service, and gives a client of it.
func start(t *testing.T, s *service) *Client {
	t.Helper()
	text, token, err := api.Mint("jane", []api.Scope{api.Admin}, time.Time{})
	ok(t, err)
	s.token = token
	if s.job.ID == "" {
		s.job = api.Job{ID: "j-1", Kind: "check", Status: api.Running}
	}
	h := api.New(api.Options{Jobs: s, Runs: s, Submitter: s, Live: s, Record: s, Tokens: s, Rate: 1e6, Burst: 1e6, Uploads: t.TempDir(), Build: "test"})
	if s.around != nil {
		h = s.around(h)
	}
	p := &pipes{make(chan net.Conn), make(chan struct{})}
	// The limits of a server that is on its guard: streams outlive them.
	server := &http.Server{Handler: h, ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second}
	go func() { _ = server.Serve(p) }()
	c, err := New("http://server", text)
	ok(t, err)
	c.http.Transport.(*http.Transport).DialContext = p.dial
	c.http.Transport.(*http.Transport).Proxy = nil
	t.Cleanup(func() {
		c.Close()
		_ = server.Close()
	})
	return c
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSubmitAndRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := &kernel.BisectResult{Schema: "kbisect/bisect/v1", ID: "j-1", Status: kernel.Found}
		s := &service{result: want}
		c := start(t, s)
		ctx := t.Context()
		got, err := c.Bisect(ctx, api.BisectRequest{Repo: "linux", Good: "a", Bad: "b", Plan: api.Plan{Tests: []string{"x"}}, Search: api.Search{FindFix: true}})
		ok(t, err)
		if got != (api.Submitted{ID: "j-1", URL: "/api/v1/jobs/j-1"}) || s.asked[0].Good != "a" || !s.asked[0].Search.FindFix || s.asked[0].Owner != "jane" {
			t.Errorf("%+v %+v", got, s.asked)
		}
		result, err := c.Result(ctx, "j-1")
		ok(t, err)
		if b, isBisect := result.(*kernel.BisectResult); !isBisect || b.Status != kernel.Found || b.ID != "j-1" {
			t.Errorf("%+v", result)
		}
		text, err := c.Report(ctx, "j-1", "mail")
		ok(t, err)
		if len(text) == 0 {
			t.Error("no mail")
		}
		jobs, next, err := c.Jobs(ctx, api.JobFilter{Limit: 1})
		ok(t, err)
		if len(jobs) != 1 || jobs[0].ID != "j-1" || next != "j-1" {
			t.Errorf("%+v, next %s", jobs, next)
		}
		j, err := c.Cancel(ctx, "j-1")
		ok(t, err)
		if j.Status != api.Cancelled {
			t.Errorf("%+v", j)
		}
		n, err := c.Undo(ctx, "j-1", api.UndoRequest{Last: 4})
		ok(t, err)
		v, err := c.Server(ctx)
		ok(t, err)
		if n != 4 || v.Version != "test" || v.API != api.Version {
			t.Errorf("%d, %+v", n, v)
		}
	})
}

func TestUpload(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		ok(t, os.WriteFile(path, []byte(text), 0o644))
		return path
	}
	mbox, image, modules := write("v2.mbox", "From x\n"), write("bzImage", strings.Repeat("k", 1<<20)), write("m.tar", "tar")
	synctest.Test(t, func(t *testing.T) {
		s := &service{}
		c := start(t, s)
		_, err := c.SeriesMbox(t.Context(), api.SeriesRequest{Repo: "linux", Base: "v6.1"}, mbox)
		ok(t, err)
		_, err = c.CheckKernel(t.Context(), api.CheckRequest{}, image, modules)
		ok(t, err)
		_, err = c.CheckKernel(t.Context(), api.CheckRequest{}, image, "")
		ok(t, err)
		if string(s.asked[0].Mbox) != "From x\n" {
			t.Errorf("%+v", s.asked[0])
		}
		if d := cmp.Diff([]string{strings.Repeat("k", 1<<20), "tar", strings.Repeat("k", 1<<20)}, s.files); d != "" {
			t.Error("the files came otherwise")
		}
		if _, err := c.CheckKernel(t.Context(), api.CheckRequest{}, filepath.Join(dir, "missing"), ""); !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	})
}

// An answer that is lost is asked for again, and the job is made once.
func TestSubmitOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{lost: 2}
		s.around = func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s.mu.Lock()
				lose := s.lost > 0
				s.lost--
				s.mu.Unlock()
				if lose {
					h.ServeHTTP(&nowhere{http.Header{}}, r)
					panic(http.ErrAbortHandler)
				}
				h.ServeHTTP(w, r)
			})
		}
		got, err := start(t, s).Check(t.Context(), api.CheckRequest{Repo: "linux", Rev: "v6.1"})
		ok(t, err)
		if len(s.asked) != 1 || !got.Existing {
			t.Errorf("%+v, asked %d times", got, len(s.asked))
		}
	})
}

type nowhere struct{ header http.Header }

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) WriteHeader(int)             {}
func (n *nowhere) Write(b []byte) (int, error) { return len(b), nil }

// answer is a server that always says the same.
func answer(status int, body string, header ...string) func(http.Handler) http.Handler {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
	}
}

func TestErrorsAreOneLine(t *testing.T) {
	job := func(ctx context.Context, c *Client) error { _, err := c.Job(ctx, "j-1"); return err }
	result := func(ctx context.Context, c *Client) error { _, err := c.Result(ctx, "j-1"); return err }
	follow := func(ctx context.Context, c *Client) error { return c.Follow(ctx, "j-1", func(api.Event) {}) }
	for _, c := range []struct {
		name   string
		around func(http.Handler) http.Handler
		do     func(context.Context, *Client) error
		want   string
	}{
		{"no such job", nil, func(ctx context.Context, c *Client) error { _, err := c.Job(ctx, "j-2"); return err }, "server http://server: there is no job j-2"},
		{"a path as id", nil, func(ctx context.Context, c *Client) error { _, err := c.Job(ctx, "../tests"); return err }, "path.id"},
		{"follow no job", nil, func(ctx context.Context, c *Client) error { return c.Follow(ctx, "j-2", nil) }, "there is no job j-2"},
		{"conflict", nil, func(ctx context.Context, c *Client) error { _, err := c.Retry(ctx, "j-1"); return err }, "it is done"},
		{"bad input, escapes", nil, func(ctx context.Context, c *Client) error {
			_, err := c.Check(ctx, api.CheckRequest{Repo: "nowhere", Rev: "x"})
			return err
		}, "repo: there is no nowhere  [2J"},
		{"no result", nil, result, "there is no result of j-1 yet"},
		{"wrong token", nil, func(ctx context.Context, c *Client) error { c.token = "kb_aa_bb"; return job(ctx, c) }, "the token is not known, or has expired"},
		{"no token", nil, func(ctx context.Context, c *Client) error { c.token = ""; return job(ctx, c) }, "this needs a token"},
		{"newer server", answer(200, `{}`, api.VersionHeader, "2"), job, "speaks version 2 of the API, this orchestrator version 1"},
		{"another server", answer(200, `<html>`), job, "that is no kbisect (it answers 200)"},
		{"another server, 404", answer(404, `<html>`), follow, "that is no kbisect (it answers 404)"},
		{"redirect", answer(302, ``, "Location", "https://else/"), job, "it redirects to https://else"},
		{"proxy without server", answer(502, `<html>`), job, "what stands before it says 502"},
		{"busy for good", answer(429, `{"detail":"too many requests"}`, api.VersionHeader, "1", "Retry-After", "86400"), job, "too many requests"},
		{"broken JSON", answer(200, `{"id":`, api.VersionHeader, "1"), job, "no JSON that this orchestrator knows"},
		{"cut off", answer(200, `{"id":`, api.VersionHeader, "1", "Content-Length", "100"), job, "its answer ended early"},
		{"500 without a word", answer(500, `oops`, api.VersionHeader, "1"), job, "it answers 500"},
		{"result of a newer one", answer(200, `{"schema":"kbisect/check/v2"}`, api.VersionHeader, "1"), result, "is a kbisect/check/v2, which this orchestrator does not know"},
		{"result that is none", answer(200, `[1]`, api.VersionHeader, "1"), result, "no JSON"},
		{"result with other types", answer(200, `{"schema":"kbisect/check/v1","tests":7}`, api.VersionHeader, "1"), result, "not what it says it is"},
		{"events that are none", answer(200, `{}`, api.VersionHeader, "1", "Content-Type", "application/json"), follow, "does not answer with events"},
		{"cancelled", nil, func(ctx context.Context, c *Client) error {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return job(ctx, c)
		}, "context canceled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				err := c.do(t.Context(), start(t, &service{around: c.around}))
				if took := time.Since(began); took > 5*time.Minute {
					t.Errorf("it took %v", took)
				}
				if err == nil || !strings.Contains(err.Error(), c.want) || strings.ContainsAny(err.Error(), "\n\x1b") || len(err.Error()) > 600 {
					t.Errorf("%v, want %s", err, c.want)
				}
			})
		})
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	address := l.Addr().String()
	ok(t, l.Close())
	c, err := New("http://"+address+"/", "")
	ok(t, err)
	res, err := c.once(t.Context(), "GET", "/x", nil, nil)
	if err == nil {
		_ = res.Body.Close()
	}
	if err == nil || err.Error() != "server http://"+address+" cannot be reached: nobody listens there: is `orchestrator serve` running?" {
		t.Error(err)
	}
}

func TestNewRejects(t *testing.T) {
	for _, c := range []struct{ server, token string }{
		{"", ""}, {"host:8080", ""}, {"ftp://host", ""}, {"http://", ""}, {"http://user:pw@host", ""}, {"http://host?x", ""}, {"http://host#x", ""},
		{"http://host\n", ""}, {"http://host", "a b"}, {"http://host", "a\nb"},
	} {
		if _, err := New(c.server, c.token); err == nil || strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "pw") {
			t.Errorf("%q %q: %v", c.server, c.token, err)
		}
	}
}

// seen is what a follower is told, in short.
func seen(list *[]string) func(api.Event) {
	return func(e api.Event) { *list = append(*list, fmt.Sprintf("%s%d%s", e.Phase, e.ID, e.Status)) }
}

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, streams := &service{}, 0
		s.around = func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				streams++
				h.ServeHTTP(w, r)
			})
		}
		c := start(t, s)
		s.record(api.Running, 1)
		go func() {
			time.Sleep(time.Minute)
			s.record(api.Running, 2, 3)
			time.Sleep(time.Minute)
			s.record(api.Done, 5)
		}()
		var got []string
		ok(t, c.Follow(t.Context(), "j-1", seen(&got)))
		if streams != 1 {
			t.Errorf("%d streams: the server's limits end them", streams)
		}
		if d := cmp.Diff([]string{"outcome1", "outcome2", "outcome3", "outcome5", "end0done"}, got); d != "" {
			t.Error(d)
		}
	})
}

// A connection that breaks after any number of bytes costs nothing.
func TestFollowReconnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, streams, last := &service{}, 0, ""
		s.around = func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				streams++
				last = r.Header.Get("Last-Event-ID")
				h.ServeHTTP(&breaking{w, 40 + 50*streams}, r)
			})
		}
		c := start(t, s)
		s.record(api.Done, 1, 2, 3, 4, 5, 6, 7, 8, 9)
		var got []string
		ok(t, c.Follow(t.Context(), "j-1", seen(&got)))
		want := []string{"outcome1", "outcome2", "outcome3", "outcome4", "outcome5", "outcome6", "outcome7", "outcome8", "outcome9", "end0done"}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		if streams < 4 || last == "" {
			t.Errorf("%d streams, the last from %q on", streams, last)
		}
	})
}

// breaking is an answer whose connection breaks after left bytes.
type breaking struct {
	http.ResponseWriter
	left int
}

func (b *breaking) Unwrap() http.ResponseWriter { return b.ResponseWriter }
func (b *breaking) Write(p []byte) (int, error) {
	if len(p) > b.left {
		_, _ = b.ResponseWriter.Write(p[:b.left])
		_ = http.NewResponseController(b.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	b.left -= len(p)
	return b.ResponseWriter.Write(p)
}

// A stream that hangs without a pulse is opened again.
func TestFollowHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, streams := &service{}, 0
		s.around = func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if streams++; streams == 1 {
					w.Header().Set(api.VersionHeader, "1")
					w.Header().Set("Content-Type", "text/event-stream")
					_ = http.NewResponseController(w).Flush()
					<-r.Context().Done()
					return
				}
				h.ServeHTTP(w, r)
			})
		}
		c := start(t, s)
		s.record(api.Done, 1)
		var got []string
		began := time.Now()
		ok(t, c.Follow(t.Context(), "j-1", seen(&got)))
		if took := time.Since(began); took > 2*silence {
			t.Errorf("noticed after %v", took)
		}
		if strings.Join(got, " ") != "outcome1 end0done" {
			t.Error(got)
		}
	})
}

// A server that is gone is waited for, but not for ever.
func TestFollowGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, streams := &service{}, 0
		s.around = func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if streams++; streams == 1 {
					h.ServeHTTP(&breaking{w, 20}, r)
				}
				w.WriteHeader(http.StatusBadGateway)
			})
		}
		c := start(t, s)
		began := time.Now()
		err := c.Follow(t.Context(), "j-1", func(api.Event) {})
		if took := time.Since(began); err == nil || !strings.Contains(err.Error(), "502") || took < patience || took > 2*patience {
			t.Errorf("%v after %v", err, took)
		}
	})
}

func TestFollowIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, &service{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := c.Follow(ctx, "j-1", func(api.Event) {}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestReadEvents(t *testing.T) {
	for in, want := range map[string]string{
		"":                              "",
		"data: a\n\n":                   "a|",
		"data:a\r\n\r\n":                "a|",
		"data: a\ndata:  b\n\n":         "a\n b|",
		": hello\n\nid: 1\ndata: a\n\n": "a|",
		"data: a":                       "", // cut off
		"data: a\n":                     "",
		"event: x\n\n":                  "",
		"data\n\n":                      "|",
	} {
		got := ""
		_ = readEvents(strings.NewReader(in), func() {}, func(d string) error { got += d + "|"; return nil })
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if err := readEvents(strings.NewReader("data: "+strings.Repeat("x", 2*maxLine)), func() {}, func(string) error { return nil }); err == nil {
		t.Error("a line without an end was read")
	}
}

func FuzzFollow(f *testing.F) {
	f.Add("id: 1\nevent: outcome\ndata: {\"id\":1,\"phase\":\"outcome\"}\n\n")
	f.Add("data: {\"id\":1}\n\ndata: {\"id\":1}\n\n") // from a server that takes no notice of Last-Event-ID
	f.Add("data: {\"phase\":\"end\"}\n\ndata: {}\n\n")
	f.Add("data: {\"id\":9223372036854775807}\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		last, ends := int64(0), 0
		g := &following{see: func(e api.Event) {
			if e.ID != 0 && e.ID <= last && e.ID > 0 || ends > 0 {
				t.Errorf("event %+v after %d", e, last)
			}
			last = max(last, e.ID)
			if e.Phase == api.PhaseEnd {
				ends++
			}
		}}
		_ = readEvents(strings.NewReader(text), func() {}, g.event)
	})
}
