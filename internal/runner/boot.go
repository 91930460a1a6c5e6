// Package runner carries out one probe: it builds a commit, boots the kernel,
// runs tests in fresh guests and returns outcomes. It joins the adapters
// (kbuild, qemu, guest) and retries infrastructure failures only. It must not
// know why a probe is wanted, nor keep its results.
package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
	"github.com/kernel-bisect/kbisect/internal/console"
	"github.com/kernel-bisect/kbisect/internal/guest"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/qemu"
	"github.com/kernel-bisect/kbisect/internal/verdict"
)

// Lab boots kernels and runs programs in guests.
type Lab struct {
	Owner string // data directory
	QEMU  string // path of the emulator
	Cell  *qemu.Cell
	Accel string
	Image string // path of the initramfs, for kernels that bring no other
	// Waiting is a program of the image that waits for its arguments, as
	// agentproto.Prepare describes it. Forked guests find it started.
	Waiting []string
	Limits  guest.Limits
	Log     *zap.Logger
	// Allowed are complaints of the kernel that do not count.
	Allowed []kernel.Allowed
	// NoFork boots a guest for every run instead of forking it from a snapshot.
	NoFork bool
	// Tail takes the last lines of the console of a guest that boots or runs, now
	// and then; may be nil.
	Tail func(text string)
}

// Program is something to run in a guest.
type Program struct {
	Name  string        // of the test
	Argv  []string      // paths in the guest
	Limit time.Duration // how long it may take
	// Needs is what the guest must have, or it is skipped: see agentproto.CheckNeed.
	Needs []string `json:",omitempty"`
	// Boot says that the kernel's own start is the test, and that there is nothing
	// to run: verdict.OfBoot judges it.
	Boot bool `json:",omitempty"`
	// Several says that Argv[0] runs several tests, one after another, if it
	// gets the further arguments of each.
	Several bool `json:"-"`
	// Iterations is how often a run executes the program in its guest, one after
	// another until one does not pass; 0 and 1 are once. So a failure with rate r
	// shows in a run with rate 1-(1-r)^Iterations. Each has Limit for itself.
	Iterations int `json:",omitempty"`
}

// maxRepeating is when a run begins no further iteration. What has passed until
// then counts as it is: kernel.Run says how often that was.
const maxRepeating = 10 * time.Minute

// maxConsole bounds the boot log kept with a result; uname(2) has 64 bytes for a
// release, but what comes is what the guest says.
const (
	maxConsole = 64 << 10
	maxRelease = 64
)

// infraTries is how often a run is tried that ends as infra. A third failure
// in a row is no accident.
const infraTries = 3

// Booted is a kernel that reached the agent. Every Run gets a guest of its own.
// One goroutine may use it at a time.
type Booted struct {
	Hello agentproto.Hello

	lab      *Lab
	opts     qemu.Options
	snapshot *qemu.Snapshot // nil: boot for every run
	ahead    *ahead         // guests forked from the snapshot
}

// Boot starts the kernel, and once more if it does not come up. A kernel that does not
// is a Boot with a reason and a nil *Booted, not an error.
func (l *Lab) Boot(ctx context.Context, k kernel.Kernel, m kernel.Machine) (*Booted, kernel.Boot, error) {
	var b *Booted
	var boot kernel.Boot
	var failed *kernel.Boot
	var err error
	// Once more before a kernel is blamed: a loaded host can starve a guest. What
	// failed in silence is to be seen then.
	for _, more := range []string{"", " " + qemu.LoudBoot} {
		b, boot, err = l.boot(ctx, k, m, more)
		boot.Failed = failed
		if err == nil && boot.Status == kernel.BootOK || ctx.Err() != nil {
			break
		}
		if err == nil && failed == nil {
			first := boot
			failed = &first
		}
		l.Log.Info("boot failed, once more", zap.String("kernel", k.Release), zap.String("reason", boot.Reason), zap.Error(err))
	}
	return b, boot, err
}

func (l *Lab) boot(ctx context.Context, k kernel.Kernel, m kernel.Machine, more string) (*Booted, kernel.Boot, error) {
	start := time.Now()
	opts := qemu.Options{
		Owner: l.Owner, Binary: l.QEMU, Cell: l.Cell, Accel: l.Accel, Machine: m, Kernel: k.Image, Initrd: l.Image,
		Append: fmt.Sprintf("%s kbisect.swap_mib=%d", agentproto.Env, m.SwapMiB) + more,
	}
	if k.Modules != nil {
		opts.Initrd = k.Modules.Initrd
	}
	if !l.NoFork {
		ram, err := qemu.NewRAM(m.MemoryMiB)
		if err != nil {
			return nil, kernel.Boot{}, err
		}
		opts.RAM = ram
	}
	b := &Booted{lab: l, opts: opts}
	boot, err := b.start(ctx, k)
	boot.Seconds = time.Since(start).Seconds()
	if err != nil || boot.Status != kernel.BootOK {
		b.Close()
		return nil, boot, err
	}
	return b, boot, nil
}

