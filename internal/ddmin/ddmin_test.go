package ddmin

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/bits"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// holds says whether all of want are in subset.
func holds(subset, want []int) bool {
	return !slices.ContainsFunc(want, func(x int) bool { return !slices.Contains(subset, x) })
}

// counted is a test that is asked for a subset once.
func counted(t interface{ Errorf(string, ...any) }, asked *int, test func([]int) Seen) Test {
	before := map[string]bool{}
	return func(subset []int) (Seen, error) {
		*asked++
		if key := fmt.Sprint(subset); before[key] || !slices.IsSorted(subset) {
			t.Errorf("asked again or out of order: %s", key)
		} else {
			before[key] = true
		}
		return test(slices.Clone(subset)), nil
	}
}

func TestMinimize(t *testing.T) {
	needs := func(want ...int) func([]int) Seen {
		return func(s []int) Seen {
			if holds(s, want) {
				return Seen{Answer: Bad}
			}
			return Seen{Answer: Good}
		}
	}
	for _, c := range []struct {
		name  string
		n     int
		test  func([]int) Seen
		want  Result
		asked int // at most
	}{
		{"the only one", 1, needs(0), Result{[]int{0}, []Answer{Good}}, 0},
		{"one of two", 2, needs(1), Result{[]int{1}, []Answer{Good}}, 2},
		{"one of eight", 8, needs(5), Result{[]int{5}, []Answer{Good}}, 6},
		{"two that are needed together", 8, needs(1, 6), Result{[]int{1, 6}, []Answer{Good, Good}}, 16},
		{"all of them", 4, needs(0, 1, 2, 3), Result{[]int{0, 1, 2, 3}, []Answer{Good, Good, Good, Good}}, 10},
		{"either of two", 8, func(s []int) Seen {
			if holds(s, []int{2}) || holds(s, []int{6}) {
				return Seen{Answer: Bad}
			}
			return Seen{Answer: Good}
		}, Result{[]int{2}, []Answer{Good}}, 5},
		// 3 does not come about without 4; what came about instead is the good end.
		{"one that depends on another", 8, func(s []int) Seen {
			switch {
			case holds(s, []int{3, 4}):
				return Seen{Answer: Bad}
			case holds(s, []int{3}):
				return Seen{Answer: Unresolved}
			}
			return Seen{Answer: Good}
		}, Result{[]int{3, 4}, []Answer{Good, Unresolved}}, 20},
		{"does not build without it", 4, func(s []int) Seen {
			switch {
			case !holds(s, []int{0}):
				return Seen{Answer: Unresolved}
			case holds(s, []int{2}):
				return Seen{Answer: Bad}
			}
			return Seen{Answer: Good}
		}, Result{[]int{0, 2}, []Answer{Unresolved, Good}}, 12},
		{"undecided", 2, func(s []int) Seen {
			if len(s) == 2 {
				return Seen{Answer: Bad}
			}
			return Seen{Answer: Inconclusive}
		}, Result{[]int{0, 1}, []Answer{Inconclusive, Inconclusive}}, 2},
		// Of whatever is asked for only 6 and 7 come about.
		{"most change nothing", 64, func(s []int) Seen {
			took := slices.DeleteFunc(slices.Clone(s), func(x int) bool { return x != 6 && x != 7 })
			seen := needs(7)(s)
			seen.Took = took
			return seen
		}, Result{[]int{7}, []Answer{Good}}, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := 0
			got, err := Minimize(c.n, counted(t, &asked, c.test))
			if d := cmp.Diff(c.want, got); d != "" || err != nil {
				t.Errorf("%v %s", err, d)
			}
			if asked > c.asked {
				t.Errorf("%d tests, want at most %d", asked, c.asked)
			}
		})
	}
}

// What came about of a bad subset need not be bad itself: then the subset stays.
func TestTookIsTried(t *testing.T) {
	got, err := Minimize(4, func(s []int) (Seen, error) {
		if len(s) == 2 && s[0] == 0 && s[1] == 1 {
			return Seen{Answer: Bad, Took: []int{1}}, nil
		}
		return Seen{Answer: Good}, nil
	})
	if d := cmp.Diff(Result{[]int{0, 1}, []Answer{Good, Good}}, got); d != "" || err != nil {
		t.Errorf("%v %s", err, d)
	}
}

