//go:build e2e

package tests

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// hostile are reproducers that do to guest, channel and console what root in a
// guest can. The limit of those that would go on for ever is short.
var hostile = []struct {
	name, script string
	limit        string
	verdict      kernel.Verdict
	sign         string // in kind and title of the signature
}{
	{"a-passes", "exit 0", "1m", kernel.Good, ""},
	{"lies", "exec /user/channel lie", "1m", kernel.Good, ""}, // about its own test, no other
	{"forges-other-runs", "exec /user/channel garbage", "1m", kernel.Bad, "fail: exit status 1"},
	{"line-of-64-MiB-to-host", "exec /user/channel line", "1m", kernel.Bad, "fail: exit status 1"},
	{"floods-channel", "exec /user/channel flood", "1m", kernel.Bad, "hang: "},
	{"kills-agent", "exec /user/channel kill", "1m", kernel.Bad, "crash: "},
	{"stops-agent", "exec /user/channel freeze", "1s", kernel.Bad, "hang: "},
	{"unplugs-channel", "cd /sys/bus/virtio/drivers/virtio_console; for d in virtio*; do echo $d > unbind; done; sleep 60", "1s", kernel.Bad, ""}, // the agent may notice, and reset
	{"floods-console", "cat /dev/urandom > /dev/ttyS0", "1s", kernel.Bad, ""},
	{"floods-console-behind", "(setsid sh -c 'cat /dev/zero > /dev/ttyS0' &); exit 0", "1m", kernel.Good, ""},
	{"floods-kernel-log", "while :; do printf '<1>\\033]0;owned\\007\\033[2J\\377' > /dev/kmsg; done", "1s", kernel.Bad, "hang: "},
	{"line-of-16-MiB", "head -c 16777216 /dev/zero | tr '\\0' x", "1m", kernel.Good, ""},
	{"escapes", "printf '\\033]0;owned\\007\\033[2J\\000\\377\\n'; exit 4", "1m", kernel.Skipped, ""},
	{"panics", "echo c > /proc/sysrq-trigger; sleep 60", "1m", kernel.Bad, "crash: "},
	{"triple-faults", "while :; do reboot -f; echo b > /proc/sysrq-trigger; done", "1m", kernel.Bad, "crash: guest reset without a word"},
	{"powers-off", "poweroff -f; sleep 60", "1s", kernel.Bad, ""},
	{"sleeps", "sleep 1000", "1s", kernel.Bad, "hang: "},
	{"forks-without-end", "f() { f | f & }; f; sleep 60", "1s", kernel.Bad, ""},
	{"takes-all-memory", "head -c 8589934592 /dev/zero | tail -n 1", "5s", kernel.Bad, ""},
	{"z-fails", "exit 1", "1m", kernel.Bad, "fail: exit status 1"},
	{"z-passes", "exit 0", "1m", kernel.Good, ""},
}

