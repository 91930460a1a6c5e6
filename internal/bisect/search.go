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

// GoodEnd is the position of the older end of the range, which is no candidate.
const GoodEnd = -1

// Probe asks for one more run on a commit.
type Probe struct {
	Commit     int // position in the graph, or GoodEnd
	Iterations int // how often the run repeats the test inside one guest; at least 1
	Why        string
}

// The steps of a search, as reports name them.
const (
	WhyBadEnd  = "bad end"
	WhyGoodEnd = "good end"
	WhySearch  = "search"
	WhyVerify  = "verification"
)

// Observation is what a probe gave: one run, or that none can be had, or that
// none is needed.
type Observation struct {
	Commit     int
	Iterations int  // of the probe it answers
	Failed     bool // the run showed the failure that is chased
	Untestable bool // the commit does not build or boot, or fails in another way
	Other      bool // the run failed in another way: it counts as a run and is no evidence
	// Twin says that the commit has the very kernel of another, Of: both are bad
	// or neither is, and the runs of each are the other's.
	Twin bool
	Of   int
}

// Options of a search. The zero value will do.
type Options struct {
	Confidence float64 // with which the culprit is named, or it is not; 0 for 0.99
	// Fix searches for the commit that repaired: the older end fails, the newer
	// one passes.
	Fix bool
	// Prior weighs the commits, nil for all alike. Ratios to the mean beyond
	// maxWeight are cut: a wrong prior must not cost rightness.
	Prior []float64
	// Price is what the build of a commit costs, in runs; 0 for DefaultPrice.
	Price float64
	// PriceFrom predicts what it costs to build and boot each of the commits next, in
	// runs, when the object tree has commit warm: the one that was built last, or
	// GoodEnd, or Nowhere as long as none was. nil, or nil as an answer, is Price for
	// all. It must give equal answers to equal questions.
	PriceFrom func(warm int) []float64
	// Free are commits whose kernels are there already, GoodEnd possibly among them:
	// they cost a boot and their runs.
	Free []int
	// MaxIterations bounds the amplification of a low failure rate; below 2 there is none.
	MaxIterations int
	MaxRuns       int // 0 for a bound that grows with the range
	MaxBuilds     int // commits tested besides the ends and those that are free; 0 for a bound that grows with the range
}

// DefaultPrice of a build, in runs: a clean kernel build takes as long as sixty
// forked guests or more.
const DefaultPrice = 60

// BootPrice is what booting a kernel costs, in runs: 1.1 s against 0.12 s of a
// forked guest, without KVM.
const BootPrice = 9

// maxWeight bounds a prior weight. Simulated, weights of 20 save 3 builds of 14
// where they are right and cost 0.4 where they are wrong; weights of 100 make one
// answer of ten wrong there (A4.3).
const maxWeight = 20

// Calibration of the end that fails. Without a failure in sixty runs its rate
// is below 4.9 % at 95 % (rule of three): not reproduced. Five failures, of ten
// runs at least if there are passes among them, make the rate known.
const (
	calibrateMax  = 60
	calibrateMin  = 10
	calibrateFor  = 5
	minCulprit    = 2    // failures of the culprit itself before it is named
	amplifyBelow  = 0.3  // failure rate
	amplifiedRate = 0.75 // what iterations are to bring it to
)

// disorderEvery is after how many runs the search asks whether there is a single
// change at all; that costs as much as twenty updates of the posterior.
const disorderEvery = 20

// Search finds the change between two ends of a history from noisy tests.
type Search struct {
	shape *history.Shape
	opt   Options
	prior []float64
	free  map[int]bool
	hints []int // the candidates among them
	grows bool  // the budget of builds: it is not the user's

	post       *posterior
	zones      zones
	warm       warmth
	iterations int
	log        []Observation
	runs       int
	builds     int     // commits tested besides the ends
	saved      float64 // of the budget of builds, by those that cost little

	stopped string // why it was stopped from outside, "" if it was not
	decided bool
	probe   Probe
	more    bool // probe is valid
	result  Result
	thought *thought // nil after an Undo
}

