package job

import (
	"context"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
)

const (
	// showsAt is how many equal failures say that a commit fails. Two false ones
	// among showsTries come together once in 150 times if 1 % are; the search that
	// follows asks for more.
	showsAt = 2
	// showsTries is how often a commit is run for them. A test that fails in 30 %
	// of the runs shows two in 92 of 100 times; otherwise nothing is lost.
	showsTries = 12
)

// Shows says whether a program fails on a commit: false if that is not sure, or
// cannot be tried. The runs are on record and count for the search that follows.
func (l *Lab) Shows(ctx context.Context, c kernel.Commit, p runner.Program) (bool, error) {
	l.notify(Event{Phase: "build", Commit: c, Text: "cheaper than the bad end"})
	build, err := l.Build(ctx, c)
	if err != nil || build.Status != kernel.BuildOK {
		return false, err
	}
	s := l.subject(build.Kernel, c.SHA, p)
	defer s.close()
	boot, err := s.boot(ctx)
	if err != nil || canRun(p, boot) != "" {
		return false, err
	}
	var fails []kernel.Signature
	for i := range showsTries {
		l.notify(Event{Phase: "run", Commit: c, Done: i, Text: "cheaper than the bad end"})
		r, _, err := s.run(ctx, p)
		if err != nil {
			return false, err
		}
		if r.Outcome.Bad() {
			fails = append(fails, r.Signature)
		}
		same := 0
		for _, f := range fails {
			if f.Same(fails[0]) {
				same++
			}
		}
		if r.Outcome == kernel.Skip || r.Outcome == kernel.Infra || same >= showsAt {
			return same >= showsAt, nil
		}
	}
	return false, nil
}
