package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// behind is how many commits stand before the culprit, in one range after the
// other: the middles of its thirds.
var behind = []int{10, 31, 52}

// denseFiles are C files of the slim kernel: a range in which each commit changes
// an object, which no real one does.
var denseFiles = []string{"mm/memory.c", "mm/mremap.c", "mm/mlock.c", "mm/mprotect.c", "mm/rmap.c", "mm/gup.c", "mm/mmap.c", "mm/filemap.c",
	"mm/shmem.c", "mm/swap_state.c", "mm/vmscan.c", "mm/migrate.c", "kernel/fork.c", "kernel/exit.c", "fs/exec.c", "fs/splice.c"}

func dense(n int) []string {
	var out []string
	for i := range n {
		out = append(out, denseFiles[i%len(denseFiles)])
	}
	return out
}

// bisections measures the search in a range for a failure that shows each time.
func (b *bench) bisections(name string, files []string) error {
	if err := b.keepBoth(); err != nil {
		return err
	}
	for i, n := range behind {
		s, err := checkout{b.repo}.plant(name, b.base, files, n)
		if err != nil {
			return err
		}
		for _, ccache := range []bool{false, true} {
			if err := b.searchPeer(s, 1, test, ccache); err != nil {
				return err
			}
		}
		if err := b.searchOurs(s, "--test", test, "--no-confirm"); err != nil {
			return err
		}
		if i == len(behind)/2 {
			if err := b.searchOurs(s, "--test", test); err != nil {
				return err
			}
		}
	}
	return nil
}

// flaky measures the search for a failure that shows in 30 % of the runs.
func (b *bench) flaky() error {
	s, err := checkout{b.repo}.plant("range", b.base, lines(rangeList), behind[1])
	if err != nil {
		return err
	}
	if err := b.keepBoth(); err != nil {
		return err
	}
	if err := b.searchPeer(s, 10, "flaky", false); err != nil {
		return err
	}
	return b.searchOurs(s, "--script", "tests/programs/flaky.sh", "--no-confirm")
}

// keepBoth sees to it that the state of both with nothing but the base built is
// kept. Ours is made anew for another binary: it may have another idea of what the
// base's kernel is, and would build it in the middle of a search.
func (b *bench) keepBoth() error {
	binary, err := os.ReadFile(b.ours.binary)
	if err != nil {
		return err
	}
	digest := fmt.Sprintf("%x", sha256.Sum256(binary))
	mark := filepath.Join(b.dir, "home.kept", "made-by")
	if old, err := os.ReadFile(mark); err == nil && string(old) != digest || errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Dir(mark)); err == nil {
			if err := b.restore("home"); err != nil {
				return err
			}
			if err := b.buildBase(); err != nil {
				return err
			}
			if err := os.RemoveAll(filepath.Dir(mark)); err != nil {
				return err
			}
		}
	}
	for _, what := range []string{"home", "peer"} {
		if _, err := os.Stat(filepath.Join(b.dir, what+".kept")); err == nil {
			continue
		}
		if err := b.keep(what); err != nil {
			return err
		}
	}
	return os.WriteFile(mark, []byte(digest), 0o644)
}

func (b *bench) searchPeer(s series, runs int, test string, ccache bool) error {
	if err := b.restore("peer"); err != nil {
		return err
	}
	how := fmt.Sprintf("git bisect run, %d runs", runs)
	if b.peer.ccache = ccache; ccache {
		how += ", ccache"
	}
	found, ends, all, err := b.peer.bisect(s, runs, test)
	if err != nil {
		return err
	}
	b.Search = append(b.Search, searched{Series: s.name, How: how, Test: test, Right: found == s.culprit, Ends: ends, Spent: all})
	say("%s: %s: %.0f s, of which the ends %.0f s, right: %v", s.name, how, all.Seconds, ends.Seconds, found == s.culprit)
	return nil
}

