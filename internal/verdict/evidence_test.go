package verdict

import (
	"strings"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

const (
	oops = "[    1.000000] BUG: kernel NULL pointer dereference, address: 0000000000000008\n" +
		"[    1.000001] Oops: 0002 [#1] SMP\n[    1.000002] RIP: 0010:wp_page_copy+0x12/0x340\n" +
		"[    1.000003] Call Trace:\n[    1.000004]  handle_mm_fault+0x1/0x2\n"
	lockup = "[   31.000000] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [repro:77]\n" +
		"[   31.000001] RIP: 0010:unmap_page_range+0x12/0x340\n[   31.000002] Call Trace:\n[   31.000003]  zap_pte_range+0x1/0x2\n"
	name = "cow/vmsplice-child-unmap/base"
)

// tap is an output of one test.
func tap(lines ...string) []byte {
	return []byte("KTAP version 1\n1..1\n" + strings.Join(lines, "\n") + "\n")
}

func passed(out []byte) Evidence { return Evidence{Result: true, Output: out} }

func TestClassify(t *testing.T) {
	missed := tap("# pipe: expected 0x11, saw 0x33 at offset 4 (1 of 4096 bytes differ): missed COW", "not ok 1 "+name)
	for _, c := range []struct {
		name   string
		e      Evidence
		want   kernel.Outcome
		kind   string // of the signature, "" for none
		title  string // of the signature
		reason string
	}{
		// The console weighs more than anything the test says.
		{"crash beats pass", Evidence{Result: true, Output: tap("ok 1 " + name), Console: []byte(oops)},
			kernel.Crash, "crash", "NULL pointer dereference in wp_page_copy", "NULL pointer"},
		{"crash beats skip", Evidence{Result: true, Exit: ExitSkip, Console: []byte(oops)}, kernel.Crash, "crash", "NULL pointer", "NULL pointer"},
		{"crash beats fail", Evidence{Result: true, Exit: 1, Output: missed, Console: []byte(oops)}, kernel.Crash, "crash", "NULL pointer", "NULL pointer"},
		{"crash beats the death of qemu", Evidence{Ended: true, Console: []byte(oops)}, kernel.Crash, "crash", "NULL pointer", "NULL pointer"},
		{"the kernel reports a lockup", Evidence{Lost: "silence", Console: []byte(lockup)}, kernel.Hang, "hang", "soft lockup", "soft lockup"},
		{"a quiet console is no crash", Evidence{Result: true, Console: []byte("[    1.0] usb: all is well\n")}, kernel.Pass, "", "", ""},

		// No result is never a pass.
		{"nothing at all", Evidence{}, kernel.Hang, "hang", "no result in time", "no result"},
		{"no result but ok printed", Evidence{Output: tap("ok 1 " + name)}, kernel.Hang, "hang", "no result in time", "no result"},
		{"silence", Evidence{Lost: "the guest fell silent for 45s"}, kernel.Hang, "hang", "no result in time", "fell silent for 45s"},
		{"garbage", Evidence{Garbage: 12, Lost: "silence"}, kernel.Hang, "hang", "no result in time", "12 lines of garbage"},
		{"reset", Evidence{Ended: true, EndReason: "guest-reset"}, kernel.Crash, "crash", "guest reset without a word", "guest reset"},
		{"panic event", Evidence{Ended: true, Panicked: true, EndReason: "guest-panic"}, kernel.Crash, "crash", "guest panicked without a word", "guest panicked"},
		{"panic event, no shutdown", Evidence{Ended: true, Panicked: true}, kernel.Crash, "crash", "guest panicked", "guest panicked"},
		{"qemu died", Evidence{Ended: true, QEMUError: "qemu: out of memory\nmore"}, kernel.Infra, "", "", "qemu died: qemu: out of memory"},
		{"qemu was killed", Evidence{Ended: true, EndReason: "host-signal"}, kernel.Infra, "", "", "qemu died: host-signal"},
		{"qemu died wordless", Evidence{Ended: true}, kernel.Infra, "", "", "no reason given"},
		{"qemu died over garbage", Evidence{Ended: true, Garbage: 3}, kernel.Infra, "", "", "qemu died"},

		// A result without KTAP: the exit status speaks.
		{"exit 0", passed(nil), kernel.Pass, "", "", ""},
		{"exit 0 with talk", passed([]byte("all fine\n")), kernel.Pass, "", "", ""},
		{"exit 1", Evidence{Result: true, Exit: 1}, kernel.Fail, "fail", "exit status 1", "exit status 1"},
		{"exit 3 without KTAP", Evidence{Result: true, Exit: 3}, kernel.Fail, "fail", "exit status 3", "exit status 3"},
		{"exit 4", Evidence{Result: true, Exit: 4, Output: []byte("looking\nno huge pages here\n")}, kernel.Skip, "", "", "no huge pages here"},
		{"exit 4 wordless", Evidence{Result: true, Exit: 4}, kernel.Skip, "", "", "exit status 4"},
		{"signal", Evidence{Result: true, Exit: -1, Signal: "SIGSEGV"}, kernel.Fail, "fail", "killed by SIGSEGV", "killed by SIGSEGV"},
		{"timed out", Evidence{Result: true, Exit: -1, Signal: "SIGKILL", TimedOut: true, Limit: time.Minute}, kernel.Hang, "hang", "no result in time", "not through after 1m0s"},
		{"timed out after ok", Evidence{Result: true, TimedOut: true, Output: tap("ok 1 " + name)}, kernel.Hang, "hang", "no result in time", "not through"},
		{"agent error", Evidence{Result: true, Exit: -1, AgentError: "start the test: no such file"}, kernel.Infra, "", "", "agent: start the test"},

		// A result with KTAP.
		{"ok", passed(tap("ok 1 " + name)), kernel.Pass, "", "", ""},
		{"xfail", passed(tap("ok 1 " + name + " # XFAIL known since 5.10")), kernel.Pass, "", "", "expected failure: known since 5.10"},
		{"xpass", passed(tap("ok 1 " + name + " # XPASS known since 5.10")), kernel.Pass, "", "", "passes, but is known to fail: known since 5.10"},
		{"not ok", Evidence{Result: true, Exit: 1, Output: missed}, kernel.Fail, "fail", "missed COW", "expected 0x11, saw 0x33"},
		{"not ok with exit 0", passed(missed), kernel.Fail, "fail", "missed COW", "missed COW"},
		{"not ok without a diagnostic", Evidence{Result: true, Exit: 1, Output: tap("not ok 1 " + name)}, kernel.Fail, "fail", name, name},
		{"exit 1 with all ok", Evidence{Result: true, Exit: 1, Output: tap("ok 1 " + name)}, kernel.Fail, "fail", "exit status 1 although", "names no failure"},
		{"signal with all ok", Evidence{Result: true, Exit: -1, Signal: "SIGBUS", Output: tap("ok 1 " + name)}, kernel.Fail, "fail", "killed by SIGBUS", "SIGBUS"},
		{"signal with a skip", Evidence{Result: true, Exit: -1, Signal: "SIGBUS", Output: tap("ok 1 " + name + " # SKIP no")}, kernel.Fail, "fail", "killed by SIGBUS", "SIGBUS"},
		{"skip", Evidence{Result: true, Exit: 4, Output: tap("ok 1 " + name + " # SKIP no swap")}, kernel.Skip, "", "", "no swap"},
		{"skip with exit 0", passed(tap("ok 1 " + name + " # SKIP no swap")), kernel.Skip, "", "", "no swap"},
		{"everything skipped", Evidence{Result: true, Exit: 4, Output: []byte("TAP version 13\n1..0 # SKIP no gup_test\n")}, kernel.Skip, "", "", "no gup_test"},
		{"bail out, exit 3", Evidence{Result: true, Exit: 3, Output: tap("Bail out! mmap: Cannot allocate memory")}, kernel.Infra, "", "", "test: Bail out! mmap: Cannot allocate"},
		{"bail out, exit 1", Evidence{Result: true, Exit: 1, Output: tap("Bail out! mmap")}, kernel.Fail, "fail", "mmap", "mmap"},
		{"skips the rest, exit 4", Evidence{Result: true, Exit: 4, Output: []byte("TAP version 13\n1..21\nok 1 # SKIP no MADV_POPULATE_READ\n")}, kernel.Skip, "", "", "no MADV_POPULATE_READ"},
		{"a skip and then death", passed([]byte("TAP version 13\n1..21\nok 1 # SKIP no MADV_POPULATE_READ\n")), kernel.Fail, "fail", "missing results", "20 of 21"},
		{"a failure and exit 4", Evidence{Result: true, Exit: 4, Output: []byte("TAP version 13\n1..3\nnot ok 1 a\nok 2 # SKIP b\n")}, kernel.Fail, "fail", "a", "a"},
		{"skip with a diagnostic", passed(tap("# Huge zeropage not enabled", "ok 1 # SKIP "+name)), kernel.Skip, "", "", "Huge zeropage not enabled"},
		{"killed before the results", Evidence{Result: true, Exit: -1, Signal: "SIGBUS", Output: []byte("KTAP version 1\n1..3\nok 1 a\n")}, kernel.Fail, "fail", "killed by SIGBUS", "SIGBUS"},
		{"killed after a failure", Evidence{Result: true, Exit: -1, Signal: "SIGBUS", Output: []byte("KTAP version 1\n1..3\nnot ok 1 a\n")}, kernel.Fail, "fail", "a", "a"},
		{"a diagnostic of another test", passed([]byte("KTAP version 1\n1..2\n# x: missed COW\nok 1 a # XFAIL\nnot ok 2 b\n")), kernel.Fail, "fail", "b", "b"},
		{"a nested failure", Evidence{Result: true, Exit: 1, Output: []byte("TAP version 13\n1..1\n# TAP version 13\n# 1..2\n# ok 1 a\n# # pipe: saw 0x33: missed COW\n# not ok 2 b\nnot ok 1 mm: cow # exit=1\n")}, kernel.Fail, "fail", "missed COW", "saw 0x33"},
		{"the verdict is in the text", passed(tap("# [RUN] vmsplice() ... with THP", "not ok 1 Leak from parent into child")), kernel.Fail, "fail", "vmsplice() ... with THP: Leak from parent into child", "Leak from parent"},
		{"a plan and no results", passed([]byte("KTAP version 1\n1..1\n")), kernel.Fail, "fail", "", ""},
		{"fewer results than planned", passed([]byte("KTAP version 1\n1..2\nok 1 a\n")), kernel.Fail, "fail", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Classify(name, c.e)
			if r.Test != name || r.Outcome != c.want || r.Signature.Kind != c.kind || !strings.Contains(r.Signature.Title, c.title) || !strings.Contains(r.Reason, c.reason) {
				t.Errorf("%s, signature %q, reason %q\nwant %s, %s: %q, %q", r.Outcome, r.Signature, r.Reason, c.want, c.kind, c.title, c.reason)
			}
			if r.Outcome.Bad() && (r.Signature.Title == "" || r.Reason == "") {
				t.Errorf("a failure without a name: %+v", r)
			}
			if strings.HasPrefix(r.Reason, name+": ") {
				t.Errorf("the reason repeats the test: %q", r.Reason)
			}
		})
	}
}

