package report

import (
	"fmt"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// bisectSentence is the verdict of a bisection in one line.
func bisectSentence(r *kernel.BisectResult) string {
	what := "found: "
	if r.FindFix {
		what = "found the fix: "
	}
	switch {
	case r.Status == kernel.Found && r.Culprit != nil:
		c := r.Culprit
		by := ""
		if a := authorName(c.Author); a != "" {
			by = " by " + a
		}
		s := fmt.Sprintf("%s%s%s, confidence %s", what, named(c.SHA, c.Subject), by, percent(r.Confidence))
		if refuted(r) {
			s += "; but built anew it does not show that"
		}
		return s
	case r.Status == kernel.Set:
		if len(r.Candidates) == 0 {
			return "narrowed down, but no candidates are left"
		}
		top := r.Candidates[likeliest(r.Candidates)]
		if alike(r.Candidates) {
			return fmt.Sprintf("narrowed to %s, together %s", count(len(r.Candidates), "commit"), percent(r.Confidence))
		}
		return fmt.Sprintf("narrowed to %s, together %s: most likely %s with %s",
			count(len(r.Candidates), "commit"), percent(r.Confidence), named(top.SHA, top.Subject), percent(top.Probability))
	case r.Status == kernel.NotReproduced:
		return fmt.Sprintf("not reproduced: no failure at %s", named(r.Bad.SHA, r.Bad.Subject))
	case r.Status == kernel.NotSingleChange:
		return "no single change: the results do not go from good to bad once"
	case r.Status == kernel.OlderThanGood:
		return fmt.Sprintf("older than the good end: %s fails already", named(r.Good.SHA, r.Good.Subject))
	case r.Status == kernel.Searching && len(r.Steps) == 0:
		return "searching"
	case r.Status == kernel.Searching:
		return fmt.Sprintf("searching: %s left after %s", count(r.Steps[len(r.Steps)-1].Left, "candidate"), count(r.Runs, "run"))
	case r.Status == kernel.NoConclusion || r.Status == "":
		return "no conclusion"
	}
	return plain(string(r.Status))
}

func likeliest(cs []kernel.Candidate) int {
	best := 0
	for i, c := range cs {
		if c.Probability > cs[best].Probability {
			best = i
		}
	}
	return best
}

// refuted says whether what was tried after the search speaks against it.
func refuted(r *kernel.BisectResult) bool {
	return r.Confirmation != nil && r.Confirmation.Refutes(r.FindFix)
}

// fixesTag is the trailer for the commit that repairs the culprit. A fix has
// none, and neither has a set or a culprit that was refuted: a tag is a claim.
func fixesTag(r *kernel.BisectResult) string {
	if r.Status != kernel.Found || r.Culprit == nil || r.FindFix || refuted(r) {
		return ""
	}
	return "Fixes: " + named(r.Culprit.SHA, r.Culprit.Subject)
}

// skippedWhy finds the reason why a commit could not be tested.
func skippedWhy(r *kernel.BisectResult, sha string) string {
	why := ""
	for _, s := range r.Steps {
		if s.SHA != sha {
			continue
		}
		switch {
		case s.Reason != "":
			why = plain(s.Reason)
		case s.Build == string(kernel.BuildFailed):
			why = "does not build"
		case s.Outcome == "skip":
			why = "cannot be tested"
		}
	}
	return why
}

// alike says whether no candidate is likelier than another.
func alike(cs []kernel.Candidate) bool {
	for _, c := range cs {
		if c.Probability != cs[0].Probability {
			return false
		}
	}
	return true
}
