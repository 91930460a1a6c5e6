package dispatch

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
	"github.com/kernel-bisect/kbisect/internal/job"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/queue"
)

// Opened is a lab for one request.
type Opened struct {
	Build, BuildClean func(ctx context.Context, c kernel.Commit) (kernel.Build, error)
	Boot              func(ctx context.Context, k kernel.Kernel) (job.Bench, kernel.Boot, error)
	Close             func()
}

// Opener makes labs on this machine. progress takes what builds and guests say.
type Opener interface {
	Open(ctx context.Context, request json.RawMessage, mirror string, progress func(Word)) (*Opened, error)
}

// Station carries out orders on a worker. Kernels stay up for further runs
// until others need their place, or nobody runs them for a while.
type Station struct {
	opener Opener
	slots  int
	idle   time.Duration

	// mu guards the following fields.
	mu   sync.Mutex
	labs []*lab
	up   []*kernelUp // idle ones, the one used last at the end
}

// Kernels that are up are guests' memory. Runs go to and fro between two or
// three kernels that are compared, so each slot may have three; a kernel that
// had no run for idleFor will hardly have another soon.
const (
	upPerSlot  = 3
	labsKept   = 8
	idleFor    = time.Minute
	sweepEvery = 10 * time.Second
)

// lab is an opened lab with what it was opened for.
type lab struct {
	*Opened
	of   [sha256.Size]byte
	used int // orders under way

	mu      sync.Mutex
	reports []*func([]byte) // of the orders that are under way; a job may run one kernel and build the next
}

type kernelUp struct {
	lab   *lab
	of    kernelOf
	bench job.Bench
	guest agentproto.Hello
	since time.Time // idle
	end   context.CancelFunc
}

func (u *kernelUp) close() {
	u.bench.Close()
	u.end()
}

// kernelOf is what a bench is of: a kernel with a guest image, in a lab.
type kernelOf struct {
	lab             *lab
	digest, modules string
}

// NewStation makes a station with so many slots.
func NewStation(opener Opener, slots int) *Station {
	return &Station{opener: opener, slots: slots, idle: idleFor}
}

// Keep takes idle kernels down until ctx ends, and then all.
func (s *Station) Keep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			s.takeDown(func(u *kernelUp) bool { return now.Sub(u.since) >= s.idle })
		case <-ctx.Done():
			s.takeDown(func(*kernelUp) bool { return true })
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, l := range s.labs {
				l.Close()
			}
			s.labs = nil
			return
		}
	}
}

// Up counts the kernels that are up and idle.
func (s *Station) Up() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.up)
}

// takeDown closes idle kernels.
func (s *Station) takeDown(which func(*kernelUp) bool) {
	s.mu.Lock()
	var left, gone []*kernelUp
	for _, u := range s.up {
		if which(u) {
			gone = append(gone, u)
		} else {
			left = append(left, u)
		}
	}
	s.up = left
	s.mu.Unlock()
	for _, u := range gone {
		u.close()
	}
}

// Handle carries out a task.
func (s *Station) Handle(ctx context.Context, t queue.Task) ([]byte, error) {
	o, err := decodeOrder(t.Body)
	if err != nil {
		return nil, err
	}
	l, err := s.open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer s.done(l)
	r, err := s.carryOut(ctx, l, o, t.Report)
	if err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

func (s *Station) carryOut(ctx context.Context, l *lab, o Order, report func([]byte)) (Result, error) {
	defer l.listen(report)()
	switch o.Kind {
	case kindBuild, kindClean:
		build := l.Build
		if o.Kind == kindClean {
			build = l.BuildClean
		}
		if build == nil {
			return Result{}, errors.New("a build of a job without repository")
		}
		b, err := build(ctx, o.Commit)
		return Result{Build: b}, err
	case kindBoot:
		u, boot, err := s.boot(ctx, l, o.Kernel)
		if u == nil {
			return Result{Boot: boot}, err
		}
		s.back(u)
		return Result{Boot: boot, Guest: u.guest}, nil
	case kindRun:
		u, err := s.take(ctx, l, o.Kernel)
		if err != nil {
			return Result{}, err
		}
		err = errPanic
		defer func() { s.after(u, err) }()
		var run kernel.Run
		run, err = u.bench.Run(ctx, unpack(o.Programs)[0])
		return Result{Run: run}, err
	case kindTogether:
		u, err := s.take(ctx, l, o.Kernel)
		if err != nil {
			return Result{}, err
		}
		err = errPanic
		defer func() { s.after(u, err) }()
		var runs map[string]kernel.Run
		runs, err = u.bench.RunTogether(ctx, unpack(o.Programs))
		return Result{Runs: runs}, err
	}
	return Result{}, fmt.Errorf("an order of an unknown kind %.100q: run the same release on both sides", o.Kind)
}

// errPanic stands for a run that did not return: its kernel comes down too.
var errPanic = errors.New("a run panics")

// listen passes what builds and guests say to an order's report until stop. All of a
// job's orders tell the same job, so any that is under way will do.
func (l *lab) listen(report func([]byte)) (stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reports = append(l.reports, &report)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.reports = slices.DeleteFunc(l.reports, func(r *func([]byte)) bool { return r == &report })
	}
}

