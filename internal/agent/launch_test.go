package agent

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
)

// program writes a shell script that tells its process, and its arguments or
// what it got on standard input.
func program(t *testing.T, whenWaiting string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	script := "#!/bin/sh\nif [ \"$1\" = --wait ]; then " + whenWaiting + "; set -- $(tr '\\0' ' '); fi\necho $$ \"$@\"\n"
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func (l *launcher) run(t *testing.T, argv ...string) (pid, args string) {
	t.Helper()
	h := &host{}
	got := l.execute(agentproto.Run{Argv: argv, TimeoutMS: 60_000, MaxOutput: 1 << 20}, "id", h.send)
	if got.Exit != 0 || got.Error != "" {
		t.Fatalf("%+v", got)
	}
	pid, args, _ = strings.Cut(strings.TrimSpace(h.output(t, "id")), " ")
	return pid, args
}

func TestPreparedProgramIsUsedOnce(t *testing.T) {
	defer goleak.VerifyNone(t)
	path := program(t, `printf '\0'`)
	var l launcher
	if err := l.prepare([]string{path, "--wait"}); err != nil {
		t.Fatal(err)
	}
	if err := l.prepare([]string{path, "--wait"}); err == nil || !strings.Contains(err.Error(), "waits already") {
		t.Errorf("a second one: %v", err)
	}
	waiting := l.waiting.pid
	if pid, args := l.run(t, "/bin/echo", "0", "other"); pid != "0" || args != "other" {
		t.Errorf("another program: %s %q", pid, args)
	}
	if pid, args := l.run(t, path, "a", "b"); pid != strconv.Itoa(waiting) || args != "a b" {
		t.Errorf("the first run is of process %s, %d waited; it got %q", pid, waiting, args)
	}
	if l.waiting != nil {
		t.Error("a program that runs still counts as waiting")
	}
	if pid, args := l.run(t, path, "c"); pid == strconv.Itoa(waiting) || args != "c" {
		t.Errorf("the second run is of process %s, it got %q", pid, args)
	}
}

// A program that was killed while it waited is started anew.
func TestPreparedProgramIsGone(t *testing.T) {
	path := program(t, `printf '\0'`)
	var l launcher
	if err := l.prepare([]string{path, "--wait"}); err != nil {
		t.Fatal(err)
	}
	l.waiting.kill()
	gone(t, strconv.Itoa(l.waiting.pid))
	if _, args := l.run(t, path, "a"); args != "a" {
		t.Errorf("it got %q", args)
	}
}

func TestProgramThatDoesNotWait(t *testing.T) {
	for when, want := range map[string]string{"echo hello": `says "hello`, "exit 1": `says ""`} {
		var l launcher
		path := program(t, when)
		if err := l.prepare([]string{path, "--wait"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", when, err)
		}
		if l.waiting != nil {
			t.Errorf("%s: it counts as waiting", when)
		}
		if _, args := l.run(t, path, "a"); args != "a" {
			t.Errorf("%s: then it got %q", when, args)
		}
	}
}
