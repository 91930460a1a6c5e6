package agentproto

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

var odd = rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "\"", "\\u0000", "a\x00b\x1f\n", "\xff\xfe", "é\u2028<&>", "𝄞"}))

// What the guest writes by itself is what encoding/json would have written.
func TestEncodeReply(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := Message{V: Version, ID: odd.Draw(t, "id")}
		texts, numbers := rapid.SliceOf(odd), rapid.SliceOf(rapid.Int64())
		switch m.Type = rapid.SampledFrom([]Type{TypeHello, TypeOutput, TypeHeartbeat, TypeResult}).Draw(t, "type"); m.Type {
		case TypeHello:
			m.Hello = &Hello{
				Release: odd.Draw(t, "release"), ConfigCRC: odd.Draw(t, "crc"), CPUs: rapid.Int().Draw(t, "cpus"),
				MemoryKiB: rapid.Int64().Draw(t, "memory"), SwapKiB: rapid.Int64().Draw(t, "swap"),
				THPSizes: numbers.Draw(t, "thp"), HugetlbSizes: numbers.Draw(t, "hugetlb"),
				Features: texts.Draw(t, "features"), Problems: texts.Draw(t, "problems"),
			}
		case TypeOutput:
			m.Output = rapid.SliceOf(rapid.Byte()).Draw(t, "output")
		case TypeResult:
			m.Result = &Result{
				Exit: rapid.Int().Draw(t, "exit"), Signal: odd.Draw(t, "signal"), TimedOut: rapid.Bool().Draw(t, "timed out"),
				Truncated: rapid.Bool().Draw(t, "truncated"), Error: odd.Draw(t, "error"), WallMS: rapid.Int64().Draw(t, "wall"),
			}
		}
		var light bytes.Buffer
		if err := EncodeReply(&light, m); err != nil {
			t.Fatal(err)
		}
		whole, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var got, want any
		if err := json.Unmarshal(light.Bytes(), &got); err != nil {
			t.Fatalf("%v: %s", err, light.Bytes())
		}
		_ = json.Unmarshal(bytes.ReplaceAll(whole, []byte("null"), []byte("[]")), &want) // of a list
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("(-encoding/json +light)\n%s", d)
		}
		if light.Bytes()[light.Len()-1] != '\n' || bytes.Count(light.Bytes(), []byte("\n")) != 1 {
			t.Fatalf("not one line: %q", light.Bytes())
		}
	})
	if err := EncodeReply(&bytes.Buffer{}, Message{Type: TypeResult, ID: "x", Result: &Result{Error: strings.Repeat("x", MaxLine)}}); err == nil {
		t.Error("a line that no reader takes was written")
	}
}

// requests are the host's messages, and what is none.
var requests = []string{
	`{"v":1,"type":"prepare","id":"p","prepare":{"argv":["/bin/repro","--wait"]}}`,
	`{"v":1,"type":"wake","id":"w","wake":{"entropy":"AP8K"}}`,
	`{"v":1,"type":"wake","id":"w","wake":{"entropy":null}}`,
	`{"v":1,"type":"run","id":"r","run":{"argv":["/t","\u00e9\ud834\udd1e \"\\\u0000\n<"],"timeout_ms":60000,"max_output":1048576}}`,
	` { "type" : "run" , "v" : 1 , "later" : [{}, null] , "id" : "r" , "run" : { "argv" : [ "x" ] } } `,
	`{"v":1,"type":"run","id":"r","run":{"argv":["x"],"timeout_ms":-9223372036854775808}}`,
	// None of these is a message.
	`{"v":1,"type":"run","id":"r","run":{"argv":["x"],"timeout_ms":9223372036854775808}}`,
	`{"v":1,"type":"run","id":"r","run":{"argv":["x"],"timeout_ms":1.5}}`,
	`{"v":1,"type":"run","id":"r","run":{"argv":[]}}`,
	`{"v":1,"type":"run","id":"r","run":{"argv":["x",1]}}`,
	`{"v":1,"type":"run","id":"r","run":{"argv":"x"}}`,
	`{"v":1,"type":"run","id":"r","run":[]}`,
	`{"v":1,"type":"run","id":7,"run":{"argv":["x"]}}`,
	`{"v":"1","type":"run","id":"r","run":{"argv":["x"]}}`,
	`{"v":2,"type":"run","id":"r","run":{"argv":["x"]}}`,
	`{"v":1,"type":"run","run":{"argv":["x"]}}`,
	`{"v":1,"type":"wake","id":"w","wake":{"entropy":"?"}}`,
	`{"v":1,"type":"wake","id":"w","wake":{"entropy":7}}`,
	`{"v":1,"type":"wake","id":"w"}`,
	`{"v":1,"type":"boo","id":"w"}`,
	`{"v":1}{"v":1}`, `[]`, `1`, `"x"`, `null`, ``, `{`, "\xff",
}

// same compares what the two readers make of a line.
func same(t *testing.T, line []byte) (ok bool) {
	t.Helper()
	whole, wErr := NewReader(bytes.NewReader(line)).Next()
	light, lErr := NewReader(bytes.NewReader(line)).NextRequest()
	if (wErr == nil) != (lErr == nil) || errors.Is(wErr, ErrGarbage) != errors.Is(lErr, ErrGarbage) {
		t.Errorf("%q: encoding/json says %+v, %v; the light one %+v, %v", line, whole, wErr, light, lErr)
	}
	if d := cmp.Diff(whole, light, cmpopts.EquateEmpty()); wErr == nil && lErr == nil && d != "" {
		t.Errorf("%q: (-encoding/json +light)\n%s", line, d)
	}
	return lErr == nil
}

// What the guest reads by itself is what encoding/json would have read.
func TestNextRequest(t *testing.T) {
	good := 0
	for _, line := range requests {
		if same(t, []byte(line+"\n")) {
			good++
		}
	}
	if good != 6 {
		t.Errorf("%d good ones, want the first 6", good)
	}
	rapid.Check(t, func(t *rapid.T) {
		m := Message{V: Version, ID: "x"}
		argv := append([]string{"/t"}, rapid.SliceOf(odd).Draw(t, "argv")...)
		switch m.Type = rapid.SampledFrom([]Type{TypePrepare, TypeWake, TypeRun}).Draw(t, "type"); m.Type {
		case TypePrepare:
			m.Prepare = &Prepare{Argv: argv}
		case TypeWake:
			m.Wake = &Wake{Entropy: rapid.SliceOf(rapid.Byte()).Draw(t, "entropy")}
		case TypeRun:
			m.Run = &Run{Argv: argv, TimeoutMS: rapid.Int64().Draw(t, "timeout"), MaxOutput: rapid.Int64().Draw(t, "output")}
		}
		var line bytes.Buffer
		if err := Encode(&line, m); err != nil {
			t.Fatal(err)
		}
		again := bytes.NewReader(line.Bytes())
		want, err := NewReader(&line).Next()
		if err != nil {
			t.Fatal(err)
		}
		got, err := NewReader(again).NextRequest()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("(-encoding/json +light)\n%s", d)
		}
	})
}
