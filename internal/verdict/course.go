package verdict

import (
	"math"
	"slices"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Alpha bounds false blame over a whole series. A commit is blamed for a test
// (or thanked for it) once the probability that it changed nothing is at most
// Alpha divided by the number of commits times tests, so that the expected number
// of wrong ones, in all cells together, is at most Alpha.
//
// The other error, beta, is that of the verdict good, and depends on the runs: of
// broken commits, by the priors of ProbBad, 18 % pass two runs (2 % of the almost
// deterministic half, 33 % of the races), so that of commits called good by two
// runs 2 % are broken. A race is found by a later commit that fails: it leads back.
const Alpha = 0.05

// MostToCompare bounds the runs of a test on one kernel that a comparison with
// its neighbours may ask for. With 60, a change from 0 to 30 % has a name in 924
// of 1,000 simulated series, with 100 in 987.
const MostToCompare = 100

// PriorChange is the probability that one commit changes what one test does.
const PriorChange = 0.01

// class is what a test is on a kernel. From one change to the next, a sound and
// a broken test have one rate. That of a flaky one differs a little from kernel to
// kernel, because every image is laid out in another way.
type class int

const (
	sound class = iota
	flaky
	broken
	classes
)

// The three priors of ProbBad, and their weights.
var (
	classRate  = [classes]Rate{FalseFailRate, badRates[1], badRates[0]}
	classPrior = [classes]float64{1 - PriorBad, PriorBad / 2, PriorBad / 2}
)

// Site is what is known of a test on one kernel of a series. Commits that give
// the same kernel are one site.
type Site struct {
	Fails, Passes int
	Runs          int // with those that are no evidence
}

func (s Site) known() bool { return s.Fails+s.Passes > 0 }

// step is a change of class between two neighbouring sites with evidence.
type step struct {
	after, at int
	from, to  class
}

// course is what a test did along a series: the posterior over all ways to cut
// the series into stretches of one class and rate each. Everything is a
// logarithm.
type course struct {
	sites        []Site
	fails        []int                // before each site
	passes       []int                // before each site
	like         [][][classes]float64 // of the sites from one to before another, if nothing changes between them
	start, begin [][classes]float64   // a stretch of a class begins there: everything before it; everything from there on
	end          [][classes]float64   // a stretch of a class ended there: everything behind it
	total        float64              // of all ways
	first        class                // of the best way
	steps        []step               // of the best way
	none, change float64              // a commit that changes nothing, and one that changes the class to a given one
}

func newCourse(sites []Site) *course {
	n := len(sites)
	c := &course{sites: sites, fails: make([]int, n+1), passes: make([]int, n+1), start: make([][classes]float64, n+1), begin: make([][classes]float64, n+1), end: make([][classes]float64, n+1),
		none: math.Log(1 - PriorChange), change: math.Log(PriorChange / float64(classes-1))}
	for i, s := range sites {
		c.fails[i+1], c.passes[i+1] = c.fails[i]+s.Fails, c.passes[i]+s.Passes
	}
	c.like = make([][][classes]float64, n)
	c.measure()
	c.forward()
	c.backward()
	return c
}

// The rate of a flaky test has a beta distribution around the mean of its
// stretch, as wide as after spread runs, and the mean is one of means. Of 1,000
// simulated series in which each kernel has a rate of its own between 0.1 and 0.5,
// 103 name somebody without a spread, 13 with 100 and 3 with 50; a change from 0 to
// 30 % has a name in 988, 987 and 953.
const (
	spread = 100
	means  = 20
)

// measure fills in the likelihoods of all stretches.
func (c *course) measure() {
	n := len(c.sites)
	around := make([][means]float64, n+1) // of the sites before, by the mean of a flaky test
	for i, s := range c.sites {
		for m := range means {
			mean := (float64(m) + 0.5) / means
			around[i+1][m] = around[i][m] + Rate{spread * mean, spread * (1 - mean)}.LogLikelihood(s.Fails, s.Passes)
		}
	}
	for i := range n {
		c.like[i] = make([][classes]float64, n+1)
		for j := i + 1; j <= n; j++ {
			unchanged := float64(j-i-1) * c.none
			f, p := c.fails[j]-c.fails[i], c.passes[j]-c.passes[i]
			l := &c.like[i][j]
			l[sound] = classRate[sound].LogLikelihood(f, p) + unchanged
			l[broken] = classRate[broken].LogLikelihood(f, p) + unchanged
			var sum, top float64 = 0, math.Inf(-1)
			for m := range means {
				top = max(top, around[j][m]-around[i][m])
			}
			for m := range means {
				sum += math.Exp(around[j][m] - around[i][m] - top)
			}
			l[flaky] = top + math.Log(sum/means) + unchanged
		}
	}
}

// stretch is the likelihood of sites i to j-1 if nothing changes between them.
func (c *course) stretch(i, j int, k class) float64 { return c.like[i][j][k] }

// forward sums over all ways from the left, and finds the best one.
func (c *course) forward() {
	n := len(c.sites)
	type from struct {
		site  int
		class class
	}
	best := make([][classes]float64, n+1)
	begun := make([][classes]int, n+1)    // where the best stretch that ends here begins
	before := make([][classes]class, n+1) // class before the best stretch that begins here
	for k := range classes {
		c.start[0][k] = math.Log(classPrior[k])
		best[0][k] = c.start[0][k]
	}
	for j := 1; j <= n; j++ {
		var ended, bestEnd [classes]float64
		for k := range classes {
			ended[k], bestEnd[k] = math.Inf(-1), math.Inf(-1)
			for i := range j {
				s := c.stretch(i, j, k)
				ended[k] = logSum(ended[k], c.start[i][k]+s)
				if w := best[i][k] + s; w > bestEnd[k] {
					bestEnd[k], begun[j][k] = w, i
				}
			}
		}
		if j == n {
			c.total = logSum(logSum(ended[sound], ended[flaky]), ended[broken])
			last := class(0)
			for k := range classes {
				if bestEnd[k] > bestEnd[last] {
					last = k
				}
			}
			for at := (from{n, last}); begun[at.site][at.class] > 0; {
				i := begun[at.site][at.class]
				prev := before[i][at.class]
				c.addStep(i, prev, at.class)
				at = from{i, prev}
				last = prev
			}
			c.first = last
			return
		}
		for k := range classes {
			c.start[j][k], best[j][k] = math.Inf(-1), math.Inf(-1)
			for o := range classes {
				if o == k {
					continue
				}
				c.start[j][k] = logSum(c.start[j][k], ended[o]+c.change)
				if w := bestEnd[o] + c.change; w > best[j][k] {
					best[j][k], before[j][k] = w, o
				}
			}
		}
	}
}

// addStep puts a change that begins at site i in front of those that are known.
// Between sites without evidence all places are alike.
func (c *course) addStep(i int, before, behind class) {
	s := step{after: i - 1, at: i, from: before, to: behind}
	for s.after >= 0 && !c.sites[s.after].known() {
		s.after--
	}
	for s.at < len(c.sites) && !c.sites[s.at].known() {
		s.at++
	}
	if s.after >= 0 && s.at < len(c.sites) {
		c.steps = slices.Insert(c.steps, 0, s)
	}
}

func (c *course) backward() {
	n := len(c.sites)
	for j := n - 1; j > 0; j-- {
		for k := range classes {
			c.begin[j][k] = math.Inf(-1)
			for e := j + 1; e <= n; e++ {
				c.begin[j][k] = logSum(c.begin[j][k], c.stretch(j, e, k)+c.end[e][k])
			}
		}
		for k := range classes {
			c.end[j][k] = math.Inf(-1)
			for o := range classes {
				if o != k {
					c.end[j][k] = logSum(c.end[j][k], c.begin[j][o]+c.change)
				}
			}
		}
	}
}

// unchanged is the probability that none of the sites a to b changed anything.
func (c *course) unchanged(a, b int) float64 {
	sum := math.Inf(-1)
	for k := range classes {
		for i := range a {
			for j := b + 1; j <= len(c.sites); j++ {
				sum = logSum(sum, c.start[i][k]+c.stretch(i, j, k)+c.end[j][k])
			}
		}
	}
	return math.Exp(sum - c.total)
}

// where are the sites, the smallest range of them, that hold a change with
// 1 - alpha; ok is false if not even all between the changes next to it do.
func (c *course) where(n int, alpha float64) (first, last int, ok bool) {
	first, last = c.steps[n].after+1, c.steps[n].at
	low, high := 1, len(c.sites)-1
	if n > 0 {
		low = c.steps[n-1].at + 1
	}
	if n+1 < len(c.steps) {
		high = c.steps[n+1].after
	}
	for c.unchanged(first, last) > alpha {
		left, right := math.Inf(1), math.Inf(1)
		if first > low {
			left = c.unchanged(first-1, last)
		}
		if last < high {
			right = c.unchanged(first, last+1)
		}
		switch {
		case first <= low && last >= high:
			return first, last, false
		case left <= right:
			first--
		default:
			last++
		}
	}
	return first, last, true
}

// logSum is the logarithm of a sum.
func logSum(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(b, -1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}

// More says on which sites of a series, the first of which is its base, a test
// has to run once more before it can be said which of them changed what it does:
// both sides of a change that is not sure yet, and the base. A site has at most
// so many runs. Asked with the same runs it gives the same answer.
func More(sites []Site, alpha float64, most int) []int {
	if !failed(sites) {
		return nil
	}
	c := newCourse(sites)
	var want []int
	add := func(i int) bool {
		if !sites[i].known() || sites[i].Runs >= most {
			return false
		}
		if !slices.Contains(want, i) {
			want = append(want, i)
		}
		return true
	}
	steps := c.steps
	if len(steps) == 0 && c.unchanged(1, len(sites)-1) < DecidedAt {
		steps = c.likeliest()
	}
	for _, s := range steps {
		if c.unchanged(s.after+1, s.at) <= alpha {
			continue
		}
		after, at := add(s.after), add(s.at)
		if (after || at) && sites[0].Runs < max(sites[s.after].Runs, 1) {
			add(0)
		}
	}
	slices.Sort(want)
	return want
}

func failed(sites []Site) bool {
	return slices.ContainsFunc(sites, func(s Site) bool { return s.Fails > 0 })
}

// likeliest is the change that would be next if the best way to cut the series
// has none; nothing where only one site is known.
func (c *course) likeliest() []step {
	var out []step
	best, after, sum := 0.0, -1, 0.0
	for i, s := range c.sites {
		for k := range classes {
			if i > 0 {
				sum += math.Exp(c.start[i][k] + c.begin[i][k] - c.total)
			}
		}
		if !s.known() {
			continue
		}
		if after >= 0 && sum > best {
			best, out = sum, []step{{after: after, at: i}}
		}
		after, sum = i, 0
	}
	return out
}

// Finding says how what a test does on a site stands to the sites before it.
type Finding struct {
	Change kernel.Change
	Since  int   // the site that brought the failure, 0 if it is older than the series
	OneOf  []int // the sites one of which made the change, if there are several
}

// Findings judges every site of a series, the first of which is its base.
func Findings(sites []Site, alpha float64) []Finding {
	out := make([]Finding, len(sites))
	if !failed(sites) {
		return out
	}
	c := newCourse(sites)
	now := c.first // class, since when, and whether that is sure
	since, sure, next := 0, true, 0
	for i := 1; i < len(sites); i++ {
		if next < len(c.steps) && c.steps[next].at == i {
			first, last, ok := c.where(next, alpha)
			f := Finding{Since: since}
			was := now
			now, sure = c.steps[next].to, ok
			if now > was {
				since, f.Since, f.Change = i, i, kernel.Introduced
			} else if now == sound {
				f.Change = kernel.Fixed
			} else {
				f.Change = kernel.NotIntroduced // it fails less
			}
			for k := first; ok && first < last && k <= last; k++ {
				f.OneOf = append(f.OneOf, k)
			}
			if next++; ok {
				out[i] = f
				continue
			}
		}
		if sites[i].known() {
			if next == 0 && now != sound {
				sure = c.unchanged(1, i) >= DecidedAt
			}
			out[i] = c.finding(i, now, since, sure)
		}
	}
	return out
}

// finding is that of a site that does what the one before it did.
func (c *course) finding(i int, now class, since int, sure bool) Finding {
	s := c.sites[i]
	bad := ProbBad(s.Fails, s.Passes, PriorBad) >= DecidedAt ||
		s.Passes == 0 && ProbBad(s.Fails, 0, PriorAgain) >= DecidedAt // as on the one before
	switch {
	case bad && (!sure || now == sound):
		return Finding{Change: kernel.Unclear}
	case !sure || now == sound:
	case since == 0 && now == flaky && c.first == flaky:
		return Finding{Change: kernel.Flaky}
	case s.Fails > 0:
		return Finding{Change: kernel.NotIntroduced, Since: since}
	}
	return Finding{}
}
