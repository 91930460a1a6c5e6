package bisect

import (
	"math"

	"github.com/kernel-bisect/kbisect/internal/history"
)

// Prior probabilities of what lies outside of the candidates: the good end has
// the bug already, and there is no bug at all, only false failures. Both are
// small, and both are always there: without the first, searches of ranges whose
// good end is bad are right in none of the cases (A0.6).
const (
	priorOlder = 0.05
	priorNone  = 0.01
)

// posterior is what the tests say about where the change is, and about the
// rates. Its hypotheses are the classes of the partition, then "older than the
// good end" and "no culprit".
type posterior struct {
	part    partition
	fix     bool // the change repairs: commits without it are bad
	passing int  // the end that passes
	tests   []*tally
	number  map[int]int // commit -> its number in tests
	twins   [][2]int    // numbers of tests of one kernel

	stale  bool
	prob   []float64   // of each hypothesis
	flat   []float64   // the same when all commits are equally likely beforehand
	bad    []uint128   // of each hypothesis: the tests whose commits are bad
	model  [][]float64 // of each hypothesis: the probabilities of the models
	false  []float64   // of each hypothesis: the rate of false failures
	single float64     // log probability of the runs if there is a single change, all commits alike
	total  int         // candidates
}

func newPosterior(s *history.Shape, prior []float64, fix bool) *posterior {
	p := &posterior{fix: fix, number: map[int]int{}, stale: true, total: s.Len(), passing: GoodEnd}
	if fix {
		p.passing = s.Len() - 1
	}
	if s.Line() {
		p.part = newLine(s.Len(), prior)
	} else {
		p.part = newDAG(s, prior)
	}
	return p
}

// tally returns the record of a commit, nil when it has none. Twins have one.
func (p *posterior) tally(commit int) *tally {
	j, ok := p.number[commit]
	switch {
	case !ok:
		return nil
	case p.tests[j].twin != nil:
		return p.tests[j].twin
	}
	return p.tests[j]
}

// add counts a run.
func (p *posterior) add(commit int, failed bool) {
	p.open(commit).add(failed)
	p.stale = true
}

// open returns the record of a commit, a new one if need be.
func (p *posterior) open(commit int) *tally {
	if t := p.tally(commit); t != nil {
		return t
	}
	t := newTally(commit)
	p.number[commit] = len(p.tests)
	if commit != GoodEnd {
		p.part.split(commit, len(p.tests))
	}
	p.tests = append(p.tests, t)
	return t
}

// twin notes that a commit without runs has the kernel of another. No change
// between them is the culprit.
func (p *posterior) twin(commit, of int) {
	t := p.open(of)
	if p.tally(commit) != nil {
		return
	}
	p.open(commit)
	j := p.number[commit]
	p.tests[j].twin = t
	p.twins = append(p.twins, [2]int{j, p.number[of]})
	p.stale = true
}

// apart says whether a hypothesis has a kernel both good and bad.
func (p *posterior) apart(h int) bool {
	for _, x := range p.twins {
		if p.bad[h].has(x[0]) != p.bad[h].has(x[1]) {
			return true
		}
	}
	return false
}

// older and none are the hypotheses behind the classes.
func (p *posterior) older() int { return len(p.part.classes()) }
func (p *posterior) none() int  { return len(p.part.classes()) + 1 }

// update computes the posterior from the tallies.
func (p *posterior) update() {
	if !p.stale {
		return
	}
	p.stale = false
	classes := p.part.classes()
	n := len(classes) + 2
	p.prob, p.flat = grown(p.prob, n), grown(p.flat, n)
	p.false = grown(p.false, n)
	p.bad = make([]uint128, n)
	for len(p.model) < n {
		p.model = append(p.model, make([]float64, len(models)))
	}
	for h := range n {
		prior, flat := 0.0, 0.0
		switch h {
		case p.older():
			prior, flat = priorOlder, priorOlder
		case p.none():
			prior, flat = priorNone, priorNone
		default:
			const rest = 1 - priorOlder - priorNone
			prior, flat = rest*classes[h].prior, rest*float64(classes[h].size)/float64(p.total)
		}
		p.bad[h] = p.badUnder(h)
		like := p.likelihood(h)
		if p.apart(h) {
			like = math.Inf(-1)
		}
		p.prob[h], p.flat[h] = math.Log(prior)+like, math.Log(flat)+like
	}
	p.single = normalize(p.flat)
	normalize(p.prob)
}

// badUnder is the set of tests whose commits have the bug under a hypothesis.
func (p *posterior) badUnder(h int) uint128 {
	var bad uint128
	for j, t := range p.tests {
		is := false
		switch h {
		case p.older():
			is = true
		case p.none():
		default:
			is = (t.commit != GoodEnd && p.part.classes()[h].in.has(j)) != p.fix
		}
		if is {
			bad.set(j)
		}
	}
	return bad
}

// likelihood returns the log probability of all runs under a hypothesis, and
// leaves the probabilities of the models and the rate of false failures.
func (p *posterior) likelihood(h int) float64 {
	row := p.model[h]
	for i := range models {
		row[i] = models[i].logPrior
	}
	fails, passes := 0, 0
	for j, t := range p.tests {
		if !p.bad[h].has(j) {
			fails, passes = fails+t.fails, passes+t.passes
			continue
		}
		for i, l := range t.like {
			row[i] += l
		}
	}
	shy, usual := models[0].logFalse(fails, passes), models[1].logFalse(fails, passes)
	row[0] += shy
	for i := range row[1:] {
		row[1+i] += usual
	}
	like := normalize(row)
	p.false[h] = row[0]*models[0].nextFalse(fails, passes) + (1-row[0])*models[1].nextFalse(fails, passes)
	return like
}