// start boots the template guest, checks that it is the right kernel, and takes
// the snapshot.
func (b *Booted) start(ctx context.Context, k kernel.Kernel) (kernel.Boot, error) {
	vm, err := qemu.Start(ctx, b.opts)
	if err != nil {
		return kernel.Boot{}, fmt.Errorf("boot: %w", err)
	}
	defer vm.Kill()
	defer b.lab.follow(vm)()
	s := guest.New(machine(vm), b.lab.Limits)
	defer s.Close()
	boot := kernel.Boot{Status: kernel.BootOK}
	b.Hello, err = s.Hello(ctx)
	boot.Release = console.Clean([]byte(b.Hello.Release), maxRelease)
	log := vm.Console.Bytes()
	b.listen(&boot, log, err == nil)
	var refused *guest.BootError
	switch {
	case errors.As(err, &refused) && refused.Infra:
		return boot, err
	case errors.As(err, &refused):
		boot.Status = kernel.BootFailed
		if said := agentSaid(log); said != "" {
			boot.Reason = said // it knows what is missing
		} else if boot.Reason == "" {
			boot.Reason = refused.Reason
		}
		return boot, nil
	case err != nil:
		return boot, err
	}
	boot.Problems = problems(b.Hello)
	for _, p := range boot.Problems {
		b.lab.Log.Warn("the guest lacks something; tests that need it will skip", zap.String("problem", p))
	}
	if got := b.Hello.ConfigCRC; k.ConfigCRC != "" && got != "" && got != k.ConfigCRC {
		return boot, fmt.Errorf("boot: the guest runs another configuration (CRC %.10q) than the one that was built (%s)", got, k.ConfigCRC)
	}
	if b.opts.RAM == nil {
		return boot, nil
	}
	if len(b.lab.Waiting) > 0 {
		if err := s.Prepare(ctx, b.lab.Waiting); ctx.Err() != nil {
			return boot, ctx.Err()
		} else if err != nil {
			b.lab.Log.Warn("every run will start its program anew", zap.Error(err))
		}
		// No run has it on its console: that begins where the guest is forked.
		b.listen(&boot, vm.Console.Bytes(), true)
	}
	if b.snapshot, err = vm.Snapshot(); err != nil {
		b.lab.Log.Warn("no snapshot, every run boots a guest of its own", zap.Error(err))
		_ = b.opts.RAM.Close()
		b.opts.RAM = nil
		return boot, nil
	}
	b.ahead = newAhead(ctx, b.fork)
	return boot, nil
}

// listen takes what the kernel has said until now: its first complaint, or what ended
// it if it did not come up.
func (b *Booted) listen(boot *kernel.Boot, log []byte, up bool) {
	boot.Console = console.Clean(log, maxConsole)
	found, _ := console.Allow(console.Scan(log), b.lab.Allowed)
	if !up {
		found = ends(found, log)
	}
	if len(found) > 0 {
		boot.Signature = found[0].Signature
		boot.Reason = "during boot: " + found[0].Signature.Title
	}
}

// ends is the complaint that ended a kernel which did not come up, as far as it said so
// itself: a warning that other kernels have come up with does not. A panic that only
// carries out the policy for a complaint is that (console.Scan); kernel/panic.c has the
// words.
func ends(found []console.Finding, log []byte) []console.Finding {
	panicked := bytes.Contains(log, []byte("Kernel panic - not syncing"))
	for i, f := range slices.Backward(found) {
		if panicked || f.Signature.Kind == "hang" {
			return found[i : i+1]
		}
	}
	return nil
}

// maxProblems bounds what is kept of a guest's complaints.
const maxProblems = 16

// problems are what the agent could not set up, as far as one wants to read it.
func problems(h agentproto.Hello) []string {
	var out []string
	for _, p := range h.Problems[:min(len(h.Problems), maxProblems)] {
		out = append(out, console.Clean([]byte(p), 300))
	}
	return out
}

// agentSaid is what the agent wrote to the console before it gave up.
func agentSaid(log []byte) string {
	i := bytes.LastIndex(log, []byte("kbisect agent: "))
	if i < 0 {
		return ""
	}
	line, _, _ := bytes.Cut(log[i:], []byte("\n"))
	return console.Clean(bytes.TrimSpace(line), 300)
}

// Close releases the snapshot and its memory.
func (b *Booted) Close() {
	if b.ahead != nil {
		b.ahead.close()
	}
	if b.snapshot != nil {
		_ = b.snapshot.Close()
	}
	if b.opts.RAM != nil {
		_ = b.opts.RAM.Close()
	}
}

// Guest is what the guest said that it has.
func (b *Booted) Guest() agentproto.Hello { return b.Hello }

// PlanOut gives the skip of what needs what the guest does not have.
func (b *Booted) PlanOut(p Program) (kernel.Run, bool) { return PlanOut(b.Hello, p) }

