package job

import (
	"context"
	"slices"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
	"github.com/kernel-bisect/kbisect/internal/verdict"
)

// Series tests the base and every commit on it, oldest first, and compares a
// commit that fails with the base and its neighbours. update is called with the
// result as it grows; after an error the rows that are through stay in res.
func (l *Lab) Series(ctx context.Context, base kernel.Commit, commits []kernel.Commit, plan Plan, res *kernel.SeriesResult, update func()) error {
	res.Base, res.Commits, res.BaseRow, res.Total = base, nil, nil, len(commits)
	total := len(commits) + 1
	st := &seriesTest{lab: l, plan: plan, res: res, total: total, builds: ahead{build: l.Build}}
	defer st.up.closeAll()
	defer st.builds.close()
	all := append([]kernel.Commit{base}, commits...)
	for i, c := range all {
		e := Event{Commit: c, Index: i + 1, Total: total}
		row, s, err := st.row(ctx, e, all[i:])
		if err != nil {
			return err
		}
		if row.Base = i == 0; row.Base && row.Build.Status == kernel.BuildRefused {
			return &RefusedError{base.Short(), row.Build.Error} // the user's to mend, on every commit
		}
		st.rows, st.subjects = append(st.rows, row), append(st.subjects, s)
		if err := st.compare(ctx, e); err != nil {
			return err
		}
		st.up.closeAll() // the next build wants the memory
		st.judge()
		l.done(e, st.rows[i])
		res.BaseRow, res.Commits = &st.rows[0], st.rows[1:]
		update()
	}
	return nil
}

// seriesTest is a series under way.
type seriesTest struct {
	lab   *Lab
	plan  Plan
	res   *kernel.SeriesResult
	total int

	rows     []kernel.CommitResult // the base first
	subjects []*subject            // of each row; nil where there is nothing to run
	up       kernelsUp
	builds   ahead
	turns    int // rounds of comparing
}

// row builds, boots and tests the first of the commits that are left. One whose
// kernel the series has seen before shares its runs.
func (st *seriesTest) row(ctx context.Context, e Event, left []kernel.Commit) (kernel.CommitResult, *subject, error) {
	l, c := st.lab, left[0]
	row := kernel.CommitResult{SHA: c.SHA, Subject: c.Subject, Boot: kernel.Boot{Status: kernel.BootNone}}
	e.Phase = "build"
	l.notify(e)
	var err error
	if row.Build, err = st.builds.get(ctx, c); err != nil {
		return row, nil, err
	}
	if l.BuildAhead {
		st.builds.soon(ctx, left[1:])
	}
	if row.Build.Status != kernel.BuildOK {
		row.Tests = st.plan.Untestable(row.Build.Trouble())
		return row, nil, nil
	}
	s := l.subject(row.Build.Kernel, row.SHA, st.plan.Programs...)
	s.before = st.before()
	seen := slices.IndexFunc(st.subjects, func(o *subject) bool { return o != nil && o.cell(nil) == s.cell(nil) })
	if seen >= 0 {
		s = st.subjects[seen]
	}
	st.up.use(s)
	e.Phase = "boot"
	l.notify(e)
	if row.Boot, err = s.boot(ctx); err != nil {
		return row, nil, err
	}
	if row.Boot.Status != kernel.BootOK && !slices.ContainsFunc(st.plan.Programs, func(p runner.Program) bool { return p.Boot }) {
		row.Tests = st.plan.Untestable("does not boot: " + row.Boot.Reason)
		return row, nil, nil
	}
	if seen >= 0 {
		row.Tests = st.results(s, true)
		return row, s, nil
	}
	row.Tests, err = s.tests(ctx, e, row.Boot, st.plan)
	return row, s, err
}

// before is what fails on the last commit whose tests ran.
func (st *seriesTest) before() verdict.Before {
	for i, s := range slices.Backward(st.subjects) {
		if s == nil {
			continue
		}
		bad := verdict.Before{}
		for _, t := range st.rows[i].Tests {
			if t.Verdict == kernel.Bad {
				bad[t.Name] = t.Signature
			}
		}
		return bad
	}
	return nil
}

// results are the verdicts of all tests on a kernel from the runs there are; to
// a commit whose kernel was seen before they cost nothing.
func (st *seriesTest) results(s *subject, again bool) []kernel.TestResult {
	var out []kernel.TestResult
	for _, p := range st.plan.Programs {
		out = append(out, st.plan.held(s.results(p))...)
	}
	for i := range out {
		if again {
			out[i].Reused = out[i].Runs
		}
	}
	return out
}

// done tells in one line what came out for a commit.
func (l *Lab) done(e Event, row kernel.CommitResult) {
	e.Phase, e.Text = "done", Summary(row)
	l.notify(e)
}

// alpha is the error that one cell may have of the whole series'.
func (st *seriesTest) alpha() float64 {
	return verdict.Alpha / float64(max(1, st.total-1)*max(1, len(st.plan.Programs), len(st.rows[0].Tests)))
}

