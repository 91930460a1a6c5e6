// Package job carries out the kinds of work: check of one kernel or of several
// (matrix), series and bisect. Each is a function of its request and of the runs
// in the record: it asks the record first and the lab only for what is missing,
// so that a killed job resumes by being asked again, and two jobs on the same
// kernel share runs. It must not know how kernels are built or guests are run.
package job

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
	"github.com/kernel-bisect/kbisect/internal/verdict"
)

// Bench is a booted kernel; every Run gets a guest of its own.
type Bench interface {
	Run(ctx context.Context, p runner.Program) (kernel.Run, error)
	// PlanOut gives the skip of a program that needs what the guest has not.
	PlanOut(p runner.Program) (kernel.Run, bool)
	// RunTogether runs tests in one guest and returns what that can tell, by test.
	RunTogether(ctx context.Context, ps []runner.Program) (map[string]kernel.Run, error)
	Close()
}

// Record keeps runs and boots. Both are appended and never changed.
type Record interface {
	// Runs returns the runs of a cell in the order they were made, of one job
	// or, with "", of all.
	Runs(ctx context.Context, cell, job string) ([]kernel.Run, error)
	AppendRun(ctx context.Context, job, cell string, r kernel.Run) error
	// Boot returns the latest boot of a cell; false when there is none.
	Boot(ctx context.Context, cell, job string) (kernel.Boot, bool, error)
	AppendBoot(ctx context.Context, job, cell string, b kernel.Boot) error
}

// Lab is what a job works with.
type Lab struct {
	Job   string // id
	Build func(ctx context.Context, c kernel.Commit) (kernel.Build, error)
	// BuildAhead lets a series build the next commits while it runs one, and a
	// bisection the one that it is likely to want.
	BuildAhead bool
	// BuildClean is Build from nothing, kept apart from what Build makes.
	BuildClean func(ctx context.Context, c kernel.Commit) (kernel.Build, error)
	// BuildConfig is Build with a whole .config of the user's in place of the
	// profile's, and gives the one that came out of it too.
	BuildConfig func(ctx context.Context, c kernel.Commit, whole []byte) (b kernel.Build, config []byte, err error)
	// Revert makes a commit on top of head that undoes culprit, or says why
	// there is none.
	Revert func(ctx context.Context, culprit, head kernel.Commit) (c kernel.Commit, why string, err error)
	Boot   func(ctx context.Context, k kernel.Kernel) (Bench, kernel.Boot, error)
	Record Record
	// Setting is a digest of everything but kernel and program that may
	// influence a run: machine, accelerator, guest image.
	Setting string
	Fresh   bool        // use no runs of other jobs
	Notify  func(Event) // may be nil
}

// Event tells what a job is doing, for progress on a terminal.
type Event struct {
	Phase  string // build, boot, run, and done for a commit that is through
	Commit kernel.Commit
	Label  string // name of a kernel that is no commit
	Index  int    // of the commit or kernel, from 1; 0 where there is no order
	Total  int
	Done   int    // runs done on this commit
	Of     int    // runs expected on this commit, 0 when unknown
	Text   string // test under way, or what came out
	Tail   string // last lines of the console of a guest that runs
}

func (l *Lab) notify(e Event) {
	if l.Notify != nil {
		l.Notify(e)
	}
}

// subject is one kernel under test in one job. It boots the kernel at the
// first run that the record does not have.
type subject struct {
	lab    *Lab
	kernel kernel.Kernel
	commit string // whose kernel it is, "" where it is no commit's
	bench  Bench
	known  map[string][]kernel.Run // cell -> recorded runs not used yet
	shared map[string]*sharedRuns  // by test
	done   map[string]*testRuns    // what was run, by program
	before verdict.Before          // of a series, nil elsewhere
	dead   string                  // why most programs cannot be run on it
	boots  bool                    // every boot is a run of the boot test
	only   bool                    // and nothing else is to be run
	booted int                     // of those on record and not used yet, how many were made here
	down   string                  // why it cannot be run any more: it booted before and does not now
}

// testRuns are the runs of a program on a kernel in this job.
type testRuns struct {
	runs   []kernel.Run
	reused int  // of them from the record
	lost   bool // we could not find out, and the runner has tried several times
}

