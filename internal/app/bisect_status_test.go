package app

import (
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Scripts go by the exit status: a culprit that its own confirmation speaks
// against is none.
func TestBisectStatus(t *testing.T) {
	built := func(culprit, parent kernel.Verdict) *kernel.Confirmation {
		c := &kernel.Confirmation{}
		c.Culprit.Verdict, c.Parent.Verdict = culprit, parent
		return c
	}
	for _, c := range []struct {
		name         string
		status       kernel.BisectStatus
		confirmation *kernel.Confirmation
		findFix      bool
		found        bool
	}{
		{"not confirmed", kernel.Found, nil, false, true},
		{"confirmed", kernel.Found, built(kernel.Bad, kernel.Good), false, true},
		{"could not be confirmed", kernel.Found, built(kernel.Bad, kernel.Untestable), false, true},
		{"the parent is bad, too", kernel.Found, built(kernel.Bad, kernel.Bad), false, false},
		{"it is good", kernel.Found, built(kernel.Good, kernel.Good), false, false},
		{"a fix", kernel.Found, built(kernel.Good, kernel.Bad), true, true},
		{"no fix", kernel.Found, built(kernel.Bad, kernel.Bad), true, false},
		{"a set", kernel.Set, nil, false, false},
	} {
		err := bisectStatus(&kernel.BisectResult{Status: c.status, Confirmation: c.confirmation, FindFix: c.findFix})
		if (err == nil) != c.found || err != nil && err != statusError(exitNoConclusion) { //nolint:errorlint // a value of its own
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
