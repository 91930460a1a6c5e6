package main

import (
	"bufio"
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// benchLine is of go test: "BenchmarkForkedRun-2   100   120000000 ns/op".
var benchLine = regexp.MustCompile(`^Benchmark(\w+?)(?:-\d+)?\s+\d+\s+([0-9.]+) ns/op`)

// rounds of each measurement, in turn, so that a machine that is slower for a
// while is slower for all.
const rounds = 3

// singleRuns measures what tests/bench_test.go does: boots and runs.
func (b *bench) singleRuns() error {
	got := map[string][]float64{}
	for range rounds {
		out, _, err := run("tests", nil, "go", "test", "-tags", "e2e", "-run", "^$", "-bench", "BareInit|AgentReady|ForkedRun|BootedRun|TwoForkedRuns", "-benchtime", "34x", ".")
		if err != nil {
			return err
		}
		for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
			if m := benchLine.FindStringSubmatch(s.Text()); m != nil {
				ns, _ := strconv.ParseFloat(m[2], 64)
				got[m[1]] = append(got[m[1]], ns/1e9)
			}
		}
	}
	for name, all := range got {
		slices.Sort(all)
		b.Figures[name] = all[len(all)/2]
		say("%s: %.3f s (%v)", name, all[len(all)/2], all)
	}
	for _, name := range []string{"BareInit", "AgentReady", "ForkedRun", "BootedRun", "TwoForkedRuns"} {
		if b.Figures[name] == 0 {
			return fmt.Errorf("go test measured no %s", name)
		}
	}
	return nil
}

func (b *bench) runsTable(t *strings.Builder) {
	f := b.Figures
	if len(f) == 0 {
		return
	}
	fmt.Fprintf(t, "| %d runs each, median of %d rounds | | ratio |\n|---|--:|--:|\n", 34*rounds, rounds)
	fmt.Fprintf(t, "| a run in a guest that boots for it | %.3f s | |\n", f["BootedRun"])
	fmt.Fprintf(t, "| a run in a forked guest | %.3f s | %.1f times as fast |\n", f["ForkedRun"], f["BootedRun"]/f["ForkedRun"])
	fmt.Fprintf(t, "| two such runs at a time | %.3f s | %.2f times as many |\n", f["TwoForkedRuns"], 2*f["ForkedRun"]/f["TwoForkedRuns"])
	fmt.Fprintf(t, "| bare init | %.3f s | |\n", f["BareInit"])
	fmt.Fprintf(t, "| agent ready | %.3f s | %.2f |\n", f["AgentReady"], f["AgentReady"]/f["BareInit"])
}
