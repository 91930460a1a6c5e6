package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/artifact"
	"github.com/kernel-bisect/kbisect/internal/config"
	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/job"
	"github.com/kernel-bisect/kbisect/internal/queue"
	"github.com/kernel-bisect/kbisect/internal/store"
	"github.com/kernel-bisect/kbisect/internal/web"
)

// service carries out queued jobs, several at once. The record is its only
// memory: killed and started again it takes the same jobs up, and each goes on
// from the runs it made.
type service struct {
	o         *options
	cfg       *config.Config
	ws        *workspace
	log       *zap.Logger
	hub       *web.Hub
	fleet     *fleet
	artifacts *artifact.Store
	ground    *ground
	wake      chan struct{} // told when a job was queued; one waiting is enough
	stop      chan struct{} // closed when those who look on are to go

	metrics  *metrics
	github   *forge   // nil without one
	verdicts sync.Map // of jobs that ended: the first lines of their reports

	mu      sync.Mutex
	running map[string]underWay // by job
}

// underWay is a job that is carried out.
type underWay struct {
	priority store.Priority
	end      context.CancelCauseFunc
	began    time.Time
}

func newService(o *options, cfg *config.Config, ws *workspace, q *queue.Server, kept *artifact.Store, log *zap.Logger) *service {
	s := &service{o: o, cfg: cfg, ws: ws, log: log, hub: &web.Hub{}, wake: make(chan struct{}, 1), stop: make(chan struct{}), running: map[string]underWay{},
		artifacts: kept, ground: &ground{dirs: []string{ws.data, ws.cache}, log: log}}
	s.fleet = &fleet{queue: q, log: log, alone: cfg.Workers.Listen == "", leave: s.leave}
	s.metrics = newMetrics(
		func() float64 {
			n, err := ws.store.QueueLength(context.Background())
			if err != nil {
				return math.NaN() // unknown is not 0
			}
			return float64(n)
		},
		func() float64 { return float64(len(s.underWay())) },
		func() float64 {
			n := 0
			for _, tasks := range q.Depth() {
				n += tasks
			}
			return float64(n)
		},
		func() float64 { return float64(s.fleet.slots()) })
	return s
}

// Why a job of the service is ended before its end.
var (
	errCancelled = errors.New("cancelled")
	errStopped   = errors.New("the service stops")
)

