package verdict

import (
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

func TestOfBoot(t *testing.T) {
	crash := kernel.Signature{Kind: "crash", Title: "WARNING in foo"}
	stall := kernel.Signature{Kind: "hang", Title: "INFO: rcu detected stall"}
	for _, c := range []struct {
		name  string
		boot  kernel.Boot
		want  kernel.Outcome
		title string
	}{
		{"it comes up", kernel.Boot{Status: kernel.BootOK}, kernel.Pass, ""},
		{"with a complaint", kernel.Boot{Status: kernel.BootOK, Signature: crash}, kernel.Crash, crash.Title},
		{"with a stall", kernel.Boot{Status: kernel.BootOK, Signature: stall}, kernel.Hang, stall.Title},
		{"it does not", kernel.Boot{Status: kernel.BootFailed, Reason: "no agent after 2m0s"}, kernel.Fail, "does not boot"},
		{"it dies", kernel.Boot{Status: kernel.BootFailed, Signature: crash}, kernel.Crash, crash.Title},
	} {
		c.boot.Console, c.boot.Seconds = "the log", 1.5
		r := OfBoot("boot", c.boot)
		if r.Outcome != c.want || r.Signature.Title != c.title || r.Reason != c.boot.Reason || r.Duration.Seconds() != 1.5 {
			t.Errorf("%s: %+v", c.name, r)
		}
		if kept := r.Console != ""; kept != r.Outcome.Bad() {
			t.Errorf("%s: console %q", c.name, r.Console)
		}
	}
}
