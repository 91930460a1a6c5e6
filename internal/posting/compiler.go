package posting

import (
	"regexp"
	"strconv"
	"strings"
)

// diagnostic is one complaint of a compiler or linker.
type diagnostic struct {
	path    string // in the tree; "" where it names none
	line    int    // from 1; 0 for none
	warning bool
	message string
	symbol  string // function it is about, of the linker
}

// maxLine bounds what is read of a line, maxDiagnostics what is kept: gcc has
// found enough after some hundred errors.
const (
	maxLine        = 4 << 10
	maxDiagnostics = 500
)

var (
	located = regexp.MustCompile(`^([^\s:]+\.(?:c|h|S|s|rs)):(\d+):(?:\d+:)? (fatal error|error|warning): (.+)$`)
	linked  = regexp.MustCompile(`in function .([A-Za-z_][A-Za-z0-9_.]*)':|([^\s:]+\.c):\(\.[^)]*\): (undefined reference to .+)$`)
)

// diagnostics reads what gcc, clang and ld complain of in the log of a build.
func diagnostics(log string) []diagnostic {
	var out []diagnostic
	seen := map[diagnostic]bool{}
	function := ""
	for line := range strings.SplitSeq(log, "\n") {
		if len(line) > maxLine {
			continue
		}
		line = strings.TrimRight(line, "\r")
		var d diagnostic
		if m := located.FindStringSubmatch(line); m != nil {
			n, err := strconv.Atoi(m[2])
			if err != nil || n < 1 {
				continue
			}
			d = diagnostic{path: inTree(m[1]), line: n, warning: m[3] == "warning", message: m[3] + ": " + m[4]}
		} else if m := linked.FindStringSubmatch(line); m != nil {
			if m[1] != "" {
				function = m[1]
			}
			if m[3] == "" { // the next line says what
				continue
			}
			d = diagnostic{message: "error: " + m[3], symbol: function}
		} else {
			continue
		}
		if seen[d] { // a header is read by many
			continue
		}
		seen[d] = true
		if out = append(out, d); len(out) == maxDiagnostics {
			break
		}
	}
	return out
}

// inTree is a path as the tree has it: builds are made beside it.
func inTree(path string) string {
	if i := strings.LastIndex(path, "/src/"); i >= 0 && (path[0] == '/' || strings.HasPrefix(path, "../")) {
		path = path[i+len("/src/"):]
	}
	for strings.HasPrefix(path, "./") || strings.HasPrefix(path, "../") {
		_, path, _ = strings.Cut(path, "/")
	}
	if !relative(path) {
		return ""
	}
	return path
}
