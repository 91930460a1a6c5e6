package report

import (
	"strings"

	"github.com/kernel-bisect/kbisect/internal/console"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// htmlBisect is the page of a bisection.
type htmlBisect struct {
	Chart      *chart
	Heat       *heat
	Changes    []htmlChange
	Again      []string // what was tried again, a sentence each
	Sure       string   // class of Again
	Mail       string
	Steps      []htmlStep
	Candidates []htmlCandidate
	Skipped    []htmlCandidate
	More       int // candidates not shown
	Fixes      string
	Log        string // git bisect log
	Details    []detail
}

type htmlStep struct {
	Num                               int
	Short, Subject, Why, Fails, Build string
	LogHref                           string
	Sign, Outcome, Class, Note, Href  string
	Runs                              string
	Left                              int
	Culprit                           bool
}

type htmlChange struct {
	Change, Class, From, To, Subject, Between string
}

type htmlCandidate struct {
	Short, Subject, Chance, Why string
	Bar                         int // per cent, for the width of a bar
	Culprit                     bool
}

func bisectPage(r *kernel.BisectResult, links Links) *page {
	b := &htmlBisect{Chart: newChart(r.Steps), Heat: newHeat(r), Fixes: fixesTag(r), Log: gitBisectLog(r), Again: confirmation(r), Sure: "good"}
	if c := r.Confirmation; c != nil && (!c.Confirms(r.FindFix) || c.Revert != nil && c.Revert.Status == kernel.DoesNotCure) {
		b.Sure = "warn"
	}
	var text strings.Builder
	if Mail(&text, r) == nil {
		b.Mail = text.String()
	}
	for i := range r.ChangePoints {
		p := &r.ChangePoints[i]
		c := htmlChange{change(p), "good", plain(kernel.Abbrev(p.From.SHA)), plain(kernel.Abbrev(p.To.SHA)), plain(p.To.Subject), between(p)}
		if p.Bad {
			c.Class = "bad"
		}
		b.Changes = append(b.Changes, c)
	}
	for i := range r.Steps {
		b.step(r, i, links)
	}
	for i, c := range r.Candidates {
		const show = 25
		if i == show {
			b.More = len(r.Candidates) - show
			break
		}
		b.Candidates = append(b.Candidates, htmlCandidate{
			Short: plain(kernel.Abbrev(c.SHA)), Subject: plain(c.Subject), Chance: percent(c.Probability),
			Bar:     int(100 * min(max(c.Probability, 0), 1)),
			Culprit: r.Culprit != nil && c.SHA == r.Culprit.SHA,
		})
	}
	for _, c := range r.Skipped {
		b.Skipped = append(b.Skipped, htmlCandidate{
			Short: plain(kernel.Abbrev(c.SHA)), Subject: plain(c.Subject), Chance: percent(c.Probability), Why: skippedWhy(r, c.SHA),
		})
	}
	tone := "warn"
	if r.Status == kernel.Found && !refuted(r) {
		tone = "bad"
		if r.FindFix {
			tone = "good"
		}
	}
	return &page{
		Kind: "bisect", Verdict: bisectSentence(r), Tone: tone, Bisect: b, Command: plain(r.Command),
		Facts: pairs(
			pair{"Test", r.Test},
			pair{"Signature", failure(r.Signature)},
			pair{"Frames", strings.Join(r.Signature.Frames, "\u00a0← ")},
			pair{"Good", r.Good.Short() + " " + r.Good.Subject},
			pair{"Bad", r.Bad.Short() + " " + r.Bad.Subject},
			pair{"Looked at", looked(r)},
			pair{"Carried", carried(r.Carried)},
			pair{"Rates", rates(r)},
			pair{"Repeated", iterations(r)},
			pair{"Stopped", r.Reason},
			pair{"In doubt", r.Doubt},
			pair{"Effort", count(r.Runs, "run") + ", " + count(r.Builds, "build")},
			pair{"Profile", r.Profile},
		),
		Foot: foot(r.ID, bisectSchema, r.Seconds, r.Started, r.Host),
	}
}

// step adds one line to the table, and a section if there is a log to show.
func (b *htmlBisect) step(r *kernel.BisectResult, i int, links Links) {
	s := &r.Steps[i]
	v := outcomeVerdict(s.Outcome)
	x := htmlStep{
		Num: i + 1, Short: plain(kernel.Abbrev(s.SHA)), Subject: plain(s.Subject), Why: plain(s.Why),
		Fails: fails(s.Fails, s.Runs), Build: plain(s.Build), LogHref: links.log(s.LogDigest), Sign: sign(v), Outcome: plain(s.Outcome), Class: class(v),
		Left: s.Left, Culprit: r.Culprit != nil && s.SHA == r.Culprit.SHA,
	}
	x.Runs = links.runs(s.SHA, "", &kernel.TestResult{Name: r.Test, Runs: s.Runs})
	if !listed(r.Skipped, s.SHA) { // those have a list of their own
		x.Note = stepNote(r, s)
	}
	if s.Console != "" || s.Output != "" {
		d := detail{
			ID: "s" + itoa(i+1), Name: "step " + itoa(i+1) + ": " + x.Short, Sign: x.Sign, Word: x.Outcome, Class: x.Class,
			Fails: x.Fails, Reason: plain(s.Reason), Sig: failure(s.Signature), Frames: plain(strings.Join(s.Signature.Frames, "\u00a0← ")),
			Console: marked(s.Console), Output: strings.TrimRight(console.Clean([]byte(s.Output), maxExcerpt), "\n"),
			Note: plain(s.Log),
		}
		x.Href = "#" + d.ID
		b.Details = append(b.Details, d)
	}
	b.Steps = append(b.Steps, x)
}