func TestErrorKeepsTheSet(t *testing.T) {
	broken := errors.New("no disk")
	asked := 0
	got, err := Minimize(8, func(s []int) (Seen, error) {
		if asked++; asked == 3 {
			return Seen{}, broken
		}
		return Seen{Answer: Bad}, nil
	})
	if !errors.Is(err, broken) || len(got.Set) != 2 || got.Without != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

// Where more changes never cure, the smallest set is unique and is found; one
// change takes two tests for each halving at most.
func TestMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 200).Draw(t, "n")
		want := rapid.SliceOfNDistinct(rapid.IntRange(0, n-1), 1, min(n, 5), rapid.ID[int]).Draw(t, "culprits")
		slices.Sort(want)
		asked := 0
		got, err := Minimize(n, counted(t, &asked, func(s []int) Seen {
			if holds(s, want) {
				return Seen{Answer: Bad}
			}
			return Seen{Answer: Good}
		}))
		if err != nil || !slices.Equal(got.Set, want) {
			t.Fatalf("%v, %v, want %v", got, err, want)
		}
		if len(want) == 1 && asked > 2*bits.Len(uint(n)) {
			t.Errorf("%d tests for one of %d", asked, n)
		}
	})
}

// Whatever the test answers: the set is bad, taking one change from it was tried
// and is not bad, and Without has what came of that. The number of tests is that
// of the paper, n² + 3n at most.
func TestAnyOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 24).Draw(t, "n")
		seed := rapid.Uint64().Draw(t, "seed")
		mixture := rapid.SampledFrom([]int{2, 4, 16}).Draw(t, "one of so many is bad")
		answer := func(s []int) Seen {
			h := fnv.New64a()
			fmt.Fprint(h, seed, s)
			x := h.Sum64()
			switch {
			case len(s) == 0:
				return Seen{Answer: Good}
			case len(s) == n:
				return Seen{Answer: Bad}
			case x%uint64(mixture) == 0:
				return Seen{Answer: Bad, Took: slices.DeleteFunc(slices.Clone(s), func(i int) bool { return x>>(8+i)&3 == 0 })}
			}
			return Seen{Answer: Answer(x>>32) % Bad}
		}
		asked := 0
		got, err := Minimize(n, counted(t, &asked, answer))
		if err != nil {
			t.Fatal(err)
		}
		if answer(got.Set).Answer != Bad {
			t.Errorf("%v is not bad", got.Set)
		}
		if len(got.Without) != len(got.Set) {
			t.Fatalf("%+v", got)
		}
		for i, a := range got.Without {
			less := slices.Delete(slices.Clone(got.Set), i, i+1)
			if want := answer(less).Answer; a != want || a == Bad {
				t.Errorf("without %d: %d, want %d", got.Set[i], a, want)
			}
		}
		if asked > n*n+3*n {
			t.Errorf("%d tests of %d changes", asked, n)
		}
	})
}

// Changes that depend on others: what is asked for and lacks what it depends on
// does not come about. The set has the culprit and what it cannot be without.
func TestDependencies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 40).Draw(t, "n")
		needs := make([]int, n) // of each the one that it depends on, itself for none
		for i := range needs {
			needs[i] = rapid.IntRange(max(0, i-3), i).Draw(t, "needs")
		}
		culprit := rapid.IntRange(0, n-1).Draw(t, "culprit")
		var want []int
		for i := culprit; ; i = needs[i] {
			want = append(want, i)
			if needs[i] == i {
				break
			}
		}
		slices.Sort(want)
		asked := 0
		got, err := Minimize(n, counted(t, &asked, func(s []int) Seen {
			var took []int
			for _, i := range s {
				if needs[i] == i || slices.Contains(took, needs[i]) {
					took = append(took, i)
				}
			}
			switch {
			case slices.Contains(took, culprit):
				return Seen{Bad, took}
			case len(took) < len(s):
				return Seen{Answer: Unresolved}
			}
			return Seen{Answer: Good}
		}))
		if err != nil || !slices.Equal(got.Set, want) {
			t.Fatalf("%v, %v, want %v", got, err, want)
		}
		for i, a := range got.Without {
			if leaf := got.Set[i] == culprit; leaf != (a == Good) {
				t.Errorf("without %d: %d", got.Set[i], a)
			}
		}
	})
}
