package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// gitBisectLog is the bisection in the form of "git bisect log", which people
// send along with reports and "git bisect replay" takes. Each commit is marked
// once, with what was known of it in the end; one that was never decided is not
// marked. Nothing but an object id may stand in a command line of it.
//
// git believes every mark, and stops where they contradict each other. So only
// a search that came to one change has more than its ends marked, and the
// culprit comes last of the bad ones: the last bad mark is where git goes on
// from, and a search like ours comes back to newer commits.
func gitBisectLog(r *kernel.BisectResult) string {
	terms := map[string]string{"bad": "bad", "good": "good", "skip": "skip"}
	first := "bad"
	if r.FindFix {
		terms["bad"], terms["good"], first = "broken", "fixed", "fixed"
	}
	l := gitLog{marked: map[string]bool{}}
	l.start(r)
	if r.Status == kernel.Found && !slices.ContainsFunc(r.Steps, func(s kernel.BisectStep) bool { return s.SHA == r.Bad.SHA }) {
		// A step before it that fails already stood for it.
		l.remark(r.Bad.SHA, r.Bad.Subject, "not run")
	}
	l.mark(r.Bad.SHA, r.Bad.Subject, terms["bad"])
	l.mark(r.Good.SHA, r.Good.Subject, terms["good"])
	culprit := ""
	if r.Status == kernel.Found && r.Culprit != nil {
		culprit = r.Culprit.SHA
	}
	single := culprit != "" || r.Status == kernel.Set
	last := map[string]string{} // sha -> final outcome
	for _, s := range r.Steps {
		last[s.SHA] = s.Outcome
	}
	for _, s := range r.Steps {
		term := terms[last[s.SHA]]
		switch {
		case term == "":
			l.remark(s.SHA, s.Subject, "undecided")
		case !single:
			l.remark(s.SHA, s.Subject, term)
		case s.SHA != culprit:
			l.mark(s.SHA, s.Subject, term)
		}
	}
	if culprit != "" {
		// It was tested: else nothing would be known of it.
		l.mark(culprit, r.Culprit.Subject, first)
		fmt.Fprintf(&l.text, "# first %s commit: [%s] %s\n", first, plain(culprit), plain(r.Culprit.Subject))
	}
	return l.text.String()
}

type gitLog struct {
	text   strings.Builder
	marked map[string]bool
}

// start writes the first line, in the form of git's own log: replay takes no
// other.
func (l *gitLog) start(r *kernel.BisectResult) {
	var args []string
	if r.FirstParent {
		args = append(args, "--first-parent")
	}
	if r.FindFix {
		args = append(args, "--term-old=broken", "--term-new=fixed")
	}
	if len(r.Paths) > 0 {
		args = append(append(args, "--"), r.Paths...)
	}
	l.text.WriteString("git bisect start")
	for _, a := range args {
		l.text.WriteString(" '" + strings.ReplaceAll(oneLine(a), "'", `'\''`) + "'")
	}
	l.text.WriteString("\n")
}

func (l *gitLog) mark(sha, subject, term string) {
	if l.marked[sha] || !isObjectID(sha) {
		return
	}
	l.remark(sha, subject, term)
	fmt.Fprintf(&l.text, "git bisect %s %s\n", term, sha)
}

// remark only says what came out.
func (l *gitLog) remark(sha, subject, term string) {
	if l.marked[sha] || !isObjectID(sha) {
		return
	}
	l.marked[sha] = true
	fmt.Fprintf(&l.text, "# %s: [%s] %s\n", term, sha, plain(subject))
}

func isObjectID(s string) bool {
	if len(s) < 4 || len(s) > 64 {
		return false
	}
	return strings.Trim(s, "0123456789abcdef") == ""
}
