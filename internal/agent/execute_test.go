package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
)

// host takes the agent's messages; beat, if set, is called for every heartbeat.
type host struct {
	got  []agentproto.Message
	beat func()
}

func (h *host) send(m agentproto.Message) error {
	m.Output = bytes.Clone(m.Output)
	h.got = append(h.got, m)
	if m.Type == agentproto.TypeHeartbeat && h.beat != nil {
		h.beat()
	}
	return nil
}

// output is what came of the run id, in order.
func (h *host) output(t *testing.T, id string) string {
	t.Helper()
	var out []byte
	for _, m := range h.got {
		if m.ID != id {
			t.Errorf("a %s of run %q", m.Type, m.ID)
		}
		out = append(out, m.Output...)
	}
	return string(out)
}

func shell(script string) agentproto.Run {
	return agentproto.Run{Argv: []string{"/bin/sh", "-c", script}, TimeoutMS: 60_000, MaxOutput: 1 << 20}
}

func TestExecute(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, c := range []struct {
		name   string
		run    agentproto.Run
		want   agentproto.Result
		output string
	}{
		{"exit 0", shell("echo one; echo two >&2"), agentproto.Result{}, "one\ntwo\n"},
		{"exit 4", shell("echo no huge pages; exit 4"), agentproto.Result{Exit: 4}, "no huge pages\n"},
		{"exit 255", shell("exit 255"), agentproto.Result{Exit: 255}, ""},
		{"killed", shell("echo before; kill -SEGV $$"), agentproto.Result{Exit: -1, Signal: "SIGSEGV"}, "before\n"},
		{"works in /tmp", shell("pwd"), agentproto.Result{}, "/tmp\n"},
		{"known environment", shell("echo $HOME $PATH"), agentproto.Result{}, "/tmp /bin:/user\n"},
		{"no input", shell("cat; echo end"), agentproto.Result{}, "end\n"},
		{"cut output", agentproto.Run{Argv: []string{"/bin/sh", "-c", "echo 0123456789"}, TimeoutMS: 60_000, MaxOutput: 4}, agentproto.Result{Truncated: true}, "0123"},
		{"output that just fits", agentproto.Run{Argv: []string{"/bin/sh", "-c", "printf 0123"}, TimeoutMS: 60_000, MaxOutput: 4}, agentproto.Result{}, "0123"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("HOME", "/somewhere") // the agent's own environment does not matter
			h := &host{}
			got := new(launcher).execute(c.run, "id", h.send)
			got.WallMS = 0
			if got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
			if out := h.output(t, "id"); out != c.output {
				t.Errorf("output %q, want %q", out, c.output)
			}
		})
	}
}

func TestExecuteWhatIsNotThere(t *testing.T) {
	h := &host{}
	got := new(launcher).execute(agentproto.Run{Argv: []string{"/nowhere/test"}, TimeoutMS: 60_000}, "id", h.send)
	if got.Exit != -1 || !strings.HasPrefix(got.Error, "start the test: ") || len(h.got) != 0 {
		t.Errorf("%+v, %d messages", got, len(h.got))
	}
}

// gone waits until a process is no more, or only a zombie that nobody reaps.
func gone(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(pid))
	if err != nil {
		t.Fatalf("pid %q", pid)
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(n) + "/stat")
		if err != nil || bytes.Contains(b, []byte(") Z ")) {
			return
		}
	}
	_ = syscall.Kill(n, syscall.SIGKILL)
	t.Errorf("process %d outlives its run", n)
}

// The time limit ends the test and what it started, and keeps what it printed.
func TestTimeLimitKillsTheGroup(t *testing.T) {
	defer goleak.VerifyNone(t)
	r := shell("sleep 1000 & echo $!; wait")
	r.TimeoutMS = 300
	h := &host{}
	got := new(launcher).execute(r, "id", h.send)
	if !got.TimedOut || got.Exit != -1 || got.Signal != "SIGKILL" || got.Error != "" {
		t.Errorf("%+v", got)
	}
	gone(t, h.output(t, "id"))
}

// What a test leaves running must not disturb the next one, nor hold up the
// result by keeping the output open.
func TestForgottenChildren(t *testing.T) {
	defer goleak.VerifyNone(t)
	h := &host{}
	got := new(launcher).execute(shell("sleep 1000 & echo $!; exit 3"), "id", h.send)
	if got.Exit != 3 || got.TimedOut || got.Error != "" {
		t.Errorf("%+v", got)
	}
	gone(t, h.output(t, "id"))
}

// A test that prints nothing for long is alive all the same.
func TestHeartbeat(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(fifo, os.O_RDWR, 0) // a reader too: opening does not wait
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := &host{}
	h.beat = func() { _, _ = f.WriteString("go on\n") }
	got := new(launcher).execute(shell("read line <"+fifo+"; echo $line"), "id", h.send) // ends because of a heartbeat
	if got.Exit != 0 || got.TimedOut || h.output(t, "id") != "go on\n" {
		t.Errorf("%+v, %q", got, h.output(t, "id"))
	}
}

func TestOutput(t *testing.T) {
	for _, c := range []struct {
		name      string
		writes    []int // sizes
		max       int64
		want      int
		truncated bool
	}{
		{"nothing", nil, 10, 0, false},
		{"fits", []int{4, 6}, 10, 10, false},
		{"too long at once", []int{11}, 10, 10, true},
		{"too long in pieces", []int{4, 6, 1, 5}, 10, 10, true},
		{"none wanted", []int{1}, 0, 0, true},
		{"larger than a message", []int{agentproto.OutputChunk + 1}, 1 << 30, agentproto.OutputChunk + 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			h := &host{}
			o := &output{id: "id", left: c.max, send: h.send}
			for _, n := range c.writes {
				if _, err := w.Write(bytes.Repeat([]byte("x"), n)); err != nil {
					t.Fatal(err)
				}
			}
			_ = w.Close()
			for err == nil {
				err = o.copyFrom(int(r.Fd()))
			}
			if !errors.Is(err, io.EOF) {
				t.Errorf("ended with %v", err)
			}
			if got := len(h.output(t, "id")); got != c.want || o.truncated != c.truncated {
				t.Errorf("%d bytes, truncated %v; want %d, %v", got, o.truncated, c.want, c.truncated)
			}
			for _, m := range h.got {
				if len(m.Output) > agentproto.OutputChunk {
					t.Errorf("a piece of %d bytes", len(m.Output))
				}
			}
		})
	}
}

func TestMuchOutputArrivesWhole(t *testing.T) {
	h := &host{}
	got := new(launcher).execute(shell("i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done"), "id", h.send)
	var want strings.Builder
	for i := range 20000 {
		fmt.Fprintln(&want, i)
	}
	if got.Exit != 0 || got.Truncated || h.output(t, "id") != want.String() {
		t.Errorf("%+v, %d bytes of %d", got, len(h.output(t, "id")), want.Len())
	}
}

// TestOutputHeldOpen: a process that left the group is not ours to kill, and
// must not hold up the result for long.
func TestOutputHeldOpen(t *testing.T) {
	h := &host{}
	got := new(launcher).execute(shell("setsid sleep 1000 & echo $!"), "id", h.send)
	if got.Exit != 0 || got.Error != "" {
		t.Errorf("%+v", got)
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(h.output(t, "id"))); err == nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// Messages of several goroutines must not be torn.
