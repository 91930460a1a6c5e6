package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
	"github.com/kernel-bisect/kbisect/internal/console"
	"github.com/kernel-bisect/kbisect/internal/job"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/queue"
	"github.com/kernel-bisect/kbisect/internal/runner"
)

// Queue takes tasks to workers.
type Queue interface {
	Do(ctx context.Context, t queue.Task) (queue.Answer, error)
	// Distrust gives a worker no further tasks.
	Distrust(worker string, why error)
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
	r, _, err := l.do(ctx, "", Order{Kind: kind, Commit: c}, func(r *Result) error { return checkBuild(&r.Build) })
	if err != nil {
		return kernel.Build{}, err
	}
	return r.Build, nil
}

func (l *Lab) boot(ctx context.Context, k kernel.Kernel) (job.Bench, kernel.Boot, error) {
	r, worker, err := l.do(ctx, "", Order{Kind: kindBoot, Kernel: k}, func(r *Result) error { return checkBoot(&r.Boot) })
	if err != nil {
		return nil, kernel.Boot{}, err
	}
	if r.Boot.Status != kernel.BootOK {
		return nil, r.Boot, nil
	}
	return &bench{lab: l, kernel: k, guest: r.Guest, worker: worker}, r.Boot, nil
}

// do has one order carried out, by a certain worker or, with "", by any: it then
// waits until there is one. Who answers what check refuses gets no more tasks,
// and another does this one; without another it is the error.
func (l *Lab) do(ctx context.Context, worker string, o Order, check func(*Result) error) (Result, string, error) {
	if l.Turn != nil {
		if err := l.Turn(ctx); err != nil {
			return Result{}, "", err
		}
	}
	for refused := error(nil); ; {
		r, by, err := l.once(ctx, worker, o, check)
		var nonsense *nonsenseError
		switch {
		case errors.As(err, &nonsense):
			l.Queue.Distrust(by, nonsense.why)
			worker, refused = "", err
		case !errors.Is(err, queue.ErrNoWorker):
			return r, by, err
		case refused != nil:
			return r, by, refused
		case worker != "":
			return r, by, err
		default:
			l.tell(Word{Text: "no worker is connected that could do it"})
		}
	}
}

// nonsenseError refuses an answer that no honest worker gives.
type nonsenseError struct {
	worker string
	why    error
}

func (e *nonsenseError) Error() string { return "worker " + e.worker + ": " + e.why.Error() }

func (l *Lab) once(ctx context.Context, worker string, o Order, check func(*Result) error) (Result, string, error) {
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
		return Result{}, a.Worker, fmt.Errorf("worker %s: %s", a.Worker, console.Clean([]byte(a.Err), maxWords))
	}
	r, err := decodeResult(a.Body)
	if err == nil {
		err = check(&r)
	}
	if err != nil {
		return Result{}, a.Worker, &nonsenseError{a.Worker, err}
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
		w.Text, w.Tail = console.Clean([]byte(w.Text), maxWords), console.Clean([]byte(w.Tail), maxWords)
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

func (b *bench) do(ctx context.Context, o Order, check func(*Result) error) (Result, error) {
	o.Kernel = b.kernel
	r, worker, err := b.lab.do(ctx, b.worker, o, check)
	if errors.Is(err, queue.ErrNoWorker) {
		r, worker, err = b.lab.do(ctx, "", o, check)
	}
	if worker != "" {
		b.worker = worker
	}
	return r, err
}

func (b *bench) Run(ctx context.Context, p runner.Program) (kernel.Run, error) {
	r, err := b.do(ctx, Order{Kind: kindRun, Programs: pack(p)}, func(r *Result) error { return checkRun(&r.Run, p) })
	return r.Run, err
}

func (b *bench) RunTogether(ctx context.Context, ps []runner.Program) (map[string]kernel.Run, error) {
	r, err := b.do(ctx, Order{Kind: kindTogether, Programs: pack(ps...)}, func(r *Result) error {
		for name, run := range r.Runs {
			i := slices.IndexFunc(ps, func(p runner.Program) bool { return p.Name == name })
			if i < 0 {
				return fmt.Errorf("a run of %.100q, which nobody asked for", name)
			}
			if err := checkRun(&run, ps[i]); err != nil {
				return err
			}
			r.Runs[name] = run
		}
		return nil
	})
	return r.Runs, err
}

func (b *bench) PlanOut(p runner.Program) (kernel.Run, bool) { return runner.PlanOut(b.guest, p) }

// Close does nothing: the worker takes a kernel down that it does not need.
func (b *bench) Close() {}
