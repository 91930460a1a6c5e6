package report

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// mailWidth is where lines of a mail are broken, as the kernel's lists have it.
const mailWidth = 72

// Mail writes a *kernel.BisectResult as the body of a mail to the authors:
// what fails since which commit, how it shows, the runs behind it, the command
// that repeats it, and the tag for the repair. Subject and recipients are the
// sender's.
func Mail(w io.Writer, v any) error {
	r, ok := v.(*kernel.BisectResult)
	if !ok {
		return unknown(v)
	}
	m := &mail{}
	m.para(mailSentence(r))
	if len(r.Candidates) > 1 && r.Status == kernel.Set {
		for i, c := range r.Candidates {
			const show = 15
			if i == show {
				m.item(fmt.Sprintf("and %d more", len(r.Candidates)-show))
				break
			}
			m.item(named(c.SHA, c.Subject) + ", " + percent(c.Probability))
		}
		m.gap()
	}
	for i := range r.ChangePoints {
		p := &r.ChangePoints[i]
		m.item(fmt.Sprintf("%s from %s to %s, %s", change(p), named(p.From.SHA, p.From.Subject), named(p.To.SHA, p.To.Subject), between(p)))
	}
	m.gap()
	if s := failure(r.Signature); s != "" {
		m.para("The failure:")
		m.verbatim(s)
		for _, f := range r.Signature.Frames {
			m.verbatim("  " + plain(f))
		}
		m.gap()
	}
	m.para("The runs behind it:")
	for _, s := range summed(r) {
		m.item(s)
	}
	m.gap()
	m.para(sentence(rates(r)))
	m.para(sentence(iterations(r)))
	m.para(strings.Join(confirmation(r), " "))
	if r.Doubt != "" {
		m.para(sentence(plain(r.Doubt)))
	}
	kernelOf := "Kernel configuration: profile " + plain(r.Profile) + " of kbisect"
	if r.Release != "" {
		kernelOf += "; the bad end is " + plain(r.Release)
	}
	if s := machine(r.Host); s != "" {
		kernelOf += ", run in " + s
	}
	if r.Host.Compiler != "" {
		kernelOf += ", built by " + plain(r.Host.Compiler)
	}
	m.para(kernelOf + ".")
	if s := carried(r.Carried); s != "" {
		m.para("On top of each commit: " + s + ".")
	}
	if s := looked(r); s != "" {
		m.para("Searched were only " + s + ".")
	}
	if r.Command != "" {
		m.para("To reproduce it:")
		m.verbatim(plain(r.Command))
		m.gap()
	}
	if tag := fixesTag(r); tag != "" {
		m.para("A repair would carry:")
		m.text.WriteString(tag + "\n") // a tag is one line, however long
	}
	_, err := io.WriteString(w, strings.TrimRight(m.text.String(), "\n")+"\n")
	return err
}

// mailSentence is what the mail is about.
func mailSentence(r *kernel.BisectResult) string {
	test, but := plain(r.Test), ""
	if refuted(r) {
		but = "; but built anew the kernels do not show that"
	}
	switch {
	case r.Status == kernel.Found && r.Culprit != nil && r.FindFix:
		return fmt.Sprintf("%s passes again since commit %s, with a confidence of %s%s.", test, named(r.Culprit.SHA, r.Culprit.Subject), percent(r.Confidence), but)
	case r.Status == kernel.Found && r.Culprit != nil:
		return fmt.Sprintf("%s fails since commit %s, with a confidence of %s%s.", test, named(r.Culprit.SHA, r.Culprit.Subject), percent(r.Confidence), but)
	case r.Status == kernel.Set && len(r.Candidates) > 0:
		what := "fails"
		if r.FindFix {
			what = "passes again"
		}
		return fmt.Sprintf("%s %s since one of these commits, with a confidence of %s:", test, what, percent(r.Confidence))
	}
	s := test + ": " + bisectSentence(r) + "."
	if why := plain(r.Reason); why != "" {
		s += " " + sentence(why)
	}
	return s
}

// summed are the commits that were run, with all their runs, in the order of
// their first.
func summed(r *kernel.BisectResult) []string {
	type sum struct {
		step  kernel.BisectStep
		runs  int
		fails int
		other int
	}
	var sums []*sum
	of := map[string]*sum{}
	for _, s := range r.Steps {
		x := of[s.SHA]
		if x == nil {
			x = &sum{step: s}
			of[s.SHA], sums = x, append(sums, x)
		}
		x.runs, x.fails, x.other, x.step.Outcome = x.runs+s.Runs, x.fails+s.Fails, x.other+s.Other, s.Outcome
	}
	var out []string
	for _, x := range sums {
		s := named(x.step.SHA, x.step.Subject)
		switch {
		case x.runs > 0:
			s += fmt.Sprintf(": %d of %s fail", x.fails, count(x.runs, "run"))
		case x.step.Outcome == "skip":
			s += ": cannot be tested"
		default:
			s += ": no runs"
		}
		if x.other > 0 {
			s += fmt.Sprintf(", %d more in another way", x.other)
		}
		switch x.step.SHA {
		case r.Bad.SHA:
			s += " (the bad end)"
		case r.Good.SHA:
			s += " (the good end)"
		}
		if r.Culprit != nil && r.Culprit.SHA == x.step.SHA {
			s += " <- this commit"
		}
		out = append(out, s)
	}
	return out
}

// sentence gives a clause its capital and its full stop.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	first, n := utf8.DecodeRuneInString(s)
	return strings.TrimRight(strings.ToUpper(string(first))+s[n:], ".") + "."
}

type mail struct{ text strings.Builder }

func (m *mail) gap() {
	if s := m.text.String(); s != "" && !strings.HasSuffix(s, "\n\n") {
		m.text.WriteString("\n")
	}
}

func (m *mail) para(s string) {
	if s == "" {
		return
	}
	m.fill("", "", s)
	if !strings.HasSuffix(s, ":") {
		m.gap()
	}
}

func (m *mail) item(s string) { m.fill("  - ", "    ", s) }

func (m *mail) verbatim(s string) { m.text.WriteString("    " + s + "\n") }

// marks is a word that at the start of a line is no text to mail programs and git: a
// header, a tag, the end of a message, a patch.
var marks = regexp.MustCompile(`^(?:(?i:[a-z]+-[a-z-]+|to|b?cc|subject|date|fixes|link|closes):|>*From|diff|--|---|\.)$`)

// fill breaks a text between words, and not between a number and its sign. A line
// does not start with a word that marks something.
func (m *mail) fill(first, next, s string) {
	line := first
	empty := true
	const tie = "\x00" // stands in no text that was made plain
	for w := range strings.FieldsSeq(strings.ReplaceAll(s, " %", tie+"%")) {
		w = strings.ReplaceAll(w, tie, " ")
		if !empty && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(w) > mailWidth {
			m.text.WriteString(line + "\n")
			line, empty = next, true
		}
		if !empty || line == "" && marks.MatchString(w) {
			line += " "
		}
		line += w
		empty = false
	}
	m.text.WriteString(line + "\n")
}
