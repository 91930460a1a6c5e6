package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

var at = time.Date(2026, 11, 22, 15, 0, 0, 0, time.UTC)

// evil is what a patch, a test or a guest may call itself.
const evil = "<script>alert(1)</script>\x1b[31mred\u202egnp.exe\n\"'><img src=x onerror=alert(2)>{{.}}"

// fake is a service with a past: the results that the reports are tested with.
type fake struct {
	Hub
	jobsKept []Job
	results  map[string]any
	runsKept []Run
	stats    []TestStat
	on       []TestOnKernel
	images   []Kernel
	crew     []Worker
	err      error // of every answer

	did  []string
	asks Form
	fail error // of every action
}

func result(t testing.TB, file string, v any) any {
	t.Helper()
	b, err := os.ReadFile("../report/testdata/" + file + ".json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
	return v
}

func crash(t testing.TB) string {
	b, err := os.ReadFile("../console/testdata/warning-do-wp-page.log")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func newFake(t testing.TB) *fake {
	f := &fake{results: map[string]any{
		"series-3": result(t, "series", &kernel.SeriesResult{}), "series-4": result(t, "series-interrupt", &kernel.SeriesResult{}),
		"series-9": result(t, "series-hostile", &kernel.SeriesResult{}), "bisect-8": result(t, "bisect-full", &kernel.BisectResult{}),
		"bisect-9": result(t, "bisect-hostile", &kernel.BisectResult{}), "check-17": result(t, "check", &kernel.CheckResult{}),
		"matrix-7": result(t, "matrix", &kernel.MatrixResult{}),
	}}
	ended := func(id, kind, status, title, verdict string) Job {
		return Job{ID: id, Kind: kind, Status: status, Title: title, Verdict: verdict, Owner: "ada", Attempt: 1, Command: "orchestrator " + kind + " --repo .",
			Created: at, Started: at.Add(time.Minute), Ended: at.Add(31 * time.Minute)}
	}
	f.jobsKept = []Job{
		{ID: "series-5", Kind: "series", Status: "queued", Title: "v6.1..next", Owner: "grace", Priority: 2, Created: at.Add(90 * time.Minute), Command: "orchestrator series --repo linux v6.1..next"},
		{ID: "series-4", Kind: "series", Status: "running", Title: "v6.1-rc8..cow-rework", Owner: "ada", Attempt: 2, Created: at.Add(time.Hour), Started: at.Add(80 * time.Minute)},
		ended("bisect-8", "bisect", "done", "v6.0..v6.1", "709f4c1d709f is the culprit"),
		ended("series-3", "series", "done", "v6.1-rc8..cow-rework", "first bad commit is 4 of 6"),
		ended("check-17", "check", "done", "v6.1", ""),
		ended("matrix-7", "matrix", "interrupted", "5 kernels", ""),
		ended("check-18", "check", "failed", "v6.9", ""),
		ended("series-9", "series", "done", evil, evil),
		ended("bisect-9", "bisect", "done", evil, evil),
		ended("series-10", "series", "cancelled", evil, ""),
	}
	f.jobsKept[6].Error = "git: no such revision v6.9"
	f.jobsKept[9].Owner, f.jobsKept[9].Command, f.jobsKept[9].Error = evil, evil, evil
	sha := f.results["series-3"].(*kernel.SeriesResult).Commits[3].SHA
	test := "cow/vmsplice-child-unmap/thp-pmd"
	for i := range 6 {
		r := Run{ID: int64(i + 1), Job: "series-3", At: at.Add(time.Duration(i) * time.Minute), Run: kernel.Run{Test: test, Commit: sha, Release: "6.1.0-kbisect", Kernel: "sha256:77aa0011223344", Outcome: kernel.Pass, Duration: 1300 * time.Millisecond}}
		switch i {
		case 1:
			r.Run.Outcome, r.Run.Signature = kernel.Fail, kernel.Signature{Kind: "fail", Title: "missed-cow: child reads the parent's new data"}
			r.Run.Output = "TAP version 13\n1..1\nnot ok 1 child reads the parent's new data\n"
		case 2:
			r.Run.Outcome, r.Run.Signature = kernel.Crash, kernel.Signature{Kind: "crash", Title: "WARNING in do_wp_page", Frames: []string{"do_wp_page", "__handle_mm_fault"}}
			r.Run.Console = crash(t)
		case 3:
			r.Withdrawn, r.Run.Outcome = true, kernel.Infra
			r.Run.Reason = "qemu died: out of memory"
		case 4:
			r.Run.Test, r.Run.Outcome, r.Run.Reason = "cow/fork-write/hugetlb-2m", kernel.Skip, "no hugetlb pages of 2 MiB in the guest"
		case 5:
			r.Run = kernel.Run{Test: evil, Commit: evil, Release: evil, Kernel: evil, Outcome: kernel.Crash, Signature: kernel.Signature{Kind: "crash", Title: evil, Frames: []string{evil}},
				Reason: evil, Output: evil, Console: evil + "\nKernel panic - not syncing: " + evil, Known: kernel.Known(evil), Iterations: 3,
				Tests: []kernel.TestOutcome{{Name: evil, Outcome: kernel.Fail, Reason: evil}, {Outcome: kernel.Crash}}}
			r.Job = "series-9"
		}
		f.runsKept = append([]Run{r}, f.runsKept...)
	}
	f.stats = []TestStat{{Test: evil, Runs: 1, Fails: 1, Kernels: 1, Last: at}, {Test: "cow/fork-write/hugetlb-2m", Skips: 4, Kernels: 2, Last: at},
		{Test: test, Runs: 40, Fails: 13, Kernels: 6, Flaky: true, Last: at}}
	f.on = []TestOnKernel{{Release: "6.1.0-kbisect", Digest: "sha256:77aa0011223344", Commit: sha, Runs: 20, Fails: 13, Last: at}, {Digest: "sha256:88bb", Runs: 20, Last: at}, {Release: evil, Digest: evil, Commit: evil, Skips: 1, Last: at}}
	f.images = []Kernel{{Release: "6.1.0-kbisect", Digest: "sha256:77aa0011223344", Commit: sha, Subject: "mm/huge_memory: reuse pages", Tests: 16, Runs: 48, Fails: 9, Last: at}, {Release: evil, Digest: evil, Commit: evil, Subject: evil, Last: at}}
	f.crew = []Worker{{Name: "here", Slots: 2, Busy: 1, Doing: []string{"series-4"}, Last: at, Announce: []string{"x86_64", "tcg"}}, {Name: evil, Slots: 1, Announce: []string{evil}}}
	f.Publish(Event{Job: "series-4", Phase: "run", Commit: sha, Index: 4, Total: 6, Done: 5, Of: 26, Text: test, At: at.Add(85 * time.Minute)})
	return f
}

func (f *fake) Jobs(_ context.Context, q JobFilter) ([]Job, error) {
	var out []Job
	seen := q.After == ""
	for _, j := range f.jobsKept {
		if seen && (q.Status == "" || j.Status == q.Status) && (q.Kind == "" || j.Kind == q.Kind) && strings.Contains(j.ID+j.Title, q.Text) && len(out) < q.Limit {
			out = append(out, j)
		}
		seen = seen || j.ID == q.After
	}
	return out, f.err
}

func (f *fake) Job(_ context.Context, id string) (Job, any, error) {
	i := slices.IndexFunc(f.jobsKept, func(j Job) bool { return j.ID == id })
	if i < 0 {
		return Job{}, nil, fmt.Errorf("job %s: %w", id, ErrNotFound)
	}
	return f.jobsKept[i], f.results[id], f.err
}

func (f *fake) Runs(_ context.Context, q RunFilter) ([]Run, error) {
	var out []Run
	for _, r := range f.runsKept {
		if (q.Before == 0 || r.ID < q.Before) && (q.Job == "" || q.Job == r.Job) && (q.Test == "" || q.Test == r.Run.Test) && len(out) < q.Limit {
			out = append(out, r)
		}
	}
	return out, f.err
}

func (f *fake) Run(_ context.Context, id int64) (Run, error) {
	for _, r := range f.runsKept {
		if r.ID == id {
			return r, f.err
		}
	}
	return Run{}, ErrNotFound
}

func (f *fake) Tests(_ context.Context, q TestFilter) ([]TestStat, error) {
	var out []TestStat
	for _, t := range f.stats {
		if strings.Contains(t.Test, q.Text) && (!q.Flaky || t.Flaky) && len(out) < q.Limit {
			out = append(out, t)
		}
	}
	return out, f.err
}

func (f *fake) Test(_ context.Context, name string) (TestStat, []TestOnKernel, error) {
	for _, t := range f.stats {
		if t.Test == name {
			return t, f.on, f.err
		}
	}
	return TestStat{Test: name}, nil, f.err
}

func (f *fake) Kernels(_ context.Context, _ string, limit int) ([]Kernel, error) {
	return f.images[:min(limit, len(f.images))], f.err
}

func (f *fake) Workers() []Worker { return f.crew }

func (f *fake) Queue() []Job { return f.jobsKept[:min(1, len(f.jobsKept))] }

func (f *fake) Submit(_ context.Context, q Form) (string, error) {
	f.asks = q
	return "series-5", f.fail
}

func (f *fake) Cancel(_ context.Context, id string) error {
	f.did = append(f.did, "cancel "+id)
	if *look != "" {
		for i := range f.jobsKept {
			if f.jobsKept[i].ID == id {
				f.jobsKept[i].Status = "cancelled"
			}
		}
		f.results[id] = f.results["series-3"]
		f.Publish(Event{Job: id, Phase: "done"})
	}
	return f.fail
}

func (f *fake) Retry(_ context.Context, id string) error {
	f.did = append(f.did, "retry "+id)
	return f.fail
}

func (f *fake) Undo(_ context.Context, id, commit string, last int) (int, error) {
	f.did = append(f.did, fmt.Sprintf("undo %s %q %d", id, commit, last))
	return 3, f.fail
}

var (
	_ Record = (*fake)(nil)
	_ Live   = (*fake)(nil)
	_ Doer   = (*fake)(nil)
)

var choices = Choices{Repos: []string{"linux", "mm"}, Profiles: []Profile{{"slim", "small and quick"}, {"debug", ""}}, Tests: []string{"cow/fork-write/base", evil}, Example: "v6.1..cow-rework"}

func options(f *fake) Options {
	return Options{Record: f, Live: f, Doer: f, Choices: choices, Now: func() time.Time { return at.Add(2 * time.Hour) }}
}

func get(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w
}

// post sends a form as a page of the service does.
func post(h http.Handler, path, body string, header ...string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	h.ServeHTTP(w, r)
	return w
}

var errBroken = errors.New("disk full at /var/lib/secret")
