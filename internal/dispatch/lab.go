package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
	"github.com/kernel-bisect/kbisect/internal/job"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/queue"
	"github.com/kernel-bisect/kbisect/internal/runner"
)

// Queue takes tasks to workers.
type Queue interface {
	Do(ctx context.Context, t queue.Task) (queue.Answer, error)
}

// Lab sends the steps of one attempt at a job to workers.
type Lab struct {
	Queue    Queue
	Job      string
	Attempt  int
	Priority int
	Needs    []string        // labels that a worker must have
	Request  json.RawMessage // see Order
	Mirror   string          // see Order
	Progress func(Word)      // may be nil
	// Turn waits before each step while others go first; may be nil.
	Turn func(ctx context.Context) error

	seq atomic.Int64
}

// Equip gives a job's lab builds and guests that are made by workers. Lab is
// then for that job alone.
func (l *Lab) Equip(lab *job.Lab, builds bool) {
	if builds {
		lab.Build = func(ctx context.Context, c kernel.Commit) (kernel.Build, error) { return l.build(ctx, kindBuild, c) }
		lab.BuildClean = func(ctx context.Context, c kernel.Commit) (kernel.Build, error) { return l.build(ctx, kindClean, c) }
	}
	lab.Boot = l.boot
}

func (l *Lab) build(ctx context.Context, kind string, c kernel.Commit) (kernel.Build, error) {
	r, _, err := l.do(ctx, "", Order{Kind: kind, Commit: c})
	if err != nil {
		return kernel.Build{}, err
	}
	if err := checkBuild(r.Build); err != nil {
		return kernel.Build{}, err
	}
	return r.Build, nil
}

func (l *Lab) boot(ctx context.Context, k kernel.Kernel) (job.Bench, kernel.Boot, error) {
	r, worker, err := l.do(ctx, "", Order{Kind: kindBoot, Kernel: k})
	if err != nil {
		return nil, kernel.Boot{}, err
	}
	switch r.Boot.Status {
	case kernel.BootOK:
		return &bench{lab: l, kernel: k, guest: r.Guest, worker: worker}, r.Boot, nil
	case kernel.BootFailed:
		return nil, r.Boot, nil
	}
	return nil, kernel.Boot{}, fmt.Errorf("worker %s: a boot ended as %q, which is no end of a boot", worker, r.Boot.Status)
}

// do has one order carried out, by a certain worker or, with "", by any: it then
// waits until there is one.
func (l *Lab) do(ctx context.Context, worker string, o Order) (Result, string, error) {
	if l.Turn != nil {
		if err := l.Turn(ctx); err != nil {
			return Result{}, "", err
		}
	}
	for {
		r, by, err := l.once(ctx, worker, o)
		if worker != "" || !errors.Is(err, queue.ErrNoWorker) {
			return r, by, err
		}
		l.tell(Word{Text: "no worker is connected that could do it"})
	}
}

func (l *Lab) once(ctx context.Context, worker string, o Order) (Result, string, error) {
	o.Request, o.Mirror = l.Request, l.Mirror
	body, err := json.Marshal(o)
	if err != nil {
		return Result{}, "", err
	}
	a, err := l.Queue.Do(ctx, queue.Task{
		Job: l.Job, Attempt: l.Attempt, Seq: int(l.seq.Add(1)), Priority: l.Priority, Kind: o.Kind,
		Needs: l.Needs, Worker: worker, Body: body, Progress: l.report,
	})
	if err != nil {
		return Result{}, "", err
	}
	if a.Err != "" {
		return Result{}, a.Worker, fmt.Errorf("worker %s: %s", a.Worker, a.Err)
	}
	r, err := decodeResult(a.Body)
	if err != nil {
		return Result{}, a.Worker, fmt.Errorf("worker %s: %w", a.Worker, err)
	}
	return r, a.Worker, nil
}

// report takes a word of a worker, which may be nonsense.
func (l *Lab) report(text []byte) {
	var w Word
	if strictly(text, &w) == nil {
		l.tell(w)
	}
}

func (l *Lab) tell(w Word) {
	if l.Progress != nil {
		l.Progress(w)
	}
}

// bench is a kernel that is up on a worker. Its runs go there; when that worker
// is gone another boots the kernel again. One goroutine may use it at a time.
type bench struct {
	lab    *Lab
	kernel kernel.Kernel
	guest  agentproto.Hello
	worker string
}

func (b *bench) do(ctx context.Context, o Order) (Result, error) {
	o.Kernel = b.kernel
	r, worker, err := b.lab.do(ctx, b.worker, o)
	if errors.Is(err, queue.ErrNoWorker) {
		r, worker, err = b.lab.do(ctx, "", o)
	}
	if worker != "" {
		b.worker = worker
	}
	return r, err
}

func (b *bench) Run(ctx context.Context, p runner.Program) (kernel.Run, error) {
	r, err := b.do(ctx, Order{Kind: kindRun, Programs: pack(p)})
	if err != nil {
		return kernel.Run{}, err
	}
	return r.Run, checkRun(r.Run, p)
}

func (b *bench) RunTogether(ctx context.Context, ps []runner.Program) (map[string]kernel.Run, error) {
	r, err := b.do(ctx, Order{Kind: kindTogether, Programs: pack(ps...)})
	if err != nil {
		return nil, err
	}
	for name, run := range r.Runs {
		i := slices.IndexFunc(ps, func(p runner.Program) bool { return p.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("worker %s: a run of %.100q, which nobody asked for", b.worker, name)
		}
		if err := checkRun(run, ps[i]); err != nil {
			return nil, err
		}
	}
	return r.Runs, nil
}

func (b *bench) PlanOut(p runner.Program) (kernel.Run, bool) { return runner.PlanOut(b.guest, p) }

// Close does nothing: the worker takes a kernel down that it does not need.
func (b *bench) Close() {}

// checkBuild refuses what no build gives. What a worker says is not more true
// for that, but it does not make nonsense of the record.
func checkBuild(b kernel.Build) error {
	switch {
	case b.Status == kernel.BuildOK && b.Kernel.Digest == "":
		return errors.New("a worker built a kernel without a digest")
	case !slices.Contains([]kernel.BuildStatus{kernel.BuildOK, kernel.BuildFailed, kernel.BuildRefused}, b.Status):
		return fmt.Errorf("a worker's build ended as %.100q, which is no end of a build", b.Status)
	}
	return nil
}

func checkRun(r kernel.Run, p runner.Program) error {
	switch {
	case r.Test != p.Name:
		return fmt.Errorf("a worker answers a run of %s with one of %.100q", p.Name, r.Test)
	case !r.Outcome.Counts() && r.Outcome != kernel.Skip && r.Outcome != kernel.Infra:
		return fmt.Errorf("a worker's run of %s ended as %.100q, which is no outcome", p.Name, r.Outcome)
	case r.Iterations > max(p.Iterations, 1):
		return fmt.Errorf("a worker's run of %s has %d iterations, and %d were asked for", p.Name, r.Iterations, p.Iterations)
	}
	return nil
}
