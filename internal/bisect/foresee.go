package bisect

// sure is how probable it must be that a commit is bad, or that it is good, for the
// search to be thought on: a build for nothing takes the object tree elsewhere, and
// costs about what the runs of a commit hide of a build.
const sure = 0.8

// imagined bounds the runs of which Foresee thinks; few commits need more.
const imagined = 24

// thought is what Foresee found when it was last asked in earnest.
type thought struct {
	under int
	bad   bool // that it was likely to be
	next  int
	ok    bool
}

// Foresee returns the commit that will be asked for after the one under test, and
// has to be built, if the runs go on as is likeliest; false where that cannot be told.
// What was observed stays as it is. It thinks once of each side that a commit's runs
// may come down on, which takes as long as all steps to the next commit.
func (s *Search) Foresee(under int) (commit int, ok bool) {
	bad := s.likelyBad(under)
	if s.stopped != "" || bad < sure && bad > 1-sure {
		return 0, false
	}
	if t := s.thought; t == nil || t.under != under || t.bad != (bad >= sure) {
		log := s.log
		next, ok := s.imagine(under)
		s.reset()
		for _, o := range log {
			s.Observe(o)
		}
		s.thought = &thought{under, bad >= sure, next, ok}
	}
	return s.thought.next, s.thought.ok
}

func (s *Search) imagine(under int) (commit int, ok bool) {
	for range imagined {
		probes := s.Next(1)
		if len(probes) == 0 {
			return 0, false
		}
		p := probes[0]
		if p.Commit != under && s.post.tally(p.Commit) == nil && !s.free[p.Commit] {
			return p.Commit, true
		}
		bad := s.likelyBad(p.Commit)
		if bad < sure && bad > 1-sure {
			return 0, false
		}
		s.Observe(Observation{Commit: p.Commit, Iterations: p.Iterations, Failed: bad >= sure})
	}
	return 0, false
}

// likelyBad is the probability that a commit is bad. The ends are what they are said
// to be until they have shown otherwise.
func (s *Search) likelyBad(commit int) float64 {
	if s.post.tally(s.failing()) == nil || s.post.tally(s.passing()) == nil {
		switch commit {
		case s.failing():
			return 1
		case s.passing():
			return 0
		}
	}
	return s.post.isBad(commit)
}
