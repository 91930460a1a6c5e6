package report

import (
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// plain makes a stranger's text safe to stand on one line: characters that act
// on a terminal or turn the reading direction are shown as escapes.
func plain(s string) string { return strings.TrimSpace(oneLine(s)) }

// oneLine is plain without trimming: a compiler's caret needs its blanks.
func oneLine(s string) string {
	if !strings.ContainsFunc(s, acts) && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			b.WriteByte(' ')
		case acts(r) && r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case acts(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r) // an invalid byte comes as U+FFFD
		}
	}
	return b.String()
}

func acts(r rune) bool {
	if r < utf8.RuneSelf { // almost all of it
		return r < ' ' || r == 0x7f
	}
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}

// cut shortens a text to a number of columns.
func cut(s string, width int) string {
	if width < 1 || utf8.RuneCountInString(s) <= width {
		return s
	}
	n := 0
	for i := range s {
		if n++; n == width {
			return strings.TrimRight(s[:i], " ") + "…"
		}
	}
	return s
}

// percent rounds down, so that what is not certain never looks certain.
func percent(p float64) string {
	switch {
	case math.IsNaN(p) || p <= 0:
		return "0 %"
	case p >= 1:
		return "100 %"
	case p > 0.999:
		return ">99.9 %"
	case p < 0.001:
		return "<0.1 %"
	}
	// The summand undoes the error of the product (0.29*1000 < 290).
	return fmt.Sprintf("%.1f %%", math.Floor(p*1000+1e-9)/10)
}

// seconds is a duration for people.
func seconds(s float64) string {
	switch {
	case math.IsNaN(s) || math.IsInf(s, 0) || s <= 0:
		return "0 s"
	case s < 9.95:
		return fmt.Sprintf("%.1f s", s)
	case s < 119.5:
		return fmt.Sprintf("%.0f s", s)
	case s < 7200:
		n := int(s + 0.5)
		return fmt.Sprintf("%d min %d s", n/60, n%60)
	}
	n := int(s/60 + 0.5)
	return fmt.Sprintf("%d h %d min", n/60, n%60)
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// named is a commit as the kernel's documentation writes it.
func named(sha, subject string) string {
	return fmt.Sprintf("%s (\"%s\")", plain(kernel.Abbrev(sha)), plain(subject))
}

// authorName drops the address.
func authorName(a string) string {
	if i := strings.IndexByte(a, '<'); i > 0 {
		a = a[:i]
	}
	return plain(a)
}

// someOf lists the first names and says how many more there are.
func someOf(names []string, show int) string {
	clean := make([]string, 0, show)
	for _, n := range names[:min(show, len(names))] {
		clean = append(clean, plain(n))
	}
	s := strings.Join(clean, ", ")
	if more := len(names) - show; more > 0 {
		s += fmt.Sprintf(" (+%d more)", more)
	}
	return s
}

// sign goes with every verdict: a word and a colour are not enough in a
// matrix, and a colour alone is nothing to many readers.
func sign(v kernel.Verdict) string {
	switch v {
	case kernel.Good:
		return "+"
	case kernel.Bad:
		return "!"
	case kernel.Inconclusive:
		return "?"
	case kernel.Skipped:
		return "-"
	case kernel.Untestable:
		return "/"
	}
	return "."
}

// word is the verdict, also where there is none.
func word(v kernel.Verdict) string {
	switch v {
	case kernel.Good, kernel.Bad, kernel.Inconclusive, kernel.Skipped, kernel.Untestable:
		return string(v)
	}
	return "not run"
}

const legend = "+ good  ! bad  ? inconclusive  - skipped  / untestable  . not run"

// olderLegend has the signs that only a series has.
const olderLegend = "= bad, not introduced here  ~ flaky, as on the base"

// failure is a signature on one line, without what goes without saying next to
// the word "bad": that it failed, and a function its title names already.
func failure(s kernel.Signature) string {
	if s.Kind == "" {
		return ""
	}
	text := s.Title
	if s.Kind != "fail" {
		text = s.Kind + ": " + text
	}
	if len(s.Frames) > 0 && !strings.Contains(s.Title, s.Frames[0]) {
		text += " (in " + s.Frames[0] + ")"
	}
	return plain(text)
}

// why is the reason of a test's verdict on one line. The signature of a crash
// says more than the sentence that there was one.
func why(t *kernel.TestResult) string {
	sig, reason := failure(t.Signature), plain(t.Reason)
	switch {
	case sig == "":
		return reason
	case reason == "" || strings.Contains(sig, reason):
		return sig
	case t.Signature.Kind == "fail" || strings.Contains(reason, plain(t.Signature.Title)):
		return reason
	}
	return sig + "; " + reason
}
