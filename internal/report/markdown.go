package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/kernel-bisect/kbisect/internal/console"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

const (
	// maxMarkdown is what GitHub takes as a comment or a summary, in characters.
	maxMarkdown = 65535
	// maxMarkdownLog and maxMarkdownRows bound what one failure and one table add.
	maxMarkdownLog  = 6 << 10
	maxMarkdownRows = 100
	// cutNote ends a report that was too long.
	cutNote = "\n\n_Cut here: GitHub takes no more than 65,535 characters. The whole is in the report of the job._\n"
)

// Markdown writes a result, as JSON does, as GitHub flavoured Markdown of at most
// 65,535 characters: the verdict, the kernels in a table, the first failure with
// the end of its log, and the command that repeats it. Nothing in it mentions a
// user, refers to an issue or is markup, unless it was written here.
func Markdown(w io.Writer, v any) error {
	text, err := MarkdownPart(v, MarkdownOptions{})
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, mdCut(text, maxMarkdown))
	return err
}

// MarkdownOptions fit a report into a text around it.
type MarkdownOptions struct {
	Headless bool   // without the verdict, which the text around has
	Commits  string // what the URLs of commits begin with; "" for no links
}

// MarkdownPart is Markdown's report in one that is made of several: it is not cut.
func MarkdownPart(v any, o MarkdownOptions) (string, error) {
	e, err := newExport(v)
	if err != nil {
		return "", err
	}
	e.commits = o.Commits
	var b strings.Builder
	if !o.Headless {
		fmt.Fprintf(&b, "**%s**\n", mdText(e.verdict))
	}
	e.mdTable(&b)
	e.mdFirst(&b)
	e.mdComplaints(&b)
	if e.command != "" {
		b.WriteString("\nTo reproduce:\n\n" + mdFence(plain(e.command)))
	}
	if e.earlier != "" {
		b.WriteString("\nEarlier: " + mdText(e.earlier) + "\n")
	}
	var facts []string
	took := ""
	if e.seconds > 0 {
		took = seconds(e.seconds)
	}
	if s := carried(e.carried); s != "" {
		facts = append(facts, mdText("carried "+s))
	}
	for _, f := range []string{"job " + e.id, "profile " + e.profile, machine(e.host), took} {
		if f = strings.TrimSpace(plain(f)); f != "" && f != "job" && f != "profile" {
			facts = append(facts, mdText(f))
		}
	}
	b.WriteString("\n" + strings.Join(facts, ", ") + "\n")
	return b.String(), nil
}

// MarkdownText is a stranger's text within Markdown: text and nothing else.
func MarkdownText(s string) string { return mdText(s) }

// MarkdownCut shortens Markdown to what GitHub takes, with everything closed and
// room left for a line in front.
func MarkdownCut(s string) string { return mdCut(s, maxMarkdown-maxMarker) }

// maxMarker is what a poster puts in front of a text to find it again.
const maxMarker = 200

// mdCommit is a kernel in a table, with a link to its commit.
func (e *export) mdCommit(k *tested) string {
	name := mdCode(k.name)
	if e.commits != "" && isObjectID(k.sha) {
		name = "[" + name + "](" + e.commits + k.sha + ")"
	}
	return name
}

// mdTable has a row per kernel, or per test where there is one kernel.
func (e *export) mdTable(b *strings.Builder) {
	var rows [][]string
	head := []string{"#", "commit", "build", "boot", "tests"}
	switch {
	case e.bisect != nil:
		head = []string{"#", "commit", "verdict", "fails"}
	case e.kind == "matrix":
		head[1] = "kernel"
	case e.kind == "check":
		head = []string{"test", "verdict", "fails", "reason"}
	}
	n := 0
	for i := range e.kernels {
		k := &e.kernels[i]
		num := "base"
		if !k.base {
			n++
			num = itoa(n)
		}
		name := e.mdCommit(k) + " " + mdText(cut(plain(k.subject), 72))
		switch {
		case e.bisect != nil:
			t := &k.tests[0]
			rows = append(rows, []string{num, name, mdVerdict(t), mdText(fails(t.Fails, t.Runs))})
		case e.kind == "check":
			for j := range k.tests {
				t := &k.tests[j]
				rows = append(rows, []string{mdCode(t.Name), mdVerdict(t), mdText(fails(t.Fails, t.Runs)), mdText(cut(why(t), 120))})
			}
		default:
			build := ""
			if k.build != nil {
				build = mdSigned(buildWord(k.build))
			}
			rows = append(rows, []string{num, name, build, mdSigned(bootWord(&k.boot)), e.mdTests(k)})
		}
	}
	if len(rows) == 0 {
		return
	}
	b.WriteString("\n| " + strings.Join(head, " | ") + " |\n|" + strings.Repeat(" --- |", len(head)) + "\n")
	for _, r := range rows[:min(len(rows), maxMarkdownRows)] {
		b.WriteString("| " + strings.Join(r, " | ") + " |\n")
	}
	if more := len(rows) - maxMarkdownRows; more > 0 {
		fmt.Fprintf(b, "\nand %s more\n", count(more, "row"))
	}
}

