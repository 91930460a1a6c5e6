package verdict

import (
	"strings"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// OfBoot judges a boot as a run of the boot test: that passes if the kernel came up
// to the agent, and its test "quiet" if it complained of nothing meanwhile. Of a kernel
// that does not come up it is not known what else it would have complained of.
func OfBoot(b kernel.Boot) kernel.Run {
	r := kernel.Run{Test: kernel.BootTest, Outcome: kernel.Pass, Duration: time.Duration(b.Seconds * float64(time.Second))}
	up := kernel.TestOutcome{Outcome: kernel.Pass}
	quiet := kernel.TestOutcome{Name: strings.TrimPrefix(kernel.QuietTest, kernel.BootTest+"/"), Outcome: kernel.Pass}
	worst := &up
	switch {
	case b.Status != kernel.BootOK:
		judgeBoot(&up, b)
		quiet.Outcome, quiet.Reason = kernel.Skip, "the kernel does not come up"
	case b.Signature.Kind != "":
		judgeBoot(&quiet, b)
		quiet.Output, worst = b.Console, &quiet
	}
	r.Outcome, r.Signature, r.Reason = worst.Outcome, worst.Signature, worst.Reason
	if r.Outcome != kernel.Pass {
		r.Console = b.Console
	}
	r.Tests = []kernel.TestOutcome{up, quiet}
	return r
}

func judgeBoot(o *kernel.TestOutcome, b kernel.Boot) {
	o.Signature, o.Reason = b.Signature, b.Reason
	switch b.Signature.Kind {
	case "":
		o.Outcome, o.Signature = kernel.Fail, kernel.Signature{Kind: "fail", Title: "does not boot"}
	case "hang": // lockups and stalls that the kernel itself reports
		o.Outcome = kernel.Hang
	default:
		o.Outcome = kernel.Crash
	}
}
