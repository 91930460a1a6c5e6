package console

import (
	"regexp"
	"strconv"
	"strings"
)

// hit is a line that is a header, with its match.
type hit struct {
	*header
	groups []string
}

// match looks a line up in the tables. In a log with timestamps, a header that
// is vague needs one too, or a program could have printed it; a clear one
// counts anyway, so that a lost timestamp does not hide a crash.
func match(l line, stamped bool) *hit {
	if len(l.text) < 4 || !likely(l.text) {
		return nil
	}
	for _, b := range benign {
		if b.re.MatchString(l.text) {
			return nil
		}
	}
	for i := range headers {
		h := &headers[i]
		if h.needsTrace && stamped && !l.stamped {
			continue
		}
		if m := h.re.FindStringSubmatch(l.text); m != nil {
			return &hit{h, m}
		}
	}
	return nil
}

// likely is a cheap look at the first letter before some fifty expressions.
func likely(s string) bool {
	return strings.IndexByte("BWKUIOPNCgdiskrwbatpcm/_", s[0]) >= 0
}

// title names the complaint.
func (l *log) title(h *hit, r report) string {
	t := h.expand(h.title)
	access := ""
	if r.access != "" {
		access = " " + r.access
	}
	t = strings.ReplaceAll(t, "{access}", access)
	if h.in {
		f := ""
		if h.fn > 0 {
			f = plainName(h.groups[h.fn])
		}
		if f == "" || skipFrame(f) {
			if g := r.guilty(); g != "" {
				f = g
			}
		}
		switch {
		case f != "":
			t += " in " + f
		default:
			t += h.expand(h.alone)
		}
	}
	t = Clean([]byte(t), 0)
	if len(t) > 2*maxTitle {
		t = t[:runeStart(t, 2*maxTitle)] // scrubbing costs its length squared
	}
	if s, ok := l.scrubbed[t]; ok {
		return s // a complaint repeats itself
	}
	raw := t
	t = scrub(t)
	if len(t) > maxTitle {
		t = t[:runeStart(t, maxTitle)]
	}
	l.scrubbed[raw] = t
	return t
}

// expand puts the groups into a template.
func (h *hit) expand(t string) string {
	for i := len(h.groups) - 1; i > 0; i-- {
		t = strings.ReplaceAll(t, "$"+strconv.Itoa(i), h.groups[i])
	}
	return t
}

// scrubs take out of a title what differs between two runs of one bug.
var scrubs = []struct {
	re   *regexp.Regexp
	with string
	why  string
}{
	{re(`\+0x[0-9a-f]+/0x[0-9a-f]+`), "", "offset in a function: differs per build"},
	{re(`\b0x[0-9a-fA-F]+\b`), "ADDR", "address"},
	{re(`\b[0-9a-f]{8,16}\b`), "ADDR", "address printed without 0x"},
	{re(`([\w/-]+\.[chS]):\d+\b`), "$1", "line number: moves with every patch"},
	{re(`(^| )(kworker|swapper|ksoftirqd|migration|cpuhp)/[\w:+-]+`), "$1$2", "kernel thread of a CPU"},
	{re(`(^| )([A-Za-z_][\w.:-]*)(?:/(?:ADDR|-?\d+))+\b`), "$1$2", "process name and id, preemption count"},
	{re(`\b(pid|PID|cpu|CPU|task|mm)([ :=#]+)[\w-]*\d+\b`), "$1${2}N", "process, CPU"},
	{re(`(^|[ =:(#\[,])-?\d+\b`), "${1}N", "count, size, time"},
	{re(`\s+`), " ", "blanks"},
	{re(`[ .:,!]*$`), "", "punctuation that some releases print and others do not"},
}

func scrub(t string) string {
	bang := strings.HasSuffix(strings.TrimSpace(t), "init!")
	for _, s := range scrubs {
		t = s.re.ReplaceAllString(t, s.with)
	}
	if bang {
		t += "!" // "Attempted to kill init!" is known under this name
	}
	return t
}
