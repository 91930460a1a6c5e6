package app

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/store"
	"github.com/kernel-bisect/kbisect/kconfigs"
	"github.com/kernel-bisect/kbisect/vmimage"
)

func TestMain(m *testing.M) {
	if os.Getenv("KBISECT_TEST_SERVE") != "" {
		serveSimulated()
	}
	// Most tests wait for processes, theirs and git's: two at once leave 40 % of two CPUs idle.
	if err := flag.Set("test.parallel", strconv.Itoa(3*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){
		"orchestrator": func() { os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs testdata/*.txtar. Their command `status N CMD…` runs a
// command, expects its exit status, and writes its streams to the files
// stdout and stderr; `image FILE RELEASE` makes the header of a kernel image;
// `job ID COMMIT:OUTCOME…` records a bisection that is done, with these runs.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("KBISECT_HOME", e.WorkDir+"/home")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"status": expectStatus, "image": makeImage, "job": makeJob},
	})
}

func expectStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N command")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	path := args[1]
	if p, err := exec.LookPath(path); err == nil {
		path = p
	}
	cmd := exec.Command(path, args[2:]...)
	cmd.Dir = ts.Getenv("WORK")
	for _, v := range []string{"PATH", "KBISECT_HOME", "HOME", "TESTSCRIPT_COMMAND"} {
		cmd.Env = append(cmd.Env, v+"="+ts.Getenv(v))
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Check(err)
	}
	ts.Check(os.WriteFile(ts.MkAbs("stdout"), stdout.Bytes(), 0o644))
	ts.Check(os.WriteFile(ts.MkAbs("stderr"), stderr.Bytes(), 0o644))
	if got := cmd.ProcessState.ExitCode(); got != want {
		ts.Fatalf("%v: status %d, want %d\nstdout: %s\nstderr: %s", args[1:], got, want, stdout.String(), stderr.String())
	}
}

func makeImage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: image FILE RELEASE")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), imageOf(args[1]), 0o644))
}

func makeJob(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: job ID COMMIT:OUTCOME...")
	}
	home := ts.Getenv("KBISECT_HOME")
	ts.Check(os.MkdirAll(home, 0o755))
	ctx := context.Background()
	s, err := store.Open(ctx, home)
	ts.Check(err)
	defer s.Close()
	ts.Check(s.NewJob(ctx, args[0], "bisect", []byte("{}")))
	for _, a := range args[1:] {
		commit, outcome, _ := strings.Cut(a, ":")
		ts.Check(s.AppendRun(ctx, args[0], "cell", kernel.Run{Test: "cow/a/base", Commit: commit, Outcome: kernel.Outcome(outcome)}))
	}
	ts.Check(s.SaveJob(ctx, args[0], store.Done, []byte("{}")))
}

// imageOf follows Documentation/arch/x86/boot.rst as far as it is read.
func imageOf(release string) []byte {
	b := make([]byte, 0x2000)
	b[0x1f1] = 15
	copy(b[0x202:], "HdrS\x0f\x02")
	if release != "" {
		copy(b[0x20e:], "\x00\x03")
		copy(b[0x500:], release+" (a@b) #1 SMP\x00")
	}
	return b
}

func TestStepStatus(t *testing.T) {
	v := func(vs ...kernel.Verdict) (ts []kernel.TestResult) {
		for _, x := range vs {
			ts = append(ts, kernel.TestResult{Verdict: x, Runs: 1})
		}
		return ts
	}
	for _, c := range []struct {
		tests []kernel.TestResult
		want  int
	}{
		{v(kernel.Good, kernel.Good), stepGood},
		{v(kernel.Good, kernel.Skipped), stepGood},
		{v(kernel.Skipped, kernel.Skipped), stepSkip}, // skip is not pass
		{v(kernel.Good, kernel.Inconclusive), stepSkip},
		{v(kernel.Untestable), stepSkip},
		{v(kernel.Inconclusive, kernel.Bad, kernel.Good), stepBad},
		{nil, stepSkip},
		{append(v(kernel.Good), kernel.TestResult{Verdict: kernel.Inconclusive}), stepAbort}, // infra only
	} {
		if got := stepStatus(c.tests); got != c.want {
			t.Errorf("%v: %d, want %d", c.tests, got, c.want)
		}
	}
}

// What a profile says must run is there: a name that is no test guards nothing.
func TestMustRun(t *testing.T) {
	tests, err := vmimage.Tests()
	if errors.Is(err, vmimage.ErrNotBuilt) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, x := range tests {
		parts := strings.Split(x.Name, "/")
		known[parts[1]], known[parts[2]] = true, true
	}
	for _, p := range kconfigs.Profiles() {
		if !slices.ContainsFunc(tests, func(x kernel.Test) bool { return p.MustRun.Has(x.Name) }) {
			t.Errorf("%s: every test may skip", p.Name)
		}
		for _, name := range slices.Concat(p.MustRun.Cases, p.MustRun.Memory) {
			if !known[name] {
				t.Errorf("%s: no test has %s in its name", p.Name, name)
			}
		}
	}
}

// A glob takes races only if it names nothing else.
func TestMatching(t *testing.T) {
	tests := []kernel.Test{{Name: "cow/a/base"}, {Name: "cow/a/swap"}, {Name: "cow/race-a/base", Racy: true}, {Name: "cow/race-b/base", Racy: true}}
	for glob, want := range map[string]string{
		"cow/*":           "cow/a/base cow/a/swap",
		"cow/*/base":      "cow/a/base",
		"cow/race-*":      "cow/race-a/base cow/race-b/base",
		"cow/race-b/base": "cow/race-b/base",
		"cow/c":           "",
	} {
		var got []string
		for _, x := range matching(glob, tests) {
			got = append(got, x.Name)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: %q, want %q", glob, s, want)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		glob, name string
		want       bool
	}{
		{"cow/*", "cow/fork-basic/base", true},
		{"cow/*/thp-pmd", "cow/fork-basic/thp-pmd", true},
		{"cow/*/thp-pmd", "cow/fork-basic/base", false},
		{"cow/fork-basic/base", "cow/fork-basic/base", true},
		{"cow/fork-basic", "cow/fork-basic/base", false},
		{"cow/fork.basic/base", "cow/fork-basic/base", false}, // a dot is a dot
		{"cow/fork-basic/bas?", "cow/fork-basic/base", true},
		{"[", "cow/fork-basic/base", false},
	} {
		if got := matches(c.glob, c.name); got != c.want {
			t.Errorf("%q %q: %v", c.glob, c.name, got)
		}
	}
}

func TestSeriesRange(t *testing.T) {
	for _, c := range []struct {
		args       []string
		mbox, base string
		want       revRange
		ok         bool
	}{
		{[]string{"a..b"}, "", "", revRange{base: "a", head: "b"}, true},
		{[]string{"a.."}, "", "", revRange{base: "a", head: "HEAD"}, true},
		{[]string{"..b"}, "", "", revRange{}, false},
		{[]string{"a...b"}, "", "", revRange{}, false},
		{[]string{"a"}, "", "", revRange{}, false},
		{nil, "", "", revRange{}, false},
		{nil, "m", "a", revRange{base: "a", mbox: "m"}, true},
		{nil, "m", "", revRange{mbox: "m"}, true},
		{[]string{"a..b"}, "m", "a", revRange{}, false},
	} {
		got, err := seriesRange(c.args, inputFlags{mbox: c.mbox, base: c.base})
		if (err == nil) != c.ok || got != c.want {
			t.Errorf("%v %q %q: %+v, %v", c.args, c.mbox, c.base, got, err)
		}
	}
}

func TestCommandLineCanBePasted(t *testing.T) {
	o := options{args: []string{"series", "--test", "cow/*", "it's", "", "a..b"}}
	want := `orchestrator series --test 'cow/*' 'it'\''s' '' a..b`
	if got := o.commandLine(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestMailIsOfABisection(t *testing.T) {
	var out bytes.Buffer
	o := &options{format: "mail", stdout: &out}
	if err := o.emit(&kernel.BisectResult{Test: "cow/x/base", Status: kernel.NotReproduced}); err != nil || !strings.HasPrefix(out.String(), "cow/x/base: not reproduced") {
		t.Errorf("%v: %s", err, &out)
	}
	var usage *usageError
	if err := o.emit(&kernel.CheckResult{}); !errors.As(err, &usage) {
		t.Errorf("a check as a mail: %v", err)
	}
}

// A job of another version, which cannot go on here, does not hide the others.
func TestListingStrangeJobs(t *testing.T) {
	var out bytes.Buffer
	o := &options{stdout: &out, format: "text"}
	err := o.listJobs([]store.Job{
		{ID: "bisect-1", Kind: "bisect", Status: store.Done, Request: []byte(`{"kind":"bisect","of":"tomorrow"}`)},
		{ID: "series-2", Kind: "series", Status: store.Done, Request: []byte(`{"kind":"series","command":"orchestrator series a..b"}`)},
	}, false)
	if err != nil || !strings.Contains(out.String(), "bisect-1  done") || !strings.Contains(out.String(), "another version") || !strings.Contains(out.String(), "a..b") {
		t.Errorf("%v\n%s", err, &out)
	}
}
