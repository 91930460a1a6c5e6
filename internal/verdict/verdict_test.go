package verdict

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// runs makes runs of letters: p pass, f fail, c crash, h hang, s skip, i infra.
func runs(s string) []kernel.Run {
	outcome := map[rune]kernel.Outcome{'p': kernel.Pass, 'f': kernel.Fail, 'c': kernel.Crash, 'h': kernel.Hang, 's': kernel.Skip, 'i': kernel.Infra}
	var out []kernel.Run
	for _, c := range s {
		r := kernel.Run{Outcome: outcome[c]}
		if o := outcome[c]; o != kernel.Pass {
			r.Reason = string(o)
			r.Signature.Kind = string(o)
		}
		out = append(out, r)
	}
	return out
}

func TestDecide(t *testing.T) {
	for _, c := range []struct {
		runs    string
		want    kernel.Verdict
		decided bool // with two runs asked for
	}{
		{"", kernel.Inconclusive, false},
		{"pp", kernel.Good, true},
		{"ff", kernel.Bad, true},
		{"fc", kernel.Bad, true},
		{"hh", kernel.Bad, true},
		{"f", kernel.Inconclusive, false},
		{"fp", kernel.Inconclusive, false},
		{"fpp", kernel.Inconclusive, false},
		{"ffpp", kernel.Inconclusive, false},
		{"fffp", kernel.Bad, true},
		{"s", kernel.Skipped, true},
		{"ss", kernel.Skipped, true},
		{"spp", kernel.Good, true},
		{"sff", kernel.Bad, true},
		{"i", kernel.Inconclusive, false},
		{"iii", kernel.Inconclusive, false},
		{"is", kernel.Inconclusive, true},
		{"ipp", kernel.Good, true},
	} {
		t.Run(c.runs, func(t *testing.T) {
			rs := runs(c.runs)
			got := Decide("x", rs, nil)
			if got.Name != "x" || got.Verdict != c.want {
				t.Errorf("%+v, want %s", got, c.want)
			}
			if d := Count(rs).Decided("x", 2, nil); d != c.decided {
				t.Errorf("decided: %v", d)
			}
			if conf := got.Confidence; (c.want == kernel.Good || c.want == kernel.Bad) && (conf < DecidedAt || conf > 1) {
				t.Errorf("confidence %v", conf)
			}
		})
	}
	if Count(runs("p")).Decided("x", 2, nil) {
		t.Error("one run decides although two are wanted")
	}
}

// The first bad run explains the verdict, and a skip or infra one where there
// is no evidence.
// A known failure that is not seen any more is told; one that is seen in some
// run is still there.
func TestDecideKnown(t *testing.T) {
	for _, c := range []struct {
		known []kernel.Known
		want  kernel.Known
	}{
		{[]kernel.Known{"", ""}, ""},
		{[]kernel.Known{kernel.XFail, kernel.XFail}, kernel.XFail},
		{[]kernel.Known{kernel.XPass, kernel.XPass}, kernel.XPass},
		{[]kernel.Known{kernel.XPass, kernel.XFail, kernel.XPass}, kernel.XFail},
		{[]kernel.Known{"", kernel.XPass}, kernel.XPass},
	} {
		var rs []kernel.Run
		for _, k := range c.known {
			rs = append(rs, kernel.Run{Outcome: kernel.Pass, Known: k, Reason: string(k)})
		}
		if got := Decide("x", rs, nil); got.Verdict != kernel.Good || got.Known != c.want || got.Reason != string(c.want) {
			t.Errorf("%q: %s, %q, %q", c.known, got.Verdict, got.Known, got.Reason)
		}
		rs = append(rs, runs("ffffffff")...)
		if got := Decide("x", rs, nil); got.Verdict != kernel.Bad || got.Known != "" {
			t.Errorf("%q and failures: %s, %q", c.known, got.Verdict, got.Known)
		}
	}
}

func TestDecideExplains(t *testing.T) {
	rs := runs("pchs")
	rs[1].Console, rs[1].Output = "console", "output"
	got := Decide("x", rs, nil)
	if got.Signature.Kind != "crash" || got.Reason != "crash" || got.Console != "console" || got.Output != "output" || got.Runs != 3 || got.Fails != 2 {
		t.Errorf("%+v", got)
	}
	if got := Decide("x", runs("i"), nil); got.Reason != "infra" {
		t.Errorf("%+v", got)
	}
	if got := Decide("x", runs("pp"), nil); got.Reason != "" || got.Signature.Kind != "" {
		t.Errorf("%+v", got)
	}
}

