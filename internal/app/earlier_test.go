package app

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// A series on another base is compared with what it was before, patch by patch;
// none of its runs is taken from there.
func TestEarlier(t *testing.T) {
	t.Parallel()
	h := newHooked(t) // kernels without the hook are bad
	home := t.TempDir()
	commit := func(name, text string) string {
		if err := os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		h.git("add", ".")
		h.git("commit", "-q", "-m", "mm: "+name)
		return h.git("rev-parse", "HEAD")
	}
	test := func(status int, base, head string, more ...string) (res kernel.SeriesResult) {
		h.run(home, status, &res, append([]string{"series", "--repo", h.dir, base + ".." + head, "--test", hookTest}, more...)...)
		return res
	}
	h.git("checkout", "-q", "-b", "v1", h.plain)
	one, two := commit("one", "1\n"), commit("two", "1\n")
	first := test(exitBad, h.plain, two)
	if first.Earlier != nil {
		t.Errorf("the first: %+v", first.Earlier)
	}
	if again := test(exitBad, h.plain, two); again.Earlier != nil {
		t.Errorf("the same commits again: %+v", again.Earlier)
	}
	h.git("checkout", "-q", "-b", "v2", h.landed)
	h.git("cherry-pick", one)
	oneNow, twoNow := h.git("rev-parse", "HEAD"), commit("two", "changed\n")
	got := test(exitOK, h.landed, twoNow)
	if got.Earlier == nil {
		t.Fatal("the series before is not found")
	}
	want := []kernel.SamePatch{{SHA: oneNow, Was: one, Differs: map[string]kernel.Verdict{hookTest: kernel.Bad}}}
	if d := cmp.Diff(want, got.Earlier.Patches); d != "" || got.Earlier.Base != h.plain {
		t.Errorf("on %s (-want +got):\n%s", got.Earlier.Base, d)
	}
	if _, reused := rows(got); reused[1] != 0 {
		t.Errorf("%v runs are of other jobs", reused)
	}
	if carrying := test(exitOK, h.plain, two, "--carry", h.patch); carrying.Earlier != nil {
		t.Errorf("with a patch besides: %+v", carrying.Earlier)
	}
}
