// Package ddmin finds which of many changes are needed for a failure that all of
// them together show. It is ddmin of A. Zeller and R. Hildebrandt, "Simplifying
// and Isolating Failure-Inducing Input", IEEE Transactions on Software Engineering
// 28(2), 2002, with a test that may answer that it does not know. Pure: it must not
// know what a change is, nor how it is tested.
package ddmin

import (
	"fmt"
	"slices"
)

// Answer is what a test says of a subset of the changes.
type Answer int

// The answers. Only Bad leads anywhere; what the others are told apart for is how
// sure the result is.
const (
	Unresolved   Answer = iota // cannot be tested, or did not come about as asked: evidence of nothing
	Inconclusive               // tested, and not decided
	Good                       // the failure is not there
	Bad                        // it is
)

// Seen is what came of a subset.
type Seen struct {
	Answer Answer
	// Took are those of the subset that came about, in order; it is looked at where
	// the answer is Bad. nil: all of them.
	Took []int
}

// Test tries a subset of the changes, numbers in order. It is asked for a subset
// once. An error ends the search.
type Test func(subset []int) (Seen, error)

// Result is a set of changes that shows the failure, and is 1-minimal as far as
// that could be tested.
type Result struct {
	Set []int
	// Without is what the set does without one of its changes, in the order of Set:
	// Good where that change is needed for sure, and never Bad.
	Without []Answer
}

// Minimize reduces the changes 0 to n-1. All of them together must be Bad, and none
// of them Good: the caller has tried. After an error the result has the smallest
// set until then.
func Minimize(n int, test Test) (Result, error) {
	s := &search{test: test, known: map[string]Seen{"[]": {Answer: Good}}}
	for i := range n {
		s.set = append(s.set, i)
	}
	s.known[fmt.Sprint(s.set)] = Seen{Answer: Bad}
	parts := 2
	for len(s.set) > 1 {
		less, err := s.reduce(min(parts, len(s.set)))
		switch {
		case err != nil:
			return Result{Set: s.set}, err
		case less == toPart:
			parts = 2
		case less == toRest:
			parts = max(parts-1, 2)
		case parts >= len(s.set):
			return s.result()
		default:
			parts *= 2
		}
	}
	return s.result()
}

type search struct {
	test  Test
	known map[string]Seen
	set   []int // is bad
}

// How a set was reduced.
const (
	toNothing = iota // it was not
	toPart           // one part alone is bad
	toRest           // all but one part is
)

// reduce tries each of so many parts of the set, and then what is left without
// each.
func (s *search) reduce(parts int) (how int, err error) {
	all := s.set
	cut := func(i int) (from, to int) { return i * len(all) / parts, (i + 1) * len(all) / parts }
	for i := range parts {
		from, to := cut(i)
		if ok, err := s.take(slices.Clone(all[from:to])); ok || err != nil {
			return toPart, err
		}
	}
	for i := range parts {
		from, to := cut(i)
		if ok, err := s.take(slices.Delete(slices.Clone(all), from, to)); ok || err != nil {
			return toRest, err
		}
	}
	return toNothing, nil
}

// take goes on with a subset if it is bad, and without what of it did not come
// about if that is bad, too.
func (s *search) take(subset []int) (bool, error) {
	seen, err := s.ask(subset)
	if err != nil || seen.Answer != Bad {
		return false, err
	}
	s.set = subset
	if seen.Took != nil && len(seen.Took) < len(subset) {
		_, err = s.take(seen.Took)
	}
	return true, err
}

func (s *search) ask(subset []int) (Seen, error) {
	key := fmt.Sprint(subset)
	if seen, ok := s.known[key]; ok {
		return seen, nil
	}
	seen, err := s.test(subset)
	if err == nil {
		s.known[key] = seen
	}
	return seen, err
}

// result asks once more for the set without each of its changes: a set of one was
// not asked for that, and all others are known.
func (s *search) result() (Result, error) {
	r := Result{Set: s.set}
	for i := range s.set {
		seen, err := s.ask(slices.Delete(slices.Clone(s.set), i, i+1))
		if err != nil {
			return r, err
		}
		r.Without = append(r.Without, seen.Answer)
	}
	return r, nil
}