func (b *bench) searchOurs(s series, args ...string) error {
	if err := b.restore("home"); err != nil {
		return err
	}
	how := "kbisect, confirmed"
	if slices.Contains(args, "--no-confirm") {
		how = "kbisect"
	}
	var res kernel.BisectResult
	cost, err := b.ours.json(&res, append([]string{"bisect", "--repo", b.repo, "--good", s.base, "--bad", s.head}, args...)...)
	if err != nil {
		return err
	}
	right := res.Status == kernel.Found && res.Culprit != nil && res.Culprit.SHA == s.culprit
	b.Search = append(b.Search, searched{Series: s.name, How: how, Test: res.Test, Right: right, Spent: cost, Builds: res.Builds, Runs: res.Runs})
	say("%s: %s: %.0f s, %d builds, %d runs, own CPU %.1f of %.0f s, %d MiB, right: %v (%s)", s.name, how, cost.Seconds, res.Builds, res.Runs, cost.Own, cost.CPU, cost.Memory>>10, right, res.Reason)
	return nil
}

// best is the peer's quickest way to all culprits of a series.
func (b *bench) best(series, test string) (how string, seconds float64) {
	all := map[string]float64{}
	for _, s := range b.Search {
		if s.Series == series && s.Test == test && strings.HasPrefix(s.How, "git") {
			all[s.How] += s.Spent.Seconds
		}
	}
	for h, x := range all {
		if how == "" || x < seconds {
			how, seconds = h, x
		}
	}
	return how, seconds
}

// bisectTable has a row for each way to search a series, with all its culprits
// together.
func (b *bench) bisectTable(t *strings.Builder) {
	if len(b.Search) == 0 {
		return
	}
	type row struct {
		searched
		n, right int
		walls    []string
	}
	var rows []*row
	for _, s := range b.Search {
		i := slices.IndexFunc(rows, func(r *row) bool { return r.Series == s.Series && r.How == s.How && r.Test == s.Test })
		if i < 0 {
			i = len(rows)
			rows = append(rows, &row{searched: searched{Series: s.Series, How: s.How, Test: s.Test}})
		}
		r := rows[i]
		r.n++
		if s.Right {
			r.right++
		}
		r.walls = append(r.walls, fmt.Sprintf("%.0f", s.Spent.Seconds))
		r.Spent.Seconds += s.Spent.Seconds
		r.Spent.CPU += s.Spent.CPU
		r.Spent.Own += s.Spent.Own
		r.Spent.Memory, r.Spent.Guest = max(r.Spent.Memory, s.Spent.Memory), max(r.Spent.Guest, s.Spent.Guest)
	}
	fmt.Fprintf(t, "| 64 commits | how | right | wall, s | to the best of the peer | own CPU | memory: orchestrator, a guest |\n|---|---|--:|--:|--:|--:|--:|\n")
	for _, r := range rows {
		ratio, own, memory := "", "", ""
		if how, best := b.best(r.Series, peerTest(r.Test)); strings.HasPrefix(r.How, "kbisect") && how != "" && r.n == b.times(r.Series, how) {
			ratio = fmt.Sprintf("%.2f", r.Spent.Seconds/best)
		}
		if r.Spent.Own > 0 {
			own, memory = fmt.Sprintf("%.1f %%", 100*r.Spent.Own/r.Spent.CPU), fmt.Sprintf("%d, %d MiB", r.Spent.Memory>>10, r.Spent.Guest>>10)
		}
		fmt.Fprintf(t, "| %s, %s | %s | %d of %d | %s | %s | %s | %s |\n", r.Series, r.Test, r.How, r.right, r.n, strings.Join(r.walls, " + "), ratio, own, memory)
	}
	fmt.Fprintln(t)
}

// times is how often a series was searched in a way.
func (b *bench) times(series, how string) int {
	n := 0
	for _, s := range b.Search {
		if s.Series == series && s.How == how {
			n++
		}
	}
	return n
}

// peerTest is what the peer calls a test of ours.
func peerTest(name string) string {
	if strings.HasPrefix(name, "script/") || strings.HasPrefix(name, "program/") {
		return "flaky"
	}
	return name
}
