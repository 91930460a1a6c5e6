package report

import (
	"fmt"
	"math"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// rate is a learned failure rate with its bounds.
func rate(i kernel.Interval) string {
	if i == (kernel.Interval{}) {
		return ""
	}
	return fmt.Sprintf("%s (%s to %s)", share(i.Mean), share(i.Low), share(i.High))
}

// share is a rate in per cent; unlike a confidence it is rounded to the nearest.
func share(p float64) string {
	switch {
	case math.IsNaN(p) || p <= 0:
		return "0 %"
	case p < 0.001:
		return "<0.1 %"
	case p >= 0.1:
		return fmt.Sprintf("%.0f %%", 100*min(p, 1))
	}
	return fmt.Sprintf("%.1f %%", 100*p)
}

// rates says what the search learned of the test, "" if nothing.
func rates(r *kernel.BisectResult) string {
	var parts []string
	if s := rate(r.FailRate); s != "" {
		parts = append(parts, "a bad commit fails in "+s+" of the runs")
	}
	if s := rate(r.FalseFailRate); s != "" {
		parts = append(parts, "a good one in "+s)
	}
	return strings.Join(parts, ", ")
}

// looked says which commits of the range took part.
func looked(r *kernel.BisectResult) string {
	var parts []string
	if len(r.Paths) > 0 {
		parts = append(parts, "commits that touch "+someOf(r.Paths, 6))
	}
	if r.FirstParent {
		parts = append(parts, "first parents of merges only")
	}
	return strings.Join(parts, "; ")
}

// iterations says how often a run repeats the test, "" for once.
func iterations(r *kernel.BisectResult) string {
	if r.Iterations < 2 {
		return ""
	}
	return fmt.Sprintf("a run is the test %d times in one guest: it fails too rarely alone", r.Iterations)
}

// otherRuns says how many runs of a step were of no use to it.
func otherRuns(s *kernel.BisectStep) string {
	if s.Other == 0 {
		return ""
	}
	return count(s.Other, "run") + " failed in another way: no evidence"
}

// confirmation tells what was done after the search, a sentence each.
func confirmation(r *kernel.BisectResult) []string {
	c := r.Confirmation
	if c == nil {
		return nil
	}
	name := "the culprit"
	if r.FindFix {
		name = "the fix"
	}
	var out []string
	if c.Culprit.SHA != "" {
		verb := "Confirmed"
		switch {
		case c.Parent.SHA == "":
			verb = "Not through"
		case c.Refutes(r.FindFix):
			verb = "REFUTED"
		case !c.Confirms(r.FindFix):
			verb = "Not confirmed"
		}
		s := fmt.Sprintf("%s: built anew from nothing, %s %s", verb, name, rebuilt(&c.Culprit))
		if c.Parent.SHA != "" {
			s += ", its parent " + rebuilt(&c.Parent)
		}
		out = append(out, s+".")
	}
	switch {
	case c.Parent.SHA == "":
	case c.Culprit.Same && c.Parent.Same:
		out = append(out, "Both images are equal to those of the search.")
	case c.Culprit.Verdict != kernel.Untestable && c.Parent.Verdict != kernel.Untestable:
		which := "Both images differ"
		if c.Culprit.Same {
			which = "The image of its parent differs"
		} else if c.Parent.Same {
			which = "The image of " + name + " differs"
		}
		out = append(out, which+" from the search's: objects of other commits were in that one; the new runs count.")
	}
	if v := c.Revert; v != nil {
		out = append(out, reverted(v))
	}
	return out
}

// rebuilt says what a kernel did that was built anew.
func rebuilt(k *kernel.Rebuilt) string {
	switch k.Verdict {
	case kernel.Good, kernel.Bad, kernel.Inconclusive:
		s := fmt.Sprintf("fails %d of %s", k.Fails, count(k.Runs, "run"))
		if k.Fails == 0 {
			s = "passes " + count(k.Runs, "run")
		}
		if k.Verdict == kernel.Inconclusive {
			s += " (undecided)"
		}
		return s
	}
	if k.Reason == "" {
		return "was not run"
	}
	return "cannot be tested: " + plain(firstLine(k.Reason))
}

func reverted(v *kernel.Revert) string {
	why := plain(firstLine(v.Reason))
	if why != "" {
		why = ": " + why
	}
	switch v.Status {
	case kernel.Cures:
		if v.Fails == 0 {
			return fmt.Sprintf("Reverted on top of the bad end the failure is gone: %s pass.", count(v.Runs, "run"))
		}
		return fmt.Sprintf("Reverted on top of the bad end the failure is gone: %d of %s fail, as by chance.", v.Fails, count(v.Runs, "run"))
	case kernel.DoesNotCure:
		return fmt.Sprintf("Reverted on top of the bad end it still fails, %d of %s: this commit is not all of it.", v.Fails, count(v.Runs, "run"))
	case kernel.DoesNotRevert:
		return "It does not revert on top of the bad end" + why + "."
	case kernel.DoesNotBuild:
		return "The bad end without it gives no kernel that boots" + why + "."
	case kernel.NotReverted:
		return "A revert was not tried" + why + "."
	}
	return fmt.Sprintf("Whether reverting it cures the bad end is not known, after %d fails in %s%s.", v.Fails, count(v.Runs, "run"), why)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// change is a change point in words.
func change(p *kernel.ChangePoint) string {
	if p.Bad {
		return "good → bad"
	}
	return "bad → good"
}

// between says how sharp a change point is.
func between(p *kernel.ChangePoint) string {
	if p.Between == 0 {
		return "next to each other"
	}
	return count(p.Between, "commit") + " between them not tested"
}

// spark draws a posterior on one line, a character for each part of the range.
// Its heights go by the square root: 1 of 60 equal parts is to be seen.
func spark(p []float64) string {
	const heights = "▁▂▃▄▅▆▇█"
	levels := []rune(heights)
	var b strings.Builder
	for _, x := range p {
		if l := level(x, len(levels)); l == 0 {
			b.WriteByte(' ')
		} else {
			b.WriteRune(levels[l-1])
		}
	}
	return b.String()
}

// level maps a probability to 0..n by its square root, 0 for less than 0.1 %.
func level(p float64, n int) int {
	if math.IsNaN(p) || p < 0.001 {
		return 0
	}
	return max(int(math.Round(math.Sqrt(min(p, 1))*float64(n))), 1)
}

// drawn are the steps whose posterior is shown: all, or as many of a long
// search with the last one among them.
func drawn(steps []kernel.BisectStep, most int) []int {
	var with []int
	for i, s := range steps {
		if len(s.Posterior) > 0 {
			with = append(with, i)
		}
	}
	if len(with) <= most {
		return with
	}
	var out []int
	for k := 1; k <= most; k++ {
		out = append(out, with[k*len(with)/most-1])
	}
	return out
}
