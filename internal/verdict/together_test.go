package verdict

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

func TestTogether(t *testing.T) {
	const (
		head  = "KTAP version 1\n1..3\n"
		all   = head + "ok 1 cow/a\n# why not\nok 2 cow/b # SKIP no swap\nok 3 cow/c # XFAIL by design\n"
		fixed = head + "ok 1 cow/a\nok 2 cow/b # SKIP no swap\nok 3 cow/c # XPASS by design\n"
	)
	pass := func(name string) kernel.Run {
		return kernel.Run{Test: name, Outcome: kernel.Pass, Duration: time.Second}
	}
	known := func(name string, how kernel.Known, remark string) kernel.Run {
		return kernel.Run{Test: name, Outcome: kernel.Pass, Known: how, Reason: remark, Duration: time.Second}
	}
	tests := []string{"cow/a", "cow/b", "cow/c"}
	for _, c := range []struct {
		name string
		e    Evidence
		want map[string]kernel.Run
	}{
		{"all well", Evidence{Result: true, Output: []byte(all)}, map[string]kernel.Run{"cow/a": pass("cow/a"), "cow/c": known("cow/c", kernel.XFail, "expected failure: by design")}},
		{"one is known to fail and does not", Evidence{Result: true, Output: []byte(fixed)},
			map[string]kernel.Run{"cow/a": pass("cow/a"), "cow/c": known("cow/c", kernel.XPass, "passes, but is known to fail: by design")}},
		{"one fails", Evidence{Result: true, Exit: 1, Output: []byte(head + "not ok 1 cow/a\nok 2 cow/b # SKIP no swap\nok 3 cow/c\n")},
			map[string]kernel.Run{"cow/c": pass("cow/c")}},
		{"one could not find out", Evidence{Result: true, Exit: 3, Output: []byte(head + "ok 1 cow/a\nnot ok 2 cow/b # ERROR killed by SIGSEGV\nok 3 cow/c\n")},
			map[string]kernel.Run{"cow/a": pass("cow/a"), "cow/c": pass("cow/c")}},
		{"the kernel complains", Evidence{Result: true, Output: []byte(all), Console: []byte("[    1.0] WARNING: CPU: 0 PID: 1 at mm/memory.c:1 do_wp_page+0x1/0x2\n")}, nil},
		{"no result", Evidence{Output: []byte(all), Lost: "silent"}, nil},
		{"time is up", Evidence{Result: true, TimedOut: true, Output: []byte(all)}, nil},
		{"the agent could not", Evidence{Result: true, AgentError: "no memory", Output: []byte(all)}, nil},
		{"killed", Evidence{Result: true, Signal: "SIGKILL", Output: []byte(all)}, nil},
		{"one missing", Evidence{Result: true, Output: []byte(head + "ok 1 cow/a\nok 2 cow/b\n")}, nil},
		{"one too many", Evidence{Result: true, Output: []byte("KTAP version 1\n1..4\nok 1 cow/a\nok 2 cow/b\nok 3 cow/c\nok 4 cow/d\n")}, nil},
		{"another one", Evidence{Result: true, Output: []byte(head + "ok 1 cow/a\nok 2 cow/b\nok 3 cow/x\n")}, nil},
		{"one twice", Evidence{Result: true, Output: []byte(head + "ok 1 cow/a\nok 2 cow/b\nok 3 cow/b\n")}, nil},
		{"bail out", Evidence{Result: true, Exit: 3, Output: []byte(head + "ok 1 cow/a\nBail out! no\n")}, nil},
		{"no KTAP", Evidence{Result: true, Output: []byte("fine\n")}, nil},
		{"nothing", Evidence{Result: true}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.e.Wall = 3 * time.Second
			if diff := cmp.Diff(c.want, Together(tests, c.e)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
