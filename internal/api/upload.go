package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

// uploadTime is how long a body may take, whatever the server's limit is: a
// kernel over a slow line.
const uploadTime = 15 * time.Minute

// uploaded are the files of a request.
type uploaded struct {
	mbox            []byte
	kernel, modules string // paths
	dir             string
}

func (u *uploaded) remove() {
	if u != nil && u.dir != "" {
		_ = os.RemoveAll(u.dir)
	}
}

// part is a file that a form may have.
type part struct {
	name  string
	limit func(*Limits) int64
}

var (
	mboxPart    = part{"mbox", func(l *Limits) int64 { return l.Mbox }}
	kernelPart  = part{"kernel", func(l *Limits) int64 { return l.Kernel }}
	modulesPart = part{"modules", func(l *Limits) int64 { return l.Modules }}
)

// partsOf are the files that a request of that type takes.
func partsOf(want wanted) []part {
	switch want.(type) {
	case *CheckRequest:
		return []part{kernelPart, modulesPart}
	case *SeriesRequest, *BisectRequest:
		return []part{mboxPart}
	}
	return nil
}

// read reads a body of any type that the kind takes. What it returns is to be
// removed, on errors too.
func (s *server) read(x *exchange, want wanted, schema *huma.Schema, mbox *mboxInput) (*uploaded, error) {
	c := http.NewResponseController(x.w)
	_ = c.SetReadDeadline(time.Now().Add(uploadTime))
	_ = c.SetWriteDeadline(time.Now().Add(uploadTime + writeTime)) // the server's would end before
	files := &uploaded{}
	body := x.r.Body
	contentType, params, err := mime.ParseMediaType(x.r.Header.Get("Content-Type"))
	if err != nil {
		return files, unsupported(want)
	}
	if mbox != nil && contentType != mboxType && contentType != mailType && (mbox.Repo != "" || mbox.Base != "" || mbox.Profile != "" || mbox.Tests != nil) {
		return files, problem(http.StatusUnprocessableEntity, "repo, base, profile and test stand in the address only where the body is a mailbox: put them into the JSON")
	}
	switch {
	case contentType == jsonType:
		return files, s.decodeFrom(body, want, schema)
	case contentType == multipartType && len(partsOf(want)) > 0:
		return files, s.readForm(multipart.NewReader(body, params["boundary"]), want, schema, files)
	case (contentType == mboxType || contentType == mailType) && mbox != nil:
		fields := SeriesRequest{Repo: mbox.Repo, Base: mbox.Base, Plan: Plan{Profile: mbox.Profile, Tests: mbox.Tests}}
		text, err := json.Marshal(fields)
		if err != nil {
			return files, err
		}
		if err := s.decode(text, want, schema); err != nil {
			return files, err
		}
		files.mbox, err = readMbox(body, s.Limits.Mbox)
		return files, err
	}
	return files, unsupported(want)
}

func unsupported(want wanted) error {
	text := "send the request as " + jsonType
	switch want.(type) {
	case *CheckRequest:
		text += ", or as " + multipartType + " with the fields request and kernel"
	case *BisectRequest:
		text += ", or as " + multipartType + " with the fields request and mbox"
	case *SeriesRequest:
		text += ", as " + multipartType + " with the fields request and mbox, or a mailbox as " + mboxType
	}
	return problem(http.StatusUnsupportedMediaType, text)
}

// readForm reads a form, field by field; the big ones go to disk.
func (s *server) readForm(form *multipart.Reader, want wanted, schema *huma.Schema, files *uploaded) error {
	seen := map[string]bool{}
	for {
		p, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return badBody(err, "the form is broken")
		}
		name := p.FormName()
		if seen[name] {
			return problem(http.StatusUnprocessableEntity, "the form has the field "+clip(name)+" twice")
		}
		seen[name] = true
		if err := s.readPart(p, name, want, schema, files); err != nil {
			return err
		}
	}
	if !seen["request"] {
		return problem(http.StatusUnprocessableEntity, "the form has no field request with the JSON")
	}
	return nil
}

