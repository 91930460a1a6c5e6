package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// RunPath is the id in an address.
type RunPath struct {
	ID int64 `path:"id" minimum:"1"`
}

// RunList is a page of runs.
type RunList struct {
	Runs []Run `json:"runs" nullable:"false" doc:"In the order they were made"`
	Next int64 `json:"next,omitempty" doc:"For after=, if there are more"`
}

type runsInput struct {
	JobPath
	After int64 `query:"after" minimum:"0" doc:"Only runs later than this one"`
	Limit int   `query:"limit" minimum:"1" maximum:"1000" default:"200"`
}

func (s *server) runRoutes() {
	register(s, operation("GET", "/jobs/{id}/runs", "list-runs", "runs", "List the runs of a job", Read, 404), s.listRuns)
	register(s, operation("GET", "/runs/{id}", "get-run", "runs", "Read a run", Read, 404),
		func(ctx context.Context, in *RunPath) (*body[Run], error) {
			r, err := s.Runs.Run(ctx, in.ID)
			return &body[Run]{r}, err
		})
	for _, name := range []string{"console", "output"} {
		summary := "Read the console of the kernel during a run; ranges are served"
		if name == "output" {
			summary = "Read what the test printed; ranges are served"
		}
		op := streamed(operation("GET", "/runs/{id}/"+name, "get-"+name, "runs", summary, Read, 404), "text/plain")
		partial := *op.Responses["200"]
		partial.Description = http.StatusText(http.StatusPartialContent)
		op.Responses["206"] = &partial
		register(s, op, func(ctx context.Context, in *RunPath) (*huma.StreamResponse, error) {
			return s.text(ctx, in.ID, name)
		})
	}
}

func (s *server) listRuns(ctx context.Context, in *runsInput) (*body[RunList], error) {
	if _, err := s.Jobs.Job(ctx, in.ID); err != nil {
		return nil, err
	}
	runs, err := s.Runs.Runs(ctx, RunFilter{Job: in.ID, After: in.After, Limit: in.Limit + 1})
	if err != nil {
		return nil, err
	}
	list := RunList{Runs: orEmpty(runs)}
	if len(runs) > in.Limit {
		list.Runs = runs[:in.Limit]
		list.Next = runs[in.Limit-1].ID
	}
	return &body[RunList]{list}, nil
}

// text serves what a guest said: as an attachment, so that no browser takes it
// for a page.
func (s *server) text(ctx context.Context, id int64, name string) (*huma.StreamResponse, error) {
	output, console, err := s.Runs.Texts(ctx, id)
	if err != nil {
		return nil, err
	}
	text := console
	if name == "output" {
		text = output
	}
	return &huma.StreamResponse{Body: func(huma.Context) {
		x := exchangeOf(ctx)
		h := x.w.Header()
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="run-%d-%s.txt"`, id, name))
		h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
		// A run does not change: a range of it can be asked for later.
		h.Set("ETag", fmt.Sprintf(`"run-%d-%s"`, id, name))
		http.ServeContent(x.w, x.r, "", time.Time{}, strings.NewReader(text))
	}}, nil
}