func (st *seriesTest) mostToCompare() int {
	if st.plan.MaxRuns > 0 {
		return st.plan.MaxRuns
	}
	return max(st.plan.Runs, verdict.MostToCompare)
}

// compare runs what failed again, in turn with the base and the neighbours it
// is compared with, so that a host that got worse does so for all of them. All
// tests take their turns together: a kernel that is down takes seconds to boot.
// What is asked for follows from the runs alone, so that a resumed job goes the
// same way.
func (st *seriesTest) compare(ctx context.Context, e Event) error {
	e.Phase = "run"
	for {
		want := st.want()
		if len(want) == 0 {
			return nil
		}
		sites := st.sites()
		order := make([]int, 0, len(want))
		for i := range sites {
			if len(want[i]) > 0 {
				order = append(order, i)
			}
		}
		if st.turns++; st.turns%2 == 0 { // there and back: the kernel used last is up
			slices.Reverse(order)
		}
		for _, i := range order {
			s := sites[i].subject
			st.up.use(s)
			err := s.again(ctx, want[i], st.plan, func(text string) {
				e.Text = text + " on " + st.name(sites[i].row)
				st.lab.notify(e)
			})
			if err != nil {
				return err
			}
		}
		for r, s := range st.subjects {
			if s != nil {
				st.rows[r].Tests = st.results(s, slices.Index(st.subjects, s) < r)
			}
		}
	}
}

func (st *seriesTest) name(row int) string {
	if row == 0 {
		return "the base"
	}
	return kernel.Abbrev(st.rows[row].SHA)
}

// place is a kernel of a series, or a commit without one.
type place struct {
	row     int // the first that has it
	subject *subject
}

// sites are the rows, those next to each other that have one kernel taken
// together: nothing changes between them.
func (st *seriesTest) sites() []place {
	var out []place
	for r, s := range st.subjects {
		if r == 0 || s == nil || s != out[len(out)-1].subject {
			out = append(out, place{r, s})
		}
	}
	return out
}

// known is what the sites say of a test of a program.
func known(sites []place, p runner.Program, test string) []verdict.Site {
	out := make([]verdict.Site, len(sites))
	for i, x := range sites {
		if x.subject == nil {
			continue
		}
		if d := x.subject.done[p.Name]; d != nil {
			out[i] = verdict.SiteOf(p.Name, test, d.runs)
		}
	}
	return out
}

// want says which programs are to run once more on which site.
func (st *seriesTest) want() map[int][]runner.Program {
	sites, want := st.sites(), map[int][]runner.Program{}
	names := testsOf(st.rows)
	for _, p := range st.plan.Programs {
		on := map[int]bool{}
		for _, test := range names {
			if !isOf(test, p.Name) {
				continue
			}
			for _, i := range verdict.More(known(sites, p, test), st.alpha(), st.mostToCompare()) {
				on[i] = true
			}
		}
		for i := range on {
			if !sites[i].subject.done[p.Name].lost {
				want[i] = append(want[i], p)
			}
		}
	}
	return want
}

// judge says of every test on every commit how it stands to what was before.
func (st *seriesTest) judge() {
	res := st.res
	res.FirstBad, res.OneOf, res.FirstFixed = map[string]string{}, map[string][]string{}, map[string]string{}
	sites := st.sites()
	at := make([]int, len(st.rows)) // row -> site
	for i, x := range sites {
		for r := x.row; r < len(st.rows); r++ {
			at[r] = i
		}
	}
	names := testsOf(st.rows)
	for _, p := range st.plan.Programs {
		for _, test := range names {
			if isOf(test, p.Name) {
				st.judgeTest(test, sites, at, verdict.Findings(known(sites, p, test), st.alpha()))
			}
		}
	}
}

func (st *seriesTest) judgeTest(test string, sites []place, at []int, found []verdict.Finding) {
	for r := range st.rows {
		i := slices.IndexFunc(st.rows[r].Tests, func(t kernel.TestResult) bool { return t.Name == test })
		if i < 0 {
			continue
		}
		t, f := &st.rows[r].Tests[i], found[at[r]]
		t.Change, t.Since = f.Change, ""
		if sites[at[r]].row != r { // a commit with the kernel of the one before changes nothing
			switch f.Change {
			case kernel.Introduced:
				t.Change = kernel.NotIntroduced
			case kernel.Fixed:
				t.Change = ""
			}
		}
		sha := st.rows[sites[f.Since].row].SHA
		switch t.Change {
		case kernel.Introduced:
			if st.res.FirstBad[test] == "" {
				st.res.FirstBad[test] = sha
				for _, k := range f.OneOf {
					st.res.OneOf[test] = append(st.res.OneOf[test], st.rows[sites[k].row].SHA)
				}
			}
			t.Since = sha
		case kernel.Fixed:
			if st.res.FirstFixed[test] == "" {
				st.res.FirstFixed[test] = st.rows[r].SHA
			}
		case kernel.NotIntroduced, kernel.Flaky:
			t.Since = sha
		}
	}
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
