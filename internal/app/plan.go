package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kernel-bisect/kbisect/internal/console"
	"github.com/kernel-bisect/kbisect/internal/guest"
	"github.com/kernel-bisect/kbisect/internal/job"
	"github.com/kernel-bisect/kbisect/internal/kbuild"
	"github.com/kernel-bisect/kbisect/internal/kconfig"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
	"github.com/kernel-bisect/kbisect/kconfigs"
	"github.com/kernel-bisect/kbisect/vmimage"
)

// planFlags say what to run on which kind of kernel.
type planFlags struct {
	profile           string
	kconfig           []string
	carry             []string
	allowConsole      string
	tests             []string
	programs, scripts []string
	testTimeout       time.Duration
	runs, maxRuns     int
	fresh             bool
	noSandbox         bool
	bootPerRun        bool
	shareGuests       bool
}

func (p *planFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&p.profile, "profile", kconfigs.Profiles()[0].Name, "kernel configuration and machine, see list profiles")
	f.StringArrayVar(&p.kconfig, "kconfig", nil, "further config fragment `file`, every symbol of which must take effect; repeatable")
	f.StringArrayVar(&p.carry, "carry", nil, "apply this patch `file`, a mail of git format-patch or a plain diff, on every commit that has not got it; repeatable, in this order")
	f.DurationVar(&p.testTimeout, "test-timeout", 0, "time limit of each test (default 1m, or what the YAML beside --program or --script says)")
	f.StringVar(&p.allowConsole, "allow-console", "", "complaints of the kernel that do not count: a `file` of regular expressions for their titles, each with its reason in a comment above")
	f.BoolVar(&p.fresh, "fresh", false, "make every run anew instead of using recorded ones of the same kernel")
	f.BoolVar(&p.noSandbox, "no-sandbox", false, "run make unprotected; for sources you trust, where bubblewrap cannot work")
	f.BoolVar(&p.bootPerRun, "boot-per-run", false, "boot a guest for every run instead of forking it from a snapshot (slow)")
}

const (
	programUsage = "run this `file` in the guest: a C source, a static executable, or a directory of executables"
	scriptUsage  = "run this shell script `file` in the guest"
)

// registerTests adds the flags of commands that run several tests, which share
// guests unless told otherwise, or do not.
func (p *planFlags) registerTests(cmd *cobra.Command, share bool) {
	f := cmd.Flags()
	f.StringArrayVar(&p.tests, "test", nil, "test name or `glob`, see list tests; repeatable; takes races if it matches nothing else (default: the profile's tests, unless there is --program or --script)")
	f.StringArrayVar(&p.programs, "program", nil, programUsage+"; repeatable")
	f.StringArrayVar(&p.scripts, "script", nil, scriptUsage+"; repeatable")
	// Two clean runs put a verdict above 95 %.
	f.BoolVar(&p.shareGuests, "share-guests", share, "let tests that pass do so in one guest; one that does not gets guests of its own")
	f.IntVar(&p.runs, "runs", defaultRuns, "runs of each test at least; more are made while they disagree, and in a series half as many of one that fails as on the commit before")
	f.IntVar(&p.maxRuns, "max-runs", 0, "runs of each test at most, whether they agree or not (default 20, and 100 where a series compares commits)")
}

// request checks the flags and starts a request from them.
func (p *planFlags) request(ctx context.Context, o *options, kind string) (request, error) {
	r := request{Kind: kind, Command: o.commandLine(), Profile: p.profile, Tests: p.tests, Runs: p.runs, MaxRuns: p.maxRuns, TestTimeout: p.testTimeout, Fresh: p.fresh, NoSandbox: p.noSandbox, BootPerRun: p.bootPerRun, ShareGuests: p.shareGuests}
	if _, err := profileOf(p.profile); err != nil {
		return r, err
	}
	if p.runs < 1 || p.runs > 10000 {
		return r, usagef("--runs %d: 1 to 10000", p.runs)
	}
	if p.maxRuns != 0 && p.maxRuns < p.runs {
		return r, usagef("--max-runs %d: fewer than --runs %d", p.maxRuns, p.runs)
	}
	if p.testTimeout != 0 && p.testTimeout < time.Second {
		return r, usagef("--test-timeout %s: at least 1s", p.testTimeout)
	}
	for _, file := range p.kconfig {
		text, err := os.ReadFile(file)
		if err != nil {
			return r, usagef("--kconfig %v", err)
		}
		name := filepath.Base(file)
		if _, err := kconfig.ParseFragment(name, text); err != nil {
			return r, usagef("--kconfig %v", err)
		}
		r.Kconfig = append(r.Kconfig, kbuild.Fragment{Name: name, Text: text})
	}
	if p.allowConsole != "" {
		text, err := os.ReadFile(p.allowConsole)
		if err != nil {
			return r, usagef("--allow-console %v", err)
		}
		if r.Allowed, err = console.ParseAllowed(text); err != nil {
			return r, usagef("--allow-console %s: %v", p.allowConsole, err)
		}
	}
	if err := p.readCarry(&r); err != nil {
		return r, err
	}
	return r, p.bring(ctx, o, &r)
}

