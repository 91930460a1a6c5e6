package runner

import (
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// A guest that misbehaves has an outcome of its own, never by a pass that it did
// not claim; the guest of the next run does not notice.
func TestHostileGuests(t *testing.T) {
	answer := func(id, result string) string {
		return `printf '{"v":1,"type":"result","id":"%s","result":{` + result + `,"wall_ms":1}}\n' ` + id + ` >&5; `
	}
	const flood = `yes '{"v":1,"type":"heartbeat","id":"feed"}' | head -n 20000 >&5; `
	for _, c := range []struct {
		name, does string
		want       kernel.Outcome
		reason     string
	}{
		{"answers for another run", answer("feedfeedfeedfeed", `"exit":0`) + reset, kernel.Crash, "reset"},
		{"answers another protocol", strings.Replace(passed, `"v":1`, `"v":2`, 1) + reset, kernel.Crash, "reset"},
		{"answers twice", answer("$id", `"exit":1`) + answer("$id", `"exit":0`), kernel.Fail, "exit status 1"},
		{"lies about its own test", answer("$id", `"exit":0`) + reset, kernel.Pass, ""},
		{"claims a signal of 100 KB", answer("$id", `"exit":-1,"signal":"'$(yes SIG | head -c 100000 | tr -d "\n")'"`), kernel.Fail, "killed by SIGSIG"},
		{"floods the channel", flood, kernel.Hang, "garbage"},
		{"sends a line of 8 MB", `head -c 8388608 /dev/zero | tr '\0' x >&5; ` + reset, kernel.Crash, "reset"},
		{"sends binary", `head -c 65536 /dev/urandom >&5; ` + reset, kernel.Crash, "reset"},
		{"floods the console and dies", `head -c 8388608 /dev/urandom >&4; ` + reset, kernel.Crash, "reset"},
		{"panics without a word", `echo '{"event": "GUEST_PANICKED", "data": {"action": "poweroff"}}' >&3; ` + reset, kernel.Crash, "panicked"},
		{"floods the monitor", `yes '{"event": "RTC_CHANGE", "data": {"offset": 1}}' | head -n 20000 >&3; ` + reset, kernel.Crash, "reset"},
	} {
		t.Run(c.name, func(t *testing.T) {
			end := endMark + "\n"
			l, starts := newLab(t, negotiate+hello+"\n[ $starts = 1 ] && "+forever+"\n"+takeRun+end+
				"if [ $starts = 2 ]; then "+c.does+"\nelse "+passed+"fi\n"+map[bool]string{true: "exit", false: forever}[strings.HasSuffix(c.does, reset)])
			b, _, err := l.Boot(t.Context(), kernel.Kernel{}, machineShape)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			r, err := b.Run(t.Context(), program)
			if err != nil || r.Outcome != c.want || !strings.Contains(r.Reason, c.reason) || len(r.Reason) > 1000 || len(r.Console) > 128<<10 {
				t.Errorf("%s, %.200q, %d bytes of console, %v; want %s", r.Outcome, r.Reason, len(r.Console), err, c.want)
			}
			if starts() != 2 {
				t.Errorf("%d machines started, want 2: what a guest does is no trouble of ours", starts())
			}
			if r, err := b.Run(t.Context(), program); err != nil || r.Outcome != kernel.Pass {
				t.Errorf("the next guest: %+v, %v", r, err)
			}
		})
	}
}

// A kernel that dies while its snapshot is made has none; each run boots, and
// shows what the kernel is.
func TestPanicDuringSnapshot(t *testing.T) {
	const died = `echo '{"event": "GUEST_PANICKED", "data": {"action": "poweroff"}}' >&3; ` + reset
	for _, c := range []struct {
		name, when string // what the host says last
		then       string
		want       kernel.Outcome
	}{
		{"stop", `"stop"`, endMark + passed + forever, kernel.Pass},
		{"migrate", `"migrate"`, endMark + passed + forever, kernel.Pass},
		{"again in its run", `"stop"`, reset, kernel.Crash},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, starts := newLab(t, negotiate+hello+"\n"+`if [ $starts = 1 ]; then
	while read -r line <&3; do
		case $line in *'`+c.when+`'*) `+died+`; exit;; esac
		id=$(echo "$line" | sed 's/.*"id":"\([0-9]*\)".*/\1/')
		echo '{"return": {}, "id": "'$id'"}' >&3
	done
fi
`+takeRun+c.then)
			l.NoFork = false
			b, boot, err := l.Boot(t.Context(), kernel.Kernel{}, machineShape)
			if err != nil || boot.Status != kernel.BootOK {
				t.Fatalf("%+v, %v", boot, err)
			}
			defer b.Close()
			if b.snapshot != nil {
				t.Error("there is a snapshot of a dead guest")
			}
			for want := 2; want <= 3; want++ {
				if r, err := b.Run(t.Context(), program); err != nil || r.Outcome != c.want || starts() != want {
					t.Errorf("%+v, %v after %d starts, want %s", r, err, starts(), c.want)
				}
			}
		})
	}
}

// What a guest says of itself when it boots is bounded and harmless.
func TestHostileHello(t *testing.T) {
	l, _ := newLab(t, negotiate+`printf '{"v":1,"type":"hello","hello":{"release":"\\u001b]0;owned\\u0007%s"}}\n' $(head -c 100000 /dev/zero | tr '\0' x) >&5; `+forever)
	b, boot, err := l.Boot(t.Context(), kernel.Kernel{}, machineShape)
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	if len(boot.Release) > maxRelease || strings.ContainsAny(boot.Release, "\x1b\a") {
		t.Errorf("release %.100q of %d bytes", boot.Release, len(boot.Release))
	}
	l, _ = newLab(t, negotiate+`printf '{"v":1,"type":"hello","hello":{"config_crc":"\\u001b]0;owned\\u0007%s"}}\n' $(head -c 100000 /dev/zero | tr '\0' x) >&5; `+forever)
	_, _, err = l.Boot(t.Context(), kernel.Kernel{ConfigCRC: "c0ffee"}, machineShape)
	if err == nil || len(err.Error()) > 300 || strings.ContainsAny(err.Error(), "\x1b\a") {
		t.Errorf("error %.200q", err)
	}
}

// So is what a QEMU says that a guest has taken over.
func TestHostileQEMU(t *testing.T) {
	const noise = `$(yes "$(printf 'x\033]0;owned\007')" | head -c 100000 | tr -d "\n")`
	for name, script := range map[string]string{
		"complains": `echo "` + noise + `" >&2; exit 1`,
		"refuses":   `echo '{"QMP": {}}' >&3; read -r line <&3; echo '{"error": {"class": "GenericError", "desc": "'` + strings.Repeat("x", 100_000) + `'\u001b[2J"}, "id": "1"}' >&3; ` + forever,
	} {
		t.Run(name, func(t *testing.T) {
			l, _ := newLab(t, "if [ $starts = 1 ]; then "+negotiate+hello+forever+"; fi\n"+script)
			b, _, err := l.Boot(t.Context(), kernel.Kernel{}, machineShape)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			r, err := b.Run(t.Context(), program)
			if err != nil || r.Outcome != kernel.Infra || len(r.Reason) > 1000 || strings.ContainsAny(r.Reason, "\x1b\a") {
				t.Errorf("%s, %d bytes: %.100q, %v", r.Outcome, len(r.Reason), r.Reason, err)
			}
		})
	}
}
