// Package report renders results for people and programs: text, JSON and HTML.
// It must not know how a result came about, and it measures nothing: every
// output depends only on the result. Commit subjects, reasons, logs and test
// names come from strangers' patches and guests; they are neutralised here, at
// the last moment, so that no caller can forget it.
package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"reflect"
	"unicode/utf16"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// The schemas of the JSON output.
const (
	checkSchema  = "kbisect/check/v1"
	matrixSchema = "kbisect/matrix/v1"
	seriesSchema = "kbisect/series/v1"
	bisectSchema = "kbisect/bisect/v1"
	configSchema = "kbisect/bisect-config/v1"
)

// JSON writes a *kernel.CheckResult, *kernel.MatrixResult, *kernel.SeriesResult,
// *kernel.BisectResult or *kernel.ConfigResult as an indented object with its schema. Lists are never
// null, and numbers that are none (NaN, Inf) are written as 0.
func JSON(w io.Writer, v any) error {
	switch r := v.(type) {
	case *kernel.CheckResult:
		c := *r
		c.Schema = checkSchema
		v = c
	case *kernel.MatrixResult:
		c := *r
		c.Schema = matrixSchema
		v = c
	case *kernel.SeriesResult:
		c := *r
		c.Schema = seriesSchema
		v = c
	case *kernel.BisectResult:
		c := *r
		c.Schema = bisectSchema
		v = c
	case *kernel.ConfigResult:
		c := *r
		c.Schema = configSchema
		v = c
	default:
		return unknown(v)
	}
	return writeJSON(w, finite(reflect.ValueOf(v)).Interface())
}

// writeJSON writes an indented value. Characters that act on a terminal are escapes
// in it, all of them: JSON itself asks that of the first 32 alone.
func writeJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false) // "a->b" and "<name@host>" are common here
	if err := enc.Encode(v); err != nil {
		return err
	}
	text := b.Bytes()
	if bytes.ContainsFunc(text, actsInJSON) {
		var out bytes.Buffer
		for _, r := range b.String() {
			if !actsInJSON(r) {
				out.WriteRune(r)
				continue
			}
			for _, u := range utf16.AppendRune(nil, r) {
				fmt.Fprintf(&out, `\u%04x`, u)
			}
		}
		text = out.Bytes()
	}
	_, err := w.Write(text)
	return err
}

func actsInJSON(r rune) bool { return r != '\n' && acts(r) }

func unknown(v any) error { return fmt.Errorf("report: cannot render a %T", v) }

// finite copies a value, with every list present and every number a number.
// What it leaves alone is shared with the original, which stays as it is.
func finite(v reflect.Value) reflect.Value {
	switch v.Kind() {
	case reflect.Float64:
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return reflect.Zero(v.Type())
		}
	case reflect.Pointer:
		if !v.IsNil() {
			p := reflect.New(v.Type().Elem())
			p.Elem().Set(finite(v.Elem()))
			return p
		}
	case reflect.Slice:
		out := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		for i := range v.Len() {
			out.Index(i).Set(finite(v.Index(i)))
		}
		return out
	case reflect.Map:
		if v.IsNil() {
			return reflect.MakeMap(v.Type())
		}
	case reflect.Struct:
		if v.Type().PkgPath() != reflect.TypeFor[kernel.Commit]().PkgPath() {
			return v // time.Time and the like
		}
		out := reflect.New(v.Type()).Elem()
		for i := range v.NumField() {
			out.Field(i).Set(finite(v.Field(i)))
		}
		return out
	}
	return v
}
