package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// world is a service in memory.
type world struct {
	mu       sync.Mutex // guards the following fields
	jobs     []Job      // the newest first
	results  map[string]any
	runs     []Run
	output   string
	console  string
	asked    []Request
	files    map[string]string // what an uploaded file had in it
	done     []string          // cancel check-1, ...
	err      error             // of whatever is asked next
	readers  []chan Event
	tokens   map[string]Token
	lookups  int
	testName string
}

var (
	_ Jobs      = (*world)(nil)
	_ Runs      = (*world)(nil)
	_ Submitter = (*world)(nil)
	_ Live      = (*world)(nil)
	_ Record    = (*world)(nil)
	_ Tokens    = (*world)(nil)
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func newWorld() *world {
	return &world{
		jobs: []Job{
			{ID: "bisect-3", Kind: "bisect", Status: Queued, Title: "v6.1..v6.2", Created: noon.Add(2 * time.Minute)},
			{ID: "series-2", Kind: "series", Status: Running, Title: "v6.1..cow", Created: noon.Add(time.Minute), Started: noon.Add(time.Minute)},
			{ID: "check-1", Kind: "check", Status: Done, Title: "v6.1", Verdict: "All good.", Created: noon, Ended: noon},
		},
		results: map[string]any{"check-1": &kernel.CheckResult{ID: "check-1", Profile: "cow", Tests: []kernel.TestResult{{Name: "cow/a/base", Verdict: kernel.Good, Confidence: 0.99, Runs: 2}}}},
		runs: []Run{
			{ID: 1, Job: "check-1", Test: "cow/a/base", Outcome: kernel.Pass, At: noon},
			{ID: 2, Job: "series-2", Test: "cow/a/base", Outcome: kernel.Fail, Reason: "old\nnew", At: noon},
			{ID: 3, Job: "check-1", Test: "cow/a/base", Outcome: kernel.Pass, At: noon},
		},
		output: "ok 1\n", console: "[    0.1] Linux <script>alert(1)</script>\n",
		files: map[string]string{}, tokens: map[string]Token{},
	}
}

// fails gives the next error, once.
func (w *world) fails() error {
	err := w.err
	w.err = nil
	return err
}

func (w *world) Jobs(_ context.Context, f JobFilter) ([]Job, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []Job
	skip := f.Before != ""
	for _, j := range w.jobs {
		if !skip && len(list) < f.Limit && (f.Kind == "" || f.Kind == j.Kind) && (f.Status == "" || f.Status == j.Status) && strings.Contains(j.ID+j.Title, f.Text) {
			list = append(list, j)
		}
		skip = skip && j.ID != f.Before
	}
	return list, w.fails()
}

func (w *world) find(id string) (*Job, error) {
	for i := range w.jobs {
		if w.jobs[i].ID == id {
			return &w.jobs[i], nil
		}
	}
	return nil, &NotFound{"job " + id}
}

func (w *world) Job(_ context.Context, id string) (Job, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.fails(); err != nil {
		return Job{}, err
	}
	j, err := w.find(id)
	if err != nil {
		return Job{}, err
	}
	return *j, nil
}

func (w *world) Result(ctx context.Context, id string) (any, error) {
	if _, err := w.Job(ctx, id); err != nil {
		return nil, err
	}
	return w.results[id], nil
}

func (w *world) Runs(_ context.Context, f RunFilter) ([]Run, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f.Newest {
		return w.runs[len(w.runs)-1:], nil
	}
	var list []Run
	for _, r := range w.runs {
		if (f.Job == "" || f.Job == r.Job) && r.ID > f.After && len(list) < f.Limit {
			list = append(list, r)
		}
	}
	return list, w.fails()
}

func (w *world) Run(_ context.Context, id int64) (Run, error) {
	for _, r := range w.runs {
		if r.ID == id {
			return r, nil
		}
	}
	return Run{}, &NotFound{fmt.Sprintf("run %d", id)}
}

func (w *world) Texts(ctx context.Context, id int64) (output, console string, err error) {
	_, err = w.Run(ctx, id)
	return w.output, w.console, err
}

func (w *world) Submit(_ context.Context, r Request) (string, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.fails(); err != nil {
		return "", false, err
	}
	for _, path := range []string{r.Kernel, r.Modules} {
		if path != "" {
			b, err := os.ReadFile(path)
			if err != nil {
				return "", false, err
			}
			w.files[path] = string(b)
		}
	}
	id := string(r.Kind) + "-9"
	for _, old := range w.asked {
		if r.Key != "" && old.Key == r.Key && old.Owner == r.Owner {
			return id, true, nil
		}
	}
	w.asked = append(w.asked, r)
	w.jobs = append([]Job{{ID: id, Kind: string(r.Kind), Status: Queued}}, w.jobs...)
	return id, false, nil
}

func (w *world) do(what, id, status string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	j, err := w.find(id)
	switch {
	case err != nil:
		return err
	case what == "cancel" && j.Over():
		return &Conflict{"job " + id + " is over"}
	case what == "retry" && j.Status == Done:
		return &Conflict{"job " + id + " is done"}
	}
	j.Status = status
	w.done = append(w.done, what+" "+id)
	return nil
}

func (w *world) Cancel(_ context.Context, id string) error { return w.do("cancel", id, Cancelled) }
func (w *world) Retry(_ context.Context, id string) error  { return w.do("retry", id, Queued) }
func (w *world) Undo(_ context.Context, id, commit string, last int) (int, error) {
	return 2, w.do(fmt.Sprintf("undo %q %d", commit, last), id, Interrupted)
}

func (w *world) Events(ctx context.Context, _ string) <-chan Event {
	c := make(chan Event, 4)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.readers = append(w.readers, c)
	context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.drop(c)
	})
	return c
}

