package verdict

import (
	"math"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Rate is a Beta distribution over a failure rate.
type Rate struct{ A, B float64 }

// FalseFailRate is the prior of the rate at which a sound kernel fails a run:
// mean 1/31. A guess on the low side costs accuracy, one on the high side only
// runs (simulated: with a truth of 3 %, assuming 0.1 % makes 71 % of the
// answers wrong; Beta(1,30) learns it).
var FalseFailRate = Rate{1, 30}

// priors of the failure rate of a broken kernel, before anything was seen of
// it: half the weight on a reproducer that almost always hits, half on a race
// of any rate.
var badRates = []Rate{{9, 1}, {1, 1}}

// PriorBad is the probability, before any run, that a commit fails a test: most
// commits of a series break nothing.
const PriorBad = 0.1

// PriorAgain is that probability for a commit on which a test fails as it did on
// the commit before, where it is bad: as if the two had nothing to do with each
// other in every second case. In truth 1-PriorChange of them are alike; with this
// one failure instead of two makes 95 %.
const PriorAgain = 0.5

// Before says of the tests that are bad on the commit before how they fail.
type Before map[string]kernel.Signature

// again says whether all runs that are evidence failed alike before.
func (b Before) again(test string, t Tally) bool {
	was, ok := b[test]
	return ok && t.Passes == 0 && t.First != nil && t.First.Signature.Kind == was.Kind && t.First.Signature.Title == was.Title
}

// RunsAgain is how many runs are wanted of a test that fails as it did before, if
// least are of others.
func RunsAgain(least int) int { return (least + 1) / 2 }

// prior is the probability of bad before the runs, and how many are wanted if
// least are without anything known.
func (b Before) prior(test string, t Tally, least int) (float64, int) {
	if b.again(test, t) {
		return PriorAgain, RunsAgain(least)
	}
	return PriorBad, least
}

// DecidedAt is the posterior at which a verdict is given.
const DecidedAt = 0.95

// LogLikelihood returns log P(fails, passes | rate ~ Beta), up to the binomial
// coefficient, which is the same for every hypothesis.
func (r Rate) LogLikelihood(fails, passes int) float64 {
	return logBeta(r.A+float64(fails), r.B+float64(passes)) - logBeta(r.A, r.B)
}

// Learn returns the distribution after fails and passes were seen.
func (r Rate) Learn(fails, passes int) Rate { return Rate{r.A + float64(fails), r.B + float64(passes)} }

// Mean is the expected rate.
func (r Rate) Mean() float64 { return r.A / (r.A + r.B) }

func logBeta(a, b float64) float64 {
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	return la + lb - lab
}

// ProbBad is the probability that a commit is bad, given the runs on it and a
// prior.
func ProbBad(fails, passes int, prior float64) float64 {
	// Of bad to good; each likelihood alone underflows after a thousand runs.
	ratio := 0.0
	good := FalseFailRate.LogLikelihood(fails, passes)
	for _, r := range badRates {
		ratio += math.Exp(r.LogLikelihood(fails, passes)-good) / float64(len(badRates))
	}
	return prior / (prior + (1-prior)/ratio)
}

// Tally counts what runs are evidence of.
type Tally struct {
	Fails, Passes int
	Skips, Infras int
	First         *kernel.Run // first bad run, nil without one
	Reason        string      // of the last skip or infra
	// Known is XPass only if no pass was an expected failure: one of those
	// shows that nothing has changed.
	Known  kernel.Known
	Remark string // of the passes that have it
}

// Count sums runs up.
func Count(runs []kernel.Run) Tally {
	var t Tally
	for i, r := range runs {
		switch {
		case r.Outcome.Bad():
			t.Fails++
			if t.First == nil {
				t.First = &runs[i]
			}
		case r.Outcome == kernel.Pass:
			t.Passes++
			if r.Known == kernel.XFail || t.Known == "" {
				t.Known, t.Remark = r.Known, r.Reason
			}
		case r.Outcome == kernel.Skip:
			t.Skips, t.Reason = t.Skips+1, r.Reason
		default:
			t.Infras, t.Reason = t.Infras+1, r.Reason
		}
	}
	return t
}

// Decided says whether more runs of a test are not needed: at least so many are
// evidence and the posterior is clear, or the guest says skip. A failure as on the
// commit before takes half as many.
func (t Tally) Decided(test string, least int, before Before) bool {
	if t.Skips > 0 && t.Fails+t.Passes == 0 {
		return true
	}
	prior, least := before.prior(test, t, least)
	p := ProbBad(t.Fails, t.Passes, prior)
	return t.Fails+t.Passes >= least && math.Max(p, 1-p) >= DecidedAt
}

// Decide gives the verdict of one test on one kernel. before may be nil.
func Decide(test string, runs []kernel.Run, before Before) kernel.TestResult {
	t := Count(runs)
	res := kernel.TestResult{Name: test, Runs: t.Fails + t.Passes, Fails: t.Fails, Verdict: kernel.Inconclusive}
	if t.First != nil {
		res.Signature, res.Reason = t.First.Signature, t.First.Reason
		res.Console, res.Output = t.First.Console, t.First.Output
	}
	if t.First == nil {
		res.Reason = t.Remark
	}
	if res.Runs == 0 {
		res.Reason = t.Reason
		if t.Skips > 0 && t.Infras == 0 {
			res.Verdict = kernel.Skipped
		}
		return res
	}
	prior, _ := before.prior(test, t, 0)
	p := ProbBad(t.Fails, t.Passes, prior)
	switch {
	case p >= DecidedAt:
		res.Verdict, res.Confidence = kernel.Bad, p
	case 1-p >= DecidedAt:
		res.Verdict, res.Confidence, res.Known = kernel.Good, 1-p, t.Known
	default:
		res.Confidence = math.Max(p, 1-p)
	}
	return res
}
