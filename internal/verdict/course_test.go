package verdict

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// line is a simulated series: the rate at which each site fails, and what was
// seen of it. From site 4 on the host makes runs fail too, on every kernel.
type line struct {
	rates []float64
	host  float64
	sites []Site
	rng   *rand.Rand
}

func (l *line) run(i int) {
	rate := l.rates[i]
	if len(l.sites) > 4 {
		rate = max(rate, l.host)
	}
	s := &l.sites[i]
	if s.Runs++; l.rng.Float64() < rate {
		s.Fails++
	} else {
		s.Passes++
	}
}

// test measures a series as the job does: every site until its verdict is
// clear, then what is asked for to compare it.
func (l *line) test(runs int, alpha float64) []Finding {
	var before Before
	for i := range l.rates {
		l.sites = append(l.sites, Site{})
		for l.sites[i].Runs < 20 && !l.tally(i).Decided("x", runs, before) {
			l.run(i)
		}
		now := Before{}
		if prior, _ := before.prior("x", l.tally(i), 0); ProbBad(l.sites[i].Fails, l.sites[i].Passes, prior) >= DecidedAt {
			now["x"] = kernel.Signature{}
		}
		before = now
		for want := More(l.sites, alpha, MostToCompare); len(want) > 0; want = More(l.sites, alpha, MostToCompare) {
			for _, k := range want {
				l.run(k)
			}
		}
	}
	return Findings(l.sites, alpha)
}

// tally is that of runs all of which fail alike.
func (l *line) tally(i int) Tally {
	t := Tally{Fails: l.sites[i].Fails, Passes: l.sites[i].Passes}
	if t.Fails > 0 {
		t.First = &kernel.Run{}
	}
	return t
}

