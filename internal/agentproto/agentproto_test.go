package agentproto

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRoundTrip(t *testing.T) {
	want := []Message{
		{V: 1, Type: TypeHello, Hello: &Hello{Release: "6.1.0", CPUs: 2, THPSizes: []int64{2 << 20}}},
		{V: 1, Type: TypeRun, ID: "r1", Run: &Run{Argv: []string{"/t", "a b"}}},
		{V: 1, Type: TypeWake, ID: "w1", Wake: &Wake{Entropy: []byte{0, 255, '\n'}}},
		{V: 1, Type: TypeOutput, ID: "r1", Output: []byte("ok 1\n\x00\xff")},
		{V: 1, Type: TypeHeartbeat, ID: "r1"},
		{V: 1, Type: TypeResult, ID: "r1", Result: &Result{Exit: 4, WallMS: 12}},
	}
	var buf bytes.Buffer
	for _, m := range want {
		if err := Encode(&buf, m); err != nil {
			t.Fatal(err)
		}
	}
	r := NewReader(&buf)
	for i, w := range want {
		got, err := r.Next()
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if d := cmp.Diff(w, got); d != "" {
			t.Errorf("message %d (-want +got):\n%s", i, d)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v, want EOF", err)
	}
}

func TestGarbageIsReportedAndSkipped(t *testing.T) {
	good := `{"v":1,"type":"heartbeat","id":"x"}` + "\n"
	for name, bad := range map[string]string{
		"not json":        "\x00\xff[ 1.2] oops\n",
		"empty line":      "\n",
		"wrong version":   `{"v":2,"type":"heartbeat","id":"x"}` + "\n",
		"unknown type":    `{"v":1,"type":"` + strings.Repeat("z", 100) + `","id":"x"}` + "\n",
		"result, no body": `{"v":1,"type":"result","id":"x"}` + "\n",
		"result, no id":   `{"v":1,"type":"result","result":{"exit":0}}` + "\n",
		"run, no argv":    `{"v":1,"type":"run","id":"x","run":{"argv":[]}}` + "\n",
		"too long":        strings.Repeat("a", 3*MaxLine) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := NewReader(strings.NewReader(bad + good))
			if m, err := r.Next(); !errors.Is(err, ErrGarbage) {
				t.Errorf("got %+v, %v; want ErrGarbage", m, err)
			}
			if m, err := r.Next(); err != nil || m.Type != TypeHeartbeat {
				t.Errorf("the message behind it: %+v, %v", m, err)
			}
		})
	}
}

// A line of 1 GiB takes no more memory than any other that is too long.
func TestEndlessLine(t *testing.T) {
	const good = "\n" + `{"v":1,"type":"heartbeat","id":"x"}` + "\n"
	r := NewReader(io.MultiReader(io.LimitReader(endless{}, 1<<30), strings.NewReader(good)))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := r.Next()
	runtime.ReadMemStats(&after)
	if !errors.Is(err, ErrGarbage) {
		t.Errorf("got %v, want ErrGarbage", err)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 16*MaxLine {
		t.Errorf("%d bytes allocated for one line", took)
	}
	if m, err := r.Next(); err != nil || m.Type != TypeHeartbeat {
		t.Errorf("the message behind it: %+v, %v", m, err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, xs), nil }

var xs = bytes.Repeat([]byte("x"), 64<<10)

func TestUnfinishedLineIsNoMessage(t *testing.T) {
	r := NewReader(strings.NewReader(`{"v":1,"type":"heartbeat","id":"x"}`))
	if m, err := r.Next(); err == nil {
		t.Errorf("got %+v from a line without its end", m)
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(`{"v":1,"type":"result","id":"x","result":{"exit":0}}` + "\n"))
	f.Add([]byte("\n\n{\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewReader(bytes.NewReader(data))
		for range len(data) + 2 {
			m, err := r.Next()
			if err != nil && !errors.Is(err, ErrGarbage) {
				return
			}
			if err == nil && m.check() != nil {
				t.Fatalf("an invalid message got through: %+v", m)
			}
		}
		t.Fatal("the reader does not end")
	})
}
