package runner

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
)

// features are what an agent looks for, besides the kinds of memory.
var features = []string{"clear_refs", "gup_benchmark", "gup_test", "io_uring", "kpageflags", "ksm", "userfaultfd"}

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
	if _, ok := memories[name]; ok && name != "mthp" || slices.Contains(features, name) {
		return nil
	}
	return fmt.Errorf("there is no feature %q; there are thp, mthp:BYTES, hugetlb, hugetlb:BYTES, swap, smp, %s", need, strings.Join(features, ", "))
}

// lacks says what of a program's needs a guest does not have, "" for nothing.
func lacks(h agentproto.Hello, needs []string) string {
	var out []string
	for _, n := range needs {
		if !has(h, n) {
			out = append(out, n)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return "the guest has no " + strings.Join(out, ", no ")
}

func has(h agentproto.Hello, need string) bool {
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
	}
	return slices.Contains(h.Features, name)
}
