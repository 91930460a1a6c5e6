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
	Head      int              // of the line that names it: Line, or a few below
	Lines     int              // how many lines of the log belong to it
	Excerpt   string           // these lines, cleaned and capped
}

// Bounds on what hostile logs can make Scan do and keep.
const (
	maxFindings    = 50
	maxComplaints  = 1000 // looked at: a log that repeats one more often says nothing new
	maxReportLines = 200  // of the log that one complaint may cover
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
	complaints := 0
	seen := map[string]bool{}            // kind and title -> already in out
	opened := make([]bool, len(l.lines)) // a header, whether or not it was kept
	for i, h := range l.hits {
		if h == nil || h.aftermath && len(out) > 0 {
			continue
		}
		if h.within && l.continues(i, opened) {
			continue
		}
		if complaints++; complaints > maxComplaints {
			break
		}
		r := l.report(i)
		if h.needsTrace && !r.trace {
			continue
		}
		opened[i] = true
		sig := kernel.Signature{Kind: h.kind, Title: l.title(h, r), Frames: r.top()}
		if sig.Kind == "" {
			sig.Kind = "crash"
		}
		key := sig.Kind + "\x00" + sig.Title
		if seen[key] || r.cut && h.repeats(out, sig) {
			continue
		}
		seen[key] = true
		start := l.lead(i)
		out = append(out, Finding{
			Signature: sig,
			Line:      l.first + start + 1,
			Head:      l.first + i + 1,
			Lines:     r.end - start,
			Excerpt:   excerpt(l.lines[start:r.end]),
		})
		if len(out) == maxFindings {
			break
		}
	}
	return out
}

// continues says whether a line can belong to a report that began shortly
// before, in lines of its own context.
func (l *log) continues(i int, opened []bool) bool {
	for j, n := i-1, 0; j >= 0 && i-j <= maxReportLines && n < sameReport; j-- {
		if !l.sameCaller(i, j) {
			continue
		}
		if opened[j] {
			return true
		}
		n++
	}
	return false
}

// repeats says whether a report that ends with the log, before it could name a
// function, is the beginning of one that was seen whole.
func (h *hit) repeats(out []Finding, sig kernel.Signature) bool {
	if !h.in {
		return false
	}
	for _, f := range out {
		if s := f.Signature; s.Kind == sig.Kind && strings.HasPrefix(s.Title, h.title+" in ") && len(sig.Frames) == 0 {
			return true
		}
	}
	return false
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
