package job

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kernel-bisect/kbisect/internal/kconfig"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
)

// configWorld is a kernel with options A, B and so on, all of them off at the good
// end and on at the bad one. GUEST is forced.
type configWorld struct {
	*world
	symbols []string
	needs   map[string]string // option -> what it depends on
	selects map[string]string // option -> what it brings
	broken  map[string]bool   // does not compile with this option alone on
	fails   func(values) string
	kernels []string // .configs, by the number of their kernel
	asked   int
}

func newConfigWorld(t *testing.T, options int, fails func(values) string) *configWorld {
	w := &configWorld{world: newWorld(t, 1), needs: map[string]string{}, selects: map[string]string{}, broken: map[string]bool{}, fails: fails}
	for i := range options {
		w.symbols = append(w.symbols, string(rune('A'+i)))
	}
	return w
}

// ifAll fails where all options are on.
func ifAll(outcomes string, symbols ...string) func(values) string {
	return func(v values) string {
		for _, s := range symbols {
			if v.of(s) != "y" {
				return "p"
			}
		}
		return outcomes
	}
}

func (w *configWorld) build(_ context.Context, _ kernel.Commit, whole []byte) (kernel.Build, []byte, error) {
	if err := w.power(); err != nil {
		return kernel.Build{}, nil, err
	}
	w.asked++
	reqs, err := kconfig.ParseFragment("whole", whole)
	if err != nil {
		return kernel.Build{}, nil, err
	}
	v := valuesOf(reqs)
	v["GUEST"] = "y"
	for range w.symbols {
		for on, brings := range w.selects {
			if v.of(on) == "y" {
				v[brings] = "y"
			}
		}
		for s, on := range w.needs {
			if v.of(on) != "y" {
				v[s] = "n"
			}
		}
	}
	var on []string
	text := "CONFIG_GUEST=y\n"
	for _, s := range w.symbols {
		text += kconfig.Request{Symbol: s, Value: v.of(s)}.Line()
		if v.of(s) == "y" {
			on = append(on, s)
		}
	}
	if len(on) == 1 && w.broken[on[0]] {
		return kernel.Build{Status: kernel.BuildFailed, Error: "mm/x.c: error"}, nil, nil
	}
	n := slices.Index(w.kernels, text)
	cached := n >= 0
	if !cached {
		n = len(w.kernels)
		w.kernels = append(w.kernels, text)
		w.script[fmt.Sprintf("%d repro", n)] = w.fails(v)
	}
	return kernel.Build{Status: kernel.BuildOK, Cached: cached, Kernel: kernel.Kernel{Digest: fmt.Sprint(n), Release: "6.1"}}, []byte(text), nil
}

func (w *configWorld) search(t *testing.T, good, bad string) (ConfigSearch, *Lab) {
	t.Helper()
	s := ConfigSearch{Commit: w.commits[0], Program: program("repro"), Forced: map[string]bool{"GUEST": true}}
	var err error
	for _, e := range []struct {
		text string
		into *[]kconfig.Request
	}{{good, &s.Good}, {bad, &s.Bad}} {
		if *e.into, err = kconfig.ParseFragment("f", []byte(e.text)); err != nil {
			t.Fatal(err)
		}
	}
	lab := w.lab("bisect-config-1")
	lab.BuildConfig = w.build
	return s, lab
}

// skips counts the runs that are evidence of nothing.
func (w *configWorld) skips(res *kernel.ConfigResult) int {
	if strings.Contains(res.Reason, "skips") {
		return 1
	}
	return 0
}

// run searches with all options off and on.
func (w *configWorld) run(t *testing.T) *kernel.ConfigResult {
	t.Helper()
	good, bad := "# CONFIG_GUEST is not set\nCONFIG_M=m\n", "CONFIG_GUEST=y\nCONFIG_ELSEWHERE=y\n"
	for _, s := range w.symbols {
		good += "# CONFIG_" + s + " is not set\n"
		bad += "CONFIG_" + s + "=y\n"
	}
	s, lab := w.search(t, good, bad)
	res := &kernel.ConfigResult{}
	if err := lab.BisectConfig(t.Context(), s, res, func() {}); err != nil {
		t.Fatal(err)
	}
	return res
}

