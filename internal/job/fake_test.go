package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
)

// memory is a Record in memory. power fails when a test cuts it.
type memory struct {
	power func() error

	runs  []memRun
	boots []memBoot
}

type memRun struct {
	job, cell string
	run       kernel.Run
}

type memBoot struct {
	job, cell string
	boot      kernel.Boot
}

var _ Record = (*memory)(nil)

func (m *memory) Runs(_ context.Context, cell, job string) ([]kernel.Run, error) {
	if err := m.power(); err != nil {
		return nil, err
	}
	var out []kernel.Run
	for _, r := range m.runs {
		if r.cell == cell && (job == "" || r.job == job) {
			out = append(out, r.run)
		}
	}
	return out, nil
}

func (m *memory) AppendRun(_ context.Context, job, cell string, r kernel.Run) error {
	if err := m.power(); err != nil {
		return err
	}
	m.runs = append(m.runs, memRun{job, cell, r})
	return nil
}

func (m *memory) Boot(_ context.Context, cell, job string) (kernel.Boot, bool, error) {
	if err := m.power(); err != nil {
		return kernel.Boot{}, false, err
	}
	for _, b := range slices.Backward(m.boots) {
		if b.cell == cell && (job == "" || b.job == job) {
			return b.boot, true, nil
		}
	}
	return kernel.Boot{}, false, nil
}

func (m *memory) AppendBoot(_ context.Context, job, cell string, b kernel.Boot) error {
	if err := m.power(); err != nil {
		return err
	}
	m.boots = append(m.boots, memBoot{job, cell, b})
	return nil
}

var errCut = errors.New("the power is gone")

// world is a line of commits 0..n-1 and what each does. Outcomes are letters
// as in script: the k-th run of a test on a kernel has the k-th letter, and the
// last letter goes on for ever.
type world struct {
	t       *testing.T
	commits []kernel.Commit
	record  *memory

	build  map[int]kernel.BuildStatus // commit -> other than ok
	noBoot map[int]bool               // kernels that do not come up
	image  map[int]int                // commit -> commit with the same image
	clean  map[int]int                // the same for builds from nothing
	revert string                     // why the culprit does not revert
	// "commit test" or "commit boot" -> outcomes; of a boot, n is that it does not come
	// up, N that it does when it is tried once more, and D that it does not then either.
	script map[string]string
	// several makes a program one of several tests: "commit program" -> an
	// outcome for each, the same in every run; behind a colon the program's own.
	several map[string]string

	mu                  sync.Mutex // builds may be under way beside runs
	left                int        // calls of the lab and the record until the power goes; negative: never
	builds, boots, runs int
	shared              int            // runs of several tests
	open, mayOpen       int            // benches
	made                map[string]int // "commit test" -> runs made
	built               map[int]bool   // commits in the cache
	cleaned             map[int]bool   // and those built from nothing
	events              []Event
}

func newWorld(t *testing.T, n int) *world {
	t.Helper()
	w := &world{t: t, built: map[int]bool{}, cleaned: map[int]bool{}, clean: map[int]int{}, build: map[int]kernel.BuildStatus{}, noBoot: map[int]bool{}, image: map[int]int{},
		script: map[string]string{}, several: map[string]string{}, left: -1, mayOpen: 1, made: map[string]int{}}
	w.record = &memory{power: w.power}
	for i := range n {
		w.commits = append(w.commits, kernel.Commit{SHA: sha(i), Subject: fmt.Sprintf("commit %d", i), Parents: []string{sha(i - 1)}})
	}
	t.Cleanup(func() {
		if w.open != 0 {
			t.Errorf("%d benches are still open", w.open)
		}
	})
	return w
}

// number is the commit behind a sha or the digest of its image.
func number(s string) int {
	i, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return i
}

func sha(i int) string { return fmt.Sprintf("%040d", i) }

