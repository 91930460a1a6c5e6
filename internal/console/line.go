package console

import (
	"regexp"
	"strings"
)

// line is one line of the log, with what printk puts in front taken off.
type line struct {
	raw     string
	text    string
	stamped bool   // printk's timestamp was there: the kernel wrote it
	caller  string // "T123" or "C0" under CONFIG_PRINTK_CALLER, else ""
}

var (
	// The stamp may follow text: a program's prompt without a newline, or
	// the half line of another CPU.
	stampRE = regexp.MustCompile(`(?:<\d+>)?\[ *\d+\.\d{3,6}\] ?(?:\[ *([TC]\d+)\] ?)?`)
	levelRE = regexp.MustCompile(`^(?:<\d+>)?(?:\[[^\]]*\] *)*`)
)

// log is a console log taken apart.
type log struct {
	first int // lines of the log before lines[0]
	lines []line
	hits  []*hit // per line: the header it is, or nil

	classes  []*class          // per line, as far as one was asked for
	scrubbed map[string]string // title as printed -> as given
}

// newLog cuts a log at its newlines only, so that line numbers are those of
// every other tool; carriage returns and escape sequences are taken out of the
// lines.
func newLog(b []byte) *log {
	parts := strings.Split(string(b), "\n")
	first := max(0, len(parts)-maxLines)
	parts = parts[first:]
	l := &log{first: first, lines: make([]line, len(parts)), hits: make([]*hit, len(parts)), classes: make([]*class, len(parts)), scrubbed: make(map[string]string)}
	stamped := false
	for i, raw := range parts {
		if len(raw) > maxLine {
			raw = raw[:maxLine]
		}
		l.lines[i] = parseLine(strings.TrimRight(raw, "\r"))
		stamped = stamped || l.lines[i].stamped
	}
	for i, x := range l.lines {
		l.hits[i] = match(x, stamped)
	}
	return l
}

// sameCaller reports whether two lines can come from one context.
func (l *log) sameCaller(i, j int) bool {
	a, b := l.lines[i].caller, l.lines[j].caller
	return a == "" || b == "" || a == b
}

func parseLine(raw string) line {
	l := line{raw: raw}
	s := raw
	if strings.ContainsAny(s, "\r\x1b") {
		s = strings.ReplaceAll(Clean([]byte(s), 0), "\n", " ")
	}
	if m := stampRE.FindStringSubmatchIndex(s); m != nil {
		l.stamped = true
		if m[2] >= 0 {
			l.caller = s[m[2]:m[3]]
		}
		l.text = s[m[1]:]
		// Old kernels print frames as "[<address>] name".
		if strings.HasPrefix(l.text, "[") || strings.HasPrefix(l.text, " [<") {
			l.text = trimBrackets(l.text)
		}
		return l
	}
	l.text = trimBrackets(s)
	return l
}

// trimBrackets takes off leading "[…]" groups, except the word lockdep writes
// its headers around: "[ INFO: possible …]" in kernels before 4.12.
func trimBrackets(s string) string {
	t := strings.TrimLeft(s, " ")
	if strings.HasPrefix(t, "[ INFO:") || strings.HasPrefix(t, "[ BUG:") {
		return strings.TrimRight(strings.TrimPrefix(t, "[ "), " ]")
	}
	if !strings.HasPrefix(t, "[") && !strings.HasPrefix(t, "<") {
		return s
	}
	return t[len(levelRE.FindString(t)):]
}
