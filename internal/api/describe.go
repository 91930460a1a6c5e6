package api

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

const prefix = "/api/v1"

func description() *huma.OpenAPI {
	return &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title:       "kbisect",
			Version:     "1",
			Description: "Submit, read and follow checks, series and bisections of Linux kernels. Errors are RFC 9457 problems. Fields and parameters that are not described are refused.",
			License:     &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
		},
		Servers: []*huma.Server{{URL: "/"}},
		Components: &huma.Components{
			Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
			SecuritySchemes: map[string]*huma.SecurityScheme{tokenScheme: {
				Type: "http", Scheme: "bearer",
				Description: "A token kb_<id>_<secret> of the scope read, submit or admin. A server may allow reading without one.",
			}},
		},
	}
}

// describe is the description as it is served. The mux writes "the rest of the
// path" as {name...}, which OpenAPI does not know.
func describe(o *huma.OpenAPI) []byte {
	for path, item := range o.Paths {
		if plain := strings.ReplaceAll(path, "...}", "}"); plain != path {
			delete(o.Paths, path)
			o.Paths[plain] = item
		}
	}
	b, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		panic(err) // a description that cannot be written is a mistake of this package
	}
	return append(b, '\n')
}

// operation is one with what all have: a scope, and its errors.
func operation(method, path, id, tag, summary string, scope Scope, errs ...int) huma.Operation {
	return huma.Operation{
		Method: method, Path: prefix + path, OperationID: id, Tags: []string{tag}, Summary: summary,
		Security: []map[string][]string{{tokenScheme: {string(scope)}}},
		Errors:   append([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests}, errs...),
	}
}

// register adds a route whose errors become problems.
func register[I, O any](s *server, op huma.Operation, handle func(context.Context, *I) (*O, error)) {
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, s.problem(ctx, err)
		}
		return out, nil
	})
}

// body is an answer in JSON.
type body[T any] struct{ Body T }

// streamed describes an answer that is no JSON.
func streamed(op huma.Operation, types ...string) huma.Operation {
	r := &huma.Response{Description: http.StatusText(http.StatusOK), Content: map[string]*huma.MediaType{}}
	for _, t := range types {
		r.Content[t] = &huma.MediaType{Schema: &huma.Schema{Type: "string"}}
	}
	op.Responses = map[string]*huma.Response{"200": r}
	return op
}

// schemaOf is the schema of T, and enters it into the description.
func schemaOf[T any](s *server) *huma.Schema {
	t := reflect.TypeFor[T]()
	return s.api.OpenAPI().Components.Schemas.Schema(t, true, t.Name())
}
