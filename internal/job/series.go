package job

import (
	"context"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Series tests the base and every commit on it, oldest first. update is called
// with the result as it grows; after an error the rows that are through stay in res.
func (l *Lab) Series(ctx context.Context, base kernel.Commit, commits []kernel.Commit, plan Plan, res *kernel.SeriesResult, update func()) error {
	res.Base, res.Commits = base, nil
	total := len(commits) + 1
	row, err := l.row(ctx, base, Event{Index: 1, Total: total}, plan)
	if err != nil {
		return err
	}
	if row.Build.Status == kernel.BuildRefused {
		return &RefusedError{base.Short(), row.Build.Error} // the user's to mend, on every commit
	}
	row.Base = true
	res.BaseRow = &row
	update()
	for i, c := range commits {
		row, err := l.row(ctx, c, Event{Index: i + 2, Total: total}, plan)
		if err != nil {
			return err
		}
		res.Commits = append(res.Commits, row)
		res.FirstBad, res.OneOf = firstBad(*res)
		update()
	}
	return nil
}

// row builds, boots and tests one commit.
func (l *Lab) row(ctx context.Context, c kernel.Commit, e Event, plan Plan) (kernel.CommitResult, error) {
	row := kernel.CommitResult{SHA: c.SHA, Subject: c.Subject, Boot: kernel.Boot{Status: kernel.BootNone}}
	e.Commit, e.Phase = c, "build"
	l.notify(e)
	var err error
	if row.Build, err = l.Build(ctx, c); err != nil {
		return row, err
	}
	if row.Build.Status != kernel.BuildOK {
		row.Tests = plan.Untestable("does not build: " + row.Build.Error)
		l.done(e, row)
		return row, nil
	}
	s := l.subject(row.Build.Kernel, row.SHA)
	defer s.close()
	e.Phase = "boot"
	l.notify(e)
	if row.Boot, err = s.boot(ctx); err != nil {
		return row, err
	}
	if row.Tests, err = s.tests(ctx, e, row.Boot, plan); err != nil {
		return row, err
	}
	l.done(e, row)
	return row, nil
}

// done tells in one line what came out for a commit.
func (l *Lab) done(e Event, row kernel.CommitResult) {
	e.Phase, e.Text = "done", Summary(row)
	l.notify(e)
}

// firstBad finds for every test the commit that broke it: bad, after the base
// or a commit before it was good. Untestable commits right before it are named
// as suspects too.
func firstBad(res kernel.SeriesResult) (first map[string]string, oneOf map[string][]string) {
	first, oneOf = map[string]string{}, map[string][]string{}
	rows := append([]kernel.CommitResult{*res.BaseRow}, res.Commits...)
	for _, test := range testsOf(rows) {
		good := false
		var between []string // neither good nor bad since the last good
		for _, row := range rows {
			switch verdictOn(row.Tests, test) {
			case kernel.Good:
				good, between = true, nil
				continue
			case kernel.Bad:
				if !good {
					continue // it was broken before
				}
				first[test] = row.SHA
				if len(between) > 0 {
					oneOf[test] = append(between, row.SHA)
				}
			default:
				between = append(between, row.SHA)
				continue
			}
			break
		}
	}
	return first, oneOf
}

// testsOf are the names of all tests of some rows: which of them a program has
// may depend on the kernel.
func testsOf(rows []kernel.CommitResult) []string {
	var names []string
	seen := map[string]bool{}
	for _, row := range rows {
		for _, t := range row.Tests {
			if !seen[t.Name] {
				seen[t.Name] = true
				names = append(names, t.Name)
			}
		}
	}
	return names
}

// verdictOn finds the verdict of a test, "" where there is none. A program with
// several tests has one of its own only where something was wrong with it.
func verdictOn(tests []kernel.TestResult, name string) kernel.Verdict {
	several := false
	for _, t := range tests {
		if t.Name == name {
			return t.Verdict
		}
		several = several || isOf(t.Name, name)
	}
	if several {
		return kernel.Good
	}
	return ""
}
