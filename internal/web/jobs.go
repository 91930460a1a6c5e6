package web

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/report"
)

var (
	statuses = []string{"queued", "running", "interrupted", "done", "failed", "cancelled"}
	kinds    = []string{"check", "matrix", "series", "bisect", "bisect-config"}
)

// jobsData is a list of jobs.
type jobsData struct {
	Filter          JobFilter
	Statuses, Kinds []string
	Jobs            []Job
	Next            string // address of the next page, "" for none
}

func (s *server) jobs(r *http.Request) (*page, error) {
	q := r.URL.Query()
	f := JobFilter{Status: q.Get("status"), Kind: q.Get("kind"), Text: q.Get("text"), After: q.Get("after"), Limit: pageLines + 1}
	jobs, err := s.Record.Jobs(r.Context(), f)
	if err != nil {
		return nil, err
	}
	d := jobsData{Filter: f, Statuses: statuses, Kinds: kinds, Jobs: jobs}
	if len(jobs) > pageLines {
		d.Jobs = jobs[:pageLines]
		d.Next = next("/jobs", q, "after", d.Jobs[pageLines-1].ID)
	}
	return &page{name: "jobs.html", Title: "Jobs", Nav: "jobs", Data: d}, nil
}

// next is the address of the page after this one.
func next(path string, q url.Values, key, last string) string {
	q.Set(key, last)
	return path + "?" + q.Encode()
}

// jobData is one job.
type jobData struct {
	now
	ReadOnly bool
	Took     time.Duration
	rendered
	HasResult, Bisect bool
	Undone            string // what was taken back just now, in words
	Heading           string // of a job without a report
}

func (s *server) job(r *http.Request) (*page, error) {
	d, err := s.jobData(r, true)
	if err != nil {
		return nil, err
	}
	if n, err := strconv.Atoi(r.URL.Query().Get("undone")); err == nil {
		d.Undone = count(n, "run") + " taken back: no verdict rests on " + them(n) + " any more."
	}
	title := d.Heading
	if d.Title != "" {
		title = d.Kind + " " + d.Title
	}
	p := &page{name: "job.html", Title: report.Plain(title), Nav: "jobs", Data: d}
	if d.Active() {
		p.Events = "/events?" + url.Values{"job": {d.ID}}.Encode()
	}
	return p, nil
}

// jobLive is the part of a job's page that says how far it is.
func (s *server) jobLive(r *http.Request) (*page, error) {
	d, err := s.jobData(r, false)
	return &page{name: "job.html", part: "live", Data: d}, err
}

// jobBody is the report, unless the browser has it as it is.
func (s *server) jobBody(r *http.Request) (*page, error) {
	d, err := s.jobData(r, true)
	if err != nil {
		return nil, err
	}
	p := &page{name: "job.html", part: "body", Data: d}
	if r.URL.Query().Get("have") == d.Hash {
		p.Status = http.StatusNoContent
	}
	return p, nil
}

