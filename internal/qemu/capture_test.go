package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
)

func write(t *testing.T, c *Capture, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if n, err := c.Write([]byte(p)); n != len(p) || err != nil {
			t.Fatalf("write: %d, %v", n, err)
		}
	}
}

func TestCaptureKeepsHeadAndTail(t *testing.T) {
	pad := func(n int) string { return strings.Repeat("-", n) }
	for _, c := range []struct {
		name  string
		parts []string
		cut   int // bytes missing, 0 for none
	}{
		{"nothing", nil, 0},
		{"small", []string{"hello ", "world"}, 0},
		{"head just full", []string{"<", pad(maxHead - 2), ">"}, 0},
		{"one write over the seam", []string{"<" + pad(maxHead) + ">"}, 0},
		{"everything kept", []string{"<", pad(maxHead + maxTail - 2), ">"}, 0},
		{"one byte too many", []string{"<", pad(maxHead + maxTail - 1), ">"}, 1},
		{"tail about to be trimmed", []string{"<", pad(maxHead + 2*maxTail - 2), ">"}, maxTail},
		{"tail trimmed", []string{"<", pad(maxHead + 2*maxTail), ">"}, maxTail + 2},
		{"trimmed many times", []string{"<", pad(5 << 20), pad(3 << 20), ">"}, 8<<20 + 2 - maxHead - maxTail},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := NewCapture()
			write(t, got, c.parts...)
			all := strings.Join(c.parts, "")
			want := all
			if c.cut > 0 {
				want = all[:maxHead] + fmt.Sprintf("\n… %d bytes cut …\n", c.cut) + all[len(all)-maxTail:]
			}
			if out := string(got.Bytes()); out != want {
				t.Errorf("%d bytes %.20q … %.40q, want %d", len(out), out, out[max(0, len(out)-40):], len(want))
			}
		})
	}
}

// What is handed out must not change under its reader.
func TestCaptureBytesAreACopy(t *testing.T) {
	c := NewCapture()
	write(t, c, "one")
	b := c.Bytes()
	b[0] = 'X'
	write(t, c, " two")
	if got := string(c.Bytes()); got != "one two" {
		t.Errorf("%q", got)
	}
}

func TestCaptureReadFrom(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name string
		r    io.Reader
		want error
	}{
		{"to the end", iotest.OneByteReader(strings.NewReader("some text")), nil},
		{"data with the end", iotest.DataErrReader(strings.NewReader("some text")), nil},
		{"an error", io.MultiReader(strings.NewReader("some text"), iotest.ErrReader(broken)), broken},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := NewCapture()
			n, err := got.ReadFrom(c.r)
			if n != 9 || !errors.Is(err, c.want) || string(got.Bytes()) != "some text" {
				t.Errorf("%d bytes, %v: %q", n, err, got.Bytes())
			}
			if got.WaitFor(t.Context(), "never printed") {
				t.Error("found what was never printed")
			}
		})
	}
}

// A guest may print without end.
func TestCaptureIsBounded(t *testing.T) {
	c := NewCapture()
	n, err := c.ReadFrom(io.LimitReader(endless{}, 100<<20))
	if n != 100<<20 || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if held := cap(c.head) + cap(c.tail); held > 2<<20 {
		t.Errorf("%d bytes held", held)
	}
	if got := len(c.Bytes()); got > maxHead+maxTail+100 {
		t.Errorf("%d bytes kept", got)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func TestWaitFor(t *testing.T) {
	const mark = "kbisect: end of run 1234"
	full := strings.Repeat("-", maxHead)
	for _, c := range []struct {
		name   string
		before []string // there when the waiting begins
		after  []string // written one by one while somebody waits
		end    bool     // the stream ends then
		want   bool
	}{
		{name: "there already", before: []string{"x" + mark + "y"}, want: true},
		{name: "there, stream over", before: []string{mark}, end: true, want: true},
		{name: "comes later", after: []string{"one", "two" + mark}, want: true},
		{name: "in pieces", after: strings.Split(mark, ""), want: true},
		{name: "across the seam", before: []string{full[10:]}, after: []string{mark}, want: true},
		{name: "across the seam in pieces", before: []string{full[10:]}, after: []string{mark[:10], mark[10:15], mark[15:]}, want: true},
		{name: "ends with the head", before: []string{full[len(mark):]}, after: []string{mark}, want: true},
		{name: "begins the tail", before: []string{full}, after: []string{mark}, want: true},
		{name: "deep in the tail", before: []string{full, full}, after: []string{"noise", mark}, want: true},
		{name: "behind a cut", before: []string{strings.Repeat(full, 20)}, after: []string{mark[:5], mark[5:]}, want: true},
		{name: "another run's", after: []string{mark[:len(mark)-1] + "5"}, end: true},
		{name: "half of it", before: []string{full[10:]}, after: []string{mark[:len(mark)-1]}, end: true},
		{name: "nothing", end: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // fails if the waiter hangs
				got := NewCapture()
				write(t, got, c.before...)
				found := make(chan bool, 1)
				go func() { found <- got.WaitFor(t.Context(), mark) }()
				for i, p := range c.after {
					synctest.Wait()
					if len(found) > 0 {
						t.Errorf("found after %d of %d pieces", i, len(c.after))
					}
					write(t, got, p)
				}
				if c.end {
					synctest.Wait()
					got.end()
				}
				if f := <-found; f != c.want {
					t.Errorf("found: %v", f)
				}
			})
		})
	}
}

func TestWaitForEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCapture()
		ctx, cancel := context.WithCancel(t.Context())
		found := make(chan bool)
		go func() { found <- c.WaitFor(ctx, "mark") }()
		write(t, c, "something else")
		synctest.Wait()
		cancel()
		if <-found {
			t.Error("found what was never printed")
		}
		write(t, c, "mark")
		if !c.WaitFor(ctx, "mark") {
			t.Error("what is there is found without waiting")
		}
	})
}

// Readers, waiters and the writer at once, for the race detector.
func TestCaptureConcurrently(t *testing.T) {
	c := NewCapture()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = c.ReadFrom(io.MultiReader(io.LimitReader(endless{}, 4<<20), strings.NewReader("mark")))
	}()
	if !c.WaitFor(t.Context(), "mark") {
		t.Error("the mark was missed")
	}
	for {
		select {
		case <-done:
			return
		default:
			if !bytes.HasPrefix(c.Bytes(), []byte("xxx")) {
				t.Error("the head is gone")
			}
		}
	}
}
