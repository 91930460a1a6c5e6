// Package verdict turns what was seen of a run into an outcome with a
// signature, and the outcomes of many runs into a verdict with a confidence.
// Pure: it must not know how a guest is run or where runs are kept.
package verdict

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/kernel-bisect/kbisect/internal/console"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/ktap"
)

// Evidence is everything that was seen of one run.
type Evidence struct {
	Result     bool          // the agent sent a result; the four fields below come from it
	Exit       int           // exit status, -1 when killed by a signal
	Signal     string        // name of the signal
	TimedOut   bool          // the agent killed it at its time limit
	AgentError string        // the agent could not run it
	Limit      time.Duration // the test's time limit
	Output     []byte        // what the test printed, capped
	Console    []byte        // what the kernel printed since the run began
	Garbage    int           // lines on the agent channel that were no messages
	Lost       string        // why there is no result, if there is none
	Ended      bool          // the machine ended by itself
	EndReason  string        // QMP SHUTDOWN.reason, "" when QEMU died without one
	Panicked   bool          // QMP GUEST_PANICKED
	QEMUError  string        // what QEMU complained about when it died
	Wall       time.Duration
	Allowed    []kernel.Allowed // complaints of the kernel that do not count
}

// ExitSkip is kselftest's exit status for "the guest lacks what I need", and
// ExitError the reproducers' own for "I could not find out".
const (
	ExitError = 3
	ExitSkip  = 4
)

// maxKept bounds the console and output kept with a run, maxSaid a text that became
// a reason or a signature: a guest may have made it up, and records keep one a run.
const (
	maxKept = 64 << 10
	maxSaid = 300
)

// Classify judges one run. What the kernel said on its console weighs more than
// what the test thought: a test can pass over an oops. A run without a result
// is never a pass.
func Classify(test string, e Evidence) kernel.Run {
	for _, said := range []*string{&e.Signal, &e.AgentError, &e.EndReason, &e.QEMUError} {
		*said = console.Clean([]byte(*said), maxSaid)
	}
	r := kernel.Run{Test: test, Duration: e.Wall, Output: console.Clean(e.Output, maxKept)}
	r.Outcome, r.Signature, r.Reason = judge(e)
	r.GaveUp = r.Outcome == kernel.Infra && e.Result && e.AgentError == ""
	if r.Outcome == kernel.Pass {
		if res := ktap.Parse(e.Output); res.Version != "" && len(res.Tests) == 1 {
			r.Known, r.Reason = knownOf(res.Tests[0])
		}
	}
	r.Reason = strings.TrimPrefix(r.Reason, test+": ")
	if _, allowed := e.complaints(); len(allowed) > 0 && r.Outcome == kernel.Pass {
		r.Reason = strings.TrimPrefix(r.Reason+"; the kernel said, and may: "+allowed[0].Signature.Title, "; ")
	}
	if r.Outcome != kernel.Pass && r.Outcome != kernel.Skip {
		r.Console = console.Clean(e.Console, maxKept)
	}
	r.Tests = several(r, e)
	return r
}

// complaints are those of the kernel that count, and those that do not.
func (e *Evidence) complaints() (found, allowed []console.Finding) {
	return console.Allow(console.Scan(e.Console), e.Allowed)
}

func judge(e Evidence) (kernel.Outcome, kernel.Signature, string) {
	if found, _ := e.complaints(); len(found) > 0 {
		sig := found[0].Signature
		if sig.Kind == "hang" { // lockups and stalls that the kernel itself reports
			return kernel.Hang, sig, sig.Title
		}
		return kernel.Crash, sig, sig.Title
	}
	if !e.Result {
		return judgeLost(e)
	}
	switch {
	case e.AgentError != "":
		return kernel.Infra, kernel.Signature{}, "agent: " + e.AgentError
	case e.TimedOut:
		return hang(fmt.Sprintf("test not through after %s", e.Limit))
	}
	if res := ktap.Parse(e.Output); res.Version != "" {
		return judgeKTAP(e, res)
	}
	switch {
	case e.Signal != "":
		return fail("killed by " + e.Signal)
	case e.Exit == 0:
		return kernel.Pass, kernel.Signature{}, ""
	case e.Exit == ExitSkip:
		return kernel.Skip, kernel.Signature{}, orElse(lastLine(e.Output), "the test says skip (exit status 4)")
	}
	return fail(fmt.Sprintf("exit status %d", e.Exit))
}

