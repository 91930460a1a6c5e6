//go:build e2e

package tests

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// dropCall takes out the call that does not compile in the broken commit. It is a
// plain diff; the commit that mends the call itself is in its way.
const dropCall = `--- a/mm/page_alloc.c
+++ b/mm/page_alloc.c
@@ -6403,7 +6403,6 @@ void __show_free_areas(unsigned int filter, nodemask_t *nodemask, int max_zone_i

 	printk("%ld total pagecache pages\n", global_node_page_state(NR_FILE_PAGES));

-	show_swap_cache_info();
 }

 static void zoneref_set_zone(struct zone *zone, struct zoneref *zoneref)
`

// A test hook makes a test run on commits that lack it, and a hot-fix a commit that
// does not compile testable.
func TestCarry(t *testing.T) {
	const pin = "cow/ro-longterm-pin/base"
	hooks, err := filepath.Glob("series/0001-*.patch")
	if err != nil || len(hooks) != 1 {
		t.Fatalf("%v, %v", hooks, err)
	}
	hook := filepath.Base(hooks[0])
	before := digestDir(t, seriesRepo)
	res := decode[kernel.SeriesResult](t, 0, "series", "--repo", seriesRepo, "base..series~12", "--test", pin, "--carry", hooks[0])
	if len(res.Commits) != 2 || res.BaseRow.Tests[0].Verdict != kernel.Good || res.BaseRow.Build.Kernel.Carried != hook {
		t.Fatalf("the base with the hook: %+v", res.BaseRow)
	}
	there := []string{res.Commits[0].SHA, res.Commits[1].SHA}
	if len(res.Carried) != 1 || res.Carried[0].Name != hook || !slices.Equal(res.Carried[0].There, there) {
		t.Errorf("carried: %+v; the hook is in %v", res.Carried, there)
	}
	// The first commit is the hook and nothing else: one tree, one kernel.
	if first := res.Commits[0]; first.Build.Kernel.Key != res.BaseRow.Build.Kernel.Key || first.Build.Kernel.Carried != "" || first.Tests[0].Reused != first.Tests[0].Runs {
		t.Errorf("the commit of the hook: %+v", first)
	}
	if bare := decode[kernel.CheckResult](t, 3, "check", "--repo", seriesRepo, "--rev", "base", "--test", pin); bare.Tests[0].Verdict != kernel.Skipped {
		t.Errorf("the base without the hook: %+v", bare.Tests)
	}

	fix := filepath.Join(t.TempDir(), "drop-call.patch")
	if err := os.WriteFile(fix, []byte(strings.ReplaceAll(dropCall, "\n\n", "\n \n")), 0o644); err != nil {
		t.Fatal(err)
	}
	broken := git(t, seriesRepo, "log", "-1", "--format=%H", "--grep="+brokenSubject, "--fixed-strings", "series")
	mended := strings.Fields(git(t, seriesRepo, "rev-list", "--reverse", broken+"..series"))[0]
	res = decode[kernel.SeriesResult](t, 3, "series", "--repo", seriesRepo, broken+"~1.."+mended, "--test", "cow/fork-basic/base", "--carry", fix)
	base, mid, last := res.BaseRow, res.Commits[0], res.Commits[1]
	if base.Tests[0].Verdict != kernel.Good || mid.SHA != broken || mid.Build.Status != kernel.BuildOK || mid.Tests[0].Verdict != kernel.Good {
		t.Errorf("with the hot-fix: base %+v, the broken one %+v", base.Tests, mid)
	}
	const why = "carried drop-call.patch does not apply: mm/page_alloc.c, hunk 1 of 1 (line 6403)"
	if last.SHA != mended || last.Build.Status != kernel.BuildConflict || last.Tests[0].Verdict != kernel.Untestable || last.Tests[0].Reason != why {
		t.Errorf("the one that it is not for: %+v", last)
	}
	if text := run(t, "report", res.ID).stdout; !strings.Contains(text, "carried: drop-call.patch\n") || !strings.Contains(text, why) {
		t.Errorf("report:\n%s", text)
	}
	if digestDir(t, seriesRepo) != before {
		t.Error("the user's repository was changed")
	}
}
