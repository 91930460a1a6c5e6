package report

import "github.com/kernel-bisect/kbisect/internal/kernel"

// config writes the options that were found, and each configuration that was tried.
func (p *printer) config(r *kernel.ConfigResult) {
	p.line(cell{configSentence(r), bold})
	p.text("")
	p.fact("test", plain(r.Test))
	p.fact("signature", failure(r.Signature))
	p.fact("commit", named(r.Commit.SHA, r.Commit.Subject))
	p.fact("good", plain(r.Good))
	p.fact("bad", plain(r.Bad))
	p.fact("carried", carried(r.Carried))
	if s := rate(r.FailRate); s != "" {
		p.fact("rates", "the bad end fails in "+s+" of the runs")
	}
	p.fact("stopped", plain(r.Reason))
	for _, s := range configLeftOut(r) {
		p.fact("left out", s)
	}
	if len(r.Culprits) > 0 {
		p.text("")
		t := &table{head: []string{"option", "good", "bad", "put back"}, flex: []flexible{{3, 24}, {0, 24}}}
		for i := range r.Culprits {
			c := &r.Culprits[i]
			t.add(cell{text: "CONFIG_" + plain(c.Symbol)}, cell{text: plain(c.Good)}, cell{text: plain(c.Bad)}, cell{withoutIt(c), verdictStyle(c.Without)})
		}
		p.print(t)
		if len(r.Brings) > 0 {
			p.text("with them came " + configNames(r.Brings, 8))
		}
	}
	if len(r.Steps) > 0 {
		p.text("")
		t := &table{head: []string{"#", "options as at the bad end", "fails", "outcome", "build", ""}, right: map[int]bool{0: true, 2: true}, flex: []flexible{{5, 30}, {1, 30}}}
		for i := range r.Steps {
			s := &r.Steps[i]
			t.add(cell{text: itoa(i + 1)}, cell{text: configAsked(r, s)}, cell{text: fails(s.Fails, s.Runs)},
				cell{sign(s.Outcome) + " " + word(s.Outcome), verdictStyle(s.Outcome)},
				cell{plain(s.Build), troubleStyle(s.Build == string(kernel.BuildFailed))}, cell{configNote(s), dim})
		}
		p.print(t)
	}
	p.text("")
	p.foot([]string{"profile " + plain(r.Profile), count(r.Runs, "run"), count(r.Builds, "build")}, r.Seconds, r.Host, r.Command)
}
