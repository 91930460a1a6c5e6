package bisect

import (
	"maps"
	"math"
	"slices"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/verdict"
)

// rate is the failure rate of bad commits as the bad end shows it.
func (h *Halving) rate() verdict.Rate {
	t := h.tally(h.bad)
	return verdict.Rate{A: 1, B: 1}.Learn(t.fails, t.passes)
}

// probBad is the probability that a commit is bad from its own runs, before
// which good and bad are equally likely: the search halves.
func (h *Halving) probBad(i int) float64 {
	t := h.tally(i)
	rate := h.rate()
	if i == h.bad { // its own runs must not be evidence for their own rate
		rate = verdict.Rate{A: 1, B: 1}
	}
	d := verdict.FalseFailRate.LogLikelihood(t.fails, t.passes) - rate.LogLikelihood(t.fails, t.passes)
	return 1 / (1 + math.Exp(d))
}

// state is what is known of a commit.
type state int

const (
	open state = iota
	good
	bad
	skipped // untestable, or not to be decided with the runs allowed
)

func (h *Halving) state(i int) state {
	t := h.tally(i)
	p := h.probBad(i)
	switch {
	case t.untestable:
		return skipped
	case p >= 1-h.alpha:
		return bad
	case p <= h.alpha:
		return good
	case t.runs() >= maxRuns:
		return skipped
	}
	return open
}

// tested returns the candidates that were looked at, in order: the search must
// not depend on the order of a map.
func (h *Halving) tested() []int {
	var out []int
	for _, i := range slices.Sorted(maps.Keys(h.runs)) {
		if i != GoodEnd {
			out = append(out, i)
		}
	}
	return out
}

// allRight is the probability that every commit on the way was judged right: a
// lower bound for the set that is left.
func (h *Halving) allRight() float64 {
	conf := 1 - h.probBad(GoodEnd)
	for _, i := range h.tested() {
		switch h.state(i) {
		case bad:
			conf *= h.probBad(i)
		case good:
			conf *= 1 - h.probBad(i)
		}
	}
	return conf
}

// verifyRuns is how many passes in a row call a commit good.
func (h *Halving) verifyRuns() int {
	rate := h.rate()
	for n := 1; n < maxRuns; n++ {
		d := verdict.FalseFailRate.LogLikelihood(0, n) - rate.LogLikelihood(0, n)
		if 1/(1+math.Exp(d)) <= h.alpha {
			return n
		}
	}
	return maxRuns
}

// Judged is what the search thinks of a commit from the runs on it.
func (h *Halving) Judged(i int) kernel.Verdict {
	switch h.state(i) {
	case good:
		return kernel.Good
	case bad:
		return kernel.Bad
	case skipped:
		return kernel.Untestable
	}
	return kernel.Inconclusive
}

// ruleOfThree is the upper 95 % bound of a rate that showed nothing in n runs.
func ruleOfThree(n int) float64 { return 1 - math.Pow(0.05, 1/float64(n)) }
