package web

import (
	"html/template"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/report"
)

var words = template.FuncMap{
	"plain":   report.Plain,
	"version": func() string { return version },
	"abbrev":  func(sha string) string { return report.Plain(kernel.Abbrev(sha)) },
	"clock":   clock,
	"iso":     func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"took":    func(d time.Duration) string { return report.Seconds(d.Seconds()) },
	"rate":    func(fails, runs int) string { return report.Rate(wilson(fails, runs)) },
	"span":    func(fails, runs int) kernel.Interval { return wilson(fails, runs) },
	"percent": func(p float64) string { return strconv.FormatFloat(100*p, 'f', 1, 64) },
	"less":    func(a, b float64) float64 { return a - b },
	"job":     func(id string) string { return "/jobs/" + url.PathEscape(id) },
	"test":    func(name string) string { return "/test?" + url.Values{"name": {name}}.Encode() },
	"cell":    cell,
	"ofjob":   func(id string) string { return "/runs?" + url.Values{"job": {id}}.Encode() },
	"class":   outcomeClass,
	"sign":    outcomeSign,
	"state":   stateClass,
	"join":    strings.Join,
	"failure": report.Failure,
	"urgent":  urgency,
	"place":   func(i int) int { return i + 1 },
	"nav": func(p *page, id, href, text string) entry {
		return entry{href, text, p.Nav == id}
	},
	"image": func(digest string) string { return kernel.Abbrev(strings.TrimPrefix(digest, "sha256:")) },
}

// urgency is a job's priority in words.
func urgency(priority int) string {
	if words := []string{"somebody waits", "normal", "nightly"}; priority >= 0 && priority < len(words) {
		return words[priority]
	}
	return number(priority)
}

// entry is one of the navigation.
type entry struct {
	Href, Text string
	Here       bool
}

// cell is the address of the runs of a test on a kernel.
func cell(commit, digest, test string) string {
	q := url.Values{}
	for k, v := range map[string]string{"commit": commit, "kernel": digest, "test": test} {
		if v != "" {
			q.Set(k, v)
		}
	}
	return "/runs?" + q.Encode()
}

func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

// outcomeVerdict is the verdict that an outcome speaks for.
func outcomeVerdict(o kernel.Outcome) kernel.Verdict {
	switch {
	case o == kernel.Pass:
		return kernel.Good
	case o.Bad():
		return kernel.Bad
	case o == kernel.Skip:
		return kernel.Skipped
	}
	return kernel.Inconclusive
}

func outcomeSign(o kernel.Outcome) string  { return report.Sign(outcomeVerdict(o)) }
func outcomeClass(o kernel.Outcome) string { return report.Class(outcomeVerdict(o)) }

// stateClass is the style class of a job's status.
func stateClass(status string) string {
	switch status {
	case "running":
		return "busy"
	case "failed":
		return "bad"
	case "interrupted":
		return "warn"
	}
	return "dim"
}

// wilson is a rate with its 95 % bounds, by Wilson's score: fit for few runs,
// and for rates of 0 and 1. Without runs it is empty.
func wilson(fails, runs int) kernel.Interval {
	if runs <= 0 {
		return kernel.Interval{}
	}
	const z = 1.959964
	n, p := float64(runs), float64(fails)/float64(runs)
	mid := (p + z*z/(2*n)) / (1 + z*z/n)
	half := z / (1 + z*z/n) * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return kernel.Interval{Mean: p, Low: max(0, mid-half), High: min(1, mid+half)}
}

func number(n int) string { return strconv.Itoa(n) }

func abbrev(sha string) string {
	if len(sha) == 40 { // the name of a kernel stays as it is
		return kernel.Abbrev(sha)
	}
	return sha
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return number(n) + " " + noun + "s"
}

func them(n int) string {
	if n == 1 {
		return "it"
	}
	return "them"
}

// fileName drops from an id what has no place in a header or a file's name.
func fileName(id string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return r
		}
		return -1
	}, id)
}
