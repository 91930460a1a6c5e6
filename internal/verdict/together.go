package verdict

import (
	"slices"
	"time"

	"github.com/kernel-bisect/kbisect/internal/console"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/ktap"
)

// Together judges one run of several tests, one after another in one guest, by
// the tests' names. It gives only what sharing a guest cannot have spoilt: passes,
// and those only if the kernel said nothing and the program told of every test. A
// skip is none of them: a test before may have left too little. A test that is
// missing from the answer needs a guest of its own.
func Together(tests []string, e Evidence) map[string]kernel.Run {
	if len(console.Scan(e.Console)) > 0 || !e.Result || e.AgentError != "" || e.TimedOut || e.Signal != "" {
		return nil
	}
	res := ktap.Parse(e.Output)
	if res.Version == "" || res.BailOut != "" || len(res.Problems) > 0 || len(res.Tests) != len(tests) {
		return nil
	}
	runs := map[string]kernel.Run{}
	for _, t := range res.Tests {
		if !slices.Contains(tests, t.Name) {
			return nil // missing, twice there, or something else than was asked for
		}
		if t.Status != ktap.Pass && t.Status != ktap.XFail {
			continue
		}
		run := kernel.Run{Test: t.Name, Outcome: kernel.Pass, Duration: e.Wall / time.Duration(len(tests))}
		run.Known, run.Reason = knownOf(t)
		runs[t.Name] = run
	}
	return runs
}