func (w *world) drop(c chan Event) {
	for i, r := range w.readers {
		if r == c {
			close(c)
			w.readers = append(w.readers[:i], w.readers[i+1:]...)
			return
		}
	}
}

// change changes the world and tells the readers.
func (w *world) change(e Event, how func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if how != nil {
		how()
	}
	for _, c := range w.readers {
		select {
		case c <- e:
		default:
		}
	}
}

func (w *world) dropAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.readers) > 0 {
		w.drop(w.readers[0])
	}
}

func (w *world) watched() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.readers) > 0
}

func (w *world) Workers(context.Context) ([]Worker, error) { return nil, w.fails() }
func (w *world) Tests(_ context.Context, f TestFilter) ([]TestStat, error) {
	return []TestStat{{Name: "cow/a/base", Runs: 3, Fails: 1, Kernels: 2}, {Name: "cow/b/base"}}[:min(2, f.Limit)], w.fails()
}

func (w *world) Test(_ context.Context, name string) (TestHistory, error) {
	w.testName = name
	if name != "cow/a/base" {
		return TestHistory{}, &NotFound{"test " + name}
	}
	return TestHistory{TestStat: TestStat{Name: name, Runs: 3}}, nil
}

func (w *world) Kernels(context.Context, string, int) ([]KernelStat, error) {
	return []KernelStat{{Release: "6.1.0", Digest: "ab12"}}, w.fails()
}

func (w *world) ByID(_ context.Context, id string) (Token, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lookups++
	t, ok := w.tokens[id]
	if !ok {
		return Token{}, &NotFound{"token " + id}
	}
	return t, nil
}

// mint makes a token that the world knows.
func (w *world) mint(t testing.TB, scopes ...Scope) string {
	t.Helper()
	text, token, err := Mint("jane", scopes, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	w.tokens[token.ID] = token
	return text
}

func (w *world) options() Options {
	return Options{Jobs: w, Runs: w, Submitter: w, Live: w, Record: w, Artifacts: w, Tokens: w, Rate: 1e6, Burst: 1e6, Build: "test",
		Profiles: []kernel.Profile{{Name: "cow"}}, Repos: []Repo{{Name: "linux"}}}
}

var errInside = errors.New("database /secret/path is locked")

// ask sends a request to a handler, and gives its answer.
func ask(t testing.TB, h http.Handler, method, path, token, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", jsonType)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) Artifact(_ context.Context, kind, digest string) ([]byte, error) {
	if kind != "log" || digest != strings.Repeat("ab", 32) {
		return nil, &NotFound{kind + " " + digest}
	}
	return []byte("  CC mm/memory.o\n<script>"), nil
}
