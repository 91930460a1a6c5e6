package job

import (
	"slices"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kconfig"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// localFiles are options that name files of the machine on which a distribution
// builds. Here they would end the build.
var localFiles = []string{"SYSTEM_TRUSTED_KEYS", "SYSTEM_REVOCATION_KEYS", "INITRAMFS_SOURCE", "EXTRA_FIRMWARE"}

// Differ says whether the two ends differ at all.
func (s *ConfigSearch) Differ() bool { return len(differing(s.Good, s.Bad)) > 0 }

// within is a .config as far as a guest has it: a module is left out, as no guest
// loads one, and so are files of other machines.
func within(reqs []kconfig.Request) []byte {
	var text strings.Builder
	for _, r := range reqs {
		switch {
		case r.Value == "m":
			r.Value = "n"
		case slices.Contains(localFiles, r.Symbol) && r.Value != "n":
			r.Value = `""`
		}
		text.WriteString(r.Line())
	}
	return []byte(text.String())
}

// values of a .config by their symbols.
type values map[string]string

func valuesOf(reqs []kconfig.Request) values {
	v := make(values, len(reqs))
	for _, r := range reqs {
		v[r.Symbol] = r.Value
	}
	return v
}

// of is the value of a symbol: one that a .config does not have is not set.
func (v values) of(symbol string) string {
	if x, ok := v[symbol]; ok {
		return x
	}
	return "n"
}

// differing are the options in which two .configs differ, in their order: what
// depends on another stands near it, so that parts of the list keep it together.
func differing(good, bad []kconfig.Request) []kernel.ConfigOption {
	g, b := valuesOf(good), valuesOf(bad)
	seen := map[string]bool{}
	var out []kernel.ConfigOption
	for _, r := range slices.Concat(bad, good) {
		if x, y := g.of(r.Symbol), b.of(r.Symbol); x != y && !seen[r.Symbol] {
			seen[r.Symbol] = true
			out = append(out, kernel.ConfigOption{Symbol: r.Symbol, Good: x, Bad: y})
		}
	}
	return out
}

// differences takes what the .configs that came out of both ends differ in, and
// says why they do not in the rest of what was given.
func (b *configSearch) differences(good, bad []kconfig.Request) {
	b.res.Options = differing(good, bad)
	g, w := valuesOf(good), valuesOf(bad)
	var fixed strings.Builder
	for _, r := range good {
		if w.of(r.Symbol) == r.Value {
			fixed.WriteString(r.Line())
		}
	}
	b.fixed = fixed.String()
	for _, o := range differing(b.Good, b.Bad) {
		switch {
		case g.of(o.Symbol) != w.of(o.Symbol):
			continue
		case b.Forced[o.Symbol]:
			o.Why = "set to " + g.of(o.Symbol) + " on both: the guest needs that, or --kconfig says so"
		case o.Good == "m" || o.Bad == "m":
			o.Why = "no guest loads a module"
		default:
			o.Why = "the same in the kernels of both"
		}
		b.res.LeftOut = append(b.res.LeftOut, o)
	}
}

// text is the good end's .config with the bad end's values of a subset. These stand
// at the end: of a choice the last one counts.
func (b *configSearch) text(subset []int) []byte {
	var good, bad strings.Builder
	for i, o := range b.res.Options {
		if slices.Contains(subset, i) {
			bad.WriteString(kconfig.Request{Symbol: o.Symbol, Value: o.Bad}.Line())
		} else {
			good.WriteString(kconfig.Request{Symbol: o.Symbol, Value: o.Good}.Line())
		}
	}
	return []byte(b.fixed + good.String() + bad.String())
}

func symbols(options []kernel.ConfigOption, subset []int) []string {
	var out []string
	for _, i := range subset {
		out = append(out, options[i].Symbol)
	}
	return out
}
