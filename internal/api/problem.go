package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/zap"
)

// Problem is every error of the API: RFC 9457, application/problem+json. Detail
// is a sentence for a person; Errors has each wrong field.
type Problem = huma.ErrorModel

func problem(status int, detail string) *Problem {
	return &Problem{Status: status, Title: http.StatusText(status), Detail: detail}
}

// problem says an error of a handler to the user, without inside details.
func (s *server) problem(ctx context.Context, err error) *Problem {
	var ready *Problem
	var notFound *NotFound
	var bad *BadInput
	var conflict *Conflict
	switch {
	case errors.As(err, &ready):
		return ready
	case errors.As(err, &notFound):
		return problem(http.StatusNotFound, notFound.Error())
	case errors.As(err, &bad):
		p := problem(http.StatusUnprocessableEntity, bad.Error())
		if bad.Field != "" {
			p.Errors = []*huma.ErrorDetail{{Location: "body." + bad.Field, Message: bad.Text}}
		}
		return p
	case errors.As(err, &conflict):
		return problem(http.StatusConflict, conflict.Error())
	case ctx.Err() != nil:
		return problem(http.StatusServiceUnavailable, "the request ended before there was an answer: try again")
	}
	x := exchangeOf(ctx)
	s.Log.Error("request", zap.String("request", x.id), zap.String("method", x.r.Method), zap.String("path", x.r.URL.Path), zap.Error(err))
	p := problem(http.StatusInternalServerError, "the server could not do it; its log says why under request "+x.id)
	p.Instance = "urn:kbisect:request:" + x.id
	return p
}

// plain puts what huma found wrong into one sentence, and takes out the values:
// they may be long, and are no secret of ours to repeat.
func plain(_ huma.Context, status string, v any) (any, error) {
	p, ok := v.(*Problem)
	if !ok {
		return v, nil
	}
	for _, e := range p.Errors {
		e.Value = nil
		e.Message = clip(e.Message)
		e.Location = clip(e.Location)
	}
	switch {
	case status == strconv.Itoa(http.StatusNotAcceptable) && len(p.Errors) > 0:
		p.Detail, p.Errors = "the API answers in application/json", nil
	case len(p.Errors) > 0 && (p.Detail == "validation failed" || p.Detail == ""):
		p.Detail = sentence(p.Errors)
	}
	return p, nil
}

func sentence(errs []*huma.ErrorDetail) string {
	text := errs[0].Message
	if errs[0].Location != "" {
		text = errs[0].Location + ": " + text
	}
	if n := len(errs) - 1; n > 0 {
		text += fmt.Sprintf(" (and %d more)", n)
	}
	return text + "; /openapi.json says what is expected"
}

// maxEcho bounds what comes from the request in an error.
const maxEcho = 200

func clip(s string) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	if len(s) > maxEcho {
		s = strings.ToValidUTF8(s[:maxEcho], "") + "..."
	}
	return s
}

// writeProblem is for where huma is not yet, or no longer, at work.
func writeProblem(w http.ResponseWriter, p *Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // who does not read on has gone
}
