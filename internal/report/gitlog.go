package report

import (
	"fmt"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// gitBisectLog is the bisection in the form of "git bisect log", which people
// send along with reports and "git bisect replay" takes. Each commit is marked
// once, with what was known of it in the end. Nothing but an object id may
// stand in a command line of it.
func gitBisectLog(r *kernel.BisectResult) string {
	bad, good, start := "bad", "good", "git bisect start"
	if r.FindFix {
		bad, good = "broken", "fixed"
		// With the quotes git itself writes: replay ignores bare ones.
		start += " '--term-old=broken' '--term-new=fixed'"
	}
	var b strings.Builder
	b.WriteString(start + "\n")
	marked := map[string]bool{}
	mark := func(sha, subject, term string) {
		if marked[sha] || !isObjectID(sha) {
			return
		}
		marked[sha] = true
		fmt.Fprintf(&b, "# %s: [%s] %s\ngit bisect %s %s\n", term, sha, plain(subject), term, sha)
	}
	mark(r.Bad.SHA, r.Bad.Subject, bad)
	mark(r.Good.SHA, r.Good.Subject, good)
	last := map[string]string{} // sha -> final outcome
	for _, s := range r.Steps {
		last[s.SHA] = s.Outcome
	}
	for _, s := range r.Steps {
		switch last[s.SHA] {
		case "good":
			mark(s.SHA, s.Subject, good)
		case "bad":
			mark(s.SHA, s.Subject, bad)
		case "skip":
			mark(s.SHA, s.Subject, "skip")
		}
	}
	if r.Status == kernel.Found && r.Culprit != nil {
		first := "bad"
		if r.FindFix {
			first = "fixed"
		}
		fmt.Fprintf(&b, "# first %s commit: [%s] %s\n", first, plain(r.Culprit.SHA), plain(r.Culprit.Subject))
	}
	return b.String()
}

func isObjectID(s string) bool {
	if len(s) < 4 || len(s) > 64 {
		return false
	}
	return strings.Trim(s, "0123456789abcdef") == ""
}
