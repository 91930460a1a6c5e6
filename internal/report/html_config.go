package report

import "github.com/kernel-bisect/kbisect/internal/kernel"

// htmlConfig is the page of a search among options.
type htmlConfig struct {
	Culprits []htmlOption
	Brings   string
	Steps    []htmlConfigStep
	LeftOut  []string
	Details  []detail
}

type htmlOption struct{ Name, Good, Bad, Class, Without string }

type htmlConfigStep struct {
	Num                                             int
	Asked, Fails, Sign, Outcome, Class, Build, Note string
}

func configPage(r *kernel.ConfigResult) *page {
	c := &htmlConfig{LeftOut: configLeftOut(r)}
	tone := "warn"
	if r.Status == kernel.Found {
		tone = "bad"
	}
	for i := range r.Culprits {
		x := &r.Culprits[i]
		c.Culprits = append(c.Culprits, htmlOption{"CONFIG_" + plain(x.Symbol), plain(x.Good), plain(x.Bad), class(x.Without), withoutIt(x)})
	}
	if len(r.Brings) > 0 {
		c.Brings = configNames(r.Brings, 8)
	}
	for i := range r.Steps {
		s := &r.Steps[i]
		c.Steps = append(c.Steps, htmlConfigStep{i + 1, configAsked(r, s), fails(s.Fails, s.Runs), sign(s.Outcome), word(s.Outcome), class(s.Outcome), plain(s.Build), configNote(s)})
		if s.Console != "" || s.Output != "" {
			k := configKernels(r)[i]
			c.Details = append(c.Details, testDetail("s"+itoa(i+1), &k.tests[0]))
		}
	}
	return &page{
		Kind: "bisect-config", Verdict: configSentence(r), Also: plain(r.Reason), Tone: tone, Config: c, Command: plain(r.Command),
		Facts: pairs(pair{"Test", r.Test}, pair{"Signature", failure(r.Signature)}, pair{"Commit", named(r.Commit.SHA, r.Commit.Subject)},
			pair{"Good", r.Good}, pair{"Bad", r.Bad}, pair{"Rate of the bad end", rate(r.FailRate)}, pair{"Profile", r.Profile}, pair{"Carried", carried(r.Carried)}),
		Foot: foot(r.ID, configSchema, r.Seconds, r.Started, r.Host),
	}
}
