package bisect

import (
	"fmt"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// nextVerification runs the commits next to the change again: the parents of
// the culprit as often as it took to call a commit good, the culprit until it
// has failed twice, and then the weaker side until the answer is as sure as was
// asked for.
//
// It goes back to halving only when what is known now rules the culprit out or
// others in. Halving narrows by the same knowledge, so that it cannot come back
// with this culprit before a probe: the two never hand over in a circle.
func (h *Halving) nextVerification() (Probe, bool) {
	c := h.candidates.List()[0]
	below := h.graph.Parents(c)
	if len(below) == 0 {
		below = []int{GoodEnd}
	}
	stuck := h.tally(c).untestable // more runs cannot help
	for _, p := range below {
		switch st := h.state(p); {
		case st == bad && p == GoodEnd: // halving could not use that: the good end is no candidate
			h.stopOlder()
			return Probe{}, false
		case st == bad:
			h.phase = halve // its failures are news: look again with all that is known
			return Probe{}, false
		case st == skipped:
			stuck = true
		case st == open || h.tally(p).verified < h.verifyRuns():
			return Probe{p, WhyVerify}, true
		}
	}
	if h.state(c) == good {
		h.phase = halve
		return Probe{}, false
	}
	conf, weakest := h.confidenceIn(c, below)
	switch t := h.tally(c); {
	case stuck:
	case t.fails < 2 && t.runs() < maxRuns:
		return Probe{c, WhyVerify}, true
	case conf >= h.confidence:
		h.result.Culprit, h.result.Confidence = c, conf
		h.stop(kernel.Found, h.counts(c, below))
		return Probe{}, false
	case h.tally(weakest).runs() < maxRuns:
		return Probe{weakest, WhyVerify}, true
	}
	h.narrow()
	if h.candidates.Len() != 1 || !h.candidates.Has(c) {
		h.phase = halve
		return Probe{}, false
	}
	h.result.Confidence = conf
	h.stopInDoubt(c, below)
	return Probe{}, false
}

// confidenceIn is the probability that c is bad and its parents are good, and
// the commit that contributes the largest doubt.
func (h *Halving) confidenceIn(c int, below []int) (conf float64, weakest int) {
	conf, weakest = h.probBad(c), c
	least := conf
	for _, p := range below {
		f := 1 - h.probBad(p)
		if conf *= f; f < least {
			least, weakest = f, p
		}
	}
	return conf, weakest
}

// stopInDoubt ends a search whose only candidate cannot be named. Parents that
// could not be judged are good only by what was seen of other commits: they
// stay in the set.
func (h *Halving) stopInDoubt(c int, below []int) {
	reason, inSet := "", false
	for _, p := range below {
		if h.state(p) != skipped {
			continue
		}
		reason = h.undecided("the parent of the first bad commit", p)
		if p != GoodEnd {
			h.candidates.Set(p)
			inSet = true
		}
	}
	switch {
	case inSet:
		h.result.Confidence = h.allRight()
		h.stop(kernel.Set, reason)
	case reason != "":
		h.stop(kernel.NoConclusion, reason)
	case h.tally(c).untestable:
		h.stop(kernel.NoConclusion, "the first bad commit cannot be tested")
	default:
		h.stop(kernel.NoConclusion, fmt.Sprintf("one commit is left, but %s: more runs are needed than the %d allowed for a commit", h.counts(c, below), maxRuns))
	}
}

func (h *Halving) stopOlder() {
	t := h.tally(GoodEnd)
	h.stop(kernel.OlderThanGood, fmt.Sprintf("the good end fails too (%d of %d runs): the cause is older", t.fails, t.runs()))
}

// undecided says why a commit was skipped.
func (h *Halving) undecided(name string, i int) string {
	t := h.tally(i)
	if t.untestable {
		return name + " cannot be tested"
	}
	b := h.tally(h.bad)
	return fmt.Sprintf("%s fails %d of %d runs: not told from a bad commit, which fails %d of %d", name, t.fails, t.runs(), b.fails, b.runs())
}

func (h *Halving) counts(c int, below []int) string {
	t, p := h.tally(c), &tally{}
	for _, i := range below {
		p.fails += h.tally(i).fails
		p.passes += h.tally(i).passes
	}
	return fmt.Sprintf("it fails %d of %d runs and its parent %d of %d", t.fails, t.runs(), p.fails, p.runs())
}
