package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// Errors of Do, beside those of its context.
var (
	ErrClosed    = errors.New("queue is closed") // of Serve too
	ErrCancelled = errors.New("job is cancelled")
	ErrNoWorker  = errors.New("no connected worker meets the task's needs")
	ErrGivenUp   = errors.New("lost by each worker that had it")
)

// pending is a task without answer. The server's mu guards what changes.
type pending struct {
	meta     meta
	body     []byte
	key, job string
	subject  string
	class    *class
	progress []func([]byte)
	waiters  int
	holder   string    // worker with the lease, "" when queued
	delivery int       // of the lease
	last     string    // worker that had it last
	ack      string    // subject by which the engine takes the delivery back
	losses   int       // leases that ran out
	queued   time.Time // since when nobody has it; zero until the engine has
	unmet    time.Time

	done   chan struct{}
	answer Answer // after done
	err    error  // after done
}

func (p *pending) finish(a Answer, err error) {
	p.answer, p.err = a, err
	close(p.done)
}

// class is what tasks of one priority and the same needs share: a consumer.
type class struct {
	stream, consumer string
	priority         int
	needs            []string
	worker           string
}

func (c *class) name() string { return c.stream + "." + c.consumer }

func newClass(t Task) *class {
	c := &class{stream: anyStream, priority: t.Priority, needs: slices.Clone(t.Needs), worker: t.Worker}
	if t.Worker != "" {
		c.stream = "W_" + t.Worker
	}
	slices.Sort(c.needs)
	c.needs = slices.Compact(c.needs)
	c.consumer = fmt.Sprintf("p%d_%s", c.priority, hash(c.needs...))
	return c
}

func (t Task) check() error {
	switch {
	case len(t.Body) > MaxBody:
		return fmt.Errorf("%s: body of %d bytes, at most %d", t, len(t.Body), MaxBody)
	case t.Priority < 0 || t.Priority > MaxPriority:
		return fmt.Errorf("%s: priority %d, want 0 to %d", t, t.Priority, MaxPriority)
	case t.Worker != "":
		return checkName(t.Worker)
	}
	return nil
}

// Do queues the task and waits for its answer. When ctx ends the task is
// withdrawn and its worker told. The same task twice is queued once and both
// callers get the answer.
func (s *Server) Do(ctx context.Context, t Task) (Answer, error) {
	if err := t.check(); err != nil {
		return Answer{}, err
	}
	if err := ctx.Err(); err != nil {
		return Answer{}, err
	}
	c, err := s.class(ctx, newClass(t))
	if err != nil {
		return Answer{}, fmt.Errorf("%s: %w", t, err)
	}
	p, fresh, err := s.enter(t, c)
	if err != nil {
		return Answer{}, err
	}
	if fresh {
		if err := s.publish(p); err != nil {
			s.drop(p, err)
		}
		s.wake()
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		s.leave(p, ctx.Err())
		return Answer{}, ctx.Err()
	}
	if p.err != nil {
		return Answer{}, fmt.Errorf("%s: %w", t, p.err)
	}
	return p.answer, nil
}

// enter registers a waiter; fresh says that the task must be published.
func (s *Server) enter(t Task, c *class) (p *pending, fresh bool, err error) {
	k, job := key(t.Job, t.Attempt, t.Seq), hash(t.Job)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false, ErrClosed
	}
	p = s.pending[k]
	if p == nil {
		fresh = true
		p = &pending{key: k, job: job, class: c, body: t.Body, done: make(chan struct{}),
			meta:    meta{V: version, Job: t.Job, Attempt: t.Attempt, Seq: t.Seq, Priority: t.Priority, Kind: t.Kind, Needs: t.Needs, Worker: t.Worker},
			subject: fmt.Sprintf("%s%s.%s.%s.%s", taskSubject, c.stream, c.consumer, job, k)}
		s.pending[k] = p
	}
	if t.Progress != nil {
		p.progress = append(p.progress, t.Progress)
	}
	p.waiters++
	return p, fresh, nil
}

