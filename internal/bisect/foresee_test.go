package bisect

import (
	"testing"

	"pgregory.net/rapid"
)

// runs tells a search of runs of a commit.
func runs(s *Search, commit int, failed ...bool) {
	for _, f := range failed {
		s.Observe(Observation{Commit: commit, Iterations: 1, Failed: f})
	}
}

func TestForesee(t *testing.T) {
	const n = 64
	calibrated := func(s *Search) { runs(s, n-1, true, true, true, true, true) }
	for _, tt := range []struct {
		name  string
		opt   Options
		seen  func(s *Search)
		under int
		want  int
		ok    bool
	}{
		{"while the bad end runs, the good one", Options{}, func(s *Search) {}, n - 1, GoodEnd, true},
		{"which is there", Options{Free: []int{GoodEnd}}, func(s *Search) { runs(s, n-1, true) }, n - 1, 31, true},
		{"while the good end runs, the middle", Options{}, calibrated, GoodEnd, 31, true},
		{"a kernel that is there tells nothing of its runs", Options{Free: []int{31}}, calibrated, GoodEnd, 0, false},
		{"not before the first run", Options{}, func(s *Search) { calibrated(s); runs(s, GoodEnd, false) }, 31, 0, false},
		{"it has failed", Options{}, func(s *Search) { calibrated(s); runs(s, GoodEnd, false); runs(s, 31, true) }, 31, 15, true},
		{"it has passed", Options{}, func(s *Search) { calibrated(s); runs(s, GoodEnd, false); runs(s, 31, false) }, 31, 47, true},
		{"a fix, the fixed end", Options{Fix: true, Free: []int{GoodEnd}}, func(s *Search) {}, GoodEnd, n - 1, true},
		{"it is over", Options{}, func(s *Search) { s.Stop("the time is over") }, n - 1, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := New(row(n), tt.opt)
			tt.seen(s)
			// Of the commits about the middle any will do.
			if got, ok := s.Foresee(tt.under); ok != tt.ok || ok && (got < tt.want-2 || got > tt.want+2) {
				t.Errorf("%d, %v; want %d, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

// Looking ahead changes nothing, and what is foreseen of deterministic runs comes.
func TestForeseeLeavesASearchAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 200).Draw(t, "commits")
		culprit := rapid.IntRange(0, n-1).Draw(t, "culprit")
		s, plain := New(row(n), Options{}), New(row(n), Options{})
		foreseen, told, right := 0, false, 0
		for {
			want := plain.Next(1)
			got := s.Next(1)
			if len(want) == 0 || len(got) == 0 {
				if len(want) != len(got) {
					t.Fatalf("%v, and without looking ahead %v", got, want)
				}
				break
			}
			if got[0] != want[0] {
				t.Fatalf("%+v, and without looking ahead %+v", got[0], want[0])
			}
			p := got[0]
			if told && s.post.tally(p.Commit) == nil {
				if p.Commit != foreseen {
					t.Fatalf("%d was foreseen, %d is asked for", foreseen, p.Commit)
				}
				told = false
				right++
			}
			o := Observation{Commit: p.Commit, Iterations: p.Iterations, Failed: p.Commit >= culprit}
			s.Observe(o)
			plain.Observe(o)
			if c, ok := s.Foresee(p.Commit); ok {
				foreseen, told = c, true
			}
		}
		if n > 8 && right < 2 {
			t.Errorf("%d builds were foreseen", right)
		}
	})
}
