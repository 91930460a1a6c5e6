package bisect

import "math"

// The model of a noisy test. A run of a commit that has the bug fails with that
// commit's own rate; a run of a commit without it fails falsely with a rate that
// all good commits share. Nothing is told: both are learned, and how much the
// rates of bad commits differ is learned too.
//
// A bad commit's rate is drawn from Beta(mu*kappa, (1-mu)*kappa), around a mean
// mu that bad commits share, or, with probability stray, from Beta(strayA,
// strayB): a commit on which the reproducer hardly works, whatever it does on
// the others. Without strays twelve passes on such a commit prove it good, and
// a third of the searches in the bimodal world end with a wrong commit
// (facts/noise-aware-bisect.md, A4.4).
type model struct {
	mu, kappa float64 // 0 < mu < 1
	stray     float64
	falseB    float64 // the rate of false failures has the prior Beta(1, falseB)
	logPrior  float64
}

// Strays have low rates: Beta(2, 5) has its mean at 0.29 and 5 % of its mass
// below 0.06. A distribution with more mass near zero would never let a search
// end: no number of passes rules a rate of nearly zero out.
const (
	strayA = 2.0
	strayB = 5.0
)

// falseFailB is that prior where failures are not deterministic: mean 1/31. A guess on the low side costs rightness, one on the high side only runs
// (A4.2: where 3 % is the truth, assuming 0.1 % makes 71 % of the answers wrong).
const falseFailB = 30.0

// oneRate is the kappa of rates that are the same on all bad commits, as near as
// a search can tell.
const oneRate = 400

// models are what may hold, with their prior probabilities. Most reproducers
// are deterministic, and then both ways: a sound kernel never fails them either.
// The others have any mean rate, the same on all bad commits or not, with few or
// many strays. The weights were chosen by simulation: they decide how many runs
// are spent on ruling out what is rare (`make simulate` shows what comes of it).
var models = func() []model {
	const deterministic = 0.7
	ms := []model{{mu: 0.998, kappa: 1000, stray: 0.002, falseB: 300, logPrior: math.Log(deterministic)}}
	const means = 19 // 0.05 to 0.95
	for i := 1; i <= means; i++ {
		for _, s := range []struct{ kappa, stray, weight float64 }{
			{oneRate, 0.002, 0.75}, // one rate for all
			{16, 0.02, 0.1},        // rates that differ
			{16, 0.3, 0.15},        // and commits on which the test hardly works
		} {
			ms = append(ms, model{float64(i) / (means + 1), s.kappa, s.stray, falseFailB, math.Log((1 - deterministic) * s.weight / means)})
		}
	}
	return ms
}()

// tally is what is known of one commit from its own runs.
type tally struct {
	commit        int
	twin          *tally // which counts the runs of this commit; this one has none
	fails, passes int
	like          []float64 // per model: log probability of the runs if the commit is bad
	next          []float64 // per model: probability that one more run fails if it is bad
	own, strays   []float64 // per model: the two parts of like, up to their weights
}

func newTally(commit int) *tally {
	n := len(models)
	t := &tally{commit: commit, like: make([]float64, n), next: make([]float64, n), own: make([]float64, n), strays: make([]float64, 1)}
	t.refresh()
	return t
}

func (t *tally) runs() int { return t.fails + t.passes }

// add counts one run. The likelihoods grow by the predictive probability of
// what was seen: the chain rule of the beta-binomial.
func (t *tally) add(failed bool) {
	n := float64(t.runs())
	f, p := float64(t.fails), float64(t.passes)
	for i, m := range models {
		if failed {
			t.own[i] += math.Log((m.mu*m.kappa + f) / (m.kappa + n))
		} else {
			t.own[i] += math.Log(((1-m.mu)*m.kappa + p) / (m.kappa + n))
		}
	}
	if failed {
		t.strays[0] += math.Log((strayA + f) / (strayA + strayB + n))
		t.fails++
	} else {
		t.strays[0] += math.Log((strayB + p) / (strayA + strayB + n))
		t.passes++
	}
	t.refresh()
}

func (t *tally) refresh() {
	f, n := float64(t.fails), float64(t.runs())
	nextStray := (strayA + f) / (strayA + strayB + n)
	for i, m := range models {
		top := max(t.own[i], t.strays[0])
		own, stray := (1-m.stray)*math.Exp(t.own[i]-top), m.stray*math.Exp(t.strays[0]-top)
		t.like[i] = top + math.Log(own+stray)
		t.next[i] = (own*(m.mu*m.kappa+f)/(m.kappa+n) + stray*nextStray) / (own + stray)
	}
}

// logFalse is the log probability that good commits together show so many
// failures and passes.
func (m *model) logFalse(fails, passes int) float64 {
	return logBeta(1+float64(fails), m.falseB+float64(passes)) + math.Log(m.falseB)
}

// nextFalse is the probability that the next run of a good commit fails.
func (m *model) nextFalse(fails, passes int) float64 {
	return (1 + float64(fails)) / (1 + m.falseB + float64(fails+passes))
}

func logBeta(a, b float64) float64 {
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	return la + lb - lab
}

// entropy is that of a coin, in bits.
func entropy(p float64) float64 {
	if p <= 0 || p >= 1 {
		return 0
	}
	return -p*math.Log2(p) - (1-p)*math.Log2(1-p)
}
