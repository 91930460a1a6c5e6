package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/kernel-bisect/kbisect/internal/console"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// The elements are those of Jenkins' junit-10.xsd and no others: it has no
// properties in a testcase, so what is known of a test stands in a property of
// its suite.
type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Time     string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name       string          `xml:"name,attr"`
	Tests      int             `xml:"tests,attr"`
	Failures   int             `xml:"failures,attr"`
	Errors     int             `xml:"errors,attr"`
	Skipped    int             `xml:"skipped,attr"`
	Time       string          `xml:"time,attr"`
	Timestamp  string          `xml:"timestamp,attr,omitempty"`
	Properties []junitProperty `xml:"properties>property"`
	Cases      []junitCase     `xml:"testcase"`
}

type junitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitCase struct {
	Name    string      `xml:"name,attr"`
	Class   string      `xml:"classname,attr"`
	Time    string      `xml:"time,attr"`
	Skipped *junitCause `xml:"skipped"`
	Error   *junitCause `xml:"error"`
	Failure *junitCause `xml:"failure"`
	Out     string      `xml:"system-out,omitempty"`
}

type junitCause struct {
	Type    string `xml:"type,attr"`
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// JUnit writes a result, as JSON does, as JUnit XML: a suite per kernel, with
// the cases build and boot before its tests, unless boot is one of them. A failure is what the kernel did
// wrong, a crash and a hang among it; an error is what we could not find out; a
// test of a kernel that does not build or boot is skipped.
func JUnit(w io.Writer, v any) error {
	e, err := newExport(v)
	if err != nil {
		return err
	}
	all := junitSuites{Name: printable("kbisect " + e.kind + " " + e.id), Time: junitTime(e.seconds)}
	for i := range e.kernels {
		s := e.junitSuite(&e.kernels[i])
		all.Tests, all.Failures, all.Errors = all.Tests+s.Tests, all.Failures+s.Failures, all.Errors+s.Errors
		all.Suites = append(all.Suites, s)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(all); err != nil {
		return err
	}
	_, err = io.WriteString(w, "\n")
	return err
}

func (e *export) junitSuite(k *tested) junitSuite {
	s := junitSuite{Name: printable(k.name + " " + e.profile)}
	if !e.started.IsZero() {
		s.Timestamp = e.started.UTC().Format("2006-01-02T15:04:05")
	}
	digest := k.kernel.Digest
	base := ""
	if k.base {
		base = "true"
	}
	add := func(name, value string) {
		if value = printable(value); value != "" {
			s.Properties = append(s.Properties, junitProperty{printable(name), value})
		}
	}
	add("verdict", e.verdict)
	add("commit", k.sha)
	add("subject", k.subject)
	add("base", base)
	add("kernel", digest)
	add("release", k.kernel.Release)
	add("profile", e.profile)
	add("config", k.kernel.ConfigDigest)
	add("command", e.command)
	var given []string
	for _, c := range e.given(k) {
		given = append(given, c.Name)
	}
	add("carried", strings.Join(given, ", "))
	for _, test := range sortedKeys(e.firstBad) {
		add("first_bad."+test, e.firstBad[test])
		add("one_of."+test, strings.Join(e.oneOf[test], ", "))
	}
	if b := e.bisect; b != nil && b.Culprit != nil {
		add("culprit", b.Culprit.SHA)
		if refuted(b) {
			add("refuted", "by the builds of the culprit and of its parent from nothing")
		}
		add("confidence", strconv.FormatFloat(number(b.Confidence), 'g', 6, 64))
	}
	if k.build != nil && k.build.Status != "" {
		c := e.junitCase("build", k.build.Seconds)
		switch k.build.Status {
		case kernel.BuildOK:
		case kernel.BuildConflict:
			c.Error = cause("carry", firstLine(k.build.Error), k.build.Error)
		default:
			c.Failure = cause("build", "does not build: "+firstLine(k.build.Error), k.build.Error)
		}
		s.Cases = append(s.Cases, c)
	}
	if !k.judged() && (k.boot.Status == kernel.BootOK || k.boot.Status == kernel.BootFailed) {
		c := e.junitCase("boot", k.boot.Seconds)
		if k.boot.Status == kernel.BootFailed {
			c.Failure = cause("boot", "does not boot: "+k.boot.Reason, failure(k.boot.Signature)+"\n"+k.boot.Console)
		}
		c.Out = printable(complains(&k.boot, k.tests))
		s.Cases = append(s.Cases, c)
	}
	if k.trouble != "" && k.boot.Status != kernel.BootOK {
		c := e.junitCase("boot", 0)
		c.Error = cause("infra", k.trouble, "")
		s.Cases = append(s.Cases, c)
	}
	testable := (k.build == nil || k.build.Status == kernel.BuildOK) && k.boot.Status != kernel.BootFailed
	for i := range k.tests {
		t := &k.tests[i]
		add("test."+t.Name, fmt.Sprintf("verdict=%s runs=%d fails=%d confidence=%.4f flaky=%t", word(t.Verdict), t.Runs, t.Fails, number(t.Confidence), flaky(t)))
		s.Cases = append(s.Cases, e.junitTest(t, testable))
	}
	total := k.boot.Seconds + k.seconds
	if k.build != nil {
		total += k.build.Seconds
	}
	s.Time = junitTime(total)
	for i := range s.Cases {
		c := &s.Cases[i]
		s.Tests++
		switch {
		case c.Failure != nil:
			s.Failures++
		case c.Error != nil:
			s.Errors++
		case c.Skipped != nil:
			s.Skipped++
		}
	}
	return s
}

func (e *export) junitCase(name string, spent float64) junitCase {
	return junitCase{Name: printable(name), Class: printable("kbisect." + e.profile), Time: junitTime(spent)}
}

func (e *export) junitTest(t *kernel.TestResult, testable bool) junitCase {
	c := e.junitCase(t.Name, 0)
	switch {
	case t.Verdict == kernel.Good:
	case t.Verdict == kernel.Bad:
		kind := t.Signature.Kind
		if kind == "" {
			kind = "fail"
		}
		c.Failure = cause(kind, fmt.Sprintf("%d of %s failed: %s", t.Fails, count(t.Runs, "run"), why(t)), evidence(t))
	case t.Verdict == kernel.Inconclusive:
		c.Error = cause("inconclusive", why(t), evidence(t))
	case t.Verdict == kernel.Untestable && testable: // of a kernel that boots: a test that must not skip
		c.Error = cause("untestable", why(t), evidence(t))
	case t.Verdict == "":
		c.Skipped = cause("skipped", "not run", "")
	default:
		c.Skipped = cause(string(t.Verdict), why(t), "")
	}
	return c
}

func cause(kind, message, text string) *junitCause {
	return &junitCause{printable(kind), printable(plain(message)), printable(console.Clean([]byte(text), maxExcerpt))}
}

// printable leaves only what XML 1.0 has a way to write.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r >= 0x20 && r < 0x7f || r >= 0xa0 && r < utf8.MaxRune && r != 0xfffe && r != 0xffff && !acts(r):
			return r
		case r == '\r':
			return '\n'
		}
		return utf8.RuneError
	}, s)
}

// junitTime is a time in seconds.
func junitTime(s float64) string { return strconv.FormatFloat(max(number(s), 0), 'f', 3, 64) }

// number is 0 for what is none.
func number(f float64) float64 {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return 0
	}
	return f
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
