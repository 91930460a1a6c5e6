package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

func TestDescription(t *testing.T) {
	w := ask(t, New(newWorld().options()), "GET", "/openapi.json", "", "")
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != jsonType {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	got := w.Body.Bytes()
	const golden = "testdata/openapi.json"
	if *update {
		ok(t, os.MkdirAll("testdata", 0o755))
		ok(t, os.WriteFile(golden, got, 0o644))
	}
	want, err := os.ReadFile(golden)
	ok(t, err)
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("-update rewrites it (-want +got):\n%s", d)
	}
}

// object walks into a decoded JSON object.
type object = map[string]any

// The description keeps the rules of OpenAPI 3.1 that a generator of clients
// stumbles over.
func TestDescriptionIsOpenAPI(t *testing.T) {
	text, err := os.ReadFile("testdata/openapi.json")
	ok(t, err)
	var doc object
	ok(t, json.Unmarshal(text, &doc))
	if doc["openapi"] != "3.1.0" || doc["info"].(object)["title"] == "" || doc["info"].(object)["version"] == "" {
		t.Error("no openapi, title or version")
	}
	components := doc["components"].(object)
	ids := map[string]bool{}
	inPath := regexp.MustCompile(`\{([^}]*)\}`)
	header, _ := json.Marshal(doc["paths"])
	if n := strings.Count(string(header), `"Idempotency-Key"`); n != 3 {
		t.Errorf("%d routes take an Idempotency-Key, want those that submit", n)
	}
	for path, item := range doc["paths"].(object) {
		if !regexp.MustCompile(`^(/([a-z0-9-]+|\{[a-z]+\}))+$`).MatchString(path) {
			t.Errorf("path %s", path)
		}
		for method, v := range item.(object) {
			op := v.(object)
			where := method + " " + path
			id, _ := op["operationId"].(string)
			if id == "" || ids[id] {
				t.Errorf("%s: operationId %q", where, id)
			}
			ids[id] = true
			var declared, used []string
			for _, p := range asList(op["parameters"]) {
				p := p.(object)
				if p["in"] == "path" {
					declared = append(declared, p["name"].(string))
					if p["required"] != true {
						t.Errorf("%s: path parameter %s must be required", where, p["name"])
					}
				}
				if p["schema"] == nil {
					t.Errorf("%s: parameter %s has no schema", where, p["name"])
				}
			}
			for _, m := range inPath.FindAllStringSubmatch(path, -1) {
				used = append(used, m[1])
			}
			if d := cmp.Diff(used, declared); d != "" {
				t.Errorf("%s: parameters of the path (-used +declared):\n%s", where, d)
			}
			if op["requestBody"] != nil && method == "get" {
				t.Errorf("%s has a body", where)
			}
			responses := op["responses"].(object)
			for code, r := range responses {
				if !regexp.MustCompile(`^([1-5][0-9][0-9]|default)$`).MatchString(code) || r.(object)["description"] == "" {
					t.Errorf("%s: response %s", where, code)
				}
				if code >= "4" && r.(object)["content"].(object)["application/problem+json"] == nil {
					t.Errorf("%s: %s is no problem+json", where, code)
				}
			}
			for _, code := range []string{"401", "403", "429", "500"} {
				if responses[code] == nil {
					t.Errorf("%s does not describe %s", where, code)
				}
			}
			for _, s := range asList(op["security"]) {
				for scheme := range s.(object) {
					if components["securitySchemes"].(object)[scheme] == nil {
						t.Errorf("%s: no security scheme %s", where, scheme)
					}
				}
			}
			if len(asList(op["security"])) == 0 {
				t.Errorf("%s needs no token", where)
			}
		}
	}
	walk(doc, "", func(where string, o object) {
		if ref, isRef := o["$ref"].(string); isRef {
			name, local := strings.CutPrefix(ref, "#/components/schemas/")
			if !local || components["schemas"].(object)[name] == nil {
				t.Errorf("%s: %s leads nowhere", where, ref)
			}
		}
		// Schemas are JSON Schema 2020-12: nullable and a boolean
		// exclusiveMinimum are of older versions.
		if _, has := o["nullable"]; has {
			t.Errorf("%s: nullable is not of 3.1", where)
		}
		if p, isText := o["pattern"].(string); isText {
			if _, err := regexp.Compile(p); err != nil {
				t.Errorf("%s: %v", where, err)
			}
		}
		props, _ := o["properties"].(object)
		for _, r := range asList(o["required"]) {
			if props[fmt.Sprint(r)] == nil {
				t.Errorf("%s: required %v is no property", where, r)
			}
		}
	})
	if bytes.Contains(text, []byte("$schema")) || bytes.Contains(text, []byte("unpkg")) {
		t.Error("something of huma's own pages is left")
	}
}

// Every request schema refuses what it does not describe.
func TestRequestsAreClosed(t *testing.T) {
	text, err := os.ReadFile("testdata/openapi.json")
	ok(t, err)
	var doc object
	ok(t, json.Unmarshal(text, &doc))
	schemas := doc["components"].(object)["schemas"].(object)
	for _, name := range []string{"CheckRequest", "SeriesRequest", "BisectRequest", "Program", "UndoRequest"} {
		if s := schemas[name].(object); s["additionalProperties"] != false {
			t.Errorf("%s takes anything", name)
		}
	}
}

func asList(v any) []any { l, _ := v.([]any); return l }

func walk(v any, where string, visit func(string, object)) {
	switch v := v.(type) {
	case object:
		visit(where, v)
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			walk(v[k], where+"/"+k, visit)
		}
	case []any:
		for i, e := range v {
			walk(e, fmt.Sprintf("%s/%d", where, i), visit)
		}
	}
}
