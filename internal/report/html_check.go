package report

import (
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// htmlCheck is the page of one kernel.
type htmlCheck struct {
	Tests   []testLine
	Trouble *trouble
	Lacks   []string // what the guest could not be given
	Details []detail
}

// loaded names the modules of a guest.
func loaded(k *kernel.Kernel) string {
	if k.Modules == nil {
		return ""
	}
	return strings.Join(k.Modules.Load, " ")
}

// testLine is one test in a table.
type testLine struct {
	Name, Sign, Word, Class, Fails, Conf, Why, Href, Runs string
}

func checkPage(r *kernel.CheckResult, links Links) *page {
	c := &htmlCheck{Trouble: troubleOf(r.Build, &r.Boot, links), Lacks: lacks(&r.Kernel, &r.Boot)}
	tone, commit := "good", ""
	if r.Commit != nil {
		commit = r.Commit.SHA
	}
	for i := range r.Tests {
		t := &r.Tests[i]
		l := testLine{Name: plain(t.Name), Sign: sign(t.Verdict), Word: word(t.Verdict), Class: class(t.Verdict), Fails: fails(t.Fails, t.Runs), Why: why(t), Runs: links.runs(commit, r.Kernel.Digest, t)}
		if t.Confidence > 0 {
			l.Conf = percent(t.Confidence)
		}
		if t.Console != "" || t.Output != "" || len(t.Signature.Frames) > 0 {
			d := testDetail("t"+itoa(i), t)
			l.Href = "#" + d.ID
			c.Details = append(c.Details, d)
		}
		c.Tests = append(c.Tests, l)
		switch {
		case t.Verdict == kernel.Bad:
			tone = "bad"
		case (t.Verdict == kernel.Inconclusive || t.Verdict == kernel.Untestable) && tone == "good":
			tone = "warn"
		}
	}
	if c.Trouble != nil || len(r.Tests) == 0 {
		tone = "warn"
	}
	build, boot := "", ""
	if r.Build != nil {
		build = buildWord(r.Build)
	}
	if r.Boot.Status == kernel.BootOK {
		boot = "ok, " + seconds(r.Boot.Seconds)
	}
	return &page{
		Kind: "check", Verdict: checkSentence(r), Also: remarks(&r.Boot, r.Tests), Tone: tone, Check: c, Command: plain(r.Command),
		Facts: pairs(pair{"Kernel", r.Kernel.Release}, pair{"Profile", r.Profile}, pair{"Build", build}, pair{"Boot", boot}, pair{"Carried", carried(r.Carried)}),
		Foot:  append(foot(r.ID, checkSchema, r.Seconds, r.Started, r.Host), pairs(pair{"Image", r.Kernel.Digest}, pair{"Modules", loaded(&r.Kernel)})...),
	}
}