// Two failures that differ only in values, offsets, addresses and counts are
// one, or a bisection would chase the first run's numbers.
func TestSignaturesAreStable(t *testing.T) {
	fails := func(diag string) Evidence {
		return Evidence{Result: true, Exit: 1, Output: tap("# "+diag, "not ok 1 "+name)}
	}
	missed := fails("pipe: expected 0x11, saw 0x33 at offset 4 (1 of 4096 bytes differ): missed COW")
	for _, c := range []struct {
		name string
		a, b Evidence
		same bool
	}{
		{"values and offsets", missed, fails("pipe: expected 0x12, saw 0x30 at offset 777 (4000 of 4096 bytes differ): missed COW"), true},
		{"another class", missed, fails("pipe: expected 0x11, saw 0xff at offset 4 (1 of 4096 bytes differ): nobody wrote that: corruption"), false},
		{"silence or time limit", Evidence{Lost: "the guest fell silent for 45s"}, Evidence{Result: true, TimedOut: true, Limit: time.Minute}, true},
		{"addresses of a crash", Evidence{Console: []byte(oops)}, Evidence{Console: []byte(strings.ReplaceAll(oops, "0000000000000008", "ffff888000000010"))}, true},
		{"another function", Evidence{Console: []byte(oops)}, Evidence{Console: []byte(strings.ReplaceAll(oops, "wp_page_copy", "do_swap_page"))}, false},
		{"fail or crash", missed, Evidence{Console: []byte(oops)}, false},
		{"how many results are missing", Evidence{Result: true, Output: []byte("KTAP version 1\n1..9\nok 1 a\n")}, Evidence{Result: true, Output: []byte("KTAP version 1\n1..9\nok 1 a\nok 2 b\n")}, true},
		{"died in another test", Evidence{Result: true, Output: []byte("KTAP version 1\n1..9\n# [RUN] a\n")}, Evidence{Result: true, Output: []byte("KTAP version 1\n1..9\n# [RUN] a\nok 1 a\n# [RUN] b\n")}, false},
		{"two detectors of a hang", Evidence{Console: []byte(lockup)}, Evidence{Console: []byte(strings.Replace(lockup, "watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [repro:77]", "rcu: INFO: rcu_sched self-detected stall on CPU", 1))}, true},
		{"a detector or silence", Evidence{Console: []byte(lockup)}, Evidence{Lost: "the guest fell silent for 45s"}, true},
		{"hang or crash", Evidence{Console: []byte(lockup)}, Evidence{Console: []byte(oops)}, false},
		{"exit statuses", Evidence{Result: true, Exit: 1}, Evidence{Result: true, Exit: 2}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := Classify(name, c.a).Signature, Classify(name, c.b).Signature
			if a.Same(b) != c.same {
				t.Errorf("%q and %q: same %v, want %v", a, b, a.Same(b), c.same)
			}
		})
	}
}

