package agentproto

import (
	"strings"
	"testing"
)

func TestCheckNeed(t *testing.T) {
	for need, bad := range map[string]bool{
		"swap": false, "smp": false, "thp": false, "hugetlb": false, "hugetlb:2097152": false, "mthp:65536": false, "gup_test": false, "io_uring": false,
		"": true, "mthp": true, "hugtlb": true, "swap:4": true, "hugetlb:": true, "hugetlb:2M": true, "hugetlb:-1": true, "gup_test:1": true, "Swap": true,
	} {
		if err := CheckNeed(need); (err != nil) != bad {
			t.Errorf("%q: %v", need, err)
		}
	}
}

func TestLacks(t *testing.T) {
	h := Hello{CPUs: 2, SwapKiB: 4, THPSizes: []int64{2 << 20, 64 << 10}, HugetlbSizes: []int64{2 << 20}, Features: []string{"gup_test"}}
	for needs, want := range map[string]string{
		"": "", "swap smp thp hugetlb hugetlb:2097152 mthp:65536 gup_test": "",
		"hugetlb:1073741824":     "the guest has no hugetlb:1073741824",
		"swap io_uring mthp:131": "the guest has no io_uring, no mthp:131",
		"madv_collapse swap":     "", // no agent looks for it
	} {
		if got := h.Lacks(strings.Fields(needs)); got != want {
			t.Errorf("%q: %q, want %q", needs, got, want)
		}
	}
	if got := (Hello{CPUs: 1}).Lacks([]string{"swap", "smp", "thp", "hugetlb"}); got != "the guest has no swap, no smp, no thp, no hugetlb" {
		t.Errorf("%q", got)
	}
}

func TestLacksUnderAnOlderName(t *testing.T) {
	h := Hello{Features: []string{"gup_benchmark"}}
	if got := h.Lacks([]string{"gup_test", "gup_test_longterm"}); got != "the guest has no gup_test_longterm" {
		t.Errorf("%q", got)
	}
}

// What is checked for is what an agent can tell of, so that none is refused
// that a guest has, and none accepted that no guest ever has.
func TestEveryNeedCanBeMet(t *testing.T) {
	h := Hello{CPUs: 2, SwapKiB: 4, THPSizes: []int64{1}, HugetlbSizes: []int64{1}, Features: Features}
	for _, f := range Features {
		if !h.has(f) || CheckNeed(f) != nil {
			t.Error(f)
		}
	}
	for name, sized := range memories {
		if sized {
			name += ":1"
		}
		if !h.has(name) || CheckNeed(name) != nil {
			t.Error(name)
		}
	}
}
