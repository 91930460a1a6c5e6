package bisect

import (
	"fmt"
	"math"
	"slices"

	"github.com/kernel-bisect/kbisect/internal/history"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Result is what the search knows.
type Result struct {
	Status     kernel.BisectStatus
	Culprit    int         // position, meaningful when Status is Found
	Candidates []Candidate // commits that may be the culprit, likeliest first
	Confidence float64     // that it is among them
	Reason     string      // why it stopped, one sentence
	Changes    []Change    // where a range has several, oldest first
}

// Candidate is a commit with the probability that it is the culprit.
type Candidate struct {
	Commit      int
	Probability float64
}

// Change lies between two tested commits, the older one possibly GoodEnd.
type Change struct {
	From, To int  // From is an ancestor of To
	Bad      bool // To is bad
	Between  int  // commits that To has and From has not, besides To
}

// conclude ends the search when the answer is sure enough, or asks for the runs
// that verify it; false when the search must go on.
func (s *Search) conclude() bool {
	p, wanted := s.post, s.opt.Confidence
	if same := p.noDifference(); same >= wanted {
		if s.disorder() {
			return true
		}
		t := p.tally(s.passing())
		s.end(Result{Status: kernel.OlderThanGood, Confidence: same,
			Reason: fmt.Sprintf("the %s fails too (%d of %d runs): %s", s.nameOf(s.passing()), t.fails, t.runs(), s.olderMeans())})
		return true
	}
	if p.prob[p.none()] >= wanted {
		s.end(Result{Status: kernel.NotReproduced, Confidence: p.prob[p.none()],
			Reason: fmt.Sprintf("the failures are no more frequent at the %s than elsewhere: no commit made the difference", s.nameOf(s.failing()))})
		return true
	}
	k := s.top()
	if p.prob[k] < wanted || p.flat[k] < wanted {
		return false
	}
	c := p.part.classes()[k]
	if c.size > 1 && s.separable(k) {
		return false
	}
	if s.disorder() {
		return true
	}
	if s.verify(k) {
		if reason := s.unaffordable(); reason != "" {
			s.end(s.defensible(kernel.Set, reason+" before the answer is verified"))
		}
		return true
	}
	r := s.defensible(kernel.Set, "")
	r.Confidence = min(p.prob[k], p.flat[k])
	first := p.part.members(k)[0]
	switch {
	case c.size > 1:
		r.Reason = fmt.Sprintf("no testable commit is left between the last good and the first bad: one of %d commits", len(r.Candidates))
	case s.zones.skipped[first]:
		r.Reason = "the one commit that is left cannot be tested itself"
	default:
		r.Status, r.Culprit, r.Reason = kernel.Found, first, s.counts(first)
	}
	s.end(r)
	return true
}

// disorder ends the search when the runs speak against any single change.
func (s *Search) disorder() bool {
	if len(s.post.tests) < 4 || s.post.separate() < severalAt {
		return false
	}
	if s.post.tally(s.passing()).runs() < s.verifyRuns() && s.spent() == "" {
		s.ask(s.passing(), WhyVerify)
		return true
	}
	s.end(s.severalChanges())
	return true
}

func (s *Search) olderMeans() string {
	if s.opt.Fix {
		return "it is not fixed there"
	}
	return "the cause is older"
}

// severalAt is the log of how much better "each commit by itself" must explain
// the runs than any single change, before the search gives up on a single one
// (A3.8).
const severalAt = 7

// top is the likeliest class.
func (s *Search) top() int {
	best := 0
	for k := range s.post.part.classes() {
		if s.post.prob[k] > s.post.prob[best] {
			best = k
		}
	}
	return best
}

// separable says whether a test of some commit could still divide a class.
func (s *Search) separable(k int) bool {
	inside := make([]float64, len(s.post.part.classes()))
	inside[k] = 1
	usable := func(i int) bool { return s.post.tally(i) == nil && !s.zones.skipped[i] }
	_, _, ok := s.post.part.best(inside, 0.5, s.post.part.members(k), usable, func(_ int, upto float64) float64 {
		const resolution = 1e-6
		if upto < resolution || upto > 1-resolution {
			return 0
		}
		return 1
	})
	return ok
}

// verify asks for the runs that make a named commit safe: failures of its own,
// and passes right below it, where a commit on which the test hardly fails would
// have led the search astray.
func (s *Search) verify(k int) bool {
	p := s.post
	needed := s.verifyRuns()
	for _, i := range s.nextTo(k, false) {
		if s.zones.skipped[i] { // since it was first run: what was seen is all there will be
			continue
		}
		if t := p.tally(i); t == nil || t.runs() < needed {
			s.ask(i, WhyVerify)
			return true
		}
	}
	if p.tally(s.passing()).runs() < s.passingRuns(k, needed) {
		s.ask(s.passing(), WhyVerify)
		return true
	}
	for _, i := range s.nextTo(k, true) {
		if t := p.tally(i); t == nil || t.fails < minCulprit {
			s.ask(i, WhyVerify)
			return true
		}
	}
	return false
}

// unaffordable says which budget the probe that is asked for would exceed.
func (s *Search) unaffordable() string {
	i := s.probe.Commit
	switch fresh := s.post.tally(i) == nil; {
	case s.runs >= s.opt.MaxRuns:
		return "the budget of runs is spent"
	case fresh && len(s.post.tests) >= maxTested:
		return "too many commits had to be tested"
	case fresh && !s.free[i] && s.builtOut():
		return "the budget of builds is spent"
	}
	return ""
}

// passingRuns is how many runs the passing end needs, if class k holds the
// culprit. Failures that this would leave unexplained, on commits without the
// bug, must be shown to be false ones where there is no bug for certain: else a
// few commits on which the test hardly works pass for good ones with a high rate
// of false failures. In a hundred runs a rate of 0.1 differs from one of 0.01.
func (s *Search) passingRuns(k, needed int) int {
	fails, runs := 0, 0
	for j, t := range s.post.tests {
		if !s.post.bad[k].has(j) {
			fails, runs = fails+t.fails, runs+t.runs()
		}
	}
	switch {
	case fails >= 3 && float64(fails) > 0.04*float64(runs):
		return 100
	case fails >= 2:
		return needed
	}
	return 1
}

// nextTo are the tested commits that bound a class: those that have it and
// none of its descendants that were tested, or those that it is built on. With
// bad, the ones that have the bug if the culprit is in the class.
func (s *Search) nextTo(k int, bad bool) []int {
	above := s.above(k)
	if bad != s.opt.Fix {
		return above
	}
	return s.beneath(k)
}

// above are the oldest tested commits that contain the whole class. A commit
// alone in its class is asked itself, also if merges tell it from all others
// without a run of its own.
func (s *Search) above(k int) []int {
	if s.post.part.classes()[k].size == 1 {
		if m := s.post.part.members(k); !s.zones.skipped[m[0]] {
			return m
		}
	}
	in := s.post.part.classes()[k].in
	best := -1
	for j, t := range s.post.tests {
		if t.commit != GoodEnd && in.has(j) && !s.zones.skipped[t.commit] && (best < 0 || t.commit < best) {
			best = t.commit
		}
	}
	if best < 0 {
		return nil
	}
	return []int{best}
}

// beneath are the commits right below the class: tested ones if there are, and
// the older end where the range begins.
func (s *Search) beneath(k int) []int {
	var out []int
	add := func(i int) {
		if !slices.Contains(out, i) {
			out = append(out, i)
		}
	}
	for _, m := range s.post.part.members(k) {
		parents := s.shape.Parents(m)
		if len(parents) == 0 {
			add(GoodEnd)
		}
		for _, q := range parents {
			switch i := int(q); {
			case s.post.part.of(i) == k:
			case s.post.tally(i) != nil:
				add(i)
			case !s.zones.skipped[i] && !s.covered(i):
				add(i)
			}
		}
	}
	return out
}

// covered says whether a tested commit that is good contains a commit: what it
// shows holds for the commit too.
func (s *Search) covered(commit int) bool {
	in := s.post.part.classes()[s.post.part.of(commit)].in
	for j, t := range s.post.tests {
		if t.commit != GoodEnd && in.has(j) && s.post.tally(t.commit).runs() >= s.verifyRuns() && s.post.isBad(t.commit) < 0.01 {
			return true
		}
	}
	return false
}

// verifyRuns is how many runs the commits below the culprit need: a few where
// nothing but deterministic failures was seen, and many where the rates of bad
// commits were seen to differ, for there a passing commit may be a bad one on
// which the test hardly works. A rate of 0.15 hides in 20 runs with 4 %, in 50
// with 0.03 %.
func (s *Search) verifyRuns() int {
	if s.deterministic() {
		return 3
	}
	model, _ := s.post.rates()
	differ := 0.0
	for i, w := range model {
		if models[i].kappa < oneRate {
			differ += w
		}
	}
	if differ > 0.35 {
		return 50
	}
	return 20
}

func (s *Search) counts(culprit int) string {
	text := func(i int, name string) string {
		t := s.post.tally(i)
		if t == nil {
			return ""
		}
		return fmt.Sprintf("%s fails %d of %d runs", name, t.fails, t.runs())
	}
	k := s.post.part.of(culprit)
	out := text(culprit, "it")
	if s.opt.Fix {
		for _, i := range s.beneath(k) {
			out = text(i, "the commit before it")
		}
		if out == "" {
			return text(culprit, "it")
		}
		return out + ", " + text(culprit, "it")
	}
	for _, i := range s.beneath(k) {
		name := "the commit before it"
		if i == GoodEnd {
			name = "the good end before it"
		}
		out += ", " + text(i, name)
	}
	return out
}

// defensible is the smallest set of commits that holds the culprit with the
// confidence asked for; without one the search is inconclusive.
func (s *Search) defensible(status kernel.BisectStatus, reason string) Result {
	s.post.update()
	r := Result{Status: status, Reason: reason}
	n := len(s.post.part.classes())
	order := make([]int, n)
	for k := range order {
		order[k] = k
	}
	each := func(k int) float64 { return s.post.prob[k] / float64(s.post.part.classes()[k].size) }
	slices.SortStableFunc(order, func(a, b int) int {
		switch x, y := each(a), each(b); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	for _, k := range order {
		if r.Confidence >= s.opt.Confidence {
			break
		}
		r.Confidence += s.post.prob[k]
		for _, i := range s.post.part.members(k) {
			r.Candidates = append(r.Candidates, Candidate{i, each(k)})
		}
	}
	if r.Confidence < s.opt.Confidence || len(r.Candidates) == s.shape.Len() && s.shape.Len() > 1 {
		r.Status = kernel.NoConclusion
	}
	r.Confidence = min(r.Confidence, 1)
	return r
}

// severalChanges is the answer where good and bad do not lie in order. A change
// lies between a tested commit and each of the nearest tested ones below it.
func (s *Search) severalChanges() Result {
	r := Result{Status: kernel.NotSingleChange, Reason: "good and bad commits do not lie in order: more than one change made the difference"}
	var tests []*tally
	for _, t := range s.post.tests {
		if t.twin == nil {
			tests = append(tests, t)
		}
	}
	slices.SortFunc(tests, func(a, b *tally) int { return a.commit - b.commit })
	below := make([]history.Bits, len(tests)) // of each test: its commit and all under it
	for j, t := range tests {
		if t.commit == GoodEnd {
			below[j] = history.NewBits(s.shape.Len())
			continue
		}
		below[j] = s.shape.Ancestors(t.commit)
		seen := history.NewBits(s.shape.Len()) // under a test that is nearer
		known := false
		for i := j - 1; i >= 0; i-- {
			u := tests[i]
			if u.commit == GoodEnd && known || u.commit != GoodEnd && (!below[j].Has(u.commit) || seen.Has(u.commit)) {
				continue
			}
			known = true
			for w, x := range below[i] {
				seen[w] |= x
			}
			if is := s.looksBad(t); is != s.looksBad(u) {
				r.Changes = append(r.Changes, Change{u.commit, t.commit, is, below[j].Len() - below[i].Len() - 1})
			}
		}
	}
	return r
}

// looksBad judges a commit by its own runs alone.
func (s *Search) looksBad(t *tally) bool {
	model, q := s.post.rates()
	bad := 0.0
	for i, w := range model {
		bad += w * math.Exp(t.like[i])
	}
	good := math.Exp(float64(t.fails)*math.Log(q) + float64(t.passes)*math.Log1p(-q))
	return bad > good
}

// notReproduced states the bound that passes alone put on a rate.
func notReproduced(end string, runs int) string {
	return fmt.Sprintf("the %s passed %d of %d runs: its failure rate is below %.1f %% (95 %%)", end, runs, runs, 100*(1-math.Pow(0.05, 1/float64(runs))))
}

// Judged is what the search thinks of a tested commit.
func (s *Search) Judged(commit int) kernel.Verdict {
	const sure = 0.95
	switch p := s.post.isBad(commit); {
	case s.zones.skipped[commit]:
		return kernel.Untestable
	case s.post.tally(commit) == nil:
		return kernel.Inconclusive
	case p >= sure:
		return kernel.Bad
	case p <= 1-sure:
		return kernel.Good
	}
	return kernel.Inconclusive
}

// Left is the size of the smallest set of commits that holds the culprit with
// the confidence asked for, all of them when there is none.
func (s *Search) Left() int {
	r := s.defensible(kernel.Set, "")
	if r.Confidence < s.opt.Confidence {
		return s.shape.Len()
	}
	return len(r.Candidates)
}

// Iterations is how often a run repeats the test by now.
func (s *Search) Iterations() int { return s.iterations }

// Rates are the failure rates of runs on bad and on good commits, as the
// commits that are judged show them, with Wilson's 95 % interval.
func (s *Search) Rates() (bad, good kernel.Interval) {
	var n [2][2]int // good or bad; fails, runs
	for _, t := range s.post.tests {
		k := 0
		switch s.Judged(t.commit) {
		case kernel.Good:
		case kernel.Bad:
			k = 1
		default:
			continue
		}
		n[k][0] += t.fails
		n[k][1] += t.runs()
	}
	return Wilson(n[1][0], n[1][1]), Wilson(n[0][0], n[0][1])
}

// Wilson is a rate with its 95 % bounds, by Wilson's score: fit for few runs, and
// never beyond 0 and 1.
func Wilson(fails, runs int) kernel.Interval {
	if runs == 0 {
		return kernel.Interval{}
	}
	const z = 1.96
	n := float64(runs)
	p := float64(fails) / n
	mid, half := p+z*z/(2*n), z*math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return kernel.Interval{Mean: p, Low: max(0, (mid-half)/(1+z*z/n)), High: min(1, (mid+half)/(1+z*z/n))}
}

// Bins are the probabilities that the culprit is in each of n equal parts of
// the range, oldest first, or of every commit if there are not more.
func (s *Search) Bins(n int) []float64 {
	s.post.update()
	size := s.shape.Len()
	out := make([]float64, min(n, size))
	for k, c := range s.post.part.classes() {
		// Members of a class are alike but for their prior, which a chart of
		// sixty parts does not show.
		for _, i := range s.post.part.members(k) {
			out[i*len(out)/size] += s.post.prob[k] / float64(c.size)
		}
	}
	return out
}

// Doubt tells what would unseat a named culprit: so many further failures, in a
// row, of the commit right below it.
func (s *Search) Doubt() (commit, fails int, ok bool) {
	r := s.Result()
	if r.Status != kernel.Found || s.opt.Fix {
		return 0, 0, false
	}
	below := s.beneath(s.post.part.of(r.Culprit))
	if len(below) == 0 {
		return 0, 0, false
	}
	other := New(s.shape, s.opt)
	for _, o := range s.log {
		other.Observe(o)
	}
	const most = 20
	for n := 1; n <= most; n++ {
		other.Observe(Observation{Commit: below[0], Iterations: s.iterations, Failed: true})
		other.post.update()
		if other.post.prob[other.post.part.of(r.Culprit)] < 0.5 {
			return below[0], n, true
		}
	}
	return 0, 0, false
}
