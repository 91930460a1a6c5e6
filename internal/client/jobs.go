package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"strconv"

	"github.com/kernel-bisect/kbisect/internal/api"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

const prefix = "/api/v1"

// Check asks for a commit to be tested.
func (c *Client) Check(ctx context.Context, r api.CheckRequest) (api.Submitted, error) {
	return c.submit(ctx, api.Check, r, nil)
}

// CheckKernel asks for a ready image to be tested. modules is the path of a tar
// archive, "" for none.
func (c *Client) CheckKernel(ctx context.Context, r api.CheckRequest, image, modules string) (api.Submitted, error) {
	files := []upload{{"kernel", image}}
	if modules != "" {
		files = append(files, upload{"modules", modules})
	}
	return c.submit(ctx, api.Check, r, files)
}

// Series asks for every commit of a series to be tested.
func (c *Client) Series(ctx context.Context, r api.SeriesRequest) (api.Submitted, error) {
	return c.submit(ctx, api.Series, r, nil)
}

// SeriesMbox asks for every patch of a mailbox, a file, to be tested.
func (c *Client) SeriesMbox(ctx context.Context, r api.SeriesRequest, mbox string) (api.Submitted, error) {
	return c.submit(ctx, api.Series, r, []upload{{"mbox", mbox}})
}

// Bisect asks for the commit that made a test fail.
func (c *Client) Bisect(ctx context.Context, r api.BisectRequest) (api.Submitted, error) {
	return c.submit(ctx, api.Bisect, r, nil)
}

// BisectMbox asks for the patch of a mailbox, a file, that made a test fail.
func (c *Client) BisectMbox(ctx context.Context, r api.BisectRequest, mbox string) (api.Submitted, error) {
	return c.submit(ctx, api.Bisect, r, []upload{{"mbox", mbox}})
}

// submit asks for a job. A key lets it be asked for again when the answer was
// lost.
func (c *Client) submit(ctx context.Context, kind api.Kind, request any, files []upload) (s api.Submitted, err error) {
	body, err := jsonContent(request)
	if err == nil && files != nil {
		body, err = formContent(request, files)
	}
	if err != nil {
		return s, err
	}
	header := http.Header{"Idempotency-Key": {rand.Text()}}
	err = c.call(ctx, http.MethodPost, prefix+"/jobs/"+string(kind), header, body, &s)
	return s, err
}

type upload struct{ field, path string }

// formContent is a request with files, which are read while they are sent.
func formContent(request any, files []upload) (*content, error) {
	text, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	// The boundary stands in the type, which is the same for every try.
	boundary := rand.Text()
	return &content{"multipart/form-data; boundary=" + boundary, func() (io.ReadCloser, error) {
		open := make([]*os.File, 0, len(files))
		closeAll := func() {
			for _, f := range open {
				_ = f.Close()
			}
		}
		for _, u := range files {
			f, err := os.Open(u.path)
			if err != nil {
				closeAll()
				return nil, err
			}
			open = append(open, f)
		}
		r, w := io.Pipe()
		go func() {
			defer closeAll()
			w.CloseWithError(writeForm(w, boundary, text, files, open))
		}()
		return r, nil
	}}, nil
}

func writeForm(w io.Writer, boundary string, request []byte, files []upload, open []*os.File) error {
	m := multipart.NewWriter(w)
	if err := m.SetBoundary(boundary); err != nil {
		return err
	}
	p, err := m.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {`form-data; name="request"`}, "Content-Type": {"application/json"},
	})
	if err != nil {
		return err
	}
	if _, err := p.Write(request); err != nil {
		return err
	}
	for i, f := range open {
		// What the file is called here concerns nobody there.
		p, err := m.CreateFormFile(files[i].field, files[i].field)
		if err != nil {
			return err
		}
		if _, err := io.Copy(p, f); err != nil {
			return err
		}
	}
	return m.Close()
}

// Jobs lists jobs, the newest first; next is for Before, "" where there are no
// more.
func (c *Client) Jobs(ctx context.Context, f api.JobFilter) (jobs []api.Job, next string, err error) {
	q := url.Values{}
	for k, v := range map[string]string{"kind": f.Kind, "status": f.Status, "text": f.Text, "before": f.Before} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	var l api.JobList
	err = c.get(ctx, prefix+"/jobs?"+q.Encode(), &l)
	return l.Jobs, l.Next, err
}

// Job reads a job.
func (c *Client) Job(ctx context.Context, id string) (j api.Job, err error) {
	err = c.get(ctx, jobPath(id, ""), &j)
	return j, err
}

// Result reads the result so far: a *kernel.CheckResult, MatrixResult,
// SeriesResult or BisectResult.
func (c *Client) Result(ctx context.Context, id string) (any, error) {
	text, err := c.Report(ctx, id, "json")
	if err != nil {
		return nil, err
	}
	return decodeResult(text)
}

func decodeResult(text []byte) (any, error) {
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, errors.New("the server's result is no JSON")
	}
	var v any
	switch head.Schema {
	case "kbisect/check/v1":
		v = &kernel.CheckResult{}
	case "kbisect/matrix/v1":
		v = &kernel.MatrixResult{}
	case "kbisect/series/v1":
		v = &kernel.SeriesResult{}
	case "kbisect/bisect/v1":
		v = &kernel.BisectResult{}
	default:
		return nil, fmt.Errorf("the server's result is a %s, which this orchestrator does not know: install the one that the server has", harmless(head.Schema))
	}
	if err := json.Unmarshal(text, v); err != nil {
		return nil, errors.New("the server's result is not what it says it is: " + harmless(err.Error()))
	}
	return v, nil
}

// Report fetches a result as the server renders it: json, text, html,
// markdown, junit, kcidb or mail.
func (c *Client) Report(ctx context.Context, id, format string) ([]byte, error) {
	res, err := c.send(ctx, http.MethodGet, jobPath(id, "/result?format="+url.QueryEscape(format)), nil, nil, tries)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	return c.read(res)
}

// Cancel ends a job; its runs are kept.
func (c *Client) Cancel(ctx context.Context, id string) (api.Job, error) {
	return c.act(ctx, id, "cancel")
}

// Retry goes on with a job that is over.
func (c *Client) Retry(ctx context.Context, id string) (api.Job, error) {
	return c.act(ctx, id, "retry")
}

func (c *Client) act(ctx context.Context, id, what string) (j api.Job, err error) {
	err = c.call(ctx, http.MethodPost, jobPath(id, "/"+what), nil, nil, &j)
	return j, err
}

// Undo takes back runs of a job, and says how many. It is not repeated: twice
// would be too many.
func (c *Client) Undo(ctx context.Context, id string, which api.UndoRequest) (int, error) {
	body, err := jsonContent(which)
	if err != nil {
		return 0, err
	}
	res, err := c.send(ctx, http.MethodPost, jobPath(id, "/undo"), nil, body, 1)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := c.read(res)
	if err != nil {
		return 0, err
	}
	var u api.Undone
	err = json.Unmarshal(text, &u)
	return u.Withdrawn, err
}

// Server says what the server is.
func (c *Client) Server(ctx context.Context) (v api.ServerVersion, err error) {
	err = c.get(ctx, prefix+"/version", &v)
	return v, err
}

func jobPath(id, rest string) string { return prefix + "/jobs/" + url.PathEscape(id) + rest }
