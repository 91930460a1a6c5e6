package verdict

import (
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// OfBoot judges a boot as a run of a test: that passes if the kernel came up to the
// agent and complained of nothing.
func OfBoot(test string, b kernel.Boot) kernel.Run {
	r := kernel.Run{Test: test, Outcome: kernel.Pass, Duration: time.Duration(b.Seconds * float64(time.Second))}
	switch sig := b.Signature; {
	case sig.Kind == "hang": // lockups and stalls that the kernel itself reports
		r.Outcome, r.Signature, r.Reason = kernel.Hang, sig, b.Reason
	case sig.Kind != "":
		r.Outcome, r.Signature, r.Reason = kernel.Crash, sig, b.Reason
	case b.Status != kernel.BootOK:
		r.Outcome, r.Signature, r.Reason = kernel.Fail, kernel.Signature{Kind: "fail", Title: "does not boot"}, b.Reason
	}
	if r.Outcome != kernel.Pass {
		r.Console = b.Console
	}
	return r
}