// A diagnostic belongs to the result line behind it, not to a later one.
func TestDiagnosticOfTheRightTest(t *testing.T) {
	for _, c := range []struct{ name, out, title string }{
		{"of a test that passed", "# detected THP size: 2048 KiB\nok 1 a\nnot ok 2 b\n", "b"},
		{"of an expected failure", "# saw: known\nnot ok 1 a # XFAIL known\n# saw: missed COW\nnot ok 2 b\n", "missed COW"},
		{"behind the failure", "# saw: missed COW\nnot ok 1 a\n# Totals: pass:0 fail:1\nok 2 b\n", "missed COW"},
		{"the last of several", "# detected THP size: 2048 KiB\n# saw: missed COW\nnot ok 1 a\nok 2 b\n", "missed COW"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Classify("kselftest", Evidence{Result: true, Exit: 1, Output: []byte("TAP version 13\n1..2\n" + c.out)})
			if r.Outcome != kernel.Fail || r.Signature.Title != c.title {
				t.Errorf("%s %q, want %q", r.Outcome, r.Signature.Title, c.title)
			}
		})
	}
}

// What is kept is bounded and harmless; the console only where it explains something.
func TestWhatIsKept(t *testing.T) {
	long := strings.Repeat("x\x1b[31m", 100) + strings.Repeat("x", 100<<10)
	r := Classify(name, Evidence{Result: true, Exit: 1, Output: []byte(long), Console: []byte(long), Wall: time.Second})
	if len(r.Output) > maxKept || len(r.Console) > maxKept || strings.Contains(r.Output+r.Console, "\x1b") || r.Duration != time.Second {
		t.Errorf("%d bytes of output, %d of console, %s", len(r.Output), len(r.Console), r.Duration)
	}
	for want, e := range map[string]Evidence{
		"":          {Result: true, Console: []byte("boot log")},
		"boot log":  {Result: true, Exit: 1, Console: []byte("boot log")},
		"boot log2": {Ended: true, Console: []byte("boot log2")},
	} {
		if got := Classify(name, e).Console; got != want {
			t.Errorf("console %q, want %q", got, want)
		}
	}
}