func judgeLost(e Evidence) (kernel.Outcome, kernel.Signature, string) {
	switch {
	case e.Ended && (e.Panicked || strings.HasPrefix(e.EndReason, "guest-")):
		reason := "guest reset without a word on the console"
		if e.Panicked {
			reason = "guest panicked without a word on the console"
		}
		return kernel.Crash, kernel.Signature{Kind: "crash", Title: reason}, reason
	case e.Ended:
		return kernel.Infra, kernel.Signature{}, "qemu died: " + orElse(firstLine(e.QEMUError), orElse(e.EndReason, "no reason given"))
	case e.Garbage > 0:
		return hang(fmt.Sprintf("no result, but %d lines of garbage on the agent channel", e.Garbage))
	}
	return hang(orElse(e.Lost, "no result"))
}

func judgeKTAP(e Evidence, res ktap.Result) (kernel.Outcome, kernel.Signature, string) {
	status := res.Overall()
	bailed := e.Exit == ExitError && res.BailOut != ""
	skipped, rest := res.SkippedRest()
	switch {
	case bailed:
		return kernel.Infra, kernel.Signature{}, "test: " + res.BailOut
	case rest && e.Exit == ExitSkip:
		return kernel.Skip, kernel.Signature{}, skipped
	case status == ktap.Fail:
		return ktapFailure(res)
	case e.Signal != "": // says more than the results it kept from coming
		return fail("killed by " + e.Signal)
	case status == ktap.Error:
		return ktapFailure(res)
	case status == ktap.Skip:
		return kernel.Skip, kernel.Signature{}, orElse(skipReason(res), "skipped without a reason")
	case e.Exit != 0:
		return fail(fmt.Sprintf("exit status %d although the output names no failure", e.Exit))
	}
	return kernel.Pass, kernel.Signature{}, res.Reason()
}

func fail(title string) (kernel.Outcome, kernel.Signature, string) {
	return kernel.Fail, kernel.Signature{Kind: "fail", Title: title}, title
}

func hang(reason string) (kernel.Outcome, kernel.Signature, string) {
	return kernel.Hang, kernel.Signature{Kind: "hang", Title: "no result in time"}, reason
}

// ktapFailure gives a KTAP failure its class and its reason. The last
// diagnostic before the failing line says what was seen; its part behind the
// last colon is the reproducers' name for it ("missed COW"). Values and offsets
// differ from run to run and must not make two failures of one.
func ktapFailure(res ktap.Result) (kernel.Outcome, kernel.Signature, string) {
	path, t, found := res.First(res.Overall())
	reason := orElse(res.Reason(), "the test reports a failure")
	title := reason
	if found {
		title, reason = failureOf(path, t, reason)
	}
	return kernel.Fail, kernel.Signature{Kind: "fail", Title: title}, reason
}

// failureOf is what a failed test is called, and why it failed.
func failureOf(path string, t ktap.Test, said string) (title, reason string) {
	title = said
	diag := lastOf(t.Said)
	switch i := strings.LastIndex(diag, ": "); {
	case i >= 0:
		title = diag[i+2:]
	case t.Status == ktap.Error:
		title = path // the reason tells how many results are missing, or how late it is
	}
	return title, orElse(diag, said)
}

// skipReason is what the result line says, or else the diagnostic before it:
// mm/cow.c of 7.3 prints its reasons there.
func skipReason(res ktap.Result) string {
	path, t, _ := res.First(ktap.Skip)
	if said := lastOf(t.Said); t.Reason == "" && said != "" {
		return path + ": " + said
	}
	return res.Reason()
}

func lastOf(said []string) string {
	if len(said) == 0 {
		return ""
	}
	return said[len(said)-1]
}

func lastLine(b []byte) string {
	b = bytes.TrimSpace(b)
	return strings.TrimSpace(console.Clean(b[bytes.LastIndexByte(b, '\n')+1:], maxSaid))
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func orElse(s, t string) string {
	if s != "" {
		return s
	}
	return t
}