// programs are what the request wants run: tests in the order of the list, then
// what the user brings, and last the boot: a kernel that boots now and then may be
// down after it.
func (r request) programs() ([]runner.Program, error) {
	if len(r.Programs) > 0 && len(r.Tests) == 0 {
		return r.Programs, nil
	}
	tests, err := catalogue()
	if err != nil {
		return nil, err
	}
	globs := r.Tests
	if len(globs) == 0 {
		p, err := profileOf(r.Profile)
		if err != nil {
			return nil, err
		}
		globs = p.Tests
	}
	picked := map[string]bool{}
	for _, g := range globs {
		found := matching(g, tests)
		if len(found) == 0 {
			return nil, usagef("--test %s: matches no test (see `orchestrator list tests`)", g)
		}
		for _, t := range found {
			picked[t.Name] = true
		}
	}
	var out, boot []runner.Program
	for _, t := range tests {
		switch p := programOf(t); {
		case !picked[t.Name]:
		case p.Boot:
			boot = append(boot, p)
		default:
			if r.TestTimeout != 0 {
				p.Limit = r.TestTimeout
			}
			out = append(out, p)
		}
	}
	return slices.Concat(out, r.Programs, boot), nil
}

// bootTest needs no program: the kernel's own start is the test.
var bootTest = kernel.Test{
	Name: kernel.BootTest, Class: "boot", Timeout: int(guest.DefaultLimits.Boot / time.Second),
	Description: "the kernel comes up to the guest agent, and (boot/quiet) without a warning, an oops or a stall",
}

// catalogue are the tests that can be named: those of the guest image, and the boot.
func catalogue() ([]kernel.Test, error) {
	tests, err := vmimage.Tests()
	return append(slices.Clip(tests), bootTest), err
}

// matching returns the tests that a glob means: of those that it matches the
// certain ones, and races only if it matches nothing else. cow/* is the
// catalogue, which has the same verdicts each time; who wants races says race.
func matching(glob string, tests []kernel.Test) []kernel.Test {
	var certain, racy []kernel.Test
	for _, t := range tests {
		switch {
		case !matches(glob, t.Name):
		case t.Racy:
			racy = append(racy, t)
		default:
			certain = append(certain, t)
		}
	}
	if len(certain) == 0 {
		return racy
	}
	return certain
}

func programOf(t kernel.Test) runner.Program {
	if t.Name == bootTest.Name {
		return runner.Program{Name: t.Name, Boot: true}
	}
	return runner.Program{Name: t.Name, Argv: []string{vmimage.ReproducerPath, t.Name}, Limit: time.Duration(t.Timeout) * time.Second, Needs: t.Needs, Several: true}
}

// matches says whether a glob names a test. A star also stands for slashes, so
// that cow/* is all of cow.
func matches(glob, name string) bool {
	if !strings.ContainsAny(glob, "*?") { // a pattern is costly, and there may be hundreds of names
		return glob == name
	}
	re := regexp.QuoteMeta(glob)
	re = strings.ReplaceAll(re, `\*`, ".*")
	re = strings.ReplaceAll(re, `\?`, ".")
	ok, _ := regexp.MatchString("^"+re+"$", name)
	return ok
}

func (r request) plan() (job.Plan, error) {
	ps, err := r.programs()
	if err != nil {
		return job.Plan{}, err
	}
	must, err := r.mustRun()
	return job.Plan{Programs: ps, Runs: r.Runs, MaxRuns: r.MaxRuns, ShareGuests: r.ShareGuests, MustRun: must}, err
}

// mustRun are the tests that the profile says must not skip.
func (r request) mustRun() (map[string]bool, error) {
	if len(r.Programs) > 0 {
		return nil, nil
	}
	p, err := profileOf(r.Profile)
	if err != nil {
		return nil, err
	}
	tests, err := vmimage.Tests()
	if err != nil {
		return nil, err
	}
	must := map[string]bool{}
	for _, t := range tests {
		must[t.Name] = p.MustRun.Has(t.Name)
	}
	return must, nil
}

func profileOf(name string) (kernel.Profile, error) {
	p, err := kconfigs.Profile(name)
	if err != nil {
		return p, usagef("--profile: %v", err)
	}
	return p, nil
}

// fragments are a profile's own and the user's behind them.
func fragments(p kernel.Profile, more []kbuild.Fragment) ([]kbuild.Fragment, error) {
	var out []kbuild.Fragment
	for _, name := range p.Fragments {
		text, err := kconfigs.Fragment(name)
		if err != nil {
			return nil, err
		}
		out = append(out, kbuild.Fragment{Name: name, Text: text})
	}
	return append(out, more...), nil
}

func decodeRequest(text []byte) (request, error) {
	var r request
	dec := json.NewDecoder(bytes.NewReader(text))
	// A job of another version that asks for more than we know must not resume
	// as something else.
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return r, fmt.Errorf("stored request: %w", err)
	}
	return r, nil
}
