package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// predictions are what is known of tests before they are run.
type predictions struct {
	tests []prediction
	notes []note
}

// prediction says how tests end on releases of the kernel.
type prediction struct {
	glob   string
	source string
	steps  []step // ascending
}

// step is a verdict that holds from a release on.
type step struct {
	from    version
	verdict kernel.Verdict
}

// note explains a difference.
type note struct {
	glob     string
	releases []version
	text     string
}

type version struct{ major, minor int }

func (v version) String() string { return fmt.Sprintf("%d.%d", v.major, v.minor) }

func (v version) before(w version) bool {
	return v.major < w.major || v.major == w.major && v.minor < w.minor
}

// parseVersion reads the MAJOR.MINOR that a release begins with.
func parseVersion(s string) (v version, err error) {
	if _, err := fmt.Sscanf(s, "%d.%d", &v.major, &v.minor); err != nil {
		return v, fmt.Errorf("%q is no kernel release", s)
	}
	return v, nil
}

// parsePredictions reads lines
//
//	GLOB SOURCE VERDICT [VERSION VERDICT]...
//	explain GLOB VERSION[,VERSION]... TEXT
//
// The first glob that matches a test counts.
func parsePredictions(text string) (predictions, error) {
	var p predictions
	n := 0
	for line := range strings.Lines(text) {
		n++
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		var err error
		if words[0] == "explain" {
			err = p.addNote(words[1:])
		} else {
			err = p.addTest(words)
		}
		if err != nil {
			return p, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return p, nil
}

func (p *predictions) addNote(words []string) error {
	if len(words) < 3 {
		return fmt.Errorf("want: explain GLOB VERSION[,VERSION] TEXT")
	}
	x := note{glob: words[0], text: strings.Join(words[2:], " ")}
	for r := range strings.SplitSeq(words[1], ",") {
		v, err := parseVersion(r)
		if err != nil {
			return err
		}
		x.releases = append(x.releases, v)
	}
	p.notes = append(p.notes, x)
	return nil
}

func (p *predictions) addTest(words []string) error {
	if len(words) < 3 || len(words)%2 == 0 {
		return fmt.Errorf("want: GLOB SOURCE VERDICT, then VERSION VERDICT for each change")
	}
	t := prediction{glob: words[0], source: words[1]}
	for i := 2; i < len(words); i += 2 {
		var from version
		if i > 2 {
			var err error
			if from, err = parseVersion(words[i-1]); err != nil {
				return err
			}
			if last := t.steps[len(t.steps)-1].from; !last.before(from) {
				return fmt.Errorf("%s does not come after %s", from, last)
			}
		}
		v := kernel.Verdict(words[i])
		if !slices.Contains([]kernel.Verdict{kernel.Good, kernel.Bad, kernel.Skipped}, v) {
			return fmt.Errorf("%q is no verdict to predict", words[i])
		}
		t.steps = append(t.steps, step{from, v})
	}
	p.tests = append(p.tests, t)
	return nil
}

// of finds what is predicted for a test, nil if nothing is.
func (p predictions) of(test string) *prediction {
	for i := range p.tests {
		if matches(p.tests[i].glob, test) {
			return &p.tests[i]
		}
	}
	return nil
}

// on is the verdict predicted for a release.
func (t prediction) on(v version) kernel.Verdict {
	var verdict kernel.Verdict
	for _, s := range t.steps {
		if !v.before(s.from) {
			verdict = s.verdict
		}
	}
	return verdict
}

// String is "bad, good from 5.18".
func (t prediction) String() string {
	var parts []string
	for i, s := range t.steps {
		if i == 0 {
			parts = append(parts, string(s.verdict))
		} else {
			parts = append(parts, fmt.Sprintf("%s from %s", s.verdict, s.from))
		}
	}
	return strings.Join(parts, ", ")
}

// note finds the explanation of a difference, 0 if there is none.
func (p predictions) note(test string, v version) int {
	for i, x := range p.notes {
		if matches(x.glob, test) && slices.Contains(x.releases, v) {
			return i + 1
		}
	}
	return 0
}

// matches is a glob in which a star also stands for slashes, as in --test.
func matches(glob, name string) bool {
	re := strings.ReplaceAll(regexp.QuoteMeta(glob), `\*`, ".*")
	ok, _ := regexp.MatchString("^"+re+"$", name)
	return ok
}