func (l *lab) say(w Word) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.reports); n > 0 {
		text, _ := json.Marshal(w) // strings only
		(*l.reports[n-1])(text)
	}
}

// open finds or makes the lab of an order; done gives it back.
func (s *Station) open(ctx context.Context, o Order) (*lab, error) {
	of := sha256.Sum256(append([]byte(o.Mirror+"\x00"), o.Request...))
	s.mu.Lock()
	defer s.mu.Unlock() // making one takes a moment, and others may want the same
	for i, l := range s.labs {
		if l.of == of {
			l.used++
			s.labs = append(append(s.labs[:i:i], s.labs[i+1:]...), l)
			return l, nil
		}
	}
	l := &lab{of: of, used: 1}
	opened, err := s.opener.Open(ctx, o.Request, o.Mirror, l.say)
	if err != nil {
		return nil, err
	}
	l.Opened = opened
	s.labs = append(s.labs, l)
	return l, nil
}

func (s *Station) done(l *lab) {
	s.mu.Lock()
	l.used--
	var old []*lab
	for i := 0; len(s.labs) > labsKept && i < len(s.labs); {
		if s.labs[i].used > 0 {
			i++
			continue
		}
		old = append(old, s.labs[i])
		s.labs = append(s.labs[:i:i], s.labs[i+1:]...)
	}
	s.mu.Unlock()
	for _, l := range old {
		s.takeDown(func(u *kernelUp) bool { return u.lab == l })
		l.Close()
	}
}

func of(l *lab, k kernel.Kernel) kernelOf {
	o := kernelOf{lab: l, digest: k.Digest}
	if k.Modules != nil {
		o.modules = k.Modules.Digest
	}
	return o
}

// boot boots a kernel, which is then in the caller's hands; a kernel that does
// not come up is a Boot that says so.
func (s *Station) boot(ctx context.Context, l *lab, k kernel.Kernel) (*kernelUp, kernel.Boot, error) {
	s.makeRoom()
	// The kernel outlives the task that boots it; while it boots the task can end it.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, end)
	bench, boot, err := l.Boot(life, k)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil || bench == nil {
		if bench != nil {
			bench.Close()
		}
		end()
		return nil, boot, err
	}
	u := &kernelUp{lab: l, of: of(l, k), bench: bench, end: end}
	if g, ok := bench.(interface{ Guest() agentproto.Hello }); ok {
		u.guest = g.Guest()
	}
	return u, boot, nil
}

// makeRoom takes down what was used least recently.
func (s *Station) makeRoom() {
	s.mu.Lock()
	var gone []*kernelUp
	for len(s.up) >= upPerSlot*s.slots {
		gone = append(gone, s.up[0])
		s.up = s.up[1:]
	}
	s.mu.Unlock()
	for _, u := range gone {
		u.close()
	}
}

// take gets a kernel that is up, or boots it.
func (s *Station) take(ctx context.Context, l *lab, k kernel.Kernel) (*kernelUp, error) {
	want := of(l, k)
	s.mu.Lock()
	for i, u := range s.up {
		if u.of == want {
			s.up = append(s.up[:i:i], s.up[i+1:]...)
			s.mu.Unlock()
			return u, nil
		}
	}
	s.mu.Unlock()
	u, boot, err := s.boot(ctx, l, k)
	if err != nil {
		return nil, err
	}
	if u == nil {
		return nil, fmt.Errorf("kernel %s booted before and does not now: %s", k.Release, boot.Reason)
	}
	return u, nil
}

// back keeps a kernel up for further runs.
func (s *Station) back(u *kernelUp) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u.since = time.Now()
	s.up = append(s.up, u)
}

// after keeps a kernel up unless its last run could not be made.
func (s *Station) after(u *kernelUp, err error) {
	if err != nil {
		u.close()
		return
	}
	s.back(u)
}