// What a guest says of itself gets into reasons, signatures and records.
func TestReasonsAreBounded(t *testing.T) {
	hostile := strings.Repeat("\x1b]0;owned\a\x00\xff", 10_000)
	for name, e := range map[string]Evidence{
		"signal":     {Result: true, Signal: hostile},
		"agent":      {Result: true, AgentError: hostile},
		"skip":       {Result: true, Exit: ExitSkip, Output: []byte("why:\n" + hostile)},
		"qemu":       {Ended: true, QEMUError: hostile},
		"end":        {Ended: true, EndReason: hostile},
		"diagnostic": {Result: true, Exit: 1, Output: tap("# "+hostile, "not ok 1 x")},
		"program":    {Result: true, Signal: hostile, Output: []byte("KTAP version 1\n1..3\nok 1 a\nok 2 b\n")},
	} {
		r := Classify("t", e)
		all := r.Reason + r.Signature.Title + r.Output
		for _, x := range r.Tests {
			all += x.Reason + x.Signature.Title
		}
		if len(r.Reason) > 2*maxSaid+50 && name != "diagnostic" || len(all) > maxKept+8<<10 {
			t.Errorf("%s: a reason of %d bytes, %d altogether", name, len(r.Reason), len(all))
		}
		if name != "diagnostic" && strings.ContainsAny(all, "\x1b\x00") {
			t.Errorf("%s: %.100q", name, all)
		}
	}
}