func counts(t *rapid.T) (fails, passes int, prior float64) {
	n := rapid.OneOf(rapid.IntRange(0, 20), rapid.IntRange(0, 100_000))
	return n.Draw(t, "fails"), n.Draw(t, "passes"), rapid.Float64Range(0.001, 0.999).Draw(t, "prior")
}

func TestProbBad(t *testing.T) {
	if p := ProbBad(0, 0, 0.3); math.Abs(p-0.3) > 1e-12 {
		t.Errorf("without runs the prior 0.3 becomes %v", p)
	}
	rapid.Check(t, func(t *rapid.T) {
		fails, passes, prior := counts(t)
		p := ProbBad(fails, passes, prior)
		if !(p >= 0 && p <= 1) { // NaN too
			t.Fatalf("%d fails, %d passes, prior %v: %v", fails, passes, prior, p)
		}
		if more := ProbBad(fails+1, passes, prior); more < p || more == p && p > 1e-9 && p < 1-1e-9 {
			t.Errorf("one more fail takes %v to %v", p, more)
		}
		if less := ProbBad(fails, passes+1, prior); less > p || less == p && p > 1e-9 && p < 1-1e-9 {
			t.Errorf("one more pass takes %v to %v", p, less)
		}
	})
}

// What is no evidence changes no verdict, and the order of runs none either.
func TestDecideProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		letters := rapid.SliceOfN(rapid.SampledFrom([]rune("pfchsi")), 0, 30).Draw(t, "runs")
		got := Decide("x", runs(string(letters)), nil)
		evidence := slices.DeleteFunc(slices.Clone(letters), func(r rune) bool { return r == 's' || r == 'i' })
		bad := slices.DeleteFunc(slices.Clone(evidence), func(r rune) bool { return r == 'p' })
		if got.Runs != len(evidence) || got.Fails != len(bad) {
			t.Errorf("%d runs, %d fails", got.Runs, got.Fails)
		}
		if !(got.Confidence >= 0 && got.Confidence <= 1) {
			t.Errorf("confidence %v", got.Confidence)
		}
		if len(evidence) == 0 && (got.Verdict == kernel.Good || got.Verdict == kernel.Bad) {
			t.Errorf("%s from no evidence", got.Verdict)
		}
		if len(evidence) > 0 {
			if alone := Decide("x", runs(string(evidence)), nil); alone.Verdict != got.Verdict || alone.Confidence != got.Confidence {
				t.Errorf("%s without what is no evidence, %s with it", alone.Verdict, got.Verdict)
			}
		}
		slices.Reverse(letters)
		if turned := Decide("x", runs(string(letters)), nil); turned.Verdict != got.Verdict {
			t.Errorf("%s in this order, %s in the other", got.Verdict, turned.Verdict)
		}
	})
}

func TestRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fails, passes, _ := counts(t)
		r := FalseFailRate.Learn(fails, passes)
		if m := r.Mean(); m <= 0 || m >= 1 {
			t.Errorf("mean %v", m)
		}
		// P(a fail) + P(a pass) = 1 after whatever was seen.
		if sum := math.Exp(r.LogLikelihood(1, 0)) + math.Exp(r.LogLikelihood(0, 1)); math.Abs(sum-1) > 1e-3 {
			t.Errorf("the chances of one run sum to %v", sum)
		}
	})
}

// A failure as on the commit before decides by itself; another one, or one beside
// a pass, does not.
func TestDecideAfterFailure(t *testing.T) {
	before := Before{"x": kernel.Signature{Kind: string(kernel.Fail)}}
	for _, c := range []struct {
		runs    string
		least   int
		want    kernel.Verdict
		decided bool
	}{
		{"f", 2, kernel.Bad, true},
		{"f", 1, kernel.Bad, true},
		{"f", 3, kernel.Bad, false},
		{"ff", 3, kernel.Bad, true},
		{"c", 2, kernel.Inconclusive, false},
		{"cf", 2, kernel.Bad, true},
		{"fp", 2, kernel.Inconclusive, false},
		{"ffp", 2, kernel.Inconclusive, false},
		{"p", 2, kernel.Good, false},
		{"pp", 2, kernel.Good, true},
		{"s", 2, kernel.Skipped, true},
		{"if", 2, kernel.Bad, true},
		{"", 2, kernel.Inconclusive, false},
	} {
		t.Run(c.runs, func(t *testing.T) {
			rs := runs(c.runs)
			got := Decide("x", rs, before)
			if d := Count(rs).Decided("x", c.least, before); got.Verdict != c.want || d != c.decided {
				t.Errorf("%s at %.3f, decided: %v", got.Verdict, got.Confidence, d)
			}
			if other := Decide("y", rs, before); other.Confidence != Decide("y", rs, nil).Confidence {
				t.Errorf("another test: %.3f", other.Confidence)
			}
		})
	}
}