func (s *server) jobData(r *http.Request, withBody bool) (*jobData, error) {
	j, result, err := s.Record.Job(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	d := &jobData{now: s.now(j), ReadOnly: s.ReadOnly, HasResult: result != nil, Heading: j.Kind + " " + j.ID + ": " + j.Status}
	_, d.Bisect = result.(*kernel.BisectResult)
	if j.Active() {
		result = underWay(result)
	}
	if !j.Started.IsZero() {
		end := j.Ended
		if j.Active() || end.IsZero() {
			end = s.Now()
		}
		d.Took = max(end.Sub(j.Started), 0) // the clock may have been set back
	}
	if withBody && result != nil {
		if d.rendered, err = s.body(j, result); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// rendered is the report of a job as a part of its page.
type rendered struct {
	Hash string // of Body, as a browser says what it has
	Body template.HTML
}

// body renders a job's report. That of a job that has ended is kept for a while:
// 500 commits with a dozen tests each are 1.3 MB, and 50 ms of work.
func (s *server) body(j Job, result any) (rendered, error) {
	key := fmt.Sprintf("%s %d %d", j.ID, j.Attempt, j.Ended.UnixNano())
	s.mu.Lock()
	r, ok := s.bodies[key]
	s.mu.Unlock()
	if ok {
		return r, nil
	}
	var b bytes.Buffer
	if _, err := report.Body(&b, result, report.Links{Runs: cell, Log: s.logAddress()}); err != nil {
		return rendered{}, fmt.Errorf("job %s: %w", j.ID, err)
	}
	h := fnv.New64a()
	_, _ = h.Write(b.Bytes())
	r = rendered{strconv.FormatUint(h.Sum64(), 36), template.HTML(b.String())} //nolint:gosec // the report escapes what is in it
	if !j.Active() && !j.Ended.IsZero() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.bodies) >= maxBodies {
			clear(s.bodies)
		}
		s.bodies[key] = r
	}
	return r, nil
}

// maxBodies bounds what is kept of reports, to some 40 MB.
const maxBodies = 32

// logAddress gives addresses of logs, if there are any.
func (s *server) logAddress() func(digest string) string {
	if s.Artifacts == nil {
		return nil
	}
	return func(digest string) string { return "/artifacts/log/" + digest }
}

// underWay is a result that is not complete and will be: jobs keep theirs as if
// they had been interrupted, in case they are.
func underWay(result any) any {
	switch r := result.(type) {
	case *kernel.SeriesResult:
		c := *r
		c.Status = "running"
		return &c
	case *kernel.MatrixResult:
		c := *r
		c.Status = "running"
		return &c
	case *kernel.BisectResult:
		c := *r
		c.Status = kernel.Searching
		return &c
	}
	return result
}

// file is a job's report as a file, the one that the command line writes.
func (s *server) file(w http.ResponseWriter, r *http.Request) {
	f, ok := report.FormatNamed(r.PathValue("format"))
	if !ok {
		s.show(w, r, nil, ErrNotFound)
		return
	}
	j, result, err := s.Record.Job(r.Context(), r.PathValue("id"))
	if err == nil && result == nil {
		err = ErrNotFound
	}
	var b bytes.Buffer
	if err == nil {
		if _, ok := result.(*kernel.BisectResult); !ok && f.Name == "mail" {
			err = ErrNotFound
		} else {
			err = f.Write(&b, result)
		}
	}
	if err != nil {
		s.show(w, r, nil, err)
		return
	}
	w.Header().Set("Content-Type", f.ContentType)
	if f.Name != "mail" { // a page of its own needs the style in it, which our policy forbids
		w.Header().Set("Content-Disposition", "attachment; filename="+strconv.Quote(fileName(j.ID)+f.Extension))
	}
	_, _ = w.Write(b.Bytes())
}

// act is an action on a job, after which its page is shown.
func (s *server) act(do func(r *http.Request, id string) (query string, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		query, err := "", errReadOnly
		if !s.ReadOnly {
			query, err = do(r, r.PathValue("id"))
		}
		if err != nil {
			s.show(w, r, nil, err)
			return
		}
		http.Redirect(w, r, "/jobs/"+url.PathEscape(r.PathValue("id"))+query, http.StatusSeeOther)
	}
}

func (s *server) cancel(r *http.Request, id string) (string, error) {
	return "", s.Doer.Cancel(r.Context(), id)
}

func (s *server) retry(r *http.Request, id string) (string, error) {
	return "", s.Doer.Retry(r.Context(), id)
}

func (s *server) undo(r *http.Request, id string) (string, error) {
	last, err := strconv.Atoi(r.PostFormValue("last"))
	if err != nil || last < 0 {
		return "", &BadInput{"last", "How many runs to take back is a number; 0 is all of them."}
	}
	n, err := s.Doer.Undo(r.Context(), id, r.PostFormValue("commit"), last)
	return "?undone=" + strconv.Itoa(n), err
}
