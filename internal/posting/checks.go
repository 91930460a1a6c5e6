package posting

import (
	"fmt"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/report"
)

// Conclusions of check runs: what could not be found out is nobody's failure.
var conclusions = map[string]string{success: "success", failure: "failure", unknown: "neutral"}

var (
	rerun  = Action{"rerun", "Re-run", "Test again without what is on record"}
	bisect = Action{"bisect", "Bisect", "Find the commit that broke this test"}
)

// Checks are a check run for each commit that is through, and one for the whole
// on the head.
func Checks(p Pull, reports []Report) []Check {
	var out []Check
	for _, rep := range reports {
		for _, r := range rep.rows() {
			out = append(out, check(p, rep, &r))
		}
	}
	if p.Head == "" {
		return out
	}
	return append(out, series(p, reports))
}

func check(p Pull, rep Report, r *row) Check {
	j := r.build()
	if j.state == success {
		j = r.test()
	}
	c := Check{SHA: r.SHA, Name: slug("kbisect/" + rep.Result.Profile), Job: rep.Result.ID, Status: "completed", Conclusion: conclusions[j.state],
		Title: short(j.why, maxTitle), URL: rep.Page, Actions: []Action{rerun}}
	if r.Build.Status == kernel.BuildRefused || !r.ours() && j.state == unknown {
		c.Conclusion = "neutral"
	}
	if len(r.unclear)+len(r.older) > 0 {
		c.Actions = append(c.Actions, bisect)
	}
	more := 0
	c.Annotations, more = annotations(rep, r)
	text, err := report.MarkdownPart(&kernel.CheckResult{
		Kernel: r.Build.Kernel, Profile: rep.Result.Profile, Commit: &kernel.Commit{SHA: r.SHA, Subject: r.Subject}, Build: &r.Build, Boot: r.Boot, Tests: r.Tests,
		Host: rep.Result.Host, Command: command(p, rep),
	}, report.MarkdownOptions{Commits: commits(p)})
	if err != nil {
		text = report.MarkdownText(j.why) + "\n"
	}
	if more > 0 {
		text = fmt.Sprintf("_%d more remarks than GitHub shows at lines._\n\n", more) + text
	}
	c.Summary = report.MarkdownCut(sinceNote(r) + text + links(rep))
	return c
}

// sinceNote says that a failure is not the commit's own.
func sinceNote(r *row) string {
	var parts []string
	if len(r.here) == 0 && len(r.since) > 0 {
		parts = append(parts, bad(r.since)+" since an earlier commit of the series, "+kernel.Abbrev(r.since[0].Since)+": not introduced here.")
	}
	if len(r.older) > 0 {
		parts = append(parts, bad(r.older)+" or flaky on the base already: not introduced here.")
	}
	if len(parts) == 0 {
		return ""
	}
	return report.MarkdownText(strings.Join(parts, " ")) + "\n\n"
}

func series(p Pull, reports []Report) Check {
	j := whole(p, reports)
	c := Check{SHA: p.Head, Name: contextSeries, Status: "completed", Conclusion: conclusions[j.state], Title: short(j.why, maxTitle), Actions: []Action{rerun}}
	if len(reports) > 0 {
		c.Job, c.URL = reports[0].Result.ID, reports[0].Page
	}
	switch {
	case p.Waits != "":
		c.Status, c.Conclusion, c.Actions = "queued", "", nil
	case j.state == pending:
		c.Status, c.Conclusion, c.Actions = "in_progress", "", nil
	case j.state == unknown && len(reports) > 0 && reports[0].State == "cancelled":
		c.Conclusion = "cancelled"
	}
	c.Summary = Comment(p, reports)
	return c
}