func mdVerdict(t *kernel.TestResult) string { return mdText(sign(t.Verdict) + " " + word(t.Verdict)) }

// mdSigned marks what failed.
func mdSigned(word string) string {
	if word == "failed" {
		return "❌ failed"
	}
	return mdText(word)
}

// mdTests are the tests of a kernel in a cell: how many of each verdict, and which
// are bad. What a series breaks is named where it does; the commits behind it say
// since when.
func (e *export) mdTests(k *tested) string {
	by := map[kernel.Verdict][]string{}
	var here, others []string
	since, flaky := "", 0
	for i := range k.tests {
		t := &k.tests[i]
		if t.Change == kernel.Flaky { // here as on the base
			flaky++
			continue
		}
		by[t.Verdict] = append(by[t.Verdict], t.Name)
		switch {
		case t.Verdict != kernel.Bad:
		case k.sha != "" && e.firstBad[t.Name] == k.sha && !k.base:
			here = append(here, t.Name)
		case t.Change == kernel.NotIntroduced && e.firstBad[t.Name] == t.Since && t.Since != "":
			since = t.Since
		default:
			others = append(others, t.Name)
		}
	}
	s := mdText(tally(by))
	if flaky > 0 {
		s = strings.TrimPrefix(s+fmt.Sprintf(", %d flaky", flaky), ", ")
	}
	switch {
	case len(here) > 0:
		whose := ", **since here**: "
		if slices.ContainsFunc(here, func(test string) bool { return len(e.oneOf[test]) > 0 }) {
			whose = ", **first seen here**, and it may be of a commit before: "
		}
		return "❌ " + s + whose + mdNames(here)
	case len(others) > 0:
		s += ": " + mdNames(others)
	}
	if since != "" {
		s += ", since " + e.number(since)
	}
	return s
}

// mdNames are the first of some names.
func mdNames(names []string) string {
	const most = 3
	var codes []string
	for _, n := range names[:min(len(names), most)] {
		codes = append(codes, mdCode(n))
	}
	s := strings.Join(codes, ", ")
	if more := len(names) - most; more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}

// number is what a commit of a series is called: its place.
func (e *export) number(sha string) string {
	n := 0
	for i := range e.kernels {
		if !e.kernels[i].base {
			n++
		}
		if e.kernels[i].sha == sha {
			return "commit " + itoa(n)
		}
	}
	return mdCode(kernel.Abbrev(sha))
}

// mdFirst tells of the first kernel that does not come up, and of the first that
// fails a test: in a sentence each, with their logs.
func (e *export) mdFirst(b *strings.Builder) {
	told := false // of one that does not come up
	for i := range e.kernels {
		k := &e.kernels[i]
		if k.base {
			continue // nobody's fault here
		}
		name := mdCode(k.name)
		if k.subject != "" {
			name += " (" + mdText(cut(plain(k.subject), 72)) + ")"
		}
		up := true
		switch {
		case k.build != nil && k.build.Status == kernel.BuildConflict && e.bisect == nil:
			if up = false; !told {
				b.WriteString("\n" + name + " cannot be tested: " + mdText(k.build.Error) + ".\n")
			}
		case k.build != nil && k.build.Status == kernel.BuildFailed && e.bisect == nil:
			if up = false; !told {
				b.WriteString("\nThe first failure: " + name + " does not build.\n")
				mdDetails(b, "what the compiler says", k.build.Error)
			}
		case k.boot.Status == kernel.BootFailed:
			if up = false; !told {
				b.WriteString("\nThe first failure: " + name + " does not boot: " + mdText(failureOr(k.boot.Signature, k.boot.Reason)) + ".\n")
				mdDetails(b, "console", k.boot.Console)
			}
		}
		told = told || !up
		if up && e.mdFirstBad(b, k, name, told) {
			return
		}
	}
}

// mdComplaints tells what kernels that boot complain of meanwhile, each complaint
// where it is first heard.
func (e *export) mdComplaints(b *strings.Builder) {
	heard := map[string]bool{}
	for i := range e.kernels {
		k := &e.kernels[i]
		if u := complains(&k.boot, k.tests); u != "" && !heard[u] {
			heard[u] = true
			b.WriteString("\nAt " + mdCode(k.name) + " " + mdText(u) + ".\n")
		}
	}
}