// publish stores the task. It does not stop half-way when its caller goes: what
// is stored of a withdrawn task is dropped when a worker asks to start it.
func (s *Server) publish(p *pending) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	m := &nats.Msg{Subject: p.subject, Header: nats.Header{metaHeader: {string(encode(p.meta))}}, Data: p.body}
	_, err := s.js.PublishMsg(ctx, m)
	if err != nil {
		return fmt.Errorf("queue it: %w", err)
	}
	s.mu.Lock()
	if p.queued.IsZero() { // else a worker was faster, and is gone again
		p.queued = time.Now()
	}
	s.mu.Unlock()
	return nil
}

func (s *Server) leave(p *pending, err error) {
	s.mu.Lock()
	p.waiters--
	last := p.waiters == 0
	s.mu.Unlock()
	if last {
		s.drop(p, err)
	}
}

// drop withdraws a task: its Do gets err, the store forgets it, its worker is
// told to stop.
func (s *Server) drop(p *pending, err error) {
	s.mu.Lock()
	if s.pending[p.key] != p {
		s.mu.Unlock()
		return
	}
	delete(s.pending, p.key)
	p.finish(Answer{}, err)
	s.mu.Unlock()
	s.withdraw(p)
}

// withdraw takes a task that is no longer pending from its worker and the store.
func (s *Server) withdraw(p *pending) {
	s.mu.Lock()
	holder := p.holder
	s.mu.Unlock()
	if holder != "" {
		s.cancelOn(holder, p.key)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	stream, err := s.js.Stream(ctx, p.class.stream)
	if err == nil {
		err = stream.Purge(ctx, jetstream.WithPurgeSubject(p.subject))
	}
	if err != nil {
		s.log.Warn("withdrawn task stays queued until a worker asks for it", zap.String("task", p.name()), zap.Error(err))
	}
}

func (p *pending) name() string {
	return fmt.Sprintf("%s/%d/%d", p.meta.Job, p.meta.Attempt, p.meta.Seq)
}

// cancelOn tells a worker to stop a task; its next heartbeat would too.
func (s *Server) cancelOn(worker, key string) {
	if err := s.nc.Publish(cancelSubject+worker, []byte(key)); err != nil {
		s.log.Warn("tell a worker to stop", zap.String("worker", worker), zap.Error(err))
	}
}

// CancelJob drops the job's queued tasks and stops its running ones; each Do
// returns ErrCancelled.
func (s *Server) CancelJob(job string) {
	h := hash(job)
	var ps []*pending
	s.mu.Lock() // at once: a stopped one must not make room for a queued one
	for k, p := range s.pending {
		if p.job == h {
			delete(s.pending, k)
			p.finish(Answer{}, ErrCancelled)
			ps = append(ps, p)
		}
	}
	s.mu.Unlock()
	for _, p := range ps {
		s.withdraw(p)
	}
}

// class makes the stream and the consumer of a class when they are new.
func (s *Server) class(ctx context.Context, c *class) (*class, error) {
	s.mu.Lock()
	known := s.classes[c.name()]
	s.mu.Unlock()
	if known != nil {
		return known, nil
	}
	s.classMu.Lock()
	defer s.classMu.Unlock()
	_, err := s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: c.stream, Subjects: []string{taskSubject + c.stream + ".>"}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.MemoryStorage,
		Discard: jetstream.DiscardNew, DiscardNewPerSubject: true, MaxMsgsPerSubject: 1, // a task is queued once
	})
	if err != nil {
		return nil, fmt.Errorf("make its queue: %w", err)
	}
	_, err = s.js.CreateOrUpdateConsumer(ctx, c.stream, jetstream.ConsumerConfig{
		Durable: c.consumer, FilterSubject: taskSubject + c.stream + "." + c.consumer + ".>",
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: s.opts.AckWait, MaxDeliver: -1, MaxAckPending: -1,
	})
	if err != nil {
		return nil, fmt.Errorf("make its queue: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.classes[c.name()]; known != nil {
		return known, nil
	}
	s.classes[c.name()] = c
	return c, nil
}
