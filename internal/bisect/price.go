package bisect

import "slices"

// Nowhere is where the object tree is when nobody knows which commit was built
// in it last.
const Nowhere = -2

// warmth follows which commit the object tree has, and what builds cost there.
// It goes by the observations alone: a search that is replayed finds the tree
// where it was, whatever has been built in it since.
type warmth struct {
	predict func(warm int) []float64 // see Options.PriceFrom
	at      int
	paid    map[int]float64 // for each commit that was observed; DefaultPrice where nothing is known

	asked bool // of and least are those of at
	of    []float64
	least float64
}

// observe notes a build: of a commit that is met for the first time, and whose
// kernel was neither kept nor found to be that of another. A build that failed has
// compiled what comes before the error; the tree is as good as there.
func (w *warmth) observe(o Observation, kept bool) {
	if _, met := w.paid[o.Commit]; met {
		return
	}
	w.paid[o.Commit] = DefaultPrice
	if kept || o.Twin {
		return
	}
	if of, _ := w.prices(); of != nil && o.Commit != GoodEnd {
		w.paid[o.Commit] = of[o.Commit]
	}
	w.at, w.asked = o.Commit, false
}

// prices are of each commit if it is built next, and the lowest of them; nil
// where nothing is known but the price of any.
func (w *warmth) prices() (of []float64, least float64) {
	if w.predict == nil {
		return nil, 0
	}
	if !w.asked {
		w.of, w.asked = w.predict(w.at), true
		if len(w.of) > 0 {
			w.least = slices.Min(w.of)
		}
	}
	return w.of, w.least
}

// saved is what a build leaves of a budget that has room for some at DefaultPrice.
// Such a budget stands for a cost: where a build takes no longer than three runs,
// it often tells more than they do, and one to three searches of a hundred had
// spent their builds before they had the answer.
func (w *warmth) saved(commit int) float64 {
	return max(0, 1-w.paid[commit]/DefaultPrice)
}
