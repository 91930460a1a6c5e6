package runner

import (
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
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
	h := agentproto.Hello{CPUs: 2, SwapKiB: 4, THPSizes: []int64{2 << 20, 64 << 10}, HugetlbSizes: []int64{2 << 20}, Features: []string{"gup_test"}}
	for needs, want := range map[string]string{
		"": "", "swap smp thp hugetlb hugetlb:2097152 mthp:65536 gup_test": "",
		"hugetlb:1073741824":     "the guest has no hugetlb:1073741824",
		"swap io_uring mthp:131": "the guest has no io_uring, no mthp:131",
	} {
		if got := lacks(h, strings.Fields(needs)); got != want {
			t.Errorf("%q: %q, want %q", needs, got, want)
		}
	}
	if got := lacks(agentproto.Hello{CPUs: 1}, []string{"swap", "smp", "thp", "hugetlb"}); got != "the guest has no swap, no smp, no thp, no hugetlb" {
		t.Errorf("%q", got)
	}
}

// What is checked for is what an agent can tell of, so that none is refused
// that a guest has, and none accepted that no guest ever has.
func TestEveryNeedCanBeMet(t *testing.T) {
	h := agentproto.Hello{CPUs: 2, SwapKiB: 4, THPSizes: []int64{1}, HugetlbSizes: []int64{1}, Features: features}
	for _, f := range features {
		if !has(h, f) || CheckNeed(f) != nil {
			t.Error(f)
		}
	}
	for name, sized := range memories {
		if sized {
			name += ":1"
		}
		if !has(h, name) || CheckNeed(name) != nil {
			t.Error(name)
		}
	}
}
