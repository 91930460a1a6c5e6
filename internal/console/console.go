// Package console reads a kernel's console log: it finds what the kernel
// complained about and names it so that one bug gets one name, and it makes a
// log fit to be shown to people. It must not know which test ran or who asks;
// the log is untrusted text from a guest, so everything kept of it is bounded.
package console

import (
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Finding is one complaint of the kernel.
type Finding struct {
	Signature kernel.Signature // kind "hang" for stalls and lockups, else "crash"
	Line      int              // of its first line in the log, from 1
	Lines     int              // how many lines of the log belong to it
	Excerpt   string           // these lines, cleaned and capped
}

// Bounds on what hostile logs can make Scan do and keep.
const (
	maxFindings    = 50
	maxReportLines = 200 // of the log that one complaint may cover
	maxFrames      = 5
	maxTitle       = 160
	maxLine        = 4096
	maxLines       = 400_000 // of the tail of a log; what is before is not looked at
	maxExcerpt     = 8192
	// A header this close below another one is more of the same report:
	// "Oops: 0002 [#1]" under "BUG: unable to handle page fault".
	sameReport = 24
)

// Scan finds the complaints of the kernel in a console log, in order; the first
// is the cause as far as the log can tell. Complaints with the same signature
// are given once, and a panic that only carries out the policy for an earlier
// complaint ("Fatal exception", "panic_on_warn set") belongs to that one.
func Scan(text []byte) []Finding {
	l := newLog(text)
	var out []Finding
	seen := map[string]bool{} // kind and title -> already in out
	open := -1                // line of the last header, whether or not it was kept
	for i, h := range l.hits {
		if h == nil || h.aftermath && len(out) > 0 {
			continue
		}
		if h.within && open >= 0 && i-open <= sameReport && l.sameCaller(open, i) {
			continue
		}
		r := l.report(i)
		if h.needsTrace && !r.trace {
			continue
		}
		open = i
		sig := kernel.Signature{Kind: h.kind, Title: h.title(r), Frames: r.top()}
		if sig.Kind == "" {
			sig.Kind = "crash"
		}
		key := sig.Kind + "\x00" + sig.Title
		if seen[key] {
			continue
		}
		seen[key] = true
		out = append(out, Finding{
			Signature: sig,
			Line:      l.first + i + 1,
			Lines:     r.end - i,
			Excerpt:   excerpt(l.lines[i:r.end]),
		})
		if len(out) == maxFindings {
			break
		}
	}
	return out
}

func excerpt(lines []line) string {
	var b strings.Builder
	for _, l := range lines {
		if b.Len() > 2*maxExcerpt {
			break
		}
		b.WriteString(l.raw)
		b.WriteByte('\n')
	}
	return Clean([]byte(b.String()), maxExcerpt)
}
