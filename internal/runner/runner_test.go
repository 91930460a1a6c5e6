package runner

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/guest"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// A QEMU written in shell: QMP is descriptor 3, the console 4 and the agent's
// port 5. It notes every start in the file "starts" beside it.
const (
	negotiate = `echo '{"QMP": {}}' >&3; read -r line <&3; echo '{"return": {}, "id": "1"}' >&3; `
	hello     = `echo '{"v":1,"type":"hello","hello":{"release":"6.12.1","config_crc":"c0ffee"}}' >&5; `
	takeRun   = `read -r line <&5; id=$(echo "$line" | sed 's/.*"id":"\([0-9a-f]*\)".*/\1/'); `
	endMark   = `echo "kbisect: end of run $id" >&4; `
	passed    = `echo '{"v":1,"type":"result","id":"'$id'","result":{"exit":0,"wall_ms":1}}' >&5; `
	forever   = `exec sleep 1000`
	// A machine that ends before the host has set up its side counts as one that
	// did not start, which no kernel is quick enough for.
	later = `sleep 0.5; `
	reset = `echo '{"event": "SHUTDOWN", "data": {"reason": "guest-reset"}}' >&3`
)

var machineShape = kernel.Machine{Type: "microvm", CPUs: 1, MemoryMiB: 64}

