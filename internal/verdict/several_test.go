package verdict

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// told is an outcome for each test on a line: name, outcome, signature.
func told(r kernel.Run) string {
	var b strings.Builder
	for _, o := range r.Tests {
		fmt.Fprintf(&b, "%q %s", o.Name, o.Outcome)
		if o.Signature.Kind != "" {
			fmt.Fprintf(&b, " {%s: %s}", o.Signature.Kind, o.Signature.Title)
		}
		if o.Reason != "" && o.Reason != o.Signature.Title {
			fmt.Fprintf(&b, " (%s)", o.Reason)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestSeveral(t *testing.T) {
	out := func(lines ...string) []byte { return []byte("TAP version 13\n" + strings.Join(lines, "\n") + "\n") }
	for _, c := range []struct {
		name string
		e    Evidence
		want string
	}{
		{"no KTAP", passed([]byte("ok 1 a\nok 2 b\n")), ""},
		{"one test is the program", passed(out("1..1", "ok 1 a")), ""},
		{"everything skipped", passed(out("1..0 # SKIP no swap")), ""},
		{"each its own", Evidence{Result: true, Exit: 1, Output: out("1..5", "ok 1 a", "# page 3: missed COW", "not ok 2 b", "ok 3 # SKIP c", "not ok 4 d # XFAIL by design", "ok 5 e")},
			"\"a\" pass\n\"b\" fail {fail: missed COW} (page 3: missed COW)\n\"c\" skip (skipped without a reason)\n\"d\" pass (expected failure: by design)\n\"e\" pass\n"},
		{"named by what runs", passed(out("1..2", "# [RUN] x ... with base page", "ok 1 No leak", "# [RUN] x ... with swap", "ok 2 # SKIP no swap")),
			"\"x ... with base page\" pass\n\"x ... with swap\" skip (no swap)\n"},
		{"nested", passed(out("1..1", "# TAP version 13", "# 1..2", "# ok 1 a", "# not ok 2 b", "not ok 1 p")),
			"\"p/a\" pass\n\"p/b\" fail {fail: the test reports a failure}\n"},
		{"a parent that fails by itself", Evidence{Result: true, Exit: 1, Output: out("1..1", "# TAP version 13", "# 1..2", "# ok 1 a", "# ok 2 b", "not ok 1 p # exit=139")},
			"\"p\" fail {fail: exit=139}\n\"p/a\" pass\n\"p/b\" pass\n"},
		{"ends early", passed(out("1..3", "ok 1 a")), "\"\" fail {fail: ended before its last test} (ended before its last test; 2 of 3 tests not run)\n\"a\" pass\n"},
		{"crash in the middle", Evidence{Ended: true, Panicked: true, Console: []byte(oops), Output: out("1..9", "# [RUN] one", "ok 1 fine", "# [RUN] two")},
			"\"\" crash {crash: BUG: unable to handle kernel NULL pointer dereference in wp_page_copy} (BUG: unable to handle kernel NULL pointer dereference in wp_page_copy; 7 of 9 tests not run)\n" +
				"\"one\" pass\n\"two\" crash {crash: BUG: unable to handle kernel NULL pointer dereference in wp_page_copy}\n"},
		{"a warning and on", Evidence{Result: true, Console: []byte(oops), Output: out("1..2", "ok 1 a", "ok 2 b")},
			"\"\" crash {crash: BUG: unable to handle kernel NULL pointer dereference in wp_page_copy}\n\"a\" pass\n\"b\" pass\n"},
		{"hang in the middle", Evidence{Result: true, TimedOut: true, Limit: time.Second, Output: out("1..3", "# [RUN] one", "ok 1 fine", "# [RUN] two")},
			"\"\" hang {hang: no result in time} (test not through after 1s; 1 of 3 tests not run)\n\"one\" pass\n\"two\" hang {hang: no result in time} (test not through after 1s)\n"},
		{"killed", Evidence{Result: true, Exit: -1, Signal: "SIGSEGV", Output: out("1..3", "ok 1 a", "not ok 2 b")},
			"\"\" fail {fail: killed by SIGSEGV} (killed by SIGSEGV; 1 of 3 tests not run)\n\"a\" pass\n\"b\" fail {fail: the test reports a failure}\n"},
		{"bails out", Evidence{Result: true, Exit: 1, Output: out("1..3", "ok 1 a", "Bail out! no memory")},
			"\"\" fail {fail: Bail out! no memory} (Bail out! no memory; 2 of 3 tests not run)\n\"a\" pass\n"},
		{"gives up in the middle", Evidence{Result: true, Exit: ExitSkip, Output: out("1..3", "ok 1 a", "ok 2 # SKIP no swap")},
			"\"\" skip (no swap; 1 of 3 tests not run)\n\"a\" pass\n\"no swap\" skip (skipped without a reason)\n"},
		{"fails without a failure", Evidence{Result: true, Exit: 7, Output: out("1..2", "ok 1 a", "ok 2 b")},
			"\"\" fail {fail: exit status 7 although the output names no failure}\n\"a\" pass\n\"b\" pass\n"},
		{"infra says nothing", Evidence{Result: true, AgentError: "no memory", Output: out("1..2", "ok 1 a", "ok 2 b")}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := told(Classify("program/x", c.e)); got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
		})
	}
}

// many makes runs of a program with several tests, each run a string: the
// outcome of each test, and behind a colon that of the program itself.
func many(specs ...string) []kernel.Run {
	var out []kernel.Run
	for _, s := range specs {
		tests, own, _ := strings.Cut(s, ":")
		r := kernel.Run{Outcome: kernel.Pass, Console: "the console", Output: "all of it"}
		for _, o := range runs(own) {
			r.Outcome = o.Outcome
			r.Tests = append(r.Tests, kernel.TestOutcome{Outcome: o.Outcome, Signature: o.Signature, Reason: o.Reason})
		}
		for i, o := range runs(tests) {
			r.Tests = append(r.Tests, kernel.TestOutcome{Name: fmt.Sprint(i + 1), Outcome: o.Outcome, Signature: o.Signature, Reason: o.Reason})
		}
		out = append(out, r)
	}
	return out
}

func TestDecideAll(t *testing.T) {
	for _, c := range []struct {
		name    string
		runs    []kernel.Run
		want    string
		decided bool // with two runs asked for
	}{
		{"one test is the program", runs("pp"), "p good 2", true},
		{"nothing", nil, "", false},
		{"two tests", many("pf", "pf"), "p/1 good 2, p/2 bad 2", true},
		{"one run", many("pf"), "p/1 good 1, p/2 inconclusive 1", false},
		{"one is flaky", many("pf", "pp"), "p/1 good 2, p/2 inconclusive 2", false},
		{"one skips", many("ps", "ps"), "p/1 good 2, p/2 skipped 0", true},
		{"a crash at the end of the first", many("p:c", "p:c"), "p bad 2, p/1 good 2", true},
		{"a crash once", many("pp", "p:c"), "p inconclusive 2, p/1 good 2, p/2 good 1", false},
		{"a crash before any output", append(many("pp"), runs("cc")...), "p inconclusive 3, p/1 good 1, p/2 good 1", false},
		{"a test that comes later", many("p", "pp"), "p/1 good 2, p/2 good 1", true},
		{"we could not find out", append(many("pp"), runs("i")...), "p good 1, p/1 good 1, p/2 good 1", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, r := range DecideAll("p", c.runs, nil) {
				got = append(got, fmt.Sprintf("%s %s %d", r.Name, r.Verdict, r.Runs))
				if r.Console != "" && r.Name != "p" {
					t.Errorf("%s has the console of the whole program", r.Name)
				}
			}
			if s := strings.Join(got, ", "); s != c.want {
				t.Errorf("%s\nwant %s", s, c.want)
			}
			if d := AllDecided("p", c.runs, 2, nil); d != c.decided {
				t.Errorf("decided: %v", d)
			}
		})
	}
}

// Whatever a program prints and however it ends: a bad run has a bad test, and
// a program whose tests are all well was well.
func TestSeveralProperties(t *testing.T) {
	lines := []string{"1..3", "ok 1 a", "not ok 2 b", "ok 3 # SKIP c", "not ok 2 d # XFAIL x", "# [RUN] e", "Bail out!", "# TAP version 13", "# 1..2", "# ok 1 f", "# not ok 2 g", "TAP version 13", "1..0", "ok 2 h"}
	rapid.Check(t, func(t *rapid.T) {
		e := Evidence{
			Result: rapid.Bool().Draw(t, "result"), Exit: rapid.SampledFrom([]int{0, 1, 3, 4, -1}).Draw(t, "exit"),
			TimedOut: rapid.Bool().Draw(t, "late"), Ended: rapid.Bool().Draw(t, "ended"), Panicked: rapid.Bool().Draw(t, "panicked"),
			Output: []byte("TAP version 13\n" + strings.Join(rapid.SliceOfN(rapid.SampledFrom(lines), 0, 9).Draw(t, "lines"), "\n")),
		}
		if e.Exit < 0 {
			e.Signal = "SIGSEGV"
		}
		r := Classify("p", e)
		bad := false
		names := map[string]bool{}
		for _, o := range r.Tests {
			bad = bad || o.Outcome.Bad()
			if names[o.Name] {
				t.Errorf("%q twice", o.Name)
			}
			names[o.Name] = true
		}
		if len(r.Tests) > 0 && bad != r.Outcome.Bad() {
			t.Errorf("the run is %s (%s), its tests:\n%s%s", r.Outcome, r.Reason, told(r), e.Output)
		}
	})
}