// run carries out jobs until ctx ends. Those under way then go back into the
// queue: they keep their runs.
func (s *service) run(ctx context.Context) error {
	n, err := s.ws.store.Requeue(ctx)
	if ctx.Err() != nil { // stopped before it began, whatever the record says of that
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	if n > 0 {
		s.log.Info("jobs that were cut short are queued again", zap.Int("jobs", n))
	}
	var jobs, local sync.WaitGroup
	local.Go(func() { s.sweepArtifacts(ctx) })
	if s.github != nil {
		local.Go(func() { s.github.run(ctx) })
	}
	if slots := *s.cfg.Slots; slots > 0 {
		local.Go(func() { s.runLocal(ctx, slots) })
	}
	for ctx.Err() == nil {
		var j store.Job
		var ok bool
		err := s.ground.patiently(ctx, func() (err error) {
			j, ok, err = s.next(ctx)
			return err
		})
		switch {
		case ctx.Err() != nil:
		case err != nil:
			s.log.Error("no job can be taken from the queue", zap.Error(err))
			s.rest(ctx)
		case ok:
			jctx, end := context.WithCancelCause(ctx)
			s.begin(j, end)
			jobs.Go(func() {
				defer end(nil)
				s.carry(ctx, jctx, j)
				s.nudge()
			})
		default:
			s.rest(ctx)
		}
	}
	jobs.Wait()
	local.Wait()
	if _, err = s.ws.store.Requeue(context.WithoutCancel(ctx)); ofPlace(err) {
		s.log.Warn("jobs that were cut short go back into the queue at the next start", zap.Error(err))
		return nil
	}
	return err
}

// next takes a job from the queue if it can be begun: as many jobs are under way
// as workers have slots, not counting less urgent ones. Somebody who waits does
// not wait for a nightly to end, which then gives way run by run.
func (s *service) next(ctx context.Context) (store.Job, bool, error) {
	slots := max(s.fleet.slots(), 1)
	for p := store.Nightly; p >= store.Waiting; p-- {
		if s.busy(p) < slots {
			return s.ws.store.Next(ctx, p)
		}
	}
	return store.Job{}, false, nil
}

// turn waits while as many more urgent jobs are under way as there are slots:
// between two steps of theirs a slot is free for a moment, and would be taken.
func (s *service) turn(ctx context.Context, p store.Priority) error {
	for s.busy(p-1) >= max(s.fleet.slots(), 1) {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// busy counts the jobs under way that are at least so urgent.
func (s *service) busy(p store.Priority) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.running {
		if r.priority <= p {
			n++
		}
	}
	return n
}

// trim deletes old kernels and trees, but none that a job under way has used.
func (s *service) trim(ctx context.Context) {
	since := time.Now()
	s.mu.Lock()
	for _, r := range s.running {
		if r.began.Before(since) {
			since = r.began
		}
	}
	s.mu.Unlock()
	s.ws.trim(ctx, since, s.log)
}

// rest waits until a job is queued. The record may change without a word to
// us: look at it from time to time.
func (s *service) rest(ctx context.Context) {
	const everySoOften = 15 * time.Second
	t := time.NewTimer(everySoOften)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-s.wake:
	case <-t.C:
	}
}

func (s *service) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// begin makes a job known as under way.
func (s *service) begin(j store.Job, end context.CancelCauseFunc) {
	s.mu.Lock()
	s.running[j.ID] = underWay{j.Priority, end, time.Now()}
	s.mu.Unlock()
	s.github.touch(j.ID)
	// Somebody may have cancelled it since it left the queue: they found nobody
	// who carries it out, and left the wish.
	if wanted, err := s.ws.store.CancelWanted(context.Background()); err != nil {
		s.log.Error("wishes to cancel cannot be read", zap.Error(err))
	} else if slices.Contains(wanted, j.ID) {
		end(errCancelled)
	}
}

// carry carries out one job, until ctx ends, and records how it ended, while the
// service runs.
func (s *service) carry(service, ctx context.Context, j store.Job) {
	log := s.log.With(zap.String("job", j.ID), zap.Int("attempt", j.Attempt))
	start := time.Now()
	log.Info("job starts", zap.String("kind", j.Kind), zap.String("title", j.Title))
	err := s.ground.patiently(ctx, func() error { return s.do(ctx, j, log) })
	s.mu.Lock()
	delete(s.running, j.ID)
	s.mu.Unlock()
	defer s.over(j.ID)
	status, why := outcomeOf(ctx, err)
	if status == store.Running {
		log.Info("job goes back into the queue", zap.Duration("after", time.Since(start)))
		return
	}
	s.metrics.jobs.WithLabelValues(j.Kind, status).Inc()
	log.Info("job ended", zap.String("status", status), zap.String("error", why), zap.Duration("after", time.Since(start)))
	err = s.ground.patiently(service, func() error {
		return s.ws.store.Finish(context.WithoutCancel(ctx), j.ID, j.Attempt, status, why, nil)
	})
	if err != nil {
		log.Error("the end of the job is not recorded", zap.Error(err))
	}
}

// phaseDone is that of an event that tells what came out for a commit.
const phaseDone = "done"

// phaseOver is the last event of a job.
const phaseOver = "ended"

// over tells those who look on that a job does nothing any more.
func (s *service) over(id string) {
	s.github.touch(id)
	s.hub.Publish(event(id, job.Event{Phase: phaseOver}))
	s.hub.Forget(id)
}

// outcomeOf says how a job ended: Running if it did not and goes on later.
func outcomeOf(ctx context.Context, err error) (status, why string) {
	var code statusError
	switch cause := context.Cause(ctx); {
	case err == nil || errors.As(err, &code):
		return store.Done, ""
	case errors.Is(cause, errCancelled):
		return store.Cancelled, ""
	case cause != nil:
		return store.Running, ""
	}
	return store.Failed, oneLine(err.Error())
}

// do carries out a job as the command line would, without a terminal. A bug in
// one job must not take the others along.
func (s *service) do(ctx context.Context, j store.Job, log *zap.Logger) (err error) {
	defer func() {
		if r := recover(); r != nil {
			log.Error("a job panics", zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
			err = fmt.Errorf("a bug in kbisect: %v (the log has more)", r)
		}
	}()
	req, err := decodeRequest(j.Request)
	if err != nil {
		return err
	}
	o := &options{
		stdout: io.Discard, stderr: io.Discard, format: "json", dataDir: s.o.dataDir, jobs: s.o.jobs,
		attempt: j.Attempt, log: log,
		hook: func(e job.Event) {
			s.hub.Publish(event(j.ID, e))
			if e.Phase == phaseDone {
				s.github.touch(j.ID)
			}
		},
		measure: s.metrics.measure, fleet: s.fleet, priority: int(j.Priority), turn: func(ctx context.Context) error { return s.turn(ctx, j.Priority) }, simulate: s.o.simulate,
	}
	switch j.Kind {
	case "series":
		return o.runSeries(ctx, s.ws, j.ID, req)
	case "bisect":
		return o.runBisect(ctx, s.ws, j.ID, req)
	case "check":
		sub, err := recordedSubject(ctx, s.ws, &req)
		if err != nil {
			return err
		}
		_, err = o.carryCheck(ctx, s.ws, j.ID, req, sub)
		return err
	}
	return fmt.Errorf("a job of an unknown kind %q", j.Kind)
}

// recordedSubject finds again what a recorded check tests.
func recordedSubject(ctx context.Context, ws *workspace, req *request) (subject, error) {
	if len(req.Kernels) > 0 {
		again := *req
		again.Kernels, again.Modules = nil, nil
		ready, err := (&subjectFlags{kernels: req.Kernels, modules: req.Modules}).readyKernels(&again)
		return subject{ready: ready}, err
	}
	repo, err := gitrepo.Open(ctx, ws.data, req.Repo)
	if err != nil {
		return subject{}, err
	}
	commit, err := repo.Commit(ctx, req.Head)
	return subject{repo: repo, commit: commit}, err
}

// cancel ends a job: at once in the queue, and as soon as its guests are down
// when it is under way.
func (s *service) cancel(ctx context.Context, id string) error {
	if err := s.ws.store.Cancel(ctx, id); err != nil {
		return err
	}
	s.github.touch(id) // one in the queue ends by this alone
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.running[id]; ok {
		r.end(errCancelled)
	}
	return nil
}

// retry queues a job again that has ended: it goes on from its runs.
func (s *service) retry(ctx context.Context, id string) error {
	if err := s.ws.store.Retry(ctx, id); err != nil {
		return err
	}
	s.github.touch(id)
	s.nudge()
	return nil
}

// undo takes back runs of a job.
func (s *service) undo(ctx context.Context, id string, which store.Selection) ([]store.Withdrawn, error) {
	s.mu.Lock()
	_, busy := s.running[id]
	s.mu.Unlock()
	if busy {
		return nil, usagef("%s is under way: cancel it first", id)
	}
	defer s.github.touch(id)
	return s.ws.store.Withdraw(ctx, id, which)
}
