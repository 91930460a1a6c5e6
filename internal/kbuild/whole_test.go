package kbuild

import (
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// A whole .config is composed with the kernel's defaults and below the fragments; what
// of it does not take effect is no refusal, what of the fragments does not is one.
func TestWhole(t *testing.T) {
	both(t, func(t *testing.T, sandbox bool) {
		b, src := builder(t, sandbox, goodBuild)
		b.Whole = []byte("CONFIG_MMU=n\nCONFIG_GONE=y\nCONFIG_MINE=y\n")
		got := build(t, b, src)
		config := read(t, got.Kernel.Config)
		if got.Status != kernel.BuildOK || !strings.HasPrefix(config, "CONFIG_MMU=n\nCONFIG_MINE=y\nCONFIG_MMU=y\n") || !strings.Contains(config, "CONFIG_DEFAULT=y\n") {
			t.Errorf("%+v %s", got, config)
		}
		b.Whole = []byte("CONFIG_OTHER=y\n")
		b.Fragments = append(b.Fragments, Fragment{"guest.config", []byte("CONFIG_GONE=y\n")})
		if got := build(t, b, src); got.Status != kernel.BuildRefused || !strings.Contains(got.Error, "CONFIG_GONE=y (guest.config:1)") {
			t.Errorf("%+v", got)
		}
	})
}

// A .config that an earlier kernel has is that kernel, and nothing is made.
func TestTwin(t *testing.T) {
	b, src := builder(t, false, "echo made >> $obj/images\n"+goodBuild)
	made := map[string]kernel.Build{}
	b.Twin = func(config string) (kernel.Build, bool) { k, ok := made[config]; return k, ok }
	whole := func(text string) kernel.Build {
		b.Whole = []byte(text)
		got := build(t, b, src)
		if got.Status == kernel.BuildOK {
			made[got.Kernel.ConfigDigest] = got
		}
		return got
	}
	first := whole("CONFIG_A=y\n")
	twin := whole("CONFIG_A=y\nCONFIG_GONE=y\n") // which comes out the same
	if n := strings.Count(read(t, b.Objects+"/images"), "made"); n != 1 {
		t.Errorf("made %d times", n)
	}
	if twin.Kernel.Key == first.Kernel.Key || twin.Kernel.Digest != first.Kernel.Digest || read(t, twin.Kernel.Image) != read(t, first.Kernel.Image) || read(t, twin.Kernel.Config) != read(t, first.Kernel.Config) {
		t.Errorf("%+v\n%+v", first, twin)
	}
	if r := b.loadReads(); len(r.Trees) != 0 || len(r.Built) != 1 { // else the next commit would find them up to date
		t.Errorf("the objects count as made for the twin: %+v", r)
	}
	if again := whole("CONFIG_A=y\nCONFIG_GONE=y\n"); !again.Cached {
		t.Errorf("%+v", again)
	}
	// Not known under the other .config: the objects are made after all.
	if other := whole("CONFIG_B=y\n"); other.Status != kernel.BuildOK || strings.Count(read(t, b.Objects+"/images"), "made") != 2 {
		t.Errorf("%+v", other)
	}
}
