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
	maxSaid        = 10 // diagnostic lines kept of one test
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
	started
)

var (
	versionRE = regexp.MustCompile(`^(KTAP version 1|TAP version 1[34])\s*$`)
	// A version line may follow anything on its line (a console prefix).
	startRE   = regexp.MustCompile(`(KTAP version 1|TAP version 1[34])\s*$`)
	planRE    = regexp.MustCompile(`^1\.\.(\d{1,9})(?:\s*#\s*(.*))?\s*$`)
	resultRE  = regexp.MustCompile(`^(ok|not ok)(?:\s+(\d+))?(?:\s+(.*))?$`)
	bailRE    = regexp.MustCompile(`(?i)^bail out!\s*(.*)$`)
	subtestRE = regexp.MustCompile(`^# Subtest: ?(.*)$`)
	// What a program says before it starts a test: "# [RUN] name" in mm/cow.c
	// and its neighbours, "#  RUN   name ..." in kselftest_harness.h.
	startedRE = regexp.MustCompile(`^# (?:\[RUN\]\s+(.+)| RUN\s+(.+?) \.\.\.)\s*$`)
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
	if s == "" {
		return other, nil
	}
	var m []string
	switch s[0] { // most lines are somebody else's: no regexp for them
	case 'K', 'T':
		if versionRE.MatchString(s) {
			return version, nil
		}
	case '1':
		if m = planRE.FindStringSubmatch(s); m != nil {
			return plan, m
		}
	case 'o', 'n':
		m = resultRE.FindStringSubmatch(s)
		if m != nil && (m[2] != "" || strings.HasPrefix(m[3], "- ")) {
			return result, m
		}
	case 'b', 'B':
		if m = bailRE.FindStringSubmatch(s); m != nil {
			return bail, m
		}
	case '#':
		if m = subtestRE.FindStringSubmatch(s); m != nil {
			return subtest, m
		}
		if m = startedRE.FindStringSubmatch(s); m != nil {
			return started, m
		}
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
	case "XPASS": // kselftest.h counts it as a success
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
	case "TODO", "XFAIL", "XPASS", "TIMEOUT", "ERROR":
		return w
	}
	return ""
}

// clip bounds a text that is kept, and makes it valid UTF-8. What is cut off
// must not stay in memory with it.
func clip(s string) string {
	if len(s) > maxText {
		s = strings.Clone(s[:maxText])
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
