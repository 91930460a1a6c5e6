package ktap

import (
	"regexp"
	"strconv"
	"strings"
)

// Bounds on what hostile output can make the parser keep.
const (
	maxDepth       = 16
	maxTests       = 20000
	maxText        = 512
	maxDiagnostics = 1000
	maxProblems    = 50
	maxLine        = 8192
)

// kind is what a line means once its nesting is taken off.
type kind int

const (
	other kind = iota
	version
	plan
	result
	bail
	subtest
)

var (
	versionRE = regexp.MustCompile(`^(KTAP version 1|TAP version 1[34])\s*$`)
	// A version line may follow anything on its line (a console prefix).
	startRE   = regexp.MustCompile(`(KTAP version 1|TAP version 1[34])\s*$`)
	planRE    = regexp.MustCompile(`^1\.\.(\d{1,9})(?:\s*#\s*(.*))?\s*$`)
	resultRE  = regexp.MustCompile(`^(ok|not ok)(?:\s+(\d+))?(?:\s+(.*))?$`)
	bailRE    = regexp.MustCompile(`(?i)^bail out!\s*(.*)$`)
	subtestRE = regexp.MustCompile(`^# Subtest: ?(.*)$`)
	// printk puts level, timestamp and caller in front, with exactly one
	// space after them: more would be the nesting of the line.
	consoleRE = regexp.MustCompile(`^(?:<\d+>)?\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?`)
)

// ends are console lines after which nothing of a test follows. KUnit's own
// parser stops at the same ones.
var ends = []string{
	"reboot: System halted",
	"Kernel panic - not syncing: VFS:",
	"List of all partitions:",
}

// classify says what a line without nesting is. A result needs a number or a
// dash: plain "ok" begins many a console line.
func classify(s string) (kind, []string) {
	if versionRE.MatchString(s) {
		return version, nil
	}
	if m := planRE.FindStringSubmatch(s); m != nil {
		return plan, m
	}
	if m := resultRE.FindStringSubmatch(s); m != nil {
		if m[2] != "" || strings.HasPrefix(m[3], "- ") {
			return result, m
		}
		return other, nil
	}
	if m := bailRE.FindStringSubmatch(s); m != nil {
		return bail, m
	}
	if m := subtestRE.FindStringSubmatch(s); m != nil {
		return subtest, m
	}
	return other, nil
}

// parseResult turns the parts of a result line into a test without children.
func parseResult(m []string) Test {
	var t Test
	// An absurd number is kept as 0 and shows up as a numbering problem.
	if n, err := strconv.Atoi(m[2]); err == nil && n < 1e9 {
		t.Number = n
	}
	desc, directive, text := splitDirective(strings.TrimSpace(m[3]))
	t.Name = strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(desc, "-"), " "))
	t.Directive = directive
	if t.Name == "" && directive != "" {
		// kselftest.h prints "ok N # SKIP name": the name sits after the
		// directive and there is no reason.
		t.Name, text = text, ""
	}
	if t.Name == "" {
		t.Name = "test " + m[2]
	}
	t.Name, t.Reason = clip(t.Name), clip(text)
	t.Status = lineStatus(m[1] == "ok", directive)
	return t
}

// lineStatus is what a line says by itself.
func lineStatus(ok bool, directive string) Status {
	switch directive {
	case "SKIP":
		return Skip
	case "XFAIL":
		return XFail
	case "TODO":
		if !ok {
			return XFail
		}
	case "TIMEOUT", "ERROR":
		return Error
	}
	if ok {
		return Pass
	}
	return Fail
}

// splitDirective takes the text after the number apart. The directive starts
// at the first "#" that stands alone or in front of a directive; "\#" is part
// of the description.
func splitDirective(s string) (desc, directive, text string) {
	for i := 0; i < len(s); i++ {
		if s[i] != '#' || i > 0 && s[i-1] != ' ' && s[i-1] != '\t' {
			continue
		}
		rest := strings.TrimLeft(s[i+1:], " \t")
		word := rest
		if j := strings.IndexAny(rest, " \t:"); j >= 0 {
			word = rest[:j]
		}
		if d := knownDirective(word); d != "" {
			text := strings.TrimSpace(strings.TrimLeft(rest[len(word):], ": \t"))
			return strings.TrimSpace(s[:i]), d, text
		}
		if i+1 < len(s) && s[i+1] == ' ' {
			// "# exit=1" and the like inform only.
			return strings.TrimSpace(s[:i]), "", strings.TrimSpace(rest)
		}
	}
	return s, "", ""
}

// knownDirective compares without case: kselftest.h writes "# error".
func knownDirective(word string) string {
	switch w := strings.ToUpper(word); w {
	case "SKIP", "SKIPPED":
		return "SKIP"
	case "TODO", "XFAIL", "TIMEOUT", "ERROR":
		return w
	}
	return ""
}

// clip bounds a text that is kept, and makes it valid UTF-8.
func clip(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