func (s *server) readPart(p io.Reader, name string, want wanted, schema *huma.Schema, files *uploaded) error {
	if name == "request" {
		return s.decodeFrom(p, want, schema)
	}
	for _, f := range partsOf(want) {
		if f.name != name {
			continue
		}
		limit := f.limit(&s.Limits)
		switch name {
		case "mbox":
			var err error
			files.mbox, err = readMbox(p, limit)
			return err
		case "kernel":
			return s.keep(p, name, limit, files, &files.kernel)
		case "modules":
			return s.keep(p, name, limit, files, &files.modules)
		}
	}
	return problem(http.StatusUnprocessableEntity, "the form has a field that means nothing here: "+clip(name))
}

// keep writes a file of the request to disk. Its name is ours: what the client
// calls it goes nowhere.
func (s *server) keep(from io.Reader, name string, limit int64, files *uploaded, path *string) error {
	if files.dir == "" {
		dir, err := os.MkdirTemp(s.Uploads, "upload-")
		if err != nil {
			return err
		}
		files.dir = dir
	}
	to, err := os.Create(files.dir + "/" + name)
	if err != nil {
		return err
	}
	defer to.Close()
	n, err := io.Copy(to, &reading{io.LimitReader(from, limit+1)})
	var broken *readError
	switch {
	case errors.As(err, &broken):
		return badBody(broken.err, name+" ended early")
	case err != nil:
		return err // of the disk
	case n > limit:
		return tooLarge(name, limit)
	case n == 0:
		return problem(http.StatusUnprocessableEntity, name+" is empty")
	}
	*path = to.Name()
	return to.Close()
}

// reading marks errors of the client's side, so that a full disk is not blamed
// on it.
type reading struct{ from io.Reader }

type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }

func (r *reading) Read(b []byte) (int, error) {
	n, err := r.from.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &readError{err}
	}
	return n, err
}

func readMbox(from io.Reader, limit int64) ([]byte, error) {
	text, err := readUpTo(from, "the mailbox", limit)
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, problem(http.StatusUnprocessableEntity, "the mailbox is empty")
	}
	return text, nil
}

func readUpTo(from io.Reader, what string, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(from, limit+1))
	if err != nil {
		return nil, badBody(err, what+" ended early")
	}
	if int64(len(text)) > limit {
		return nil, tooLarge(what, limit)
	}
	return text, nil
}

func tooLarge(what string, limit int64) error {
	return problem(http.StatusRequestEntityTooLarge, fmt.Sprintf("%s is larger than %d bytes, which is the limit of this server", what, limit))
}

// badBody says why a body could not be read.
func badBody(err error, text string) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return tooLarge("the request", large.Limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return problem(http.StatusRequestTimeout, "the request took too long to arrive")
	}
	return problem(http.StatusBadRequest, text+": it was cut off or is no such thing")
}

func (s *server) decodeFrom(from io.Reader, want any, schema *huma.Schema) error {
	text, err := readUpTo(from, "the request", s.Limits.JSON)
	if err != nil {
		return err
	}
	return s.decode(text, want, schema)
}

// decode reads JSON as the description has it: one object, no field that is not
// described.
func (s *server) decode(text []byte, want any, schema *huma.Schema) error {
	if !utf8.Valid(text) {
		return problem(http.StatusUnprocessableEntity, "the JSON is not UTF-8")
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil { // refuses what is nested deeper than 10,000
		return problem(http.StatusUnprocessableEntity, "the JSON cannot be read: "+clip(err.Error()))
	}
	var res huma.ValidateResult
	path := huma.NewPathBuffer(nil, 0)
	path.Push("body")
	huma.Validate(s.api.OpenAPI().Components.Schemas, schema, path, huma.ModeWriteToServer, v, &res)
	if len(res.Errors) > 0 {
		p := problem(http.StatusUnprocessableEntity, "")
		for _, e := range res.Errors[:min(len(res.Errors), 20)] {
			p.Add(e)
		}
		return p
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(want); err != nil {
		return problem(http.StatusUnprocessableEntity, "the JSON cannot be read: "+clip(err.Error()))
	}
	return nil
}
