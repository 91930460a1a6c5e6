// Command bench measures kbisect beside what people use today, on this machine
// and on the same kernels: git bisect run with incremental builds and a boot for
// each run, and a loop over a series. It writes a table to standard output and
// all figures, as JSON, to a file. `make bench` runs it, for half an hour.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

func say(format string, a ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", a...) }

func main() {
	out := flag.String("json", "bin/bench.json", "where the figures go")
	dir := flag.String("dir", "", "working directory, 6 GB; default: a temporary one")
	only := flag.String("only", "", "parts, separated by commas: bisect, dense, flaky, series, runs, git; default: all")
	flag.Parse()
	b := &bench{only: *only, Started: time.Now().UTC(), Figures: map[string]float64{}}
	if err := b.run(*dir); err != nil {
		say("%v", err)
		os.Exit(1)
	}
	text, _ := json.MarshalIndent(b, "", "  ")
	if err := os.WriteFile(*out, append(text, '\n'), 0o644); err != nil {
		say("%v", err)
		os.Exit(1)
	}
	fmt.Print(b.table())
}

// bench is a run of the benchmark, and its JSON.
type bench struct {
	Started time.Time          `json:"started"`
	Machine kernel.Host        `json:"machine"`
	Search  []searched         `json:"bisections"`
	Series  []walked           `json:"series"`
	Figures map[string]float64 `json:"figures"` // of single runs: see runs.go
	Git     []timed            `json:"git"`

	only  string
	dir   string
	repo  string // the benchmark's commits
	base  string
	ours  ours
	peer  *peer
	tests []string
	// config is that of the base's kernel, as ours composed it.
	config string
}

// searched is one bisection.
type searched struct {
	Series string `json:"series"`
	How    string `json:"how"`
	Test   string `json:"test"`
	Right  bool   `json:"right"`
	Ends   spent  `json:"ends,omitzero"` // what of it was spent on trying the ends, where it can be told
	Spent  spent  `json:"spent"`
	Builds int    `json:"builds,omitempty"`
	Runs   int    `json:"runs,omitempty"`
}

// walked is one series, commit by commit.
type walked struct {
	Series string `json:"series"`
	How    string `json:"how"`
	Spent  spent  `json:"spent"`
	Built  int    `json:"built,omitempty"`
	Booted int    `json:"booted,omitempty"`
	Right  bool   `json:"right"`
}

func (b *bench) wants(part string) bool {
	return b.only == "" || strings.Contains(","+b.only+",", ","+part+",")
}

func (b *bench) run(dir string) error {
	if dir == "" {
		tmp, err := os.MkdirTemp("", "kbisect-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(tmp)
		dir = tmp
	}
	var err error
	if b.dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if err := b.prepare(); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		do   func() error
	}{
		{"bisect", func() error { return b.bisections("range", lines(rangeList)) }},
		{"dense", func() error { return b.bisections("dense", dense(63)) }},
		{"flaky", b.flaky},
		{"series", b.walks}, {"runs", b.singleRuns}, {"git", b.gitSize},
	} {
		if !b.wants(part.name) {
			continue
		}
		if err := part.do(); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// prepare makes the repository, and both object trees of the base.
func (b *bench) prepare() error {
	binary, err := filepath.Abs("bin/orchestrator")
	if err != nil {
		return err
	}
	b.ours = ours{binary, filepath.Join(b.dir, "home")}
	linux, err := output("", nil, "tests/make-series")
	if err != nil {
		return err
	}
	b.repo = filepath.Join(b.dir, "linux")
	if _, err := os.Stat(b.repo); err != nil {
		if _, err := output("", nil, "git", "clone", "-q", "--shared", "--branch", "series", linux, b.repo); err != nil {
			return err
		}
	}
	if b.base, err = output(b.repo, nil, "git", "rev-parse", "base^{commit}"); err != nil {
		return err
	}
	say("building the base, ours")
	if err := b.buildBase(); err != nil {
		return err
	}
	if !slices.ContainsFunc([]string{"bisect", "dense", "flaky", "series"}, b.wants) {
		return nil
	}
	say("building the base, the peer's")
	if b.peer, err = newPeer(filepath.Join(b.dir, "peer"), b.repo, b.base, b.config); err != nil {
		return err
	}
	b.peer.ccache = true
	return b.peer.build(b.base)
}

// buildBase has ours build and test the base.
func (b *bench) buildBase() error {
	var res kernel.CheckResult
	if _, err := b.ours.json(&res, "check", "--repo", b.repo, "--rev", b.base); err != nil {
		return err
	}
	b.Machine, b.config, b.tests = res.Host, res.Kernel.Config, nil
	for _, t := range res.Tests {
		b.tests = append(b.tests, t.Name)
	}
	return nil
}

// keep copies the state of both after the base was built, and restore brings it
// back, so that every bisection begins with nothing but the base.
func (b *bench) keep(what string) error {
	_, err := output("", nil, "cp", "-a", filepath.Join(b.dir, what), filepath.Join(b.dir, what+".kept"))
	return err
}

func (b *bench) restore(what string) error {
	if _, err := output("", nil, "rsync", "-a", "--delete", filepath.Join(b.dir, what+".kept")+"/", filepath.Join(b.dir, what)+"/"); err != nil {
		return err
	}
	// The files are others to git, though their content and times are the same: it
	// would write all of them again.
	trees, err := filepath.Glob(filepath.Join(b.dir, what, "cache/slots/*/src"))
	if what == "peer" {
		trees = []string{b.peer.src}
	}
	for _, t := range trees {
		if _, err := output(t, nil, "git", "update-index", "-q", "--refresh"); err != nil {
			return err
		}
	}
	return err
}

func (b *bench) table() string {
	var t strings.Builder
	fmt.Fprintf(&t, "%d CPUs, %s, %s %s, %s\n\n", runtime.NumCPU(), b.Machine.Compiler, b.Machine.QEMU, b.Machine.Accelerator, b.Started.Format("2006-01-02"))
	b.bisectTable(&t)
	b.seriesTable(&t)
	b.runsTable(&t)
	b.gitTable(&t)
	return t.String()
}
