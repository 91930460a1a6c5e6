package posting

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// row is one commit that is through, with its tests sorted by what is to be said
// of them.
type row struct {
	*kernel.CommitResult
	base *kernel.CommitResult // of the series; nil while it is not through
	prev *kernel.CommitResult // the commit before it
	// oneOf has the suspects of a test whose failure may be of several.
	oneOf map[string][]string

	here    []kernel.TestResult // bad, introduced by it
	since   []kernel.TestResult // bad since an earlier commit of the series
	unclear []kernel.TestResult // bad, and not known since when
	older   []kernel.TestResult // bad or flaky on the base already
	open    []kernel.TestResult // no verdict: inconclusive, or it must not skip and did
	good    int
	skipped int
}

// rows are the commits of a report that are through.
func (rep Report) rows() []row {
	var out []row
	res := rep.Result
	prev := res.BaseRow
	for i := range res.Commits {
		r := row{CommitResult: &res.Commits[i], base: res.BaseRow, prev: prev, oneOf: res.OneOf}
		r.sort(res)
		out, prev = append(out, r), r.CommitResult
	}
	return out
}

func (r *row) sort(res *kernel.SeriesResult) {
	for _, t := range r.Tests {
		switch {
		case t.Change == kernel.Flaky || t.Verdict == kernel.Bad && t.Change == kernel.NotIntroduced && t.Since == res.Base.SHA:
			r.older = append(r.older, t)
		case t.Verdict == kernel.Bad && (t.Change == kernel.Introduced || res.FirstBad[t.Name] == r.SHA):
			r.here = append(r.here, t)
		case t.Verdict == kernel.Bad && t.Change == kernel.NotIntroduced:
			r.since = append(r.since, t)
		case t.Verdict == kernel.Bad:
			r.unclear = append(r.unclear, t)
		case t.Verdict == kernel.Good:
			r.good++
		case t.Verdict == kernel.Skipped:
			r.skipped++
		default:
			r.open = append(r.open, t)
		}
	}
}

// testable says whether its kernel came up.
func (r *row) testable() bool {
	return r.Build.Status == kernel.BuildOK && r.Boot.Status != kernel.BootFailed
}

// ours says whether a build that failed did so for a reason that the commit
// before it did not have.
func (r *row) ours() bool {
	return r.prev == nil || r.prev.Build.Status != kernel.BuildFailed || r.prev.Build.Error != r.Build.Error
}

// judgement is a state of a status, or the conclusion of a check, with why.
type judgement struct {
	state string // success, failure, error: could not be known
	why   string
	// steady is why without how far it is, "" for the same: GitHub keeps each status
	// that was ever posted, and takes a thousand of a kind.
	steady string
}

// whose says who may have introduced the failures that are seen here first.
func (r *row) whose() string {
	var others []string
	for _, t := range r.here {
		for _, sha := range r.oneOf[t.Name] {
			if a := kernel.Abbrev(sha); sha != r.SHA && !slices.Contains(others, a) {
				others = append(others, a)
			}
		}
	}
	switch len(others) {
	case 0:
		return ", introduced here: "
	case 1:
		return ", introduced here or by " + others[0] + ": "
	}
	return fmt.Sprintf(", introduced here or by one of %d commits before: ", len(others))
}

// build judges its build. How long it took is not said: it is nothing that makes
// an old posting wrong.
func (r *row) build() judgement {
	switch r.Build.Status {
	case kernel.BuildOK:
		return judgement{state: success, why: "builds"}
	case kernel.BuildRefused:
		return judgement{state: unknown, why: "cannot be configured: " + r.Build.Error}
	}
	switch {
	case r.base != nil && r.base.Build.Status == kernel.BuildFailed:
		return judgement{state: unknown, why: "does not build, as the base does not: " + r.Build.Error}
	case !r.ours():
		return judgement{state: failure, why: "does not build, as the commit before: " + r.Build.Error}
	}
	return judgement{state: failure, why: "does not build: " + r.Build.Error}
}

// test judges its tests.
func (r *row) test() judgement {
	switch {
	case r.Build.Status != kernel.BuildOK:
		return judgement{state: unknown, why: "cannot be tested: does not build"}
	case r.Boot.Status == kernel.BootFailed && r.base != nil && r.base.Boot.Status == kernel.BootFailed:
		return judgement{state: unknown, why: "cannot be tested: does not boot, as the base does not"}
	case r.Boot.Status == kernel.BootFailed:
		return judgement{state: failure, why: "does not boot: " + r.Boot.Reason}
	case len(r.here) > 0:
		return judgement{state: failure, why: bad(r.here) + r.whose() + names(r.here)}
	case len(r.since) > 0:
		return judgement{state: failure, why: bad(r.since) + " since " + kernel.Abbrev(r.since[0].Since) + ": " + names(r.since)}
	case len(r.unclear) > 0:
		return judgement{state: failure, why: bad(r.unclear) + ", not known since when: " + names(r.unclear)}
	case len(r.open) > 0:
		return judgement{state: unknown, why: fmt.Sprintf("no verdict on %s: %s", tests(len(r.open)), names(r.open))}
	case r.good == 0 && len(r.older) == 0:
		return judgement{state: unknown, why: fmt.Sprintf("nothing was tested: %d skipped", r.skipped)}
	}
	parts := []string{fmt.Sprintf("%d good", r.good)}
	if r.skipped > 0 {
		parts = append(parts, fmt.Sprintf("%d skipped", r.skipped))
	}
	if len(r.older) > 0 {
		parts = append(parts, fmt.Sprintf("%d bad or flaky on the base already", len(r.older)))
	}
	return judgement{state: success, why: strings.Join(parts, ", ")}
}

func tests(n int) string {
	if n == 1 {
		return "1 test"
	}
	return fmt.Sprintf("%d tests", n)
}

func bad(ts []kernel.TestResult) string { return tests(len(ts)) + " bad" }

// names are the first of some tests.
func names(ts []kernel.TestResult) string {
	if len(ts) == 1 {
		return ts[0].Name
	}
	return fmt.Sprintf("%s and %d more", ts[0].Name, len(ts)-1)
}

// short is a stranger's text on one line of at most so many characters, without
// what acts on it.
func short(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	runes := []rune(strings.TrimSpace(s))
	if len(runes) > most {
		runes = append(runes[:most-1], '…')
	}
	return string(runes)
}
