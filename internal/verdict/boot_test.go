package verdict

import (
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

func TestOfBoot(t *testing.T) {
	crash := kernel.Signature{Kind: "crash", Title: "WARNING in foo"}
	stall := kernel.Signature{Kind: "hang", Title: "INFO: rcu detected stall"}
	for _, c := range []struct {
		name      string
		boot      kernel.Boot
		up, quiet kernel.Outcome
		title     string
	}{
		{"it comes up", kernel.Boot{Status: kernel.BootOK}, kernel.Pass, kernel.Pass, ""},
		{"with a complaint", kernel.Boot{Status: kernel.BootOK, Signature: crash}, kernel.Pass, kernel.Crash, crash.Title},
		{"with a stall", kernel.Boot{Status: kernel.BootOK, Signature: stall}, kernel.Pass, kernel.Hang, stall.Title},
		{"it does not", kernel.Boot{Status: kernel.BootFailed, Reason: "no agent after 2m0s"}, kernel.Fail, kernel.Skip, "does not boot"},
		{"it dies", kernel.Boot{Status: kernel.BootFailed, Signature: crash}, kernel.Crash, kernel.Skip, crash.Title},
		{"it stalls", kernel.Boot{Status: kernel.BootFailed, Signature: stall}, kernel.Hang, kernel.Skip, stall.Title},
	} {
		c.boot.Console, c.boot.Seconds = "the log", 1.5
		r := OfBoot(c.boot)
		if r.Signature.Title != c.title || r.Reason != c.boot.Reason || r.Duration.Seconds() != 1.5 {
			t.Errorf("%s: %+v", c.name, r)
		}
		if kept := r.Console != ""; kept != r.Outcome.Bad() {
			t.Errorf("%s: console %q", c.name, r.Console)
		}
		results := DecideAll(kernel.BootTest, []kernel.Run{r, r}, nil)
		if len(results) != 2 || results[0].Name != kernel.BootTest || results[1].Name != kernel.QuietTest {
			t.Fatalf("%s: %+v", c.name, results)
		}
		verdicts := map[kernel.Outcome]kernel.Verdict{kernel.Pass: kernel.Good, kernel.Skip: kernel.Skipped, kernel.Fail: kernel.Bad, kernel.Crash: kernel.Bad, kernel.Hang: kernel.Bad}
		for i, o := range []kernel.Outcome{c.up, c.quiet} {
			if results[i].Verdict != verdicts[o] || o.Bad() && results[i].Signature.Title != c.title {
				t.Errorf("%s: %s is %s (%v), want %s", c.name, results[i].Name, results[i].Verdict, results[i].Signature, verdicts[o])
			}
		}
		if r.Outcome.Bad() != (c.up.Bad() || c.quiet.Bad()) {
			t.Errorf("%s: %s", c.name, r.Outcome)
		}
	}
}