// New prepares a search of the commits of a history. The newer end is its last
// commit.
func New(s *history.Shape, opt Options) *Search {
	n := s.Len()
	log2 := int(math.Ceil(math.Log2(float64(n) + 1)))
	if opt.Confidence == 0 {
		opt.Confidence = 0.99
	}
	grows := opt.MaxBuilds == 0
	if grows {
		opt.MaxBuilds = 2*log2 + 12
	}
	if opt.MaxRuns == 0 {
		opt.MaxRuns = 120*log2 + 100
	}
	if opt.Price == 0 {
		opt.Price = DefaultPrice
	}
	x := &Search{shape: s, opt: opt, prior: clamped(opt.Prior), free: map[int]bool{}, grows: grows}
	for _, i := range opt.Free {
		x.free[i] = true
		if i != GoodEnd {
			x.hints = append(x.hints, i)
		}
	}
	x.reset()
	return x
}

func (s *Search) reset() {
	s.post = newPosterior(s.shape, s.prior, s.opt.Fix)
	s.zones = zones{skipped: map[int]bool{}}
	s.warm = warmth{predict: s.opt.PriceFrom, at: Nowhere, paid: map[int]float64{}}
	s.iterations, s.runs, s.builds, s.saved = 1, 0, 0, 0
	s.log, s.decided, s.stopped, s.thought = nil, false, "", nil
}

// Stop ends the search with what is known, for a reason of its user's: a time
// that is over. A search that has its answer keeps it.
func (s *Search) Stop(reason string) {
	if s.decide(); s.more {
		s.stopped, s.decided = reason, false
	}
}

// clamped cuts weights to maxWeight times the mean of the low ones, and a
// twentieth of it.
func clamped(w []float64) []float64 {
	if w == nil {
		return nil
	}
	out := make([]float64, len(w))
	for i, x := range w {
		out[i] = min(max(x, 1.0/maxWeight), maxWeight)
	}
	return out
}

// failing and passing are the ends of which the one is known to fail.
func (s *Search) failing() int {
	if s.opt.Fix {
		return GoodEnd
	}
	return s.shape.Len() - 1
}

func (s *Search) passing() int {
	if s.opt.Fix {
		return s.shape.Len() - 1
	}
	return GoodEnd
}

// Observe adds what a probe gave. Observations that answer a probe of fewer
// iterations than the search has come to are kept and count as no evidence.
func (s *Search) Observe(o Observation) {
	s.log = append(s.log, o)
	s.decided = false
	s.warm.observe(o, s.free[o.Commit])
	if o.Other {
		s.runs++
		return
	}
	fresh := s.post.tally(o.Commit) == nil && !s.zones.skipped[o.Commit] && o.Commit != s.failing() && o.Commit != s.passing()
	if fresh && !s.free[o.Commit] {
		s.builds++
		if s.grows {
			s.saved += s.warm.saved(o.Commit)
		}
	}
	switch {
	case o.Untestable:
		s.zones.add(o.Commit)
		return
	case o.Twin:
		s.post.twin(o.Commit, o.Of)
		return
	}
	s.runs++
	if max(o.Iterations, 1) != s.iterations {
		return
	}
	s.post.add(o.Commit, o.Failed)
	if o.Commit == s.failing() {
		s.amplify()
	}
}

// amplify raises the iterations of a run when the failing end turns out to fail
// rarely: repeating the test inside a guest costs a fraction of another guest
// (A4.3: from 1161 to 768 at a rate of 0.1).
func (s *Search) amplify() {
	t := s.post.tally(s.failing())
	if s.iterations >= s.opt.MaxIterations || t.fails == 0 || !calibrated(t) || s.post.runs() != t.runs() {
		return
	}
	rate := float64(t.fails) / float64(t.runs())
	if rate >= amplifyBelow {
		return
	}
	one := 1 - math.Pow(1-rate, 1/float64(s.iterations)) // of a single iteration
	m := int(math.Ceil(math.Log(1-amplifiedRate) / math.Log(1-one)))
	if m = min(m, s.opt.MaxIterations); m <= s.iterations {
		return
	}
	s.iterations = m
	s.post = newPosterior(s.shape, s.prior, s.opt.Fix)
}

func calibrated(t *tally) bool {
	n := t.runs()
	return n >= calibrateMax || t.fails >= calibrateFor && (n >= calibrateMin || t.passes == 0)
}

