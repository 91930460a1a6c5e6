package ktap

import (
	"regexp"
	"strings"
)

// printk puts level, timestamp and caller in front, with exactly one space
// after them: more would be the nesting of the line.
const stamp = `(?:<\d+>)?\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?`

var (
	consoleRE = regexp.MustCompile(`^` + stamp)
	lastRE    = regexp.MustCompile(stamp + `$`)
	// printk writes whole lines, but at any time: a line of ours that a
	// stamp follows was cut off there.
	midRE = regexp.MustCompile(`(?:<\d+>)?\[ *\d+\.\d{6}\](?:\[ *[TC]\d+\])? `)
)

// strip takes off what a logger and the console put in front of a line.
func (p *parser) strip(line string) string {
	if p.prefix != "" && sameShape(line, p.prefix) {
		line = line[len(p.prefix):]
	}
	if line == "" || line[0] != '[' && line[0] != '<' {
		return line
	}
	return consoleRE.ReplaceAllString(line, "")
}

// sameShape says whether a line begins with a prefix but for its digits: a
// logger's timestamp differs in every line.
func sameShape(line, prefix string) bool {
	if len(line) < len(prefix) {
		return false
	}
	digit := func(c byte) bool { return c == ' ' || '0' <= c && c <= '9' }
	for i := range len(prefix) {
		alike := line[i] == prefix[i] || digit(line[i]) && digit(prefix[i])
		if !alike {
			return false
		}
	}
	return true
}

// cutAtStamp takes a line apart into which the kernel printed one of its own.
func cutAtStamp(line string) (cut, rest string, found bool) {
	if !strings.Contains(line, "] ") {
		return line, "", false
	}
	m := midRE.FindStringIndex(line)
	if m == nil || m[0] == 0 {
		return line, "", false
	}
	return strings.TrimRight(line[:m[0]], " "), line[m[1]:], true
}
