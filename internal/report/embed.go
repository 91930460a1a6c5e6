package report

import (
	"io"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// This file is what the pages of a service take from the reports, so that a job
// looks there as it does in a file.

// Links says where a service has what a file has not.
type Links struct {
	// Runs gives the address of the runs of a test on a kernel: that of a
	// commit, "" for none, or the one with a digest, "" where it is not known.
	Runs func(commit, digest, test string) string
	// Log gives the address of a build's log by its digest.
	Log func(digest string) string
}

func (l Links) log(digest string) string {
	if l.Log == nil || digest == "" {
		return ""
	}
	return l.Log(digest)
}

// built makes the cell of a build lead to its log.
func (l Links) built(c htmlCell, b *kernel.Build) htmlCell {
	if href := l.log(b.LogDigest); href != "" && c.Href == "" {
		c.Href, c.Title = href, "log of the build"
	}
	return c
}

func (l Links) runs(commit, digest string, t *kernel.TestResult) string {
	if l.Runs == nil || t.Runs == 0 && t.Verdict != kernel.Skipped && t.Verdict != kernel.Inconclusive {
		return ""
	}
	return l.Runs(commit, digest, t.Name)
}

// cell makes a cell of a matrix lead to its runs, and say what it stands for.
func (l Links) cell(c *htmlCell, commit, digest string, t *kernel.TestResult) {
	if href := l.runs(commit, digest, t); href != "" {
		c.Href = href
		c.Title = strings.TrimSpace(plain(t.Name) + ": " + c.Word + " " + c.Fails)
	}
}

// Body writes what HTML puts into the page of a result, without the page: a
// header, sections and a footer, for a page that has the style of Style. There
// is no script in it and no style. It returns the verdict, a sentence.
func Body(w io.Writer, v any, l Links) (verdict string, err error) {
	p, err := newPage(v, l)
	if err != nil {
		return "", err
	}
	if p.Bisect != nil && p.Bisect.Heat != nil {
		p.Bisect.Heat.Bare = true
	}
	return p.Verdict, pages.ExecuteTemplate(w, "body", p)
}

// Style is the style sheet of the reports.
func Style() string {
	var b strings.Builder
	for _, name := range []string{"style.css", "heat.css"} {
		if err := pages.ExecuteTemplate(&b, name, nil); err != nil {
			panic(err) // they have nothing to fill in
		}
	}
	return b.String()
}

// Plain makes a stranger's text fit to stand on one line, its control
// characters shown.
func Plain(s string) string { return plain(s) }

// Seconds is a duration for people.
func Seconds(s float64) string { return seconds(s) }

// Rate is a rate with its bounds, for people.
func Rate(i kernel.Interval) string { return rate(i) }

// Sign goes with a verdict wherever it stands.
func Sign(v kernel.Verdict) string { return sign(v) }

// Class is the style class of a verdict.
func Class(v kernel.Verdict) string { return class(v) }

// Failure is a signature on one line, "" for none.
func Failure(s kernel.Signature) string { return failure(s) }
