package simulate

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"

	"github.com/kernel-bisect/kbisect/internal/bisect"
	"github.com/kernel-bisect/kbisect/internal/history"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Result is what came out of many searches. Rates are fractions of the trials.
type Result struct {
	Schema       string  `json:"schema"` // kbisect/simulate/v1
	World        string  `json:"world"`
	Commits      int     `json:"commits"`
	Seed         uint64  `json:"seed"`
	Trials       int     `json:"trials"`
	Right        float64 `json:"right"` // the culprit named, or "older than the good end" where it is
	Wrong        float64 `json:"wrong"` // another one named, or a set without it
	Inconclusive float64 `json:"inconclusive"`
	Sets         float64 `json:"sets"`         // of the inconclusive ones: a set that holds the culprit
	Stated       float64 `json:"stated"`       // answers with a stated confidence of 95 % or more
	StatedRight  float64 `json:"stated_right"` // of those, the right ones: sets that hold the culprit too
	RunsMean     float64 `json:"runs_mean"`
	RunsMax      int     `json:"runs_max"`
	BuildsMean   float64 `json:"builds_mean"`
	CostMean     float64 `json:"cost_mean"` // runs, and what the builds cost
	CostP95      float64 `json:"cost_p95"`
	WallMean     float64 `json:"wall_mean"` // cost on the way of the longest probe of each round

	Ends map[kernel.BisectStatus]int `json:"ends"`
}

// outcome of one search.
type outcome struct {
	status     kernel.BisectStatus
	right      bool
	holds      bool // a set that holds the culprit
	confidence float64
	runs       int
	builds     int
	cost       float64
	wall       float64
}

// Run searches as many simulated ranges as asked for.
func Run(w World, trials int, seed uint64) (Result, error) {
	if err := w.check(); err != nil {
		return Result{}, err
	}
	shape := shapeOf(w, seed)
	out := make([]outcome, trials)
	next := make(chan int)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for t := range next {
				out[t] = trial(newWorld(w, shape, generator(seed, uint64(t))))
			}
		})
	}
	for t := range trials {
		next <- t
	}
	close(next)
	wg.Wait()
	return sum(w, seed, out), nil
}

// generator gives numbers that a seed repeats, which is what a simulation needs
// and a secret must not have.
func generator(seed, stream uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, stream)) //nolint:gosec // no secrets
}

func trial(w *world) outcome {
	opt := bisect.Options{Confidence: w.Confidence, Prior: w.hot, Price: w.BuildPrice, PriceFrom: w.prices}
	if w.FlatPrice > 0 {
		opt.Price = w.FlatPrice
	}
	if w.Iteration > 0 {
		opt.MaxIterations = 32
	}
	s := bisect.New(w.shape, opt)
	var o outcome
	built := map[int]bool{bisect.GoodEnd: true, w.Commits - 1: true}
	warm := bisect.GoodEnd // the newer end is asked for first
	for {
		probes := s.Next(max(w.Workers, 1))
		if len(probes) == 0 {
			break
		}
		longest := 0.0
		for _, p := range probes {
			cost := 0.0
			if !built[p.Commit] {
				built[p.Commit] = true
				o.builds++
				cost += w.price(warm, p.Commit)
				warm = p.Commit
			}
			if w.skip[p.Commit] {
				s.Observe(bisect.Observation{Commit: p.Commit, Iterations: p.Iterations, Untestable: true})
			} else {
				o.runs++
				cost += 1 + w.Iteration*float64(p.Iterations-1)
				s.Observe(bisect.Observation{Commit: p.Commit, Iterations: p.Iterations, Failed: w.run(p.Commit, p.Iterations)})
			}
			o.cost += cost
			longest = max(longest, cost)
		}
		o.wall += longest
	}
	r := s.Result()
	o.status, o.confidence = r.Status, r.Confidence
	switch r.Status {
	case kernel.Found:
		o.right = r.Culprit == w.culprit || w.TwoChanges && r.Culprit == w.repaired[1]
	case kernel.Set:
		o.holds = slices.ContainsFunc(r.Candidates, func(c bisect.Candidate) bool { return c.Commit == w.culprit })
	case kernel.OlderThanGood:
		o.right = w.culprit == bisect.GoodEnd
	case kernel.NotSingleChange:
		o.right = w.TwoChanges
	}
	return o
}

func sum(w World, seed uint64, out []outcome) Result {
	r := Result{Schema: "kbisect/simulate/v1", World: w.Name, Commits: w.Commits, Seed: seed, Trials: len(out), Ends: map[kernel.BisectStatus]int{}}
	n := float64(len(out))
	var costs []float64
	stated, sound := 0.0, 0.0
	for _, o := range out {
		r.Ends[o.status]++
		claims := o.status != kernel.NoConclusion && o.status != kernel.NotReproduced
		switch {
		case o.right:
			r.Right += 1 / n
		case o.holds:
			r.Sets += 1 / n
			r.Inconclusive += 1 / n
		case claims:
			r.Wrong += 1 / n
		default:
			r.Inconclusive += 1 / n
		}
		if claims && o.confidence >= 0.95 {
			stated++
			if o.right || o.holds {
				sound++
			}
		}
		r.RunsMean += float64(o.runs) / n
		r.RunsMax = max(r.RunsMax, o.runs)
		r.BuildsMean += float64(o.builds) / n
		r.CostMean += o.cost / n
		r.WallMean += o.wall / n
		costs = append(costs, o.cost)
	}
	if stated > 0 {
		r.Stated, r.StatedRight = stated/n, sound/stated
	}
	slices.Sort(costs)
	r.CostP95 = costs[min(len(costs)-1, len(costs)*95/100)]
	return r
}

// shapeOf makes the history: a line, or one in which branches of about
// fourteen commits, forked some sixty merges earlier, are merged one after the
// other, as into the mainline kernel.
func shapeOf(w World, seed uint64) *history.Shape {
	var s history.Shape
	if !w.Merges {
		for i := range w.Commits {
			if i == 0 {
				s.Add()
			} else {
				s.Add(i - 1)
			}
		}
		return &s
	}
	rng := generator(seed, 1<<63)
	main := []int{0}
	s.Add()
	for s.Len() < w.Commits {
		tip := main[max(0, len(main)-1-int(rng.ExpFloat64()*60))]
		for range max(1, int(rng.ExpFloat64()*14)) {
			if s.Len() >= w.Commits-1 {
				break
			}
			s.Add(tip)
			tip = s.Len() - 1
		}
		s.Add(main[len(main)-1], tip)
		main = append(main, s.Len()-1)
	}
	return &s
}