// badFrom makes every run of a test on a commit from i on fail.
func (w *world) badFrom(i int, test, outcomes string) {
	for ; i < len(w.commits); i++ {
		w.script[fmt.Sprintf("%d %s", i, test)] = outcomes
	}
}

func (w *world) power() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.left == 0 {
		return errCut
	}
	w.left--
	return nil
}

// lab returns a lab of a job in this world.
func (w *world) lab(job string) *Lab {
	return &Lab{Job: job, Record: w.record, Setting: "tcg", Build: w.buildOne, BuildClean: w.buildClean, Revert: w.revertOne, Boot: w.bootOne,
		Notify: func(e Event) { w.events = append(w.events, e) }}
}

func (w *world) buildOne(_ context.Context, c kernel.Commit) (kernel.Build, error) {
	return w.buildInto(w.built, w.image, c)
}

func (w *world) buildClean(_ context.Context, c kernel.Commit) (kernel.Build, error) {
	return w.buildInto(w.cleaned, w.clean, c)
}

// reverted is the commit that undoes the culprit.
const reverted = 900

func (w *world) revertOne(_ context.Context, _, _ kernel.Commit) (kernel.Commit, string, error) {
	if err := w.power(); err != nil || w.revert != "" {
		return kernel.Commit{}, w.revert, err
	}
	return kernel.Commit{SHA: sha(reverted)}, "", nil
}