func newLab(t *testing.T, script string) (l *Lab, starts func() int) {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	dir := t.TempDir()
	qemu := filepath.Join(dir, "qemu")
	if err := os.WriteFile(qemu, []byte("#!/bin/sh\necho x >>"+dir+"/starts\nstarts=$(wc -l <"+dir+"/starts)\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	// Long where an end is awaited, for a loaded host; the tests do not wait for it.
	limits := guest.Limits{Boot: 20 * time.Second, Silence: 20 * time.Second, Grace: 20 * time.Second, Drain: 20 * time.Second}
	return &Lab{Owner: dir, QEMU: qemu, Accel: "tcg", Limits: limits, Log: zap.NewNop(), NoFork: true}, func() int {
		b, _ := os.ReadFile(filepath.Join(dir, "starts"))
		return strings.Count(string(b), "x")
	}
}

var program = Program{Name: "cow/a/base", Argv: []string{"/bin/repro", "cow/a/base"}, Limit: 10 * time.Second}

func TestBootAndRun(t *testing.T) {
	l, starts := newLab(t, negotiate+"echo 'Linux version 6.12.1' >&4; "+hello+takeRun+endMark+passed+forever)
	b, boot, err := l.Boot(t.Context(), kernel.Kernel{ConfigCRC: "c0ffee"}, machineShape)
	if err != nil || boot.Status != kernel.BootOK || b.Hello.Release != "6.12.1" || !(boot.Seconds > 0) {
		t.Fatalf("%+v, %v", boot, err)
	}
	defer b.Close()
	for i := range 2 {
		r, err := b.Run(t.Context(), program)
		if err != nil || r.Outcome != kernel.Pass || r.Test != program.Name {
			t.Errorf("%+v, %v", r, err)
		}
		if want := i + 2; starts() != want { // a guest of its own for every run
			t.Errorf("%d machines started, want %d", starts(), want)
		}
	}
}

// A kernel with modules boots its own guest image, and what its guest complains
// of is kept, within bounds and without what acts on a terminal.
func TestBootWithModules(t *testing.T) {
	complaints := `,"problems":["module zram: \\u001b[31mno"` + strings.Repeat(`,"x"`, 2*maxProblems) + `]`
	l, _ := newLab(t, `echo "$@" >"$(dirname "$0")/args"`+"\n"+negotiate+strings.Replace(hello, `"config_crc"`, strings.TrimPrefix(complaints, ",")+`,"config_crc"`, 1)+forever)
	l.Image = "/common.cpio"
	for _, c := range []struct {
		k    kernel.Kernel
		want string
	}{
		{kernel.Kernel{}, " -initrd /common.cpio "},
		{kernel.Kernel{Modules: &kernel.Modules{Initrd: "/own.cpio"}}, " -initrd /own.cpio "},
	} {
		b, boot, err := l.Boot(t.Context(), c.k, machineShape)
		if err != nil || boot.Status != kernel.BootOK {
			t.Fatalf("%+v, %v", boot, err)
		}
		b.Close()
		args, err := os.ReadFile(filepath.Join(l.Owner, "args"))
		if err != nil || !strings.Contains(string(args), c.want) {
			t.Errorf("%s, %v; want %q", args, err, c.want)
		}
		if len(boot.Problems) != maxProblems || boot.Problems[0] != "module zram: no" {
			t.Errorf("%d problems: %q", len(boot.Problems), boot.Problems)
		}
	}
}

// A boot is tried twice before a kernel is blamed.
func TestBootFails(t *testing.T) {
	const oops = `echo '[    1.0] Kernel panic - not syncing: VFS: Unable to mount root fs' >&4; `
	const warning = `printf '[    1.0] ------------[ cut here ]------------\n[    1.0] WARNING: CPU: 0 PID: 1 at mm/gup.c:12 foo+0x1/0x2\n' >&4; `
	for _, c := range []struct {
		name, script, reason string // of the boot
		err                  string
		starts               int
	}{
		{"reset", negotiate + later + reset, "the machine ended (guest-reset)", "", 2},
		{"panic", negotiate + oops + later + reset, "during boot: Kernel panic", "", 2},
		{"a warning, and then nothing", negotiate + warning + later + reset, "the machine ended (guest-reset)", "", 2},
		{"a warning, and a panic", negotiate + warning + oops + later + reset, "during boot: Kernel panic", "", 2},
		{"qemu dies", negotiate + later + "echo 'qemu: killed' >&2", "", "qemu died: qemu: killed", 2},
		{"qemu does not start", "echo 'qemu: no such machine' >&2; exit 1", "", "qemu: no such machine", 2},
		{"the wrong kernel", negotiate + strings.Replace(hello, "c0ffee", "decaf", 1) + forever, "", "another configuration", 2},
		{"only once", "if [ $starts = 1 ]; then " + negotiate + later + reset + "; exit; fi\n" + negotiate + hello + forever, "ok", "", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, starts := newLab(t, c.script)
			b, boot, err := l.Boot(t.Context(), kernel.Kernel{ConfigCRC: "c0ffee"}, machineShape)
			switch {
			case c.err != "":
				if err == nil || !strings.Contains(err.Error(), c.err) || b != nil {
					t.Errorf("error %v, want %q", err, c.err)
				}
			case c.reason == "ok":
				if err != nil || boot.Status != kernel.BootOK || b == nil || boot.Failed == nil || boot.Failed.Status != kernel.BootFailed {
					t.Errorf("%+v, %v", boot, err)
				}
			default:
				if err != nil || boot.Status != kernel.BootFailed || !strings.Contains(boot.Reason, c.reason) || b != nil {
					t.Errorf("%+v, %v", boot, err)
				}
			}
			if starts() != c.starts {
				t.Errorf("%d machines started, want %d", starts(), c.starts)
			}
		})
	}
}

// What failed in silence is booted once more with the whole log.
func TestSecondBootTellsAll(t *testing.T) {
	l, starts := newLab(t, `echo "$@" >>"$(dirname "$0")/args"`+"\n"+negotiate+later+reset)
	if _, boot, err := l.Boot(t.Context(), kernel.Kernel{}, machineShape); err != nil || boot.Status != kernel.BootFailed || starts() != 2 {
		t.Fatalf("%+v, %v", boot, err)
	}
	args, err := os.ReadFile(filepath.Join(l.Owner, "args"))
	if err != nil {
		t.Fatal(err)
	}
	first, second, _ := strings.Cut(string(args), "\n")
	// The kernel goes by the last of them.
	if first = first[strings.LastIndex(first, "loglevel="):]; first[9] != '5' {
		t.Error(first)
	}
	if second = second[strings.LastIndex(second, "loglevel="):]; second[9] != '8' {
		t.Error(second)
	}
}

// Infrastructure is retried, the kernel's failures are not.
func TestRetries(t *testing.T) {
	const first = `if [ $starts = 1 ]; then ` + negotiate + hello + forever + "; fi\n" // the boot
	for _, c := range []struct {
		name, script string
		want         kernel.Outcome
		starts       int // the boot's included
	}{
		{"guest resets", negotiate + hello + takeRun + reset, kernel.Crash, 2},
		{"test fails", negotiate + hello + takeRun + endMark + strings.Replace(passed, `"exit":0`, `"exit":1`, 1) + forever, kernel.Fail, 2},
		{"qemu always dies", negotiate + hello + takeRun + "echo killed >&2", kernel.Infra, 1 + 3},
		{"qemu does not start", "exit 1", kernel.Infra, 1 + 3},
		{"qemu dies once", "if [ $starts = 2 ]; then exit 1; fi\n" + negotiate + hello + takeRun + endMark + passed + forever, kernel.Pass, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, starts := newLab(t, first+c.script)
			b, _, err := l.Boot(t.Context(), kernel.Kernel{}, machineShape)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			r, err := b.Run(t.Context(), program)
			if err != nil || r.Outcome != c.want || r.Test != program.Name {
				t.Errorf("%+v, %v", r, err)
			}
			if starts() != c.starts {
				t.Errorf("%d machines started, want %d", starts(), c.starts)
			}
		})
	}
}

