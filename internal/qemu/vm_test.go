package qemu

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// negotiate is the beginning of a QEMU written in shell. QMP is descriptor 3,
// the console 4 and the agent's port 5.
const negotiate = `echo '{"QMP": {}}' >&3; read -r line <&3; echo '{"return": {}, "id": "1"}' >&3; `

// start starts a machine whose QEMU is the script.
func start(t *testing.T, script string) (*VM, error) {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	path := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return Start(t.Context(), Options{Owner: t.TempDir(), Binary: path, Accel: "tcg", Machine: kernel.Machine{Type: "microvm", CPUs: 1, MemoryMiB: 64}})
}

// The end is told by events; the exit status is 0 in all of these.
func TestEnd(t *testing.T) {
	for _, c := range []struct {
		name, script, reason, stderr string
		panicked                     bool
	}{
		{name: "reset", script: `echo '{"event": "SHUTDOWN", "data": {"reason": "guest-reset"}}' >&3`, reason: "guest-reset"},
		{name: "panic", script: `echo '{"event": "GUEST_PANICKED", "data": {"action": "poweroff"}}
{"event": "SHUTDOWN", "data": {"reason": "guest-panic"}}' >&3`, reason: "guest-panic", panicked: true},
		{name: "the first reason counts", script: `echo '{"event": "SHUTDOWN", "data": {"reason": "guest-reset"}}
{"event": "SHUTDOWN", "data": {"reason": "host-signal"}}' >&3`, reason: "guest-reset"},
		{name: "no word", script: `echo "qemu: out of memory" >&2`, stderr: "qemu: out of memory"},
		{name: "an event without data", script: `echo '{"event": "SHUTDOWN"}' >&3`},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Not before Start is through: it would call the end a failed start.
			vm, err := start(t, negotiate+`read -r line <&5; printf 'last words' >&4; `+c.script)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := vm.Agent.Write([]byte("go on\n")); err != nil {
				t.Error(err)
			}
			<-vm.Exited()
			if e := vm.End(); e.Reason != c.reason || e.Panicked != c.panicked || e.Stderr != c.stderr || e.Exit != "exit status 0" {
				t.Errorf("%+v", e)
			}
			if got := string(vm.Console.Bytes()); got != "last words" {
				t.Errorf("console %q", got)
			}
			vm.Kill() // ends nothing, closes the agent's port
		})
	}
}

// What QEMU itself says is the reason, not that its monitor hung up.
func TestStartFails(t *testing.T) {
	for name, c := range map[string]struct{ script, want string }{
		"with a reason":      {"echo 'qemu: unsupported machine type' >&2; echo more >&2; exit 1", "qemu: unsupported machine type"},
		"wordless":           {"exit 1", "qmp greeting"},
		"after its greeting": {`echo '{"QMP": {}}' >&3; read -r line <&3; exit 1`, "qmp connection ended"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := start(t, c.script); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "more") {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
	t.Cleanup(func() { goleak.VerifyNone(t) })
	if _, err := Start(t.Context(), Options{Binary: "/nowhere/qemu"}); err == nil {
		t.Error("a QEMU that is not there was started")
	}
}

func TestKill(t *testing.T) {
	vm, err := start(t, negotiate+"echo hello >&5; read -r line <&5; echo \"$line\" >&4; exec sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(vm.Agent).ReadString('\n'); err != nil || line != "hello\n" {
		t.Errorf("agent said %q, %v", line, err)
	}
	if _, err := vm.Agent.Write([]byte("to the agent\n")); err != nil {
		t.Error(err)
	}
	if !vm.Console.WaitFor(t.Context(), "to the agent") {
		t.Error("the agent's port does not carry")
	}
	vm.Kill()
	if e := vm.End(); e.Reason != "" || e.Exit != "signal: killed" {
		t.Errorf("%+v", e)
	}
}