// said is the findings in short: "introduced 4", and the suspects if they are
// several.
func said(found []Finding) string {
	var out []string
	for i, f := range found {
		if f.Change != kernel.Introduced && f.Change != kernel.Fixed {
			continue
		}
		s := fmt.Sprintf("%s %d", f.Change, i)
		if f.OneOf != nil {
			s += fmt.Sprint(f.OneOf)
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

// simulated is how many series TestSimulatedSeries makes of each world: 1000 for
// the figures in its comments and in README.md, which take a minute.
var simulated = flag.Int("simulated", 200, "series of each simulated world")

// Series of ten commits, with 26 tests. In the comments, of a thousand in each
// world: the right answers, the wrong ones (the rest has none), and the mean
// number of runs on the eleven kernels together.
func TestSimulatedSeries(t *testing.T) {
	const commits, tests = 10, 26
	trials := *simulated
	flat := slices.Repeat([]float64{1}, commits+1)
	// change makes the rate r from commit `at` on.
	change := func(before float64, then ...float64) []float64 {
		out := slices.Clone(flat)
		for i := range out {
			out[i] = before
			for k := 0; k < len(then); k += 2 {
				if i >= int(then[k]) {
					out[i] = then[k+1]
				}
			}
		}
		return out
	}
	for _, c := range []struct {
		name  string
		rates []float64
		host  float64
		runs  int
		want  string
		right float64 // share of the series at least
	}{
		{"sound", change(0), 0, 2, "", 1},                                                                         // 1000, 0, 22
		{"false failures", change(0.03), 0, 2, "", 1 - Alpha},                                                     // 1000, 0, 26
		{"flaky on the base and everywhere", change(0.3), 0, 2, "", 1 - Alpha},                                    // 1000, 0, 105
		{"flaky, at another rate on each kernel", change(-1), 0, 2, "", 1 - Alpha},                                // 987, 13, 167; rates from 0.1 to 0.5
		{"nearly always failing everywhere", change(0.8), 0, 2, "", 1 - Alpha},                                    // 1000, 0, 33
		{"broken on the base and everywhere", change(1), 0, 2, "", 1},                                             // 1000, 0, 12
		{"a host that gets worse", change(0), 0.5, 2, "", 1 - Alpha},                                              // 1000, 0, 76
		{"a host that gets useless", change(0), 1, 2, "", 1 - Alpha},                                              // 1000, 0, 79
		{"0 to 100 %", change(0, 4, 1), 0, 2, "introduced 4", 1},                                                  // 1000, 0, 30
		{"0 to 30 %", change(0, 4, 0.3), 0, 2, "introduced 4", 0.95},                                              // 987, 0, 207
		{"0 to 30 %, five runs", change(0, 4, 0.3), 0, 5, "introduced 4", 0.97},                                   // 1000, 0, 250
		{"30 to 100 %", change(0.3, 4, 1), 0, 2, "introduced 4", 0.95},                                            // 994, 0, 87
		{"100 to 0 %", change(1, 4, 0), 0, 2, "fixed 4", 1},                                                       // 1000, 0, 35
		{"there, gone, there again", change(0, 2, 1, 5, 0, 8, 1), 0, 2, "introduced 2, fixed 5, introduced 8", 1}, // 1000, 0, 57
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			right, wrong, runs := 0, 0, 0
			for seed := range trials {
				l := &line{rates: slices.Clone(c.rates), host: c.host, rng: rand.New(rand.NewPCG(4, uint64(seed)))}
				for i := range l.rates {
					if l.rates[i] < 0 {
						l.rates[i] = 0.1 + 0.4*l.rng.Float64()
					}
				}
				switch got := said(l.test(c.runs, Alpha/commits/tests)); {
				case got == c.want:
					right++
				case got != "" && !strings.HasPrefix(got, c.want+"["):
					wrong++
				}
				for _, s := range l.sites {
					runs += s.Runs
				}
			}
			t.Logf("%d right, %d wrong, %.0f runs", right, wrong, float64(runs)/float64(trials))
			if float64(right) < c.right*float64(trials) || float64(wrong) > Alpha*float64(trials) {
				t.Errorf("%d right and %d wrong of %d", right, wrong, trials)
			}
		})
	}
}

// sitesOf makes sites of words: p pass, f fail, - for nothing known.
func sitesOf(text string) []Site {
	var out []Site
	for _, w := range strings.Fields(text) {
		s := Site{Fails: strings.Count(w, "f"), Passes: strings.Count(w, "p")}
		s.Runs = s.Fails + s.Passes
		out = append(out, s)
	}
	return out
}

func TestFindings(t *testing.T) {
	const none = kernel.Change("")
	long := func(s string) string {
		return strings.ReplaceAll(strings.ReplaceAll(s, "P", "pppppppp"), "F", "ffffffff")
	}
	for _, c := range []struct {
		name, sites string
		want        []kernel.Change
		since       []int
		oneOf       string
	}{
		{"sound", "pp pp pp", []kernel.Change{none, none, none}, []int{0, 0, 0}, ""},
		{"broken by 2", "P P F F", []kernel.Change{none, none, kernel.Introduced, kernel.NotIntroduced}, []int{0, 0, 2, 2}, ""},
		{"by 2 or what was not seen", "P - F", []kernel.Change{none, none, kernel.Introduced}, []int{0, 0, 2}, "[1 2]"},
		{"too few runs to blame", "pp pp ff", []kernel.Change{none, none, kernel.Unclear}, []int{0, 0, 0}, ""},
		{"bad on the base", "F F F", []kernel.Change{none, kernel.NotIntroduced, kernel.NotIntroduced}, []int{0, 0, 0}, ""},
		{"the base is not known", "- F F", []kernel.Change{none, kernel.Unclear, kernel.Unclear}, []int{0, 0, 0}, ""},
		{"flaky as on the base", "ppffp pfpppf pp ffpf", []kernel.Change{none, kernel.Flaky, kernel.Flaky, kernel.Flaky}, []int{0, 0, 0, 0}, ""},
		{"flaky on the base, then always", "PPF PPF FFFF FF", []kernel.Change{none, kernel.Flaky, kernel.Introduced, kernel.NotIntroduced}, []int{0, 0, 2, 2}, ""},
		{"always, then flaky", "FF FF PPFP PPFP", []kernel.Change{none, kernel.NotIntroduced, kernel.NotIntroduced, kernel.NotIntroduced}, []int{0, 0, 0, 0}, ""},
		{"fixed by 1", "F P P", []kernel.Change{none, kernel.Fixed, none}, []int{0, 0, 0}, ""},
		{"in, out, in", "P F F P P F F", []kernel.Change{none, kernel.Introduced, kernel.NotIntroduced, kernel.Fixed, none, kernel.Introduced, kernel.NotIntroduced}, []int{0, 1, 1, 1, 0, 5, 5}, ""},
		{"a race, and a commit that was lucky", "PPPPPP PPPPPP PPPPFFPP pp PFPF", []kernel.Change{none, none, kernel.Introduced, none, kernel.NotIntroduced}, []int{0, 0, 2, 0, 2}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var changes []kernel.Change
			var since []int
			oneOf := ""
			for _, f := range Findings(sitesOf(long(c.sites)), Alpha/100) {
				changes, since = append(changes, f.Change), append(since, f.Since)
				if f.OneOf != nil {
					oneOf += fmt.Sprint(f.OneOf)
				}
			}
			if !slices.Equal(changes, c.want) || !slices.Equal(since, c.since) || oneOf != c.oneOf {
				t.Errorf("%q since %v, one of %s", changes, since, oneOf)
			}
		})
	}
}