func (w *world) buildInto(cache map[int]bool, image map[int]int, c kernel.Commit) (kernel.Build, error) {
	if err := w.power(); err != nil {
		return kernel.Build{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	i := number(c.SHA)
	cached := cache[i]
	if !cached {
		w.builds++
		cache[i] = w.build[i] == "" // a failure is not cached
	}
	if st := w.build[i]; st != "" {
		return kernel.Build{Status: st, Error: "mm/memory.c: error"}, nil
	}
	if j, ok := image[i]; ok {
		i = j
	}
	return kernel.Build{Status: kernel.BuildOK, Cached: cached, Kernel: kernel.Kernel{Digest: fmt.Sprint(i), Release: "6.12"}}, nil
}

func (w *world) bootOne(_ context.Context, k kernel.Kernel) (Bench, kernel.Boot, error) {
	if err := w.power(); err != nil {
		return nil, kernel.Boot{}, err
	}
	w.boots++
	i := number(k.Digest)
	if w.noBoot[i] {
		return nil, kernel.Boot{Status: kernel.BootFailed, Reason: "no agent", Console: "boot log"}, nil
	}
	boot := kernel.Boot{Status: kernel.BootOK}
	key := fmt.Sprintf("%d boot", i)
	if s := w.script[key]; s != "" {
		letter := s[min(w.made[key], len(s)-1)]
		w.made[key]++
		switch letter {
		case 'n':
			return nil, kernel.Boot{Status: kernel.BootFailed, Reason: "no agent"}, nil
		case 'D':
			w.boots++
			return nil, kernel.Boot{Status: kernel.BootFailed, Reason: "no agent", Failed: &kernel.Boot{Status: kernel.BootFailed, Reason: "no agent"}}, nil
		case 'N':
			w.boots++
			boot.Failed = &kernel.Boot{Status: kernel.BootFailed, Reason: "no agent"}
		default:
			said := run("boot", letter)
			boot.Signature, boot.Reason = said.Signature, said.Reason
		}
	}
	if w.open++; w.open > w.mayOpen {
		w.t.Errorf("%d kernels are up at once: their memory is the host's", w.open)
	}
	return &fakeBench{w, i}, boot, nil
}

type fakeBench struct {
	w      *world
	commit int // -1 once closed
}

func (b *fakeBench) Close() {
	if b.commit < 0 {
		b.w.t.Error("a bench is closed twice")
		return
	}
	b.commit = -1
	b.w.open--
}

func (b *fakeBench) Run(_ context.Context, p runner.Program) (kernel.Run, error) {
	if b.commit < 0 {
		b.w.t.Error("a run on a closed bench")
	}
	if err := b.w.power(); err != nil {
		return kernel.Run{}, err
	}
	if skip, ok := b.PlanOut(p); ok {
		return skip, nil
	}
	b.w.runs++
	key := fmt.Sprintf("%d %s", b.commit, p.Name)
	s := b.w.script[key]
	if s == "" {
		s = "p"
	}
	k := min(b.w.made[key], len(s)-1)
	b.w.made[key]++
	if tests := b.w.several[key]; tests != "" {
		return runOfSeveral(p.Name, tests), nil
	}
	return run(p.Name, s[k]), nil
}

// PlanOut skips what needs something: this guest has nothing.
func (b *fakeBench) PlanOut(p runner.Program) (kernel.Run, bool) {
	return kernel.Run{Test: p.Name, Outcome: kernel.Skip, Reason: "nothing here"}, len(p.Needs) > 0
}

// RunTogether gives every test its next outcome. A crash, hang or infra leaves
// nothing to be known about any of them.
func (b *fakeBench) RunTogether(ctx context.Context, ps []runner.Program) (map[string]kernel.Run, error) {
	b.w.shared++
	runs, upset := map[string]kernel.Run{}, false
	for _, p := range ps {
		r, err := b.Run(ctx, p)
		if err != nil {
			return nil, err
		}
		b.w.runs--
		switch r.Outcome {
		case kernel.Pass:
			runs[p.Name] = r
		case kernel.Fail, kernel.Skip:
		default:
			upset = true
		}
	}
	if upset {
		return nil, nil
	}
	return runs, nil
}

// run makes a run: p pass, f the failure that is looked for, o another one,
// c crash, h hang, s skip, i infra, b infra because the test bails out.
func run(test string, letter byte) kernel.Run {
	r := kernel.Run{Test: test, Duration: time.Second}
	name := func(o kernel.Outcome, title string) {
		r.Outcome, r.Reason, r.Signature = o, title, kernel.Signature{Kind: string(o), Title: title}
	}
	switch letter {
	case 'p':
		r.Outcome = kernel.Pass
	case 'f':
		name(kernel.Fail, "missed COW")
	case 'o':
		name(kernel.Fail, "corruption")
	case 'c':
		name(kernel.Crash, "NULL pointer dereference")
	case 'h':
		name(kernel.Hang, "no result in time")
	case 's':
		r.Outcome, r.Reason = kernel.Skip, "no huge pages"
	case 'i':
		r.Outcome, r.Reason = kernel.Infra, "qemu died"
	case 'b':
		r.Outcome, r.Reason, r.GaveUp = kernel.Infra, "test: fork: Cannot allocate memory", true
	default:
		panic("no such letter: " + string(letter))
	}
	return r
}

// runOfSeveral makes a run of a program with several tests, called 1, 2 and so on.
func runOfSeveral(program, letters string) kernel.Run {
	r := kernel.Run{Test: program, Outcome: kernel.Pass}
	add := func(name string, letter byte) {
		x := run(program, letter)
		if x.Outcome.Bad() && !r.Outcome.Bad() {
			r.Outcome, r.Signature, r.Reason = x.Outcome, x.Signature, x.Reason
		}
		r.Tests = append(r.Tests, kernel.TestOutcome{Name: name, Outcome: x.Outcome, Signature: x.Signature, Reason: x.Reason})
	}
	tests, own, _ := strings.Cut(letters, ":")
	if own != "" {
		add("", own[0])
	}
	for i := range len(tests) {
		add(strconv.Itoa(i+1), tests[i])
	}
	return r
}

// plan asks for tests with two runs each.
func plan(tests ...string) Plan {
	p := Plan{Runs: 2}
	for _, n := range tests {
		p.Programs = append(p.Programs, program(n))
	}
	return p
}

func program(name string) runner.Program {
	return runner.Program{Name: name, Argv: []string{"/bin/repro", name}, Limit: time.Minute}
}
