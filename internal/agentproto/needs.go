package agentproto

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Features are what an agent looks for and names in its Hello, besides the kinds
// of memory.
var Features = []string{"clear_refs", "gup_benchmark", "gup_test", "gup_test_longterm", "io_uring", "kpageflags", "ksm", "userfaultfd", "vfio"}

// memories are the kinds of memory that a program can need; those with a size
// take one in bytes, as the tests of `list tests` do: hugetlb:2097152.
var memories = map[string]bool{"swap": false, "smp": false, "thp": false, "mthp": true, "hugetlb": true}

// CheckNeed refuses a need that no guest can ever meet because there is no such
// feature.
func CheckNeed(need string) error {
	name, size, sized := strings.Cut(need, ":")
	if sized {
		if n, err := strconv.ParseInt(size, 10, 64); !memories[name] || err != nil || n < 1 {
			return fmt.Errorf("%q: a size in bytes goes with hugetlb and mthp only", need)
		}
		return nil
	}
	if _, ok := memories[name]; ok && name != "mthp" || slices.Contains(Features, name) {
		return nil
	}
	return fmt.Errorf("there is no feature %q; there are thp, mthp:BYTES, hugetlb, hugetlb:BYTES, swap, smp, %s", need, strings.Join(Features, ", "))
}

// Lacks says what of a program's needs the guest does not have, "" for nothing.
// What no agent looks for it cannot say; the program has to find out itself.
func (h Hello) Lacks(needs []string) string {
	var out []string
	for _, n := range needs {
		if CheckNeed(n) == nil && !h.has(n) {
			out = append(out, n)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return "the guest has no " + strings.Join(out, ", no ")
}

func (h Hello) has(need string) bool {
	name, size, _ := strings.Cut(need, ":")
	bytes, _ := strconv.ParseInt(size, 10, 64)
	switch name {
	case "swap":
		return h.SwapKiB > 0
	case "smp":
		return h.CPUs > 1
	case "thp":
		return len(h.THPSizes) > 0
	case "mthp":
		return slices.Contains(h.THPSizes, bytes)
	case "hugetlb":
		return len(h.HugetlbSizes) > 0 && (bytes == 0 || slices.Contains(h.HugetlbSizes, bytes))
	case "gup_test": // which 5.10 has by its older name
		return slices.Contains(h.Features, name) || slices.Contains(h.Features, "gup_benchmark")
	}
	return slices.Contains(h.Features, name)
}
