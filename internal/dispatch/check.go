package dispatch

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/console"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
)

// What a worker says is not more true for a check, but it makes no nonsense of
// the record: what no build, boot or run gives is refused, and texts are cut to
// what an honest one keeps of them, without what acts on a terminal.
const (
	maxLog    = 64 << 10 // bytes of a console or an output, as verdict and runner keep
	maxWords  = 4 << 10  // bytes of a reason, a title, a frame
	maxFrames = 64
	maxTests  = 20_000 // results of one run, as ktap reads
)

func checkBuild(b *kernel.Build) error {
	switch {
	case b.Status == kernel.BuildOK && b.Kernel.Digest == "":
		return errors.New("a build gave a kernel without a digest")
	case !slices.Contains([]kernel.BuildStatus{kernel.BuildOK, kernel.BuildFailed, kernel.BuildRefused}, b.Status):
		return fmt.Errorf("a build ended as %.100q, which is no end of a build", b.Status)
	case b.Seconds < 0 || b.Objects < 0:
		return errors.New("a build took less than no time")
	}
	b.Error, b.Kernel.Release = console.Clean([]byte(b.Error), maxLog), words(b.Kernel.Release)
	return nil
}

func checkBoot(b *kernel.Boot) error {
	switch {
	case b.Status != kernel.BootOK && b.Status != kernel.BootFailed:
		return fmt.Errorf("a boot ended as %.100q, which is no end of a boot", b.Status)
	case b.Seconds < 0:
		return errors.New("a boot took less than no time")
	case len(b.Problems) > maxFrames:
		return fmt.Errorf("a boot with %d problems", len(b.Problems))
	}
	tidy(&b.Signature, &b.Reason, nil, &b.Console)
	b.Release = words(b.Release)
	for i := range b.Problems {
		b.Problems[i] = words(b.Problems[i])
	}
	return nil
}

func checkRun(r *kernel.Run, p runner.Program) error {
	switch {
	case r.Test != p.Name:
		return fmt.Errorf("a run of %s is answered with one of %.100q", p.Name, r.Test)
	case !isOutcome(r.Outcome):
		return fmt.Errorf("a run of %s ended as %.100q, which is no outcome", p.Name, r.Outcome)
	case r.Iterations < 0 || r.Iterations > max(p.Iterations, 1):
		return fmt.Errorf("a run of %s has %d iterations, and %d were asked for", p.Name, r.Iterations, p.Iterations)
	case r.Duration < 0:
		return fmt.Errorf("a run of %s took %s", p.Name, r.Duration)
	case len(r.Tests) > maxTests:
		return fmt.Errorf("a run of %s has %d results", p.Name, len(r.Tests))
	case !isKnown(r.Known):
		return fmt.Errorf("a run of %s is known as %.100q", p.Name, r.Known)
	}
	tidy(&r.Signature, &r.Reason, &r.Output, &r.Console)
	for i := range r.Tests {
		t := &r.Tests[i]
		if !isOutcome(t.Outcome) || !isKnown(t.Known) {
			return fmt.Errorf("a result of %s is %.100q %.100q, which is no outcome", p.Name, t.Outcome, t.Known)
		}
		tidy(&t.Signature, &t.Reason, &t.Output, nil)
		t.Name = words(t.Name)
	}
	return nil
}

func isOutcome(o kernel.Outcome) bool { return o.Counts() || o == kernel.Skip || o == kernel.Infra }
func isKnown(k kernel.Known) bool     { return k == "" || k == kernel.XFail || k == kernel.XPass }

// tidy cuts and cleans what a result says.
func tidy(s *kernel.Signature, reason *string, logs ...*string) {
	s.Kind, s.Title, s.Frames = words(s.Kind), words(s.Title), s.Frames[:min(len(s.Frames), maxFrames)]
	for i := range s.Frames {
		s.Frames[i] = words(s.Frames[i])
	}
	*reason = words(*reason)
	for _, l := range logs {
		if l != nil {
			*l = console.Clean([]byte(*l), maxLog)
		}
	}
}

// words are a text of one line.
func words(s string) string {
	return strings.ReplaceAll(console.Clean([]byte(s), maxWords), "\n", " ")
}