// brief is an answer in one line: option, what the kernel does without it, and who
// needs it.
func brief(res *kernel.ConfigResult) string {
	words := []string{string(res.Status)}
	for _, c := range res.Culprits {
		w := c.Symbol + ":" + string(c.Without)
		if len(c.NeededBy) > 0 {
			w += "<" + strings.Join(c.NeededBy, "+")
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}

func TestBisectConfig(t *testing.T) {
	for _, c := range []struct {
		name   string
		fails  func(values) string
		change func(w *configWorld)
		want   string
		reason string
	}{
		{"one", ifAll("f", "F"), nil, "found F:good", "the good end with this option fails"},
		{"two together", ifAll("f", "B", "G"), nil, "found B:good G:good", "each of them put back"},
		{"with what it depends on", ifAll("f", "G"), func(w *configWorld) { w.needs["G"] = "B" }, "found B:good<G G:good", ""},
		{"brought by another", ifAll("f", "C"), func(w *configWorld) { w.selects["A"], w.needs["C"] = "C", "A" }, "found A:good", ""},
		{"does not build alone", ifAll("f", "A", "B"), func(w *configWorld) { w.broken["A"] = true }, "set A:good B:untestable", "CONFIG_B"},
		{"does not boot alone", ifAll("f", "A", "B"), func(w *configWorld) {
			ok := w.fails
			w.fails = func(v values) string {
				if v.of("A") != v.of("B") && v.of("B") == "y" {
					w.noBoot[len(w.kernels)-1] = true
				}
				return ok(v)
			}
		}, "set A:untestable B:good", "CONFIG_A"},
		{"another failure leads nowhere", func(v values) string {
			switch {
			case v.of("A") == "y" && v.of("H") != "y":
				return "o"
			case v.of("F") == "y":
				return "f"
			}
			return "p"
		}, nil, "found F:good", ""},
		{"false failure first at the bad end", func(v values) string {
			if v.of("F") != "y" {
				return "p"
			}
			return "of"
		}, nil, "found F:good", ""},
		{"passes", ifAll("p"), nil, "not-reproduced", "the bad end does not fail in 60 runs"},
		{"fails at both ends", ifAll("f"), nil, "not-reproduced", "the good end fails in the same way"},
		{"skips", ifAll("s", "A"), nil, "inconclusive", "the test skips at the bad end"},
		{"too seldom", func(v values) string {
			if v.of("A") == "y" {
				return "f" + strings.Repeat("p", 70)
			}
			return "p"
		}, nil, "inconclusive", "1 times in 60 runs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newConfigWorld(t, 8, c.fails)
			if c.change != nil {
				c.change(w)
			}
			res := w.run(t)
			if got := brief(res); got != c.want || !strings.Contains(res.Reason, c.reason) {
				t.Errorf("%s (%s), want %s (%s)\n%+v", got, res.Reason, c.want, c.reason, res.Steps)
			}
			if n := len(w.kernels); w.boots > n || res.Runs != w.runs-w.skips(res) {
				t.Errorf("%d boots of %d kernels, %d runs of %d: equal ones count again", w.boots, n, res.Runs, w.runs)
			}
		})
	}
}

// Of what was asked for only what came about is searched further.
func TestConfigWithoutEffect(t *testing.T) {
	w := newConfigWorld(t, 16, ifAll("f", "P"))
	for s := 'I'; s < 'P'; s++ {
		w.needs[string(s)] = "A"
	}
	if res := w.run(t); brief(res) != "found P:good" || w.asked != 5 {
		t.Errorf("%s after %d configurations, want 5: the ends, two halves, and what came about of the second", brief(res), w.asked)
	}
}

// What is not in question is said: what is forced, modules, and what this kernel does
// not know.
func TestLeftOut(t *testing.T) {
	res := newConfigWorld(t, 3, ifAll("f", "B")).run(t)
	want := []kernel.ConfigOption{
		{Symbol: "GUEST", Good: "n", Bad: "y", Why: "set to y on both: the guest needs that, or --kconfig says so"},
		{Symbol: "ELSEWHERE", Good: "n", Bad: "y", Why: "the same in the kernels of both"},
		{Symbol: "M", Good: "m", Bad: "n", Why: "no guest loads a module"},
	}
	if d := cmp.Diff(want, res.LeftOut); d != "" {
		t.Error(d)
	}
	if len(res.Options) != 3 {
		t.Errorf("%+v", res.Options)
	}
}

func TestWithin(t *testing.T) {
	reqs, err := kconfig.ParseFragment("f", []byte("CONFIG_A=m\nCONFIG_B=y\nCONFIG_SYSTEM_TRUSTED_KEYS=\"debian/certs/x.pem\"\n# CONFIG_EXTRA_FIRMWARE is not set\nCONFIG_HZ=250\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := "# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_SYSTEM_TRUSTED_KEYS=\"\"\n# CONFIG_EXTRA_FIRMWARE is not set\nCONFIG_HZ=250\n"
	if got := string(within(reqs)); got != want {
		t.Error(got)
	}
}

// Of a choice the last line counts: what a subset asks for stands behind the rest.
func TestTextOfASubset(t *testing.T) {
	b := &configSearch{fixed: "CONFIG_X=y\n", res: &kernel.ConfigResult{Options: []kernel.ConfigOption{{Symbol: "HZ_1000", Good: "n", Bad: "y"}, {Symbol: "HZ_250", Good: "y", Bad: "n"}}}}
	if got := string(b.text([]int{0})); got != "CONFIG_X=y\nCONFIG_HZ_250=y\nCONFIG_HZ_1000=y\n" {
		t.Error(got)
	}
}

// A configuration that the lab refuses is nothing that a search could go round.
func TestConfigRefused(t *testing.T) {
	w := newConfigWorld(t, 2, ifAll("f", "A"))
	s, lab := w.search(t, "CONFIG_A=y\n", "CONFIG_B=y\n")
	lab.BuildConfig = func(context.Context, kernel.Commit, []byte) (kernel.Build, []byte, error) {
		return kernel.Build{Status: kernel.BuildRefused, Error: "CONFIG_PVH=y became n"}, nil, nil
	}
	var refused *RefusedError
	if err := lab.BisectConfig(t.Context(), s, &kernel.ConfigResult{}, func() {}); !errors.As(err, &refused) || !strings.Contains(refused.Error(), "good end: CONFIG_PVH=y became n") {
		t.Error(err)
	}
}

// A killed search that is asked again makes the runs that are missing, and no others.
func TestConfigResumes(t *testing.T) {
	whole := newConfigWorld(t, 8, ifAll("f", "B", "G"))
	want := whole.run(t)
	for cut := 0; ; cut++ {
		w := newConfigWorld(t, 8, ifAll("f", "B", "G"))
		w.left = cut
		s, lab := w.search(t, w.ends("n"), w.ends("y"))
		err := lab.BisectConfig(t.Context(), s, &kernel.ConfigResult{}, func() {})
		w.left = -1
		if err == nil {
			return
		}
		if !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		res := &kernel.ConfigResult{}
		if err := lab.BisectConfig(t.Context(), s, res, func() {}); err != nil {
			t.Fatal(err)
		}
		if brief(res) != brief(want) || w.runs > whole.runs+1 { // one may have been made and not recorded
			t.Fatalf("cut at %d: %s with %d runs, want %s with %d", cut, brief(res), w.runs, brief(want), whole.runs)
		}
	}
}

func (w *configWorld) ends(value string) string {
	text := ""
	for _, s := range w.symbols {
		text += kconfig.Request{Symbol: s, Value: value}.Line()
	}
	return text
}

// noisyBench fails by chance.
type noisyBench struct {
	Bench
	rng  *rand.Rand
	rate float64
}

func (b noisyBench) Run(_ context.Context, p runner.Program) (kernel.Run, error) {
	if b.rng.Float64() < b.rate {
		return run(p.Name, 'f'), nil
	}
	return run(p.Name, 'p'), nil
}
func (noisyBench) Close() {}

// noisy searches 16 options where a kernel that has all the culprits fails with one
// rate and any other with another.
func noisy(t *testing.T, seed uint64, rate, falseRate float64, culprits ...string) string {
	rng := rand.New(rand.NewPCG(seed, 1))
	w := newConfigWorld(t, 16, ifAll("f", culprits...))
	s, lab := w.search(t, w.ends("n"), w.ends("y"))
	lab.Boot = func(_ context.Context, k kernel.Kernel) (Bench, kernel.Boot, error) {
		r := falseRate
		if w.script[k.Digest+" repro"] == "f" {
			r = rate
		}
		return noisyBench{rng: rng, rate: r}, kernel.Boot{Status: kernel.BootOK}, nil
	}
	res := &kernel.ConfigResult{}
	if err := lab.BisectConfig(t.Context(), s, res, func() {}); err != nil {
		t.Fatal(err)
	}
	return brief(res)
}

// A test that is flaky must not mislead: of the answers that are given at most one in
// twenty is wrong, whatever the rates.
func TestConfigNoise(t *testing.T) {
	const trials = 100
	for _, c := range []struct {
		rate, falseRate float64
		culprits        []string
		answers         int // at least
	}{
		{1, 0, []string{"K"}, trials},
		{1, 0.02, []string{"K"}, 95},
		{0.5, 0, []string{"K"}, 95},
		{0.3, 0.01, []string{"K"}, 80},
		{0.5, 0.01, []string{"C", "K"}, 90},
	} {
		t.Run(fmt.Sprintf("%g-%g-%d", c.rate, c.falseRate, len(c.culprits)), func(t *testing.T) {
			want := "found"
			for _, s := range c.culprits {
				want += " " + s + ":good"
			}
			right, wrong := 0, 0
			for seed := range uint64(trials) {
				switch got := noisy(t, seed, c.rate, c.falseRate, c.culprits...); {
				case got == want:
					right++
				case strings.HasPrefix(got, "found"):
					wrong++
				}
			}
			t.Logf("%d right, %d wrong, %d without an answer", right, wrong, trials-right-wrong)
			if wrong > trials/20 || right < c.answers {
				t.Errorf("%d right, %d wrong of %d", right, wrong, trials)
			}
		})
	}
}

// Whatever depends on whatever: the set that is found fails, without any one of its
// options it was seen not to, and each configuration was built once.
func TestConfigClosure(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(rt, "options")
		pick := func(name string) string { return string(rune('A' + rapid.IntRange(0, n-1).Draw(rt, name))) }
		w := newConfigWorld(t, n, nil)
		for range rapid.IntRange(0, n).Draw(rt, "needs") {
			if a, b := pick("from"), pick("to"); b < a { // no circles
				w.needs[a] = b
			}
		}
		if a, b := pick("selects"), pick("selected"); a < b && w.needs[b] == "" {
			w.selects[a] = b
		}
		var culprits []string
		for range rapid.IntRange(1, 3).Draw(rt, "culprits") {
			culprits = append(culprits, pick("culprit"))
		}
		w.fails = ifAll("f", culprits...)
		res := w.run(t)
		if res.Status != kernel.Found {
			rt.Fatalf("%s: %s", res.Status, res.Reason)
		}
		var set []int
		for i, o := range res.Options {
			if slices.ContainsFunc(res.Culprits, func(c kernel.ConfigCulprit) bool { return c.Symbol == o.Symbol }) {
				set = append(set, i)
			}
		}
		b := &configSearch{res: res}
		fails := func(subset []int) bool {
			_, config, err := w.build(t.Context(), kernel.Commit{}, b.text(subset))
			if err != nil {
				rt.Fatal(err)
			}
			reqs, _ := kconfig.ParseFragment("", config)
			return w.fails(valuesOf(reqs)) == "f"
		}
		if !fails(set) {
			rt.Errorf("%v does not fail", brief(res))
		}
		for k := range set {
			if fails(slices.Delete(slices.Clone(set), k, k+1)) {
				rt.Errorf("%v: fails without %s", brief(res), res.Options[set[k]].Symbol)
			}
		}
	})
}