// A program is repeated in one guest until an iteration does not pass, and each is
// judged by all that is known of it: exit status, KTAP and console.
func TestIterations(t *testing.T) {
	// Every guest goes through what, its iteration being $i.
	again := func(what string) string {
		return negotiate + hello + `i=0; while i=$((i+1)); ` + takeRun + `[ -n "$line" ]; do ` + what + endMark + passed + "done\n" + forever
	}
	says := func(text string) string {
		return `echo '{"v":1,"type":"output","id":"'$id'","output":"` + base64.StdEncoding.EncodeToString([]byte(text)) + `"}' >&5; `
	}
	atThree := func(what string) string { return again("if [ $i = 3 ]; then " + what + "fi; ") }
	failed := strings.Replace(passed, `"exit":0`, `"exit":1`, 1)
	for _, c := range []struct {
		name, script string
		iterations   int
		want         kernel.Outcome
		made         int // as recorded
		starts       int
	}{
		{"not asked for", again(""), 0, kernel.Pass, 0, 2},
		{"once", again(""), 1, kernel.Pass, 0, 2},
		{"all pass", again(""), 5, kernel.Pass, 5, 2},
		{"exit status", atThree(failed), 5, kernel.Fail, 3, 2},
		{"fails too late", atThree(failed), 2, kernel.Pass, 2, 2},
		{"KTAP", atThree(says("TAP version 13\n1..2\nok 1 a\nnot ok 2 b\n")), 5, kernel.Fail, 3, 2},
		{"console", atThree(`echo '[    1.0] WARNING: CPU: 0 PID: 1 at mm/memory.c:1 f+0x1/0x2' >&4; `), 5, kernel.Crash, 3, 2},
		{"skip", atThree(strings.Replace(passed, `"exit":0`, `"exit":4`, 1)), 5, kernel.Skip, 3, 2},
		{"machine ends", atThree(reset + "; exit; "), 5, kernel.Crash, 3, 2},
		{"infra", atThree("echo killed >&2; exit; "), 5, kernel.Infra, 3, 1 + infraTries},
		{"infra once", "[ $starts = 2 ] && j=3\n" + again("[ $i = ${j:-0} ] && exit; "), 5, kernel.Pass, 5, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, starts := newLab(t, c.script)
			b, _, err := l.Boot(t.Context(), kernel.Kernel{}, machineShape)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			p := program
			p.Iterations = c.iterations
			r, err := b.Run(t.Context(), p)
			if err != nil || r.Outcome != c.want || r.Iterations != c.made {
				t.Errorf("%+v, %v", r, err)
			}
			if starts() != c.starts {
				t.Errorf("%d machines started, want %d", starts(), c.starts)
			}
		})
	}
}

// A cancelled job says nothing about the kernel.
func TestCancel(t *testing.T) {
	l, _ := newLab(t, negotiate+hello+takeRun+forever)
	b, _, err := l.Boot(t.Context(), kernel.Kernel{}, machineShape)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if r, err := b.Run(ctx, program); !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestWriteImage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	for _, want := range []string{"old", "new"} {
		if err := WriteImage(path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%q, %v", got, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Dir(path) + "/*"); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	if err := WriteImage(filepath.Join(t.TempDir(), "missing", "image"), nil); err == nil {
		t.Error("written into nowhere")
	}
}