// Undo takes back the last observation, false when there is none.
func (s *Search) Undo() bool {
	if len(s.log) == 0 {
		return false
	}
	log := s.log[:len(s.log)-1]
	s.reset()
	for _, o := range log {
		s.Observe(o)
	}
	return true
}

// Next returns up to k probes to be made at once, none when the search has ended.
func (s *Search) Next(k int) []Probe {
	s.decide()
	if !s.more {
		return nil
	}
	probes := []Probe{s.probe}
	if k > 1 {
		probes = s.several(k)
	}
	return probes
}

// Result returns the answer, or what is known so far.
func (s *Search) Result() Result {
	s.decide()
	if !s.more {
		return s.result
	}
	r := s.defensible(kernel.NoConclusion, "the search was interrupted")
	r.Status = kernel.NoConclusion
	return r
}

func (s *Search) ask(commit int, why string) {
	switch commit {
	case s.failing():
		why = WhyBadEnd
	case s.passing():
		if why == WhySearch {
			why = WhyGoodEnd
		}
	}
	s.probe, s.more = Probe{Commit: commit, Iterations: s.iterations, Why: why}, true
}

func (s *Search) end(r Result) { s.result, s.more = r, false }

// decide finds the next probe, or the answer.
func (s *Search) decide() {
	if s.decided {
		return
	}
	s.decided = true
	s.post.update()
	if s.stopped != "" {
		r := s.defensible(kernel.Set, s.stopped)
		if t := s.post.tally(s.failing()); t == nil || t.fails == 0 || s.post.tally(s.passing()) == nil {
			r.Status = kernel.NoConclusion // no failure was seen to come or go
		}
		s.end(r)
		return
	}
	if s.checkEnds() {
		return
	}
	if s.conclude() {
		return
	}
	if s.runs%disorderEvery == 0 && s.disorder() {
		return
	}
	if reason := s.spent(); reason != "" {
		if s.disorder() {
			return
		}
		s.end(s.defensible(kernel.Set, reason))
		return
	}
	commit, bits := s.choose()
	switch {
	case bits < nothing:
		s.end(s.defensible(kernel.Set, "no test of any commit would tell more"))
	case s.builtOut() && bits < little:
		s.end(s.defensible(kernel.Set, "the budget of builds is spent"))
	default:
		s.ask(commit, WhySearch)
	}
}

// What a run may be worth, in bits, and not be made: a thousand such runs would
// tell nothing; or, when no other commit may be built, a search would spend its
// runs on what only a build can tell.
const (
	nothing = 1e-7
	little  = 0.002
)

// checkEnds calibrates the failing end and looks at the passing one.
func (s *Search) checkEnds() bool {
	end := s.failing()
	t := s.post.tally(end)
	unfinished := t == nil || !calibrated(t) || s.post.tally(s.passing()) == nil
	switch {
	case unfinished && s.runs >= s.opt.MaxRuns:
		s.end(Result{Status: kernel.NoConclusion, Reason: "the budget of runs is spent before the ends of the range are known"})
	case s.zones.skipped[end]:
		s.end(Result{Status: kernel.NoConclusion, Reason: "the " + s.nameOf(end) + " cannot be tested"})
	case t == nil || !calibrated(t):
		s.ask(end, WhyBadEnd)
	case t.fails == 0 && s.iterations > 1: // amplified, because it did fail
		s.end(Result{Status: kernel.NoConclusion, Reason: fmt.Sprintf("the %s fails in runs of its own, and in none of %d runs that repeat the test %d times", s.nameOf(end), t.runs(), s.iterations)})
	case t.fails == 0:
		s.end(Result{Status: kernel.NotReproduced, Reason: notReproduced(s.nameOf(end), t.runs())})
	case s.zones.skipped[s.passing()]:
		s.end(Result{Status: kernel.NoConclusion, Reason: "the " + s.nameOf(s.passing()) + " cannot be tested"})
	case s.post.tally(s.passing()) == nil:
		s.ask(s.passing(), WhySearch)
	default:
		return false
	}
	return true
}

func (s *Search) nameOf(end int) string {
	switch {
	case s.opt.Fix && end == GoodEnd:
		return "broken end"
	case s.opt.Fix:
		return "fixed end"
	case end == GoodEnd:
		return "good end"
	}
	return "bad end"
}

