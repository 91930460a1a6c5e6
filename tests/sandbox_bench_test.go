//go:build e2e

package tests

import (
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/imagecache"
	"github.com/kernel-bisect/kbisect/internal/kbuild"
	"github.com/kernel-bisect/kbisect/kconfigs"
)

// BenchmarkSandbox builds two neighbouring commits in turn, in the sandbox with its
// guard and without, and says what of the time that costs: the medians, of builds
// that take turns.
func BenchmarkSandbox(b *testing.B) {
	dir := b.TempDir()
	repo, err := gitrepo.Open(b.Context(), dir, seriesRepo)
	if err != nil {
		b.Fatal(err)
	}
	profile := kconfigs.Profiles()[0]
	var fragments []kbuild.Fragment
	for _, name := range profile.Fragments {
		text, err := kconfigs.Fragment(name)
		if err != nil {
			b.Fatal(err)
		}
		fragments = append(fragments, kbuild.Fragment{Name: name, Text: text})
	}
	revs := []string{"base", "series~12"}
	took := map[bool][]time.Duration{}
	build := func(sandbox bool, rev string) {
		c, err := repo.Resolve(b.Context(), rev)
		if err != nil {
			b.Fatal(err)
		}
		slot := filepath.Join(dir, strconv.FormatBool(sandbox))
		cache, err := imagecache.Open(b.TempDir()) // nothing is kept
		if err != nil {
			b.Fatal(err)
		}
		builder := &kbuild.Builder{Owner: dir, Source: repo.Worktree(filepath.Join(slot, "src")), Objects: filepath.Join(slot, "obj"), Cache: cache,
			Fragments: fragments, Jobs: 2, Direct: true, Timeout: time.Hour, Sandbox: sandbox, Log: zap.NewNop()}
		start := time.Now()
		got, err := builder.Build(b.Context(), c)
		if err != nil || got.Kernel.Digest == "" {
			b.Fatalf("%+v, %v", got, err)
		}
		took[sandbox] = append(took[sandbox], time.Since(start))
	}
	for _, sandbox := range []bool{true, false} {
		build(sandbox, revs[0])
	}
	clear(took)
	for b.Loop() {
		for _, rev := range []string{revs[1], revs[0]} {
			build(true, rev)
			build(false, rev)
		}
	}
	median := func(d []time.Duration) float64 {
		slices.Sort(d)
		return d[len(d)/2].Seconds()
	}
	b.ReportMetric(median(took[true]), "s-sandboxed")
	b.ReportMetric(median(took[false]), "s-plain")
	b.ReportMetric(100*(median(took[true])/median(took[false])-1), "%-lost")
}