// What is allowed on the console is a remark; a crash behind it is one still.
func TestAllowed(t *testing.T) {
	const known = "[    1.0] WARNING: CPU: 0 PID: 7 at mm/a.c:5 known_one+0x1/0x2\n"
	allowed := []kernel.Allowed{{Title: "WARNING in known_one", Why: "known"}}
	for _, c := range []struct {
		name   string
		e      Evidence
		want   kernel.Outcome
		reason string
	}{
		{"not allowed", Evidence{Result: true, Console: []byte(known)}, kernel.Crash, "WARNING in known_one"},
		{"passes", Evidence{Result: true, Console: []byte(known), Allowed: allowed}, kernel.Pass, "the kernel said, and may: WARNING in known_one"},
		{"fails", Evidence{Result: true, Exit: 1, Console: []byte(known), Allowed: allowed}, kernel.Fail, "exit status 1"},
		{"crashes", Evidence{Result: true, Console: []byte(known + "[    2.0] BUG: Bad page state in process x  pfn:12345\n"), Allowed: allowed}, kernel.Crash, "BUG: Bad page state"},
		{"panics", Evidence{Ended: true, Panicked: true, Console: []byte(known + "[    2.0] Kernel panic - not syncing: panic_on_warn set ...\n"), Allowed: allowed}, kernel.Crash, "guest panicked without a word on the console"},
		{"quiet", Evidence{Result: true, Allowed: allowed}, kernel.Pass, ""},
	} {
		if r := Classify("x", c.e); r.Outcome != c.want || r.Reason != c.reason {
			t.Errorf("%s: %s, %q", c.name, r.Outcome, r.Reason)
		}
	}
}