// Whatever one guest does, it has its own outcome, what is kept of it is bounded
// and harmless, and the guests of the same job before, beside and behind it do not
// notice.
func TestHostileReproducers(t *testing.T) {
	files := map[string]string{}
	settings := "programs:\n"
	for _, h := range hostile {
		files[h.name] = "#!/bin/sh\n" + h.script + "\n"
		settings += fmt.Sprintf("  %s: {timeout: %s}\n", h.name, h.limit)
	}
	files["kbisect.yaml"] = settings
	dir := programIn(t, "hostile", files)
	if out, err := exec.Command("gcc", "-static", "-O2", "-Wall", "-Wextra", "-o", filepath.Join(dir, "channel"), "programs/channel.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	start := time.Now()
	res := decode[kernel.CheckResult](t, 1, "check", "--repo", seriesRepo, "--rev", "longterm", "--runs", "1", "--fresh", "--program", dir)
	t.Logf("%.1f s for %d programs", time.Since(start).Seconds(), len(hostile))
	got := map[string]kernel.TestResult{}
	for _, tr := range res.Tests {
		got[strings.TrimPrefix(tr.Name, "program/hostile/")] = tr
	}
	for _, h := range hostile {
		tr := got[h.name]
		t.Logf("%s: %s, %s: %.100q", h.name, tr.Verdict, tr.Signature.Kind, tr.Reason)
		if tr.Verdict != h.verdict || !strings.Contains(tr.Signature.Kind+": "+tr.Signature.Title, h.sign) {
			t.Errorf("%s: %s, signature %+v, reason %.200q; want %s, %q", h.name, tr.Verdict, tr.Signature, tr.Reason, h.verdict, h.sign)
		}
		if len(tr.Output)+len(tr.Console)+len(tr.Reason) > 256<<10 || strings.ContainsAny(tr.Output+tr.Console+tr.Reason+tr.Signature.Title, "\x1b\x00\a") {
			t.Errorf("%s: kept %d bytes of output, %d of console, reason %.100q", h.name, len(tr.Output), len(tr.Console), tr.Reason)
		}
	}
	waitNone(t)
}

// A guest's QEMU runs under its own filter and ours, without privileges, without
// descriptors of the machine's files, and cannot change what other guests are
// forked from.
func TestQEMUIsLockedUp(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s.sh")
	if err := os.WriteFile(file, []byte("sleep 600\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := command(t.Context(), "check", "--repo", seriesRepo, "--rev", "longterm", "--fresh", "--script", file, "--test-timeout", "10m")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	want := []string{"NoNewPrivs: 1", "Seccomp: 2", "Seccomp_filters: 2", "CapEff: 0000000000000000"}
	if os.Getuid() == 0 {
		want = append(want, "Uid: 65534 65534 65534 65534", "Gid: 65534 65534 65534 65534")
	}
	pid, missing := "", want
	for deadline := time.Now().Add(2 * time.Minute); len(missing) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("QEMU %s has no %q", pid, missing)
		}
		pid = forkedGuest()
		status, _ := os.ReadFile("/proc/" + pid + "/status")
		said := strings.ReplaceAll(string(status), "\t", " ")
		missing = slices.DeleteFunc(slices.Clone(want), func(w string) bool { return strings.Contains(said, w+"\n") })
	}
	limits, _ := os.ReadFile("/proc/" + pid + "/limits")
	if !regexp.MustCompile(`(?m)^Max address space +\d+ +\d+ +bytes`).Match(limits) {
		t.Errorf("its memory has no bound:\n%s", limits)
	}
	fds, err := filepath.Glob("/proc/" + pid + "/fd/*")
	if err != nil || len(fds) < 4 {
		t.Errorf("descriptors %q, %v", fds, err)
	}
	sealed := 0
	for _, fd := range fds {
		to, err := os.Readlink(fd)
		kind, _, _ := strings.Cut(to, ":")
		switch {
		case err != nil: // closed meanwhile
		case kind == "socket" || kind == "pipe" || kind == "anon_inode" || to == "/dev/null" || to == "/dev/kvm":
		case strings.HasPrefix(to, home+"/cache/kernels/") || strings.HasPrefix(to, home+"/cache/images/"):
		case strings.HasPrefix(to, "/memfd:kbisect-"):
			f, err := os.Open(fd)
			if err != nil {
				t.Fatal(err)
			}
			if seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0); err != nil || seals&unix.F_SEAL_FUTURE_WRITE == 0 {
				t.Errorf("%s can be written: seals %#x, %v", to, seals, err)
			}
			_ = f.Close()
			sealed++
		default:
			t.Errorf("descriptor %s is %s", filepath.Base(fd), to)
		}
	}
	if sealed == 0 {
		t.Error("no guest memory among the descriptors")
	}
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait()
	waitNone(t)
}

// forkedGuest is the PID of one, if there is one.
func forkedGuest() string {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		args, _ := os.ReadFile(f)
		env, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "environ"))
		if bytes.Contains(args, []byte("-incoming\x00defer")) && bytes.Contains(args, []byte("qemu")) && bytes.Contains(env, []byte("KBISECT_OWNER="+home+"\x00")) {
			return filepath.Base(filepath.Dir(f))
		}
	}
	return ""
}
