package console

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// escapeRE is a terminal escape sequence. A string sequence (OSC, DCS and such)
// has to end on its line: one that never ends must not swallow the log.
var escapeRE = regexp.MustCompile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|[\\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\\\)|[ -/]*[0-Z\\\\^-~])")

// Clean makes a log fit to be shown: no terminal escape sequences, no control
// characters but newline and tab, no invisible direction marks, valid UTF-8.
// With max > 0 the result is at most max bytes: its head and more of its tail,
// where crashes are, around a line that says how much is missing.
func Clean(text []byte, max int) string {
	if bytes.IndexByte(text, 0x1b) >= 0 {
		text = escapeRE.ReplaceAll(text, nil)
	}
	var b strings.Builder
	b.Grow(len(text))
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		next := text[n:]
		switch {
		case r == '\r':
			// A carriage return alone starts a line again; gluing the
			// two texts together would make a third.
			if len(bytes.TrimLeft(next, "\r")) > 0 && bytes.TrimLeft(next, "\r")[0] != '\n' {
				b.WriteByte('\n')
			}
			next = bytes.TrimLeft(next, "\r")
		case r == '\n' || r == '\t':
			b.WriteByte(byte(r))
		case hidden(r):
		default:
			b.WriteRune(r) // invalid bytes have become U+FFFD
		}
		text = next
	}
	return crop(b.String(), max)
}

// hidden says whether a character acts on the reader's terminal or page
// instead of being read.
func hidden(r rune) bool {
	switch {
	case r < 0x20, r >= 0x7f && r <= 0x9f:
		return true
	case r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x200e, r == 0x200f, r == 0x061c:
		return true // direction overrides: they reorder what stands on the page
	case r == 0x2028, r == 0x2029, r == 0xfeff:
		return true
	}
	return false
}

// crop keeps a quarter of the room for the head.
func crop(s string, max int) string {
	if max <= 0 || len(s) <= max {
		return s
	}
	// The number's width is not known before the cut, so its bound is used.
	room := max - len(cutLine(len(s))) - 1
	if room < 2 {
		return s[:runeStart(s, max)]
	}
	head := runeStart(s, room/4)
	if i := strings.LastIndexByte(s[:head], '\n'); i > head/2 {
		head = i + 1
	}
	tail := runeEnd(s, len(s)-(room-head))
	if i := strings.IndexByte(s[tail:], '\n'); i >= 0 && i < (len(s)-tail)/2 {
		tail += i + 1
	}
	nl := ""
	if head > 0 && s[head-1] != '\n' {
		nl = "\n"
	}
	return s[:head] + nl + cutLine(tail-head) + s[tail:]
}

func cutLine(n int) string { return fmt.Sprintf("… %d bytes cut …\n", n) }

// runeStart moves an index back, runeEnd forward, to where a character starts.
func runeStart(s string, i int) int {
	for i > 0 && i < len(s) && !utf8.RuneStart(s[i]) {
		i--
	}
	return i
}

func runeEnd(s string, i int) int {
	for i < len(s) && !utf8.RuneStart(s[i]) {
		i++
	}
	return i
}
