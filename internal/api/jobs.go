package api

import (
	"bytes"
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/report"
)

// JobPath is the id in an address. It is exported because huma does not look into
// embedded fields that are not.
type JobPath struct {
	ID string `path:"id" maxLength:"100" pattern:"^[a-z0-9][a-z0-9-]*$" patternDescription:"the id of a job" example:"bisect-1a2b3c4d"`
}

// JobList is a page of jobs.
type JobList struct {
	Jobs []Job  `json:"jobs" nullable:"false" doc:"The newest first"`
	Next string `json:"next,omitempty" doc:"For before=, if there are more"`
}

type jobsInput struct {
	Kind   string `query:"kind" enum:"check,matrix,series,bisect"`
	Status string `query:"status" enum:"queued,running,interrupted,done,failed,cancelled"`
	Text   string `query:"text" maxLength:"200" doc:"A part of id, title or owner"`
	Before string `query:"before" maxLength:"100" pattern:"^[a-z0-9][a-z0-9-]*$" patternDescription:"the id of a job" doc:"Only jobs older than this one"`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
}

type resultInput struct {
	JobPath
	Format string `query:"format" enum:"json,text,html,markdown,junit,kcidb,mail" default:"json" doc:"mail is the form of a bisection alone"`
}

// UndoRequest says which runs of a job are taken back.
type UndoRequest struct {
	Last   int    `json:"last,omitempty" minimum:"1" doc:"So many of the newest"`
	Commit string `json:"commit,omitempty" maxLength:"64" pattern:"^[0-9a-f]{4,64}$" patternDescription:"an object id or its beginning" doc:"Those on this commit"`
	All    bool   `json:"all,omitempty" doc:"All of them; with neither last nor commit"`
}

// Undone is how many runs were taken back.
type Undone struct {
	Withdrawn int `json:"withdrawn"`
}

func (s *server) jobRoutes() {
	register(s, operation("GET", "/jobs", "list-jobs", "jobs", "List jobs, the newest first", Read), s.listJobs)
	register(s, operation("GET", "/jobs/{id}", "get-job", "jobs", "Read a job", Read, 404),
		func(ctx context.Context, in *JobPath) (*body[Job], error) { return s.job(ctx, in.ID) })
	register(s, streamed(operation("GET", "/jobs/{id}/result", "get-result", "jobs", "Read the result so far", Read, 404, 406),
		"application/json", "application/xml", "text/plain", "text/html", "text/markdown"), s.result)
	for _, a := range []struct {
		name, summary string
		do            func(context.Context, string) error
	}{
		{"cancel", "Cancel a job; its runs are kept", s.Submitter.Cancel},
		{"retry", "Go on with a job that failed, was interrupted or cancelled", s.Submitter.Retry},
	} {
		register(s, operation("POST", "/jobs/{id}/"+a.name, a.name+"-job", "jobs", a.summary, Submit, 404, 409),
			func(ctx context.Context, in *JobPath) (*body[Job], error) {
				if err := a.do(ctx, in.ID); err != nil {
					return nil, err
				}
				return s.job(ctx, in.ID)
			})
	}
	undo := operation("POST", "/jobs/{id}/undo", "undo-runs", "jobs", "Take back runs that should not count", Submit, 400, 404, 409, 413)
	undo.MaxBodyBytes = 64 << 10
	schema := schemaOf[UndoRequest](s)
	// Read by this package: huma calls a body that breaks off our own trouble.
	register(s, undo, func(ctx context.Context, in *JobPath) (*body[Undone], error) {
		var b UndoRequest
		if err := s.decodeFrom(exchangeOf(ctx).r.Body, &b, schema); err != nil {
			return nil, err
		}
		return s.undo(ctx, in.ID, b)
	})
	s.api.OpenAPI().Paths[undo.Path].Post.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{jsonType: {Schema: schema}}}
}

func (s *server) listJobs(ctx context.Context, in *jobsInput) (*body[JobList], error) {
	// One more tells whether there is a next page.
	jobs, err := s.Jobs.Jobs(ctx, JobFilter{Kind: in.Kind, Status: in.Status, Text: in.Text, Before: in.Before, Limit: in.Limit + 1})
	if err != nil {
		return nil, err
	}
	list := JobList{Jobs: orEmpty(jobs)}
	if len(jobs) > in.Limit {
		list.Jobs = jobs[:in.Limit]
		list.Next = jobs[in.Limit-1].ID
	}
	return &body[JobList]{list}, nil
}

func (s *server) job(ctx context.Context, id string) (*body[Job], error) {
	j, err := s.Jobs.Job(ctx, id)
	if err != nil {
		return nil, err
	}
	return &body[Job]{j}, nil
}

// reportPolicy keeps a report from loading or running anything: what stands in
// it comes from strangers' patches and kernels.
const reportPolicy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"

func (s *server) result(ctx context.Context, in *resultInput) (*huma.StreamResponse, error) {
	var text bytes.Buffer
	contentType := "text/plain; charset=utf-8"
	write := func(v any) error { return report.Text(&text, v, report.TextOptions{Width: 100}) }
	if f, ok := report.FormatNamed(in.Format); ok {
		contentType = f.ContentType
		write = func(v any) error { return f.Write(&text, v) }
	}
	v, err := s.Jobs.Result(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if v == nil {
		return nil, &NotFound{fmt.Sprintf("result of %s yet: /api/v1/jobs/%s says how far it is", in.ID, in.ID)}
	}
	if _, ok := v.(*kernel.BisectResult); !ok && in.Format == "mail" {
		return nil, problem(http.StatusNotAcceptable, "only a bisection has a mail form")
	}
	if err := write(v); err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(huma.Context) {
		w := exchangeOf(ctx).w
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Content-Security-Policy", reportPolicy)
		_, _ = w.Write(text.Bytes()) // who does not read on has gone
	}}, nil
}

func (s *server) undo(ctx context.Context, job string, b UndoRequest) (*body[Undone], error) {
	if b.All == (b.Last > 0 || b.Commit != "") {
		return nil, &BadInput{Text: `say which runs: {"last": 3}, {"commit": "1a2b3c4d"} or {"all": true}`}
	}
	n, err := s.Submitter.Undo(ctx, job, b.Commit, b.Last)
	if err != nil {
		return nil, err
	}
	return &body[Undone]{Undone{n}}, nil
}

// orEmpty keeps a list from being null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
