package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// bisect writes what a bisection found, and each step that led to it.
func (p *printer) bisect(r *kernel.BisectResult) {
	p.line(cell{bisectSentence(r), bold})
	p.text("")
	p.fact("test", plain(r.Test))
	p.fact("signature", failure(r.Signature))
	if len(r.Signature.Frames) > 1 {
		p.fact("frames", plain(strings.Join(r.Signature.Frames, " < ")))
	}
	p.fact("range", fmt.Sprintf("good %s, bad %s", plain(r.Good.Short()), plain(r.Bad.Short())))
	p.fact("looked at", looked(r))
	p.fact("carried", carried(r.Carried))
	p.fact("rates", rates(r))
	p.fact("repeated", iterations(r))
	p.fact("stopped", plain(r.Reason))
	p.fact("in doubt", plain(r.Doubt))
	for i, s := range confirmation(r) {
		p.fact([]string{"afterwards", ""}[min(i, 1)], s)
	}
	if len(r.Steps) > 0 {
		p.text("")
		p.print(stepTable(r))
		for i := range r.Steps {
			if note := stepNote(r, &r.Steps[i]); note != "" && !listed(r.Skipped, r.Steps[i].SHA) {
				p.text("step " + itoa(i+1) + ": " + note)
			}
		}
	}
	p.posterior(r)
	p.changes(r)
	p.candidates(r)
	p.skipped(r)
	if tag := fixesTag(r); tag != "" {
		p.text("")
		p.text(tag)
	}
	p.text("")
	facts := []string{"profile " + plain(r.Profile), count(r.Runs, "run"), count(r.Builds, "build")}
	p.foot(facts, r.Seconds, r.Host, r.Command)
	p.text("")
	p.line(cell{"git bisect log:", dim})
	for _, l := range strings.Split(strings.TrimSuffix(gitBisectLog(r), "\n"), "\n") {
		p.text("    " + l)
	}
}

// maxSparks is how many posteriors a terminal shows.
const maxSparks = 24

// posterior draws where in the range the change was, step by step.
func (p *printer) posterior(r *kernel.BisectResult) {
	steps := drawn(r.Steps, maxSparks)
	if len(steps) == 0 {
		return
	}
	p.text("")
	p.line(cell{"where it may be after each step, the oldest commits on the left:", dim})
	for _, i := range steps {
		p.line(cell{pad(itoa(i+1), 3, true), dim}, cell{text: "|" + spark(r.Steps[i].Posterior) + "|"})
	}
}

// changes lists the change points of a range that has several.
func (p *printer) changes(r *kernel.BisectResult) {
	if len(r.ChangePoints) == 0 {
		return
	}
	p.text("")
	t := &table{head: []string{"change", "from", "to", "subject", ""}, flex: []flexible{{3, 20}}}
	for i := range r.ChangePoints {
		c := &r.ChangePoints[i]
		style := green
		if c.Bad {
			style = red
		}
		t.add(cell{change(c), style}, cell{text: plain(kernel.Abbrev(c.From.SHA))}, cell{text: plain(kernel.Abbrev(c.To.SHA))},
			cell{text: plain(c.To.Subject)}, cell{text: between(c)})
	}
	p.print(t)
}

func (p *printer) fact(name, value string) {
	if value != "" {
		p.line(cell{pad(name, 11, false), dim}, cell{text: value})
	}
}

func stepTable(r *kernel.BisectResult) *table {
	t := &table{
		head:  []string{"#", "commit", "subject", "why", "fails", "outcome", "build", "left"},
		right: map[int]bool{0: true, 4: true, 7: true},
		flex:  []flexible{{2, 30}, {3, 12}, {2, 12}},
	}
	for i, s := range r.Steps {
		v := outcomeVerdict(s.Outcome)
		outcome := cell{cut(plain(s.Outcome), 14), verdictStyle(v)}
		if outcome.text != "" {
			outcome.text = sign(v) + " " + outcome.text
		}
		t.add(
			cell{text: itoa(i + 1)},
			cell{text: plain(kernel.Abbrev(s.SHA))},
			cell{text: plain(s.Subject)},
			cell{text: plain(s.Why)},
			cell{text: fails(s.Fails, s.Runs)},
			outcome,
			cell{cut(plain(s.Build), 14), troubleStyle(unbuilt(&kernel.Build{Status: kernel.BuildStatus(s.Build)}))},
			cell{text: itoa(s.Left)},
		)
	}
	return t
}

// stepNote is what is special about a step: why it is a skip, or that it
// failed in another way than the one being chased.
func stepNote(r *kernel.BisectResult, s *kernel.BisectStep) string {
	other := otherRuns(s)
	switch {
	case s.Signature.Kind != "" && r.Signature.Kind != "" && !s.Signature.Same(r.Signature):
		if other == "" {
			return "failed in another way: " + failure(s.Signature)
		}
		return other + " (" + failure(s.Signature) + ")"
	case other != "" && s.Reason != "":
		return other + "; " + plain(s.Reason)
	case other != "":
		return other
	}
	return plain(s.Reason)
}

// outcomeVerdict gives a step's outcome the sign and colour of a verdict.
func outcomeVerdict(outcome string) kernel.Verdict {
	switch outcome {
	case "good":
		return kernel.Good
	case "bad":
		return kernel.Bad
	case "skip":
		return kernel.Skipped
	}
	return kernel.Inconclusive
}

// candidates lists who else it may be. One commit alone is in the sentence.
func (p *printer) candidates(r *kernel.BisectResult) {
	if len(r.Candidates) < 2 {
		return
	}
	p.text("")
	t := &table{head: []string{"chance", "candidate", "subject"}, right: map[int]bool{0: true}, flex: []flexible{{2, 20}}}
	const show = 12
	for i, c := range r.Candidates {
		if i == show {
			t.add(cell{}, cell{text: fmt.Sprintf("+%d more", len(r.Candidates)-show)}, cell{})
			break
		}
		t.add(cell{text: percent(c.Probability)}, cell{text: plain(kernel.Abbrev(c.SHA))}, cell{text: plain(c.Subject)})
	}
	p.print(t)
}

// listed says whether the commit has a line among the skipped ones.
func listed(cs []kernel.Candidate, sha string) bool {
	return slices.ContainsFunc(cs, func(c kernel.Candidate) bool { return c.SHA == sha })
}

func (p *printer) skipped(r *kernel.BisectResult) {
	if len(r.Skipped) == 0 {
		return
	}
	p.text("")
	t := &table{head: []string{"skipped", "subject", "reason"}, flex: []flexible{{1, 28}, {2, 24}}}
	for _, c := range r.Skipped {
		t.add(cell{text: plain(kernel.Abbrev(c.SHA))}, cell{text: plain(c.Subject)}, cell{text: skippedWhy(r, c.SHA)})
	}
	p.print(t)
}
