// Package bisect decides which commit to test next and when to stop. Pure: it
// has no clock, no I/O and no goroutines, and its answers depend on the
// observations alone, so that a killed search resumes by replaying them. It must
// not know what a test is or how a kernel is built.
package bisect

import (
	"fmt"
	"math"

	"github.com/kernel-bisect/kbisect/internal/history"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// GoodEnd is the position of the known-good end, which is no candidate.
const GoodEnd = -1

// Probe asks for one more run on a commit.
type Probe struct {
	Commit int // position in the graph, or GoodEnd
	Why    string
}

// Observation is what a probe gave: one run, or that none can be had.
type Observation struct {
	Commit     int
	Failed     bool // the run showed the failure that is chased
	Untestable bool // the commit does not build or boot, or fails in another way
}

// Result is what the search knows.
type Result struct {
	Status     kernel.BisectStatus
	Culprit    int   // position, meaningful when Status is Found
	Candidates []int // commits that may be the culprit
	Confidence float64
	Reason     string // why it stopped, one sentence
}

// Budgets of runs. Without a failure in sixty runs of the bad end its rate is
// below 4.9 % at 95 % (rule of three): not reproduced. Judging a commit may take
// longer: one false failure among the passes of a good commit triples it.
const (
	calibrateMax = 60
	calibrateFor = 5 // failures of the bad end that make its rate known
	maxRuns      = 200
)

// Halving is a search by halves with as many runs on each commit as it takes to
// be sure: a sequential test of the failure rate seen at the bad end against
// the rate of false failures. Untestable commits are no evidence; the search
// goes round them.
type Halving struct {
	graph      *history.Graph
	bad        int     // position of the bad end
	confidence float64 // asked for
	alpha      float64 // error allowed for one commit

	runs       map[int]*tally
	candidates history.Bits
	phase      phase
	result     Result
}

type tally struct {
	fails, passes int
	verified      int // runs asked for to verify the parent of the culprit
	untestable    bool
}

func (t *tally) runs() int { return t.fails + t.passes }

type phase int

const (
	calibrateBad phase = iota
	calibrateGood
	halve
	verify
	done
)

// The steps of a search, as reports name them.
const (
	WhyBadEnd  = "bad end"
	WhyGoodEnd = "good end"
	WhyHalving = "halving"
	WhyVerify  = "verification"
)

// NewHalving searches the graph, whose last commit is the bad end, for the
// commit that brought the failure. A culprit is named with at least the given
// confidence or not at all.
func NewHalving(g *history.Graph, confidence float64) *Halving {
	n := len(g.Commits)
	h := &Halving{graph: g, bad: n - 1, confidence: confidence, runs: map[int]*tally{}, candidates: history.NewBits(n)}
	h.candidates.Or(g.Ancestors(h.bad))
	// Every commit on the way must be judged right: log2 n of them and the ends.
	h.alpha = (1 - confidence) / (math.Ceil(math.Log2(float64(n)+1)) + 2)
	return h
}

// Next returns the next probe, false when the search has ended.
func (h *Halving) Next() (Probe, bool) {
	for h.phase != done {
		if p, ok := h.step(); ok {
			return p, true
		}
	}
	return Probe{}, false
}

// step returns the next probe of the phase, or false and a change of phase.
func (h *Halving) step() (Probe, bool) {
	switch h.phase {
	case calibrateBad:
		return h.nextBadEnd()
	case calibrateGood:
		return h.nextGoodEnd()
	case halve:
		return h.nextHalf()
	case verify:
		return h.nextVerification()
	}
	return Probe{}, false
}

// Observe adds what a probe gave.
func (h *Halving) Observe(o Observation) {
	t := h.tally(o.Commit)
	switch {
	case o.Untestable:
		t.untestable = true
	case o.Failed:
		t.fails++
	default:
		t.passes++
	}
	if h.phase == verify && !o.Untestable {
		t.verified++
	}
}

// Left is the number of commits that may still be the culprit.
func (h *Halving) Left() int { return h.candidates.Len() }

// Result returns the answer, or what is known so far.
func (h *Halving) Result() Result {
	if h.phase == done {
		return h.result
	}
	return Result{Status: kernel.NoConclusion, Candidates: h.candidates.List(), Reason: "the search was interrupted"}
}

func (h *Halving) tally(i int) *tally {
	if h.runs[i] == nil {
		h.runs[i] = &tally{}
	}
	return h.runs[i]
}

func (h *Halving) nextBadEnd() (Probe, bool) {
	t := h.tally(h.bad)
	n := t.fails + t.passes
	switch {
	case t.untestable:
		h.stop(kernel.NoConclusion, "the bad end cannot be tested")
	case t.fails < calibrateFor && n < calibrateMax:
		return Probe{h.bad, WhyBadEnd}, true
	case t.fails == 0:
		h.stop(kernel.NotReproduced, fmt.Sprintf("the bad end passed %d of %d runs: its failure rate is below %.1f %% (95 %%)", n, n, 100*ruleOfThree(n)))
	default:
		h.phase = calibrateGood
	}
	return Probe{}, false
}

func (h *Halving) nextGoodEnd() (Probe, bool) {
	switch h.state(GoodEnd) {
	case open:
		return Probe{GoodEnd, WhyGoodEnd}, true
	case bad:
		h.stopOlder()
	case skipped:
		h.stop(kernel.NoConclusion, h.undecided("the good end", GoodEnd))
	case good:
		h.phase = halve
	}
	return Probe{}, false
}

func (h *Halving) nextHalf() (Probe, bool) {
	h.narrow()
	if h.candidates.Len() == 0 {
		h.stop(kernel.NotSingleChange, "good and bad commits do not lie in order: more than one change made the difference")
		return Probe{}, false
	}
	i, ok := h.choose()
	if ok {
		return Probe{i, WhyHalving}, true
	}
	if h.candidates.Len() == 1 {
		h.phase = verify
		return Probe{}, false
	}
	h.result.Confidence = h.allRight()
	h.stop(kernel.Set, fmt.Sprintf("no testable commit is left between the last good and the first bad: one of %d commits", h.candidates.Len()))
	return Probe{}, false
}

// narrow recomputes the candidates from all that is decided.
func (h *Halving) narrow() {
	h.candidates = history.NewBits(len(h.graph.Commits))
	h.candidates.Or(h.graph.Ancestors(h.bad))
	for _, i := range h.tested() {
		switch h.state(i) {
		case bad:
			h.candidates.And(h.graph.Ancestors(i))
		case good:
			h.candidates.AndNot(h.graph.Ancestors(i))
		}
	}
}

// choose picks the testable candidate that halves best, a commit under way
// first. A commit near a skipped one is likely untestable too: its value is
// weighed with 1-2^-d, d being the distance to the nearest skipped commit.
func (h *Halving) choose() (int, bool) {
	n := h.candidates.Len()
	var skips []int
	for _, i := range h.tested() {
		t := h.tally(i)
		switch st := h.state(i); {
		case st == skipped:
			skips = append(skips, i)
		case st == open && t.runs() > 0 && h.candidates.Has(i) && i != h.bad:
			return i, true
		}
	}
	best, bestValue := 0, 0.0
	for _, i := range h.candidates.List() {
		below := h.graph.Ancestors(i).LenAnd(h.candidates)
		value := float64(min(below, n-below))
		if value == 0 || h.state(i) != open {
			continue
		}
		for _, s := range skips {
			d := math.Abs(float64(i - s))
			value *= 1 - math.Exp2(-d)
		}
		if value > bestValue {
			best, bestValue = i, value
		}
	}
	return best, bestValue > 0
}

func (h *Halving) stop(s kernel.BisectStatus, reason string) {
	h.phase = done
	h.result.Status, h.result.Reason = s, reason
	h.result.Candidates = h.candidates.List()
}
