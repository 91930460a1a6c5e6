package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// configSentence is the verdict of a search among options in one line.
func configSentence(r *kernel.ConfigResult) string {
	var names []string
	for _, c := range r.Culprits {
		names = append(names, assigned(c.Symbol, c.Bad))
	}
	all := count(len(r.Options), "differing option")
	set := someOf(names, 5)
	switch {
	case r.Status == kernel.Found && len(names) == 1:
		c := r.Culprits[0]
		return fmt.Sprintf("found: %s makes it fail, with %s it passes; 1 of %s", set, plain(c.Good), all)
	case r.Status == kernel.Found:
		return fmt.Sprintf("found: %s together make it fail; %d of %s", set, len(names), all)
	case r.Status == kernel.Set:
		return fmt.Sprintf("narrowed to %d of %s: %s", len(names), all, set)
	case r.Status == kernel.NotReproduced:
		return "not reproduced: " + plain(r.Reason)
	case r.Status == kernel.Searching:
		return "searching: " + count(len(r.Steps), "configuration") + " tried"
	}
	return "no conclusion: " + plain(r.Reason)
}

func assigned(symbol, value string) string { return "CONFIG_" + plain(symbol) + "=" + plain(value) }

// configNames are symbols in few words.
func configNames(symbols []string, show int) string {
	var names []string
	for _, s := range symbols {
		names = append(names, "CONFIG_"+s)
	}
	return someOf(names, show)
}

// withoutIt says what putting an option of the answer back does.
func withoutIt(c *kernel.ConfigCulprit) string {
	switch {
	case len(c.NeededBy) > 0:
		return "passes: " + configNames(c.NeededBy, 3) + " cannot be had without it"
	case c.Without == kernel.Good:
		return "passes"
	}
	return strings.TrimSuffix(word(c.Without)+": "+plain(c.Reason), ": ")
}

// configLeftOut says, for each reason, which of the given options do not differ in the
// kernels.
func configLeftOut(r *kernel.ConfigResult) []string {
	var whys []string
	by := map[string][]string{}
	for _, o := range r.LeftOut {
		if !slices.Contains(whys, o.Why) {
			whys = append(whys, o.Why)
		}
		by[o.Why] = append(by[o.Why], o.Symbol)
	}
	var out []string
	for _, w := range whys {
		out = append(out, configNames(by[w], 5)+": "+plain(w))
	}
	return out
}

// configAsked says which options of a step have the bad end's value.
func configAsked(r *kernel.ConfigResult, s *kernel.ConfigStep) string {
	if len(s.Asked) == 0 {
		return plain(s.Why)
	}
	return fmt.Sprintf("%d of %d: %s", len(s.Asked), len(r.Options), configNames(s.Asked, 3))
}

// configNote is what is special about a step.
func configNote(s *kernel.ConfigStep) string {
	var parts []string
	if len(s.Missed) > 0 {
		parts = append(parts, "without effect: "+configNames(s.Missed, 3))
	}
	if len(s.Brings) > 0 {
		parts = append(parts, "with it came "+configNames(s.Brings, 3))
	}
	if s.Other > 0 {
		parts = append(parts, count(s.Other, "run")+" failed in another way: no evidence")
	}
	if s.Reason != "" {
		parts = append(parts, plain(s.Reason))
	}
	return strings.Join(parts, "; ")
}

// configKernels are the steps as kernels with one test.
func configKernels(r *kernel.ConfigResult) []tested {
	var out []tested
	for i := range r.Steps {
		s := &r.Steps[i]
		k := tested{sha: r.Commit.SHA, subject: configAsked(r, s), name: "configuration " + itoa(i+1), seconds: s.Seconds,
			tests: []kernel.TestResult{{Name: r.Test, Verdict: s.Outcome, Runs: s.Runs, Fails: s.Fails, Signature: s.Signature, Reason: configNote(s), Console: s.Console, Output: s.Output}}}
		if s.Build == string(kernel.BuildFailed) {
			k.build = &kernel.Build{Status: kernel.BuildFailed, Error: s.Reason, Log: s.Log}
		}
		out = append(out, k)
	}
	return out
}
