package history

import (
	"slices"
	"testing"
)

func TestWeight(t *testing.T) {
	h := Hints{Paths: []string{"mm/ksm.c", "fs/proc/"}, Words: []string{"wp_page_copy", "cve-2020-29374"}}
	for _, c := range []struct {
		name string
		c    Change
		want float64
	}{
		{"nothing known", Change{Message: "net: fix it", Files: []string{"net/core/dev.c"}}, 1},
		{"a suspected file", Change{Files: []string{"Documentation/x", "mm/ksm.c"}}, MaxWeight},
		{"below a suspected directory", Change{Files: []string{"fs/proc/task_mmu.c"}}, MaxWeight},
		{"beside a suspected file", Change{Files: []string{"mm/ksm.c.orig", "fs/proc.c"}}, 1},
		{"a word", Change{Message: "mm: call __wp_page_copy() late", Files: []string{"kernel/fork.c"}}, MaxWeight},
		{"a word of another case", Change{Message: "fix CVE-2020-29374.", Files: []string{"kernel/fork.c"}}, MaxWeight},
		{"part of a word", Change{Message: "do_wp_page_copy_all", Files: []string{"kernel/fork.c"}}, 1},
		{"documentation", Change{Files: []string{"Documentation/mm/ksm.rst", "MAINTAINERS"}}, InertWeight},
		{"another architecture", Change{Files: []string{"arch/arm64/mm/fault.c"}}, InertWeight},
		{"documentation and code", Change{Files: []string{"Documentation/mm/ksm.rst", "mm/gup.c"}}, 1},
		{"what the build reads of it", Change{Files: []string{"Documentation/Kconfig"}}, 1},
		{"what the build runs of it", Change{Files: []string{"tools/objtool/check.c"}}, 1},
		{"a selftest", Change{Files: []string{"tools/testing/selftests/mm/cow.c"}}, InertWeight},
		{"a file called like one", Change{Files: []string{"fs/MAINTAINERS"}}, 1},
		{"no files", Change{Message: "merge"}, 1},
	} {
		if got := h.Weight(c.c); got != c.want {
			t.Errorf("%s: %g, want %g", c.name, got, c.want)
		}
	}
	if got := (Hints{Paths: []string{"", "/"}}).Weight(Change{Files: []string{"mm/gup.c"}}); got != 1 {
		t.Errorf("an empty path is a hint at everything: %g", got)
	}
}

func TestPrior(t *testing.T) {
	got := Prior([]string{"a", "b", "c", "d"}, map[string]float64{"b": 1000, "c": 0, "d": 20})
	if want := []float64{1, MaxWeight, InertWeight, 20}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestWords(t *testing.T) {
	got := Words("__handle_mm_fault+0x12/0x340", "do_wp_page.isra.0", "BUG: Bad page state in process foo", "CVE-2020-29374, commit 17839856fd58", "do_wp_page")
	if want := []string{"handle_mm_fault", "do_wp_page", "cve-2020-29374"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