// builtOut says whether the budget of builds is spent.
func (s *Search) builtOut() bool {
	return float64(s.builds)-s.saved >= float64(s.opt.MaxBuilds)
}

// spent says which budget is.
func (s *Search) spent() string {
	switch {
	case s.runs >= s.opt.MaxRuns:
		return "the budget of runs is spent"
	case len(s.post.tests) >= maxTested-1:
		return "too many commits had to be tested"
	}
	return ""
}

// choose returns the commit whose next run tells most for its cost, and the
// information per cost.
func (s *Search) choose() (commit int, bits float64) {
	best := 0.0
	for j, t := range s.post.tests {
		if s.zones.skipped[t.commit] || t.twin != nil {
			continue
		}
		if v := s.post.worth(j); v > best {
			best, commit = v, t.commit
		}
	}
	if i, v, ok := s.newCommit(best); ok && v > best {
		best, commit = v, i
	}
	return commit, best
}

// patience is what the value of building another commit is multiplied with
// before it is compared with one more run of a commit that is there: information
// per cost looks one step ahead, and more runs are often what the next steps ask
// for anyway. Simulated, a noisy search at 0.45 takes one build less at the same
// number of right answers.
func (s *Search) patience() float64 {
	if s.deterministic() {
		return 0.75
	}
	return 0.45
}

// deterministic says whether nothing but deterministic behaviour was seen.
func (s *Search) deterministic() bool {
	model, _ := s.post.rates()
	return model[0] > 0.5
}

// newCommit is the untested commit that is worth most, if any is worth more
// than least.
func (s *Search) newCommit(least float64) (int, float64, bool) {
	if s.builtOut() && len(s.hints) == 0 {
		return 0, 0, false
	}
	prices, price := s.warm.prices()
	if prices == nil {
		price = s.opt.Price
	}
	if least > 1/(price+1) && len(s.hints) == 0 { // a test gives one bit at most
		return 0, 0, false
	}
	model, q := s.post.rates()
	t := newTable(model, q)
	certain := s.post.prob[s.post.older()] // of being bad, for any commit
	if s.opt.Fix {
		certain = 1 - s.post.prob[s.post.none()]
	}
	bad := func(upto float64) float64 {
		if s.opt.Fix {
			return certain - upto
		}
		return certain + upto
	}
	spent := s.builtOut()
	usable := func(i int) bool {
		return s.post.tally(i) == nil && !s.zones.skipped[i] && (!spent || s.free[i])
	}
	patience := s.patience()
	value := func(i int, upto float64) float64 {
		if s.free[i] {
			return t.worth(bad(upto), BootPrice)
		}
		own := price
		if prices != nil {
			own = prices[i]
		}
		return patience * s.zones.testable(i) * t.worth(bad(upto), own)
	}
	if prices != nil {
		return s.post.part.every(s.post.prob, usable, value)
	}
	want, _ := t.peak(price)
	target := want - certain
	if s.opt.Fix {
		target = certain - want
	}
	return s.post.part.best(s.post.prob, target, append(s.zones.exits(), s.hints...), usable, value)
}

// several spreads k probes: the best one, and what is worth most if that were
// out of reach.
func (s *Search) several(k int) []Probe {
	probes := []Probe{s.probe}
	if s.probe.Why == WhyBadEnd || s.probe.Why == WhyGoodEnd || s.probe.Why == WhyVerify || s.post.tally(s.probe.Commit) != nil {
		// Runs of a kernel that is there: the same question, k answers.
		for len(probes) < k {
			probes = append(probes, s.probe)
		}
		return probes
	}
	taken := map[int]bool{s.probe.Commit: true}
	for j := 1; len(probes) < k && j <= k; j++ {
		usable := func(i int) bool { return s.post.tally(i) == nil && !s.zones.skipped[i] && !taken[i] }
		want := float64(j) / float64(k+1)
		near := func(i int, upto float64) float64 { return s.zones.testable(i) * (1 - math.Abs(upto-want)) }
		i, _, ok := s.post.part.best(s.post.prob, want, s.zones.exits(), usable, near)
		if !ok {
			break
		}
		taken[i] = true
		probes = append(probes, Probe{Commit: i, Iterations: s.iterations, Why: WhySearch})
	}
	return probes
}