// falseRates are points of the prior of the rate of false failures, where no
// closed form helps.
var falseRates = func() (points []struct{ q, logPrior float64 }) {
	const n = 8
	for i := range n {
		// Quantiles of Beta(1, b): 1-(1-u)^(1/b).
		q := 1 - math.Pow(1-(float64(i)+0.5)/n, 1/falseFailB)
		points = append(points, struct{ q, logPrior float64 }{q, -math.Log(n)})
	}
	return points
}()

// logSeparate is the log probability of the runs if whether a commit is bad has
// nothing to do with its place: each tested commit but the passing end good or
// bad by itself.
func (p *posterior) logSeparate() float64 {
	all := make([]float64, 0, len(models)*len(falseRates))
	for i, m := range models {
		for _, q := range falseRates {
			sum := m.logPrior + q.logPrior
			for _, t := range p.tests {
				good := float64(t.fails)*math.Log(q.q) + float64(t.passes)*math.Log1p(-q.q)
				if t.commit == p.passing {
					sum += good
					continue
				}
				hi, lo := max(good, t.like[i]), min(good, t.like[i])
				sum += hi + math.Log1p(math.Exp(lo-hi)) - math.Ln2
			}
			all = append(all, sum)
		}
	}
	return normalize(all)
}

// separate is by how much "every commit by itself" explains the runs better
// than a single change, as a log.
func (p *posterior) separate() float64 {
	p.update()
	return p.logSeparate() - p.single
}

// normalize turns logs of weights into weights that sum to one, and returns the
// log of their sum.
func normalize(w []float64) float64 {
	top := math.Inf(-1)
	for _, x := range w {
		top = max(top, x)
	}
	sum := 0.0
	for i, x := range w {
		w[i] = math.Exp(x - top)
		sum += w[i]
	}
	for i := range w {
		w[i] /= sum
	}
	return top + math.Log(sum)
}

func grown(s []float64, n int) []float64 {
	if cap(s) < n {
		return make([]float64, n, 2*n)
	}
	return s[:n]
}

// negligible is a probability of a hypothesis that no sum notices.
const negligible = 1e-9

// failing is the probability that the next run of test j fails under hypothesis h.
func (p *posterior) failing(h, j int) float64 {
	if !p.bad[h].has(j) {
		return p.false[h]
	}
	sum, next := 0.0, p.tests[j].next
	for i, w := range p.model[h] {
		sum += w * next[i]
	}
	return sum
}

// worth is the information, in bits, that one more run of test j gives about
// where the change is (A3.5).
func (p *posterior) worth(j int) float64 {
	mean, inner := 0.0, 0.0
	for h, x := range p.prob {
		if x < negligible {
			continue
		}
		f := p.failing(h, j)
		mean += x * f
		inner += x * entropy(f)
	}
	return max(entropy(mean)-inner, 0)
}

// isBad is the probability that a tested commit has the bug.
func (p *posterior) isBad(commit int) float64 {
	p.update()
	if j, ok := p.number[commit]; ok {
		sum := 0.0
		for h, x := range p.prob {
			if p.bad[h].has(j) {
				sum += x
			}
		}
		return min(sum, 1)
	}
	up := 0.0
	if commit != GoodEnd {
		up = p.part.upto(commit, p.prob)
	}
	if p.fix {
		up = 1 - up - p.prob[p.older()] - p.prob[p.none()]
	}
	return min(max(up+p.prob[p.older()], 0), 1)
}

// rates are the mean probabilities of the models over all hypotheses that have
// a culprit, and of a false failure over those that have good commits.
func (p *posterior) rates() (model []float64, falseFail float64) {
	model = make([]float64, len(models))
	sum, good := 0.0, 0.0
	for h, x := range p.prob {
		if x < negligible || h == p.none() && x < 0.5 {
			continue
		}
		sum += x
		for i, w := range p.model[h] {
			model[i] += x * w
		}
		if h != p.older() {
			good += x
			falseFail += x * p.false[h]
		}
	}
	for i := range model {
		model[i] /= sum
	}
	if good == 0 {
		return model, 1 / (1 + falseFailB)
	}
	return model, falseFail / good
}

// fails is the mean failure rate of bad commits under a hypothesis.
func (p *posterior) fails(h int) float64 {
	mean := 0.0
	for i, w := range p.model[h] {
		mean += w * models[i].mu
	}
	return mean
}

// noDifference is the probability that the passing end fails as the other does:
// because it has the bug, or because good commits fail half as often as bad ones
// or more, which the runs cannot tell apart and which is the same to a user.
func (p *posterior) noDifference() float64 {
	sum := p.prob[p.older()]
	for h := range p.part.classes() {
		if p.false[h] >= 0.5*p.fails(h) {
			sum += p.prob[h]
		}
	}
	return min(sum, 1)
}

// runs is the number of runs of all tests.
func (p *posterior) runs() int {
	n := 0
	for _, t := range p.tests {
		n += t.runs()
	}
	return n
}
