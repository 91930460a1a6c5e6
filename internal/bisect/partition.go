package bisect

import (
	"math"
	"math/bits"
	"slices"
	"sort"

	"github.com/kernel-bisect/kbisect/internal/history"
)

// class is a set of candidates that the tests so far cannot tell apart: the
// same tested commits contain each of them. Its members have the same
// likelihood, so that a posterior over them is enough (A3.1, A3.8).
type class struct {
	size  int
	prior float64 // of its members together; all classes sum to 1
	in    uint128 // which of the tests contain its members
}

// partition divides the candidates into classes, and knows for any commit how
// probable it is that the culprit is among its ancestors.
type partition interface {
	// split divides the classes by whether their members are ancestors of a
	// commit; of those that are, the bit of the test is set.
	split(commit, test int)
	classes() []class
	// upto is the probability that the culprit is commit or an ancestor of it,
	// the classes having probabilities p.
	upto(commit int, p []float64) float64
	// best is the usable commit of the highest value above zero, false if there
	// is none. A line looks only around the commit whose upto is nearest to the
	// wanted one, and around the hinted positions.
	best(p []float64, want float64, hints []int, usable func(commit int) bool, value valuation) (commit int, worth float64, ok bool)
	// every is best where the value of a commit depends on more than its upto: all
	// are looked at.
	every(p []float64, usable func(commit int) bool, value valuation) (commit int, worth float64, ok bool)
	// members are the commits of a class, oldest first.
	members(class int) []int
	// of is the class of a commit.
	of(commit int) int
}

// valuation is what a first test of a commit with a given upto is worth.
type valuation func(commit int, upto float64) float64

// uint128 is a set of up to 128 tests: a search that asks for more commits has
// long lost its way, and is stopped by its budget before.
type uint128 [2]uint64

func (b *uint128) set(i int)      { b[i/64] |= 1 << (i % 64) }
func (b *uint128) has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }

// maxTested is how many commits a search may test.
const maxTested = 128

// line is the partition of commits that stand in a row: its classes are the
// segments between tested commits, and everything costs O(tests).
type line struct {
	n     int
	cum   []float64 // cum[i] is the prior of the commits below i; nil if all are alike
	parts []class
	last  []int // of each class, ascending: its newest commit
}

func newLine(n int, prior []float64) *line {
	l := &line{n: n, parts: []class{{size: n, prior: 1}}, last: []int{n - 1}}
	if prior != nil {
		l.cum = make([]float64, n+1)
		for i, w := range prior {
			l.cum[i+1] = l.cum[i] + w
		}
		for i := range l.cum {
			l.cum[i] /= l.cum[n]
		}
		l.cum[n] = 1
	}
	return l
}

func (l *line) classes() []class { return l.parts }

// below is the prior of the commits below i.
func (l *line) below(i int) float64 {
	if l.cum == nil {
		return float64(i) / float64(l.n)
	}
	return l.cum[i]
}

func (l *line) first(k int) int {
	if k == 0 {
		return 0
	}
	return l.last[k-1] + 1
}

func (l *line) of(commit int) int { return sort.SearchInts(l.last, commit) }

func (l *line) split(commit, test int) {
	k := l.of(commit)
	if l.last[k] != commit {
		lo, hi := l.first(k), l.last[k]
		a, b := l.parts[k], l.parts[k]
		a.size, a.prior = commit-lo+1, l.below(commit+1)-l.below(lo)
		b.size, b.prior = hi-commit, l.below(hi+1)-l.below(commit+1)
		l.parts = slices.Replace(l.parts, k, k+1, a, b)
		l.last = slices.Insert(l.last, k, commit)
	}
	for i := range l.parts[:k+1] {
		l.parts[i].in.set(test)
	}
}

func (l *line) upto(commit int, p []float64) float64 {
	k := l.of(commit)
	sum := 0.0
	for _, x := range p[:k] {
		sum += x
	}
	return sum + p[k]*l.share(k, commit)
}

// share is the part of a class's prior that lies at or below a commit.
func (l *line) share(k, commit int) float64 {
	lo := l.first(k)
	whole := l.below(l.last[k]+1) - l.below(lo)
	if whole <= 0 {
		return 0
	}
	return (l.below(commit+1) - l.below(lo)) / whole
}

func (l *line) best(p []float64, want float64, hints []int, usable func(int) bool, value valuation) (int, float64, bool) {
	commit, worth := 0, 0.0
	// From a position, the nearest usable commit on either side.
	around := func(at int) {
		for _, dir := range []int{-1, 1} {
			i := at
			if dir > 0 {
				i = at + 1
			}
			for i >= 0 && i < l.n && !usable(i) {
				i += dir
			}
			if i >= 0 && i < l.n {
				if v := value(i, l.upto(i, p)); v > worth {
					commit, worth = i, v
				}
			}
		}
	}
	around(l.quantile(want, p))
	for _, h := range hints {
		around(min(max(h, 0), l.n-1))
	}
	return commit, worth, worth > 0
}

func (l *line) every(p []float64, usable func(int) bool, value valuation) (int, float64, bool) {
	commit, worth, before := 0, 0.0, 0.0
	for k, x := range p[:len(l.parts)] {
		// Where the culprit is not, one commit tells what any other does, and the
		// tested one at the end of the class has told it.
		if x >= negligible {
			lo := l.first(k)
			low := l.below(lo)
			scale := x / max(l.below(l.last[k]+1)-low, math.SmallestNonzeroFloat64)
			for i := lo; i <= l.last[k]; i++ {
				if v := value(i, before+scale*(l.below(i+1)-low)); v > worth && usable(i) {
					commit, worth = i, v
				}
			}
		}
		before += x
	}
	return commit, worth, worth > 0
}