// subject is a kernel to run programs on: if the boot test is one of them, every boot
// of it counts.
func (l *Lab) subject(k kernel.Kernel, commit string, ps ...runner.Program) *subject {
	boots := slices.ContainsFunc(ps, func(p runner.Program) bool { return p.Boot })
	others := slices.ContainsFunc(ps, func(p runner.Program) bool { return !p.Boot })
	return &subject{lab: l, kernel: k, commit: commit, boots: boots, only: boots && !others, known: map[string][]kernel.Run{}, shared: map[string]*sharedRuns{}, done: map[string]*testRuns{}}
}

func (s *subject) close() {
	if s.bench != nil {
		s.bench.Close()
		s.bench = nil
	}
}

// cell names what a run depends on.
func (s *subject) cell(p *runner.Program) string {
	h := sha256.New()
	fmt.Fprintf(h, "kbisect cell v1\nkernel %s\nsetting %s\n", s.kernel.Digest, s.lab.Setting)
	if m := s.kernel.Modules; m != nil {
		fmt.Fprintf(h, "modules %s\n", m.Digest)
	}
	if p != nil {
		q := *p
		if q.Iterations == 1 {
			q.Iterations = 0 // the same runs
		}
		text, _ := json.Marshal(q) // strings and numbers only
		fmt.Fprintf(h, "program %s\n", text)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// scope is the job whose runs count: all jobs' unless fresh ones are wanted.
func (s *subject) scope() string {
	if s.lab.Fresh {
		return s.lab.Job
	}
	return ""
}

// bootProgram is the boot test: a run of it is a boot.
var bootProgram = runner.Program{Name: kernel.BootTest, Boot: true}

// boot returns how the kernel boots, from the record if it is there. Another
// job's failure is tried again: a boot costs little and hosts differ.
func (s *subject) boot(ctx context.Context) (kernel.Boot, error) {
	cell := s.cell(nil)
	old, ok, err := s.lab.Record.Boot(ctx, cell, s.scope())
	if err != nil {
		return kernel.Boot{}, err
	}
	if ok && (old.Status == kernel.BootOK || s.only) {
		return old, nil
	}
	return s.bootNow(ctx)
}

func (s *subject) bootNow(ctx context.Context) (kernel.Boot, error) {
	s.close() // another job may have recorded a failure while this one's kernel is up
	bench, boot, err := s.lab.Boot(ctx, s.kernel)
	if err != nil {
		return boot, err
	}
	s.bench = bench
	if s.kernel.Release == "" { // the image did not say
		s.kernel.Release = boot.Release
	}
	failed := boot.Failed
	boot.Failed = nil
	if failed != nil {
		if err := s.bootRan(ctx, *failed); err != nil {
			return boot, err
		}
	}
	if err := s.bootRan(ctx, boot); err != nil {
		return boot, err
	}
	return boot, s.lab.Record.AppendBoot(ctx, s.lab.Job, s.cell(nil), boot)
}

// bootRan puts a boot on record as a run of the boot test, if that was asked for.
func (s *subject) bootRan(ctx context.Context, b kernel.Boot) error {
	if !s.boots {
		return nil
	}
	if _, err := s.recorded(ctx, bootProgram); err != nil {
		return err
	}
	r, err := s.appendBootRun(ctx, b)
	if err != nil {
		return err
	}
	cell := s.cell(&bootProgram)
	s.known[cell] = append(s.known[cell], r)
	s.booted++
	return nil
}

// bootBefore is the first run of the boot test, where none is on record: how the kernel
// booted last in a job that did not ask for it.
func (s *subject) bootBefore(ctx context.Context) ([]kernel.Run, error) {
	b, ok, err := s.lab.Record.Boot(ctx, s.cell(nil), s.scope())
	if err != nil || !ok {
		return nil, err
	}
	r, err := s.appendBootRun(ctx, b)
	return []kernel.Run{r}, err
}

func (s *subject) appendBootRun(ctx context.Context, b kernel.Boot) (kernel.Run, error) {
	r := verdict.OfBoot(b)
	s.sign(&r)
	return r, s.lab.Record.AppendRun(ctx, s.lab.Job, s.cell(&bootProgram), r)
}

// canRun says why nothing can be run of a program on a kernel that boots like
// that, "" if it can. That a kernel does not boot is what a boot test finds out.
func canRun(p runner.Program, boot kernel.Boot) string {
	if p.Boot || boot.Status == kernel.BootOK {
		return ""
	}
	return "does not boot: " + boot.Reason
}

// run returns one more run of p: the next recorded one, or a fresh one.
func (s *subject) run(ctx context.Context, p runner.Program) (r kernel.Run, reused bool, err error) {
	cell := s.cell(&p)
	left, err := s.recorded(ctx, p)
	if err != nil {
		return r, false, err
	}
	if p.Boot && len(left) == 0 {
		if _, err := s.bootNow(ctx); err != nil {
			return r, false, err
		}
		left = s.known[cell]
	}
	if len(left) > 0 {
		s.known[cell] = left[1:]
		reused = true
		if p.Boot && s.booted >= len(left) {
			s.booted, reused = len(left)-1, false
		}
		return left[0], reused, nil
	}
	up, err := s.ready(ctx)
	if up {
		r, err = s.bench.Run(ctx, p)
	} else { // the others need not go down with it
		r = kernel.Run{Test: p.Name, Outcome: kernel.Infra, Reason: s.down}
	}
	if err != nil {
		return r, false, err
	}
	s.sign(&r)
	return r, false, s.lab.Record.AppendRun(ctx, s.lab.Job, cell, r)
}

// recorded are the runs of p on record that were not used yet.
func (s *subject) recorded(ctx context.Context, p runner.Program) ([]kernel.Run, error) {
	cell := s.cell(&p)
	if _, ok := s.known[cell]; !ok {
		runs, err := s.lab.Record.Runs(ctx, cell, s.scope())
		if err == nil && p.Boot && len(runs) == 0 {
			runs, err = s.bootBefore(ctx)
		}
		if err != nil {
			return nil, err
		}
		s.known[cell] = append([]kernel.Run{}, evidence(runs)...)
	}
	return s.known[cell], nil
}

// sign says in a run whose it is.
func (s *subject) sign(r *kernel.Run) {
	r.Commit, r.Release, r.Kernel, r.Carried = s.commit, s.kernel.Release, s.kernel.Digest, s.kernel.Carried
}

// ready boots the kernel unless it is up, and says whether it is. One that is down is
// so for the rest of the job, which says so of what it had yet to run.
func (s *subject) ready(ctx context.Context) (up bool, err error) {
	if s.bench != nil || s.down != "" {
		return s.bench != nil, nil
	}
	var boot kernel.Boot
	for range readyTries {
		if boot, err = s.bootNow(ctx); err != nil || boot.Status == kernel.BootOK {
			return err == nil, err
		}
	}
	s.down = fmt.Sprintf("kernel %s booted before and does not now: %s", s.kernel.Release, boot.Reason)
	return false, nil
}

// readyTries is how often a kernel is booted that has booted before: one that fails
// every other time has its tests run in seven of eight cases.
const readyTries = 3

// evidence leaves out what says nothing about the kernel.
func evidence(runs []kernel.Run) []kernel.Run {
	var out []kernel.Run
	for _, r := range runs {
		if r.Outcome != kernel.Infra {
			out = append(out, r)
		}
	}
	return out
}

// kernelsUp are the subjects whose kernels are up, the one used last at the end.
type kernelsUp []*subject

// atOnce is how many kernels may be up: their guests' memory is the host's. Runs
// go to and fro between two or three kernels that are compared, and booting one
// costs as much as ten runs.
const atOnce = 3

// use is to be called before a subject is run: it takes down what was used least
// recently.
func (up *kernelsUp) use(s *subject) {
	if i := slices.Index(*up, s); i >= 0 {
		*up = slices.Delete(*up, i, i+1)
	}
	if len(*up) == atOnce {
		(*up)[0].close()
		*up = slices.Delete(*up, 0, 1)
	}
	*up = append(*up, s)
}

func (up *kernelsUp) closeAll() {
	for _, s := range *up {
		s.close()
	}
	*up = nil
}