// mdFirstBad tells of the first test that a kernel fails, if it is the kernel's.
func (e *export) mdFirstBad(b *strings.Builder, k *tested, name string, another bool) bool {
	for j := range k.tests {
		t := &k.tests[j]
		older := e.kind == "series" && e.firstBad[t.Name] != k.sha && t.Change != kernel.Introduced
		if t.Verdict != kernel.Bad || older || e.bisect != nil && e.bisect.Culprit != nil && e.bisect.Culprit.SHA != k.sha {
			continue
		}
		what := "The first failure"
		if another {
			what = "The first failure of a test"
		}
		fmt.Fprintf(b, "\n%s: %s fails %s, %s: %s.\n", what, name, mdCode(t.Name), mdText(fails(t.Fails, t.Runs)), mdText(failureOr(t.Signature, t.Reason)))
		const frames = 5 // what others take as the fingerprint of a crash
		if fs := t.Signature.Frames; len(fs) > 0 {
			b.WriteString("\n" + mdFence(strings.Join(someFrames(fs, frames), "\n")))
		}
		mdDetails(b, "end of the log", evidence(t))
		return true
	}
	return false
}

func failureOr(s kernel.Signature, reason string) string {
	if f := failure(s); f != "" {
		return f
	}
	return plain(reason)
}

func someFrames(frames []string, most int) []string {
	var out []string
	for _, f := range frames[:min(len(frames), most)] {
		out = append(out, plain(f))
	}
	return out
}

// mdDetails folds the end of a log away.
func mdDetails(b *strings.Builder, title, log string) {
	log = strings.TrimRight(console.Clean([]byte(log), maxMarkdownLog), "\n")
	if log == "" {
		return
	}
	var lines []string
	for l := range strings.SplitSeq(log, "\n") {
		lines = append(lines, oneLine(l))
	}
	b.WriteString("\n<details><summary>" + title + "</summary>\n\n" + mdFence(strings.Join(lines, "\n")) + "\n</details>\n")
}

// mdText is a stranger's text that is text and nothing else. Punctuation
// that acts is written as a character reference: a backslash would stop the markup, but GitHub makes links of @name, #123, GH-123, addresses and hashes of
// commits after Markdown is done. A word joiner stops those.
func mdText(s string) string {
	var b strings.Builder
	s = plain(s)
	for i, r := range s {
		switch {
		case r == '@' || r == '#' || strings.HasPrefix(s[i:], "://"):
			fmt.Fprintf(&b, "&#%d;\u2060", r)
		case strings.ContainsRune("\\`*_{}[]<>()!|~&$^\"'", r):
			fmt.Fprintf(&b, "&#%d;", r)
		case r == '-' && strings.HasSuffix(strings.ToUpper(b.String()), "GH"):
			b.WriteString("\u2060-")
		case r == '.' && strings.HasSuffix(strings.ToLower(b.String()), "www"):
			b.WriteString("\u2060.")
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// mdCode is a name in a table or a sentence as code, where nothing is a link.
func mdCode(s string) string {
	s = plain(s)
	if s == "" {
		return ""
	}
	return "<code>" + mdText(s) + "</code>"
}

// mdFence is text as it is, within a fence longer than any in it.
func mdFence(s string) string {
	const most = 32 // ticks: a fence is to be closed in little room
	if strings.Contains(s, strings.Repeat("`", most)) {
		s = strings.ReplaceAll(s, "```", "'''")
	}
	fence := "```"
	for strings.Contains(s, fence) {
		fence += "`"
	}
	return fence + "text\n" + s + "\n" + fence + "\n"
}

// mdCut shortens a report to so many characters, with everything closed that was
// open.
func mdCut(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	room := most - utf8.RuneCountInString(cutNote) - 200 // for what is to be closed
	end := 0
	for i := range s {
		if room--; room < 0 {
			end = i
			break
		}
	}
	s = s[:end]
	if i := strings.LastIndexByte(s, '\n'); i > 0 {
		s = s[:i]
	}
	fence := ""
	for l := range strings.SplitSeq(s, "\n") {
		ticks := l[:len(l)-len(strings.TrimLeft(l, "`"))]
		switch {
		case fence == "" && len(ticks) >= 3 && l == ticks+"text":
			fence = ticks
		case fence != "" && l == fence:
			fence = ""
		}
	}
	if fence != "" {
		s += "\n" + fence
	}
	if strings.Count(s, "<details>") > strings.Count(s, "</details>") {
		s += "\n\n</details>"
	}
	return s + cutNote
}