// quantile is the first commit whose upto reaches want.
func (l *line) quantile(want float64, p []float64) int {
	acc := 0.0
	for k, x := range p[:len(l.parts)] {
		if acc+x < want && k < len(l.parts)-1 {
			acc += x
			continue
		}
		lo, hi := l.first(k), l.last[k]
		if x <= 0 {
			return lo
		}
		f := (want - acc) / x
		return lo + sort.Search(hi-lo, func(d int) bool { return l.share(k, lo+d) >= f })
	}
	return l.n - 1
}

func (l *line) members(k int) []int {
	var out []int
	for i := l.first(k); i <= l.last[k]; i++ {
		out = append(out, i)
	}
	return out
}

// dag is the partition of commits with merges. Twenty tests on a kernel-like
// history make about 27 classes.
type dag struct {
	shape *history.Shape
	prior []float64 // nil if all are alike
	id    []int32   // class of each commit
	parts []class
}

func newDAG(s *history.Shape, prior []float64) *dag {
	d := &dag{shape: s, id: make([]int32, s.Len()), parts: []class{{size: s.Len(), prior: 1}}}
	if prior != nil {
		sum := 0.0
		for _, w := range prior {
			sum += w
		}
		d.prior = make([]float64, len(prior))
		for i, w := range prior {
			d.prior[i] = w / sum
		}
	}
	return d
}

func (d *dag) classes() []class  { return d.parts }
func (d *dag) of(commit int) int { return int(d.id[commit]) }

func (d *dag) weight(i int) float64 {
	if d.prior == nil {
		return 1 / float64(len(d.id))
	}
	return d.prior[i]
}

func (d *dag) split(commit, test int) {
	anc := d.shape.Ancestors(commit)
	inside := make([]class, len(d.parts))
	for i, k := range d.id {
		if anc.Has(i) {
			inside[k].size++
			inside[k].prior += d.weight(i)
		}
	}
	to := make([]int32, len(d.parts)) // where the ancestors of a class go
	for k := range inside {
		to[k] = int32(k)
		switch inside[k].size {
		case 0:
		case d.parts[k].size:
			d.parts[k].in.set(test)
		default:
			to[k] = int32(len(d.parts))
			a := class{size: inside[k].size, prior: inside[k].prior, in: d.parts[k].in}
			a.in.set(test)
			d.parts[k].size -= a.size
			d.parts[k].prior = max(d.parts[k].prior-a.prior, 0)
			d.parts = append(d.parts, a)
		}
	}
	for i, k := range d.id {
		if int(k) < len(to) && to[k] != k && anc.Has(i) {
			d.id[i] = to[k]
		}
	}
}

// of one commit, its part of its class's probability.
func (d *dag) mass(i int, p []float64) float64 {
	c := &d.parts[d.id[i]]
	if c.prior <= 0 {
		return p[d.id[i]] / float64(c.size)
	}
	return p[d.id[i]] * d.weight(i) / c.prior
}

func (d *dag) upto(commit int, p []float64) float64 {
	anc := d.shape.Ancestors(commit)
	sum := 0.0
	for i := range d.id {
		if anc.Has(i) {
			sum += d.mass(i, p)
		}
	}
	return min(sum, 1)
}

// samples is how many draws stand for the posterior where the ancestors of all
// commits are weighed: each pass through the history carries 64 of them, one a
// bit. Spaced evenly through the posterior they miss upto by less than 1/1024
// on a line.
const samples = 512

// all is upto of every commit, by samples.
func (d *dag) all(p []float64) []float64 {
	draws := d.draw(p)
	up := make([]float64, len(d.id))
	mask := make([]uint64, len(d.id))
	for b := 0; b < len(draws); b += 64 {
		block := draws[b:min(b+64, len(draws))]
		clear(mask)
		for j, i := range block {
			mask[i] |= 1 << j
		}
		for i := range mask {
			m := mask[i]
			for _, q := range d.shape.Parents(i) {
				m |= mask[q]
			}
			mask[i] = m
			up[i] += float64(bits.OnesCount64(m))
		}
	}
	for i := range up {
		up[i] /= float64(len(draws))
	}
	return up
}

// draw takes samples commits, evenly spaced in the posterior.
func (d *dag) draw(p []float64) []int32 {
	whole := 0.0
	for _, x := range p[:len(d.parts)] {
		whole += x
	}
	out := make([]int32, 0, samples)
	acc, next := 0.0, whole*0.5/samples
	for i := range d.id {
		acc += d.mass(i, p)
		for len(out) < samples && next < acc {
			out = append(out, int32(i))
			next = whole * (float64(len(out)) + 0.5) / samples
		}
	}
	for len(out) < samples {
		out = append(out, int32(len(d.id)-1))
	}
	return out
}

func (d *dag) best(p []float64, _ float64, _ []int, usable func(int) bool, value valuation) (int, float64, bool) {
	return d.every(p, usable, value)
}

func (d *dag) every(p []float64, usable func(int) bool, value valuation) (int, float64, bool) {
	commit, worth := 0, 0.0
	whole := 0.0
	for _, x := range p[:len(d.parts)] {
		whole += x
	}
	for i, u := range d.all(p) {
		if u <= 0 || !usable(i) {
			continue
		}
		if v := value(i, u*whole); v > worth {
			commit, worth = i, v
		}
	}
	return commit, worth, worth > 0
}

func (d *dag) members(k int) []int {
	var out []int
	for i, id := range d.id {
		if int(id) == k {
			out = append(out, i)
		}
	}
	return out
}
