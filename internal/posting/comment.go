package posting

import (
	"fmt"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/report"
)

var signs = map[string]string{success: "✅", failure: "❌", unknown: "⚠️", pending: "⏳"}

// Comment is the one comment on a pull request, as Markdown: the verdict first,
// then the commits in a table, the first failure with its log, and how to see it
// oneself.
func Comment(p Pull, reports []Report) string {
	var b strings.Builder
	j := whole(p, reports)
	fmt.Fprintf(&b, "%s **%s**\n", signs[j.state], report.MarkdownText(short(j.why, 300)))
	for _, n := range notes(p) {
		b.WriteString("\n" + n + "\n")
	}
	for _, rep := range reports {
		if len(reports) > 1 {
			fmt.Fprintf(&b, "\n### %s\n\n**%s**\n", report.MarkdownText(rep.Result.Profile), report.MarkdownText(rep.judge().why))
		}
		if !rep.under() && rep.State != "done" {
			b.WriteString("\n" + report.MarkdownText("The job is "+rep.ended()+".") + "\n")
		}
		if len(rep.Result.Commits) == 0 && rep.Result.BaseRow == nil {
			b.WriteString(links(rep))
			continue
		}
		res := *rep.Result
		res.Command = command(p, rep)
		if rep.under() {
			res.Seconds = 0 // it would change without anything having happened
		}
		part, err := report.MarkdownPart(&res, report.MarkdownOptions{Headless: true, Commits: commits(p)})
		if err != nil {
			part = "\n" + report.MarkdownText(err.Error()) + "\n"
		}
		b.WriteString(part + links(rep))
	}
	return report.MarkdownCut(b.String())
}

// notes are what a reader should know besides.
func notes(p Pull) []string {
	var out []string
	if p.Waits != "" {
		return out
	}
	if p.LeftOut > 0 {
		out = append(out, fmt.Sprintf("Only the newest commits are tested: the oldest %d are left out.", p.LeftOut))
	}
	if p.Unchanged > 0 {
		said := "%d commits are as in the last push, and keep what was found."
		if p.Unchanged == 1 {
			said = "%d commit is as in the last push, and keeps what was found."
		}
		out = append(out, fmt.Sprintf(said, p.Unchanged))
	}
	return out
}

// command is how to see it oneself.
func command(p Pull, rep Report) string {
	if p.Number == 0 {
		return rep.Result.Command
	}
	return fmt.Sprintf("orchestrator series --repo linux --pr %s#%d --profile %s", p.Repo, p.Number, rep.Result.Profile)
}

func commits(p Pull) string {
	if p.Page == "" {
		return ""
	}
	return p.Page + "/commit/"
}

func links(rep Report) string {
	if rep.Page == "" {
		return ""
	}
	return "\n[All runs, logs and how sure this is](" + rep.Page + ")\n"
}

// BisectComment answers who asked for a bisection. r is nil before there is
// anything.
func BisectComment(p Pull, r *kernel.BisectResult, page, state, problem string) string {
	rep := Report{State: state, Problem: problem, Page: page}
	if r == nil || len(r.Steps) == 0 || rep.under() {
		text := "⏳ **The bisection is " + state + ".** Its result will be here."
		if !rep.under() {
			text = "⚠️ **The bisection came to no result: " + report.MarkdownText(short(rep.ended(), 300)) + "**"
		}
		return text + "\n" + links(rep)
	}
	sign := signs[unknown]
	if r.Status == kernel.Found {
		sign = "🎯"
	}
	text, err := report.MarkdownPart(r, report.MarkdownOptions{Commits: commits(p)})
	if err != nil {
		text = report.MarkdownText(err.Error()) + "\n"
	}
	if state != "done" {
		text = report.MarkdownText("The job is "+rep.ended()+".") + "\n\n" + text
	}
	return report.MarkdownCut(sign + " " + text + links(rep))
}
