package report

import (
	"bytes"
	"encoding/xml"
	"testing"
	"unicode/utf8"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// The sums of JUnit files are what readers show first.
func TestJUnitAddsUp(t *testing.T) {
	for name, v := range fixtures() {
		var b bytes.Buffer
		if err := JUnit(&b, v); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var all junitSuites
		if err := xml.Unmarshal(b.Bytes(), &all); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var tests, failures, errors int
		for _, s := range all.Suites {
			passed, failed, broken, skipped := 0, 0, 0, 0
			for _, c := range s.Cases {
				switch {
				case c.Failure != nil && c.Error == nil && c.Skipped == nil:
					failed++
				case c.Failure == nil && c.Error != nil && c.Skipped == nil:
					broken++
				case c.Failure == nil && c.Error == nil && c.Skipped != nil:
					skipped++
				case c.Failure == nil && c.Error == nil && c.Skipped == nil:
					passed++
				default:
					t.Errorf("%s: %s has several outcomes", name, c.Name)
				}
			}
			if s.Tests != passed+failed+broken+skipped || s.Failures != failed || s.Errors != broken || s.Skipped != skipped {
				t.Errorf("%s: suite %s does not add up: %d %d %d %d", name, s.Name, s.Tests, s.Failures, s.Errors, s.Skipped)
			}
			tests, failures, errors = tests+s.Tests, failures+s.Failures, errors+s.Errors
		}
		if all.Tests != tests || all.Failures != failures || all.Errors != errors {
			t.Errorf("%s: the sum does not add up", name)
		}
	}
}

func TestJUnitOutcomes(t *testing.T) {
	e := &export{profile: "slim"}
	for _, c := range []struct {
		verdict  kernel.Verdict
		testable bool
		want     string
	}{
		{kernel.Good, true, ""}, {kernel.Bad, true, "failure"}, {kernel.Inconclusive, true, "error"}, {kernel.Skipped, true, "skipped"},
		{kernel.Untestable, true, "error"}, {kernel.Untestable, false, "skipped"}, {"", true, "skipped"},
	} {
		got := ""
		switch x := e.junitTest(&kernel.TestResult{Name: "a", Verdict: c.verdict}, c.testable); {
		case x.Failure != nil:
			got = "failure"
		case x.Error != nil:
			got = "error"
		case x.Skipped != nil:
			got = "skipped"
		}
		if got != c.want {
			t.Errorf("%s, testable %v: %q, want %q", c.verdict, c.testable, got, c.want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a\x00b\x1b[31m\ufffe\xff]]>&<\r\n\"")
	f.Fuzz(func(t *testing.T, s string) {
		b, err := xml.Marshal(junitCause{Message: printable(s), Text: printable(s)})
		if err != nil || !utf8.Valid(b) {
			t.Fatalf("%q: %v", s, err)
		}
		var back junitCause
		if err := xml.Unmarshal(b, &back); err != nil || back.Text != printable(s) {
			t.Fatalf("%q became %q: %v", s, back.Text, err)
		}
	})
}