// PlanOut is that of a guest that said hello.
func PlanOut(hello agentproto.Hello, p Program) (kernel.Run, bool) {
	why := hello.Lacks(p.Needs)
	return kernel.Run{Test: p.Name, Outcome: kernel.Skip, Reason: why}, why != ""
}

// Run executes p in a fresh guest, as often as it asks for, and judges what was
// seen.
func (b *Booted) Run(ctx context.Context, p Program) (kernel.Run, error) {
	var run kernel.Run
	if skip, ok := b.PlanOut(p); ok {
		return skip, nil
	}
	for range infraTries {
		var err error
		run, err = b.repeat(ctx, p)
		if ctx.Err() != nil {
			return run, ctx.Err()
		}
		if err != nil {
			run = kernel.Run{Test: p.Name, Outcome: kernel.Infra, Reason: console.Clean([]byte(err.Error()), 0)}
		}
		if run.Outcome != kernel.Infra {
			break
		}
		b.lab.Log.Info("run ended as infra", zap.String("test", p.Name), zap.String("reason", run.Reason))
	}
	return run, nil
}

// repeat executes p in one guest until an iteration does not pass. That one, or
// else the last, is the run's outcome. The host repeats, not the agent: what an
// iteration came to depends on the console and on KTAP, which are judged here.
func (b *Booted) repeat(ctx context.Context, p Program) (kernel.Run, error) {
	g := b.fresh(ctx)
	if g.err != nil {
		return kernel.Run{}, g.err
	}
	defer g.close()
	for i, took := 1, time.Duration(0); ; i++ {
		e, err := b.execute(ctx, g, p)
		if err != nil {
			return kernel.Run{}, err
		}
		run := verdict.Classify(p.Name, e)
		took += run.Duration
		run.Duration = took
		if p.Iterations > 1 {
			run.Iterations = i
		}
		if run.Outcome != kernel.Pass || i >= p.Iterations || took >= maxRepeating {
			return run, nil
		}
	}
}

// maxTogether bounds a run of several tests, each of which has a limit of its own.
const maxTogether = 5 * time.Minute

// RunTogether executes programs that have Several set in one fresh guest. It
// returns the runs, by test, that sharing a guest cannot have spoilt; there may
// be none.
func (b *Booted) RunTogether(ctx context.Context, ps []Program) (map[string]kernel.Run, error) {
	all := Program{Argv: ps[0].Argv[:1:1]}
	names := make([]string, len(ps))
	for i, p := range ps {
		names[i] = p.Name
		all.Argv = append(all.Argv, p.Argv[1:]...)
		all.Limit = min(all.Limit+p.Limit, maxTogether)
	}
	e, err := b.once(ctx, all)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		b.lab.Log.Info("no guest for several tests", zap.Error(err))
		return nil, nil
	}
	return verdict.Together(names, e), nil
}

// once executes p in a fresh guest.
func (b *Booted) once(ctx context.Context, p Program) (verdict.Evidence, error) {
	g := b.fresh(ctx)
	if g.err != nil {
		return verdict.Evidence{}, g.err
	}
	defer g.close()
	return b.execute(ctx, g, p)
}

func (b *Booted) execute(ctx context.Context, g prepared, p Program) (verdict.Evidence, error) {
	defer b.lab.follow(g.vm)()
	e, err := g.session.Run(ctx, p.Argv, p.Limit)
	e.Allowed = b.lab.Allowed
	return e, err
}

// fresh gives a guest that has run nothing yet.
func (b *Booted) fresh(ctx context.Context) prepared {
	if b.ahead != nil {
		return b.ahead.take(ctx)
	}
	vm, err := qemu.Start(ctx, b.opts)
	if err != nil {
		return prepared{err: err}
	}
	g := prepared{vm: vm, session: guest.New(machine(vm), b.lab.Limits)}
	if _, err := g.session.Hello(ctx); err != nil {
		g.close()
		return prepared{err: err}
	}
	return g
}

// fork gives a guest that goes on from the snapshot and is awake.
func (b *Booted) fork(ctx context.Context) prepared {
	vm, err := b.snapshot.Fork(ctx)
	if err != nil {
		return prepared{err: err}
	}
	g := prepared{vm: vm, session: guest.New(machine(vm), b.lab.Limits)}
	if err := g.session.Wake(ctx); err != nil {
		g.close()
		return prepared{err: err}
	}
	return g
}

func machine(vm *qemu.VM) guest.Machine {
	return guest.Machine{
		Agent: vm.Agent, Console: vm.Console, Exited: vm.Exited(),
		End: func() (string, bool, string) {
			e := vm.End()
			return e.Reason, e.Panicked, e.Stderr
		},
	}
}

// WriteImage stores an initramfs where QEMU can read it.
func WriteImage(path string, image []byte) error {
	if err := os.WriteFile(path+".new", image, 0o644); err != nil {
		return fmt.Errorf("guest image: %w", err)
	}
	return os.Rename(path+".new", path)
}