// Where everything passes, or fails in the same way, nothing more is run; where
// it does not, both sides and the base are, as long as they may.
func TestMore(t *testing.T) {
	for _, c := range []struct {
		sites string
		most  int
		want  []int
	}{
		{"pp pp pp", 60, nil},
		{"ff ff ff", 60, nil},
		{"- - ff", 60, nil}, // there is nothing to compare it with
		{"pp ff", 60, []int{0, 1}},
		{"pp pp pp ff", 60, []int{2, 3}}, // the base is not behind its neighbour
		{"pp ppp ppp ff", 60, []int{0, 2, 3}},
		{"pp pp - - ff", 60, []int{1, 4}},
		{"pp ff ff ff", 60, []int{0, 1}}, // not the later ones
		{"ff ff pp", 60, []int{1, 2}},
		{"pp pp ff", 2, nil}, // they may not
		{"pp pp fff", 3, []int{1}},
		{"pp pppppp pppppp pppfpp pppppp", 60, nil},   // a false failure
		{"pppppppppp pppppppppp ffffffffff", 60, nil}, // it is sure
	} {
		got := More(sitesOf(c.sites), Alpha/100, c.most)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.sites, got, c.want)
		}
	}
}

// The sums over all ways to cut a series agree with counting them one by one.
func TestCourseAgainstBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "sites")
		sites := make([]Site, n)
		for i := range sites {
			sites[i] = Site{Fails: rapid.IntRange(0, 5).Draw(t, "fails"), Passes: rapid.IntRange(0, 5).Draw(t, "passes")}
		}
		a := rapid.IntRange(1, n).Draw(t, "first")
		b := rapid.IntRange(a, n).Draw(t, "last")
		c := newCourse(sites)
		var all, none float64
		var walk func(from int, k class, weight float64, free bool)
		walk = func(from int, k class, weight float64, free bool) {
			var f, p int
			for to := from + 1; to <= n; to++ {
				f, p = f+sites[to-1].Fails, p+sites[to-1].Passes
				like := math.Exp(classRate[k].LogLikelihood(f, p))
				if k == flaky {
					like = 0
					for m := 1; m < 2*means; m += 2 {
						mean, one := float64(m)/(2*means), 1.0/means
						for _, s := range sites[from:to] {
							one *= math.Exp(Rate{mean * spread, (1 - mean) * spread}.LogLikelihood(s.Fails, s.Passes))
						}
						like += one
					}
				}
				w := weight * like * math.Pow(1-PriorChange, float64(to-from-1))
				if to == n {
					all += w
					if free {
						none += w
					}
					continue
				}
				for o := range classes {
					if o != k {
						walk(to, o, w*PriorChange/float64(classes-1), free && (to < a || to > b))
					}
				}
			}
		}
		for k := range classes {
			walk(0, k, classPrior[k], true)
		}
		if got := c.unchanged(a, b); b < n && math.Abs(got-none/all) > 1e-9 {
			t.Errorf("%v: %d to %d unchanged with %v, want %v", sites, a, b, got, none/all)
		}
		if got := math.Exp(c.total); math.Abs(got/all-1) > 1e-9 {
			t.Errorf("%v: %v in all, want %v", sites, got, all)
		}
	})
}

// The figures of the comment on Alpha.
func TestBeta(t *testing.T) {
	missed := 0.0
	for i, want := range []float64{0.02, 0.33} {
		m := math.Exp(badRates[i].LogLikelihood(0, 2))
		if missed += m / 2; math.Abs(m-want) > 0.005 {
			t.Errorf("%v of %v pass two runs, want %v", m, badRates[i], want)
		}
	}
	if p := ProbBad(0, 2, PriorBad); math.Abs(missed-0.18) > 0.005 || math.Abs(p-0.02) > 0.005 {
		t.Errorf("%v pass two runs, and %v of those that do are broken", missed, p)
	}
}

func BenchmarkCourse(b *testing.B) {
	sites := make([]Site, 500)
	for i := range sites {
		sites[i] = Site{Fails: i / 250 * 2, Passes: 2 - i/250*2, Runs: 2}
	}
	for b.Loop() {
		More(sites, Alpha/10000, MostToCompare)
	}
}
