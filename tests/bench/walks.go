package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// walks measures a series of 16 commits: the planted one of tests/series, with a
// commit that no build reads and one more that it does.
func (b *bench) walks() error {
	c := checkout{b.repo}
	s := series{name: "series", repo: b.repo, base: b.base}
	make16 := func(name string, edit func() error) error {
		if _, err := c.git("checkout", "-q", "-f", "-B", name, "origin/series"); err != nil {
			return err
		}
		if err := edit(); err != nil {
			return err
		}
		for i, path := range []string{"tools/testing/selftests/vm/benchmark.c", "mm/ksm.c"} {
			if err := c.commit(path, i); err != nil {
				return err
			}
		}
		var err error
		s.head, err = c.git("rev-parse", "HEAD")
		return err
	}
	if err := make16("sixteen", func() error { return nil }); err != nil {
		return err
	}
	if err := b.keepBoth(); err != nil {
		return err
	}
	b.peer.ccache = false
	tables := map[bool]string{}
	for _, apart := range []bool{false, true} {
		if err := b.restore("peer"); err != nil {
			return err
		}
		cost, table, err := b.peer.loop(s, b.tests, apart)
		if err != nil {
			return err
		}
		how := "a loop, one boot for each commit"
		if apart {
			how = "a loop, one boot for each test"
		}
		tables[apart] = table
		b.Series = append(b.Series, walked{Series: s.name, How: how, Spent: cost, Right: true})
		say("%s: %.0f s", how, cost.Seconds)
	}
	if err := b.restore("home"); err != nil {
		return err
	}
	first, err := b.walk(s, "kbisect")
	if err != nil {
		return err
	}
	for _, table := range tables {
		if err := agree(first, table); err != nil {
			return err
		}
	}
	if _, err := b.walk(s, "the same again"); err != nil {
		return err
	}
	// The seventh patch is changed, and all above it rebased.
	if err := make16("rebased", func() error {
		onto, err := c.git("rev-parse", "HEAD~8")
		if err != nil {
			return err
		}
		if _, err := c.git("reset", "-q", "--hard", onto); err != nil {
			return err
		}
		if err := c.edit("mm/mprotect.c", 99); err != nil {
			return err
		}
		if _, err := c.git("commit", "-q", "-a", "--amend", "-m", "mm/mprotect: version 2"); err != nil {
			return err
		}
		_, err = c.git("cherry-pick", onto+"..origin/series")
		return err
	}); err != nil {
		return err
	}
	_, err = b.walk(s, "with the 6th changed")
	return err
}

func (b *bench) walk(s series, how string) (kernel.SeriesResult, error) {
	var res kernel.SeriesResult
	cost, err := b.ours.json(&res, "series", "--repo", b.repo, s.base+".."+s.head)
	if err != nil {
		return res, err
	}
	w := walked{Series: s.name, How: how, Spent: cost, Right: res.Status == "done"}
	for _, row := range append([]kernel.CommitResult{*res.BaseRow}, res.Commits...) {
		if !row.Build.Cached {
			w.Built++
		}
		fresh := false
		for _, t := range row.Tests {
			fresh = fresh || t.Runs > t.Reused
		}
		if fresh {
			w.Booted++
		}
	}
	b.Series = append(b.Series, w)
	say("%s: %.1f s, %d built, %d run, own CPU %.1f of %.0f s", how, cost.Seconds, w.Built, w.Booted, cost.Own, cost.CPU)
	return res, nil
}

// agree holds our verdicts against the loop's single runs: what failed there must
// be bad here, and what passed good.
func agree(res kernel.SeriesResult, table string) error {
	seen := 0
	for _, row := range append([]kernel.CommitResult{*res.BaseRow}, res.Commits...) {
		text, err := os.ReadFile(filepath.Join(table, row.SHA))
		if err != nil {
			continue // it does not build
		}
		status := map[string]string{}
		for l := range strings.Lines(string(text)) {
			if f := strings.Fields(l); len(f) == 3 {
				status[f[2]] = f[1]
			}
		}
		for _, t := range row.Tests {
			want := map[string]kernel.Verdict{"0": kernel.Good, "1": kernel.Bad, "4": kernel.Skipped}[status[t.Name]]
			if got := t.Verdict; got != want && (want != kernel.Skipped || got != kernel.Untestable) {
				return fmt.Errorf("%s on %.12s: %s, and in the loop %q", t.Name, row.SHA, t.Verdict, status[t.Name])
			}
			seen++
		}
	}
	if seen < 300 {
		return fmt.Errorf("only %d verdicts were compared", seen)
	}
	return nil
}

func (b *bench) seriesTable(t *strings.Builder) {
	if len(b.Series) == 0 {
		return
	}
	fmt.Fprintf(t, "| 16 commits, %d tests | wall | to the loop | to that with a boot for each test | to the first time | built | run |\n|---|--:|--:|--:|--:|--:|--:|\n", len(b.tests))
	for i, s := range b.Series {
		first := ""
		if i > 2 {
			first = fmt.Sprintf("%.3f", s.Spent.Seconds/b.Series[2].Spent.Seconds)
		}
		fmt.Fprintf(t, "| %s | %.1f s | %.2f | %.2f | %s | %d | %d |\n", s.How, s.Spent.Seconds,
			s.Spent.Seconds/b.Series[0].Spent.Seconds, s.Spent.Seconds/b.Series[1].Spent.Seconds, first, s.Built, s.Booted)
	}
	fmt.Fprintln(t)
}
