package console

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Bounds on a list.
const (
	maxAllowedText = 64 << 10
	maxAllowed     = 500
)

// ParseAllowed reads a list: a regular expression a line, and above it, or above
// the block it stands in, a comment that says why. Errors are one line.
func ParseAllowed(text []byte) ([]kernel.Allowed, error) {
	if len(text) > maxAllowedText {
		return nil, fmt.Errorf("more than %d bytes", maxAllowedText)
	}
	var list []kernel.Allowed
	var why []string
	above := false // the line before was a comment
	for i, l := range bytes.Split(text, []byte("\n")) {
		s := strings.TrimSpace(string(l))
		comment, is := strings.CutPrefix(s, "#")
		switch {
		case s == "":
			why = nil
		case is:
			if !above {
				why = nil
			}
			why = append(why, strings.TrimSpace(comment))
		default:
			a := kernel.Allowed{Title: s, Why: strings.TrimSpace(strings.Join(why, " "))}
			re, err := compile(a)
			switch {
			case err != nil:
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			case re.MatchString(""):
				return nil, fmt.Errorf("line %d: %s allows everything", i+1, s)
			case a.Why == "":
				return nil, fmt.Errorf("line %d: no reason: a comment above it (# …) says why %s is allowed", i+1, s)
			}
			if list = append(list, a); len(list) > maxAllowed {
				return nil, fmt.Errorf("line %d: more than %d", i+1, maxAllowed)
			}
		}
		above = is
	}
	if len(list) == 0 {
		return nil, errors.New("nothing in it")
	}
	return list, nil
}

func compile(a kernel.Allowed) (*regexp.Regexp, error) {
	return regexp.Compile("^(?:" + a.Title + ")$")
}

// Allow takes the complaints off that a list allows, and says which these are.
func Allow(found []Finding, list []kernel.Allowed) (left, allowed []Finding) {
	for _, f := range found {
		if f.allowed(list) {
			allowed = append(allowed, f)
		} else {
			left = append(left, f)
		}
	}
	return left, allowed
}

func (f *Finding) allowed(list []kernel.Allowed) bool {
	for _, a := range list {
		if re, err := compile(a); err == nil && re.MatchString(f.Signature.Title) {
			return true
		}
	}
	return false
}
