package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// A bug in one task must not take the others along, nor go from worker to worker.
func TestPanicIsAnAnswer(t *testing.T) {
	core, logs := observer.New(zapcore.ErrorLevel)
	s := start(t, Options{Log: zap.New(core)})
	serve(t, connect(t, s, "w1", 1), func(_ context.Context, k Task) ([]byte, error) {
		if k.Seq == 0 {
			panic("index out of range")
		}
		return k.Body, nil
	})
	if r := get(t, do(t.Context(), s, task("j", 0)), "answer"); r.err != nil || !strings.Contains(r.a.Err, "index out of range") || strings.Contains(r.a.Err, "\n") {
		t.Errorf("%+v", r)
	}
	if r := get(t, do(t.Context(), s, task("j", 1)), "answer"); r.err != nil || r.a.Err != "" {
		t.Errorf("%+v", r)
	}
	if logs.Len() != 1 {
		t.Errorf("%v", logs.All())
	}
}

// The engine gives a task to another when its clock jumps. What the first one is
// told then must not be taken for the second one's.
func TestEngineGivesToAnother(t *testing.T) {
	s := start(t, Options{AckWait: time.Minute})
	var runs atomic.Int32
	started := make(chan struct{}, 100)
	h := func(ctx context.Context, k Task) ([]byte, error) {
		started <- struct{}{}
		if runs.Add(1) == 1 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
		return k.Body, nil
	}
	serve(t, connect(t, s, "w0", 1), h)
	c := do(t.Context(), s, task("j", 0))
	get(t, started, "start")
	for i := range 2 * maxLosses {
		serve(t, connect(t, s, fmt.Sprint("w", i+1), 1), h)
	}
	s.mu.Lock()
	ack := s.pending[key("j", 1, 0)].ack
	s.mu.Unlock()
	if err := s.nc.Publish(ack, ackHandBack); err != nil {
		t.Fatal(err)
	}
	if r := get(t, c, "answer"); r.err != nil || runs.Load() != 2 {
		t.Errorf("%+v after %d runs", r, runs.Load())
	}
}

// A worker that comes back to an orchestrator that was restarted may pull before
// it announced itself: what it gets then must not wait until it is missed.
func TestStartBeforeHeartbeat(t *testing.T) {
	s := start(t, Options{AckWait: time.Hour})
	w := connect(t, s, "w1", 1)
	k := task("j", 0)
	k.Needs = []string{"arch:x86_64"}
	c := do(t.Context(), s, k)
	eventually(t, "stored", func() bool { return stored(s) == 1 })
	s.mu.Lock()
	delete(s.workers, "w1")
	s.mu.Unlock()
	w.mu.Lock()
	w.pull = []string{newClass(k).name()}
	w.classes = 1
	w.mu.Unlock()
	serve(t, w, echo)
	if r := get(t, c, "answer"); r.err != nil || r.a.Worker != "w1" {
		t.Errorf("%+v", r)
	}
}

// An orchestrator that has opened its port and does not listen to heartbeats yet
// is one that may come.
func TestServerNotReady(t *testing.T) {
	ns, err := natsd.NewServer(&natsd.Options{Host: "127.0.0.1", Port: natsd.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	defer ns.WaitForShutdown()
	defer ns.Shutdown()
	if !ns.ReadyForConnections(patience) {
		t.Fatal("not ready")
	}
	_, err = Connect(t.Context(), WorkerOptions{Name: "w1", URL: ns.ClientURL(), Announce: Announce{Slots: 1}})
	if !errors.Is(err, ErrUnreachable) || strings.Contains(err.Error(), "\n") {
		t.Error(err)
	}
}

// Close ends Serve, also while an answer finds nobody to take it.
func TestCloseDuringAnswer(t *testing.T) {
	s := start(t, Options{})
	w := connect(t, s, "w1", 1)
	ended := make(chan error, 1)
	go func() {
		ended <- w.Serve(context.Background(), func(_ context.Context, k Task) ([]byte, error) {
			w.Close()
			return k.Body, nil
		})
	}()
	do(t.Context(), s, task("j", 0))
	if err := get(t, ended, "end of Serve"); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

// Who lost its name to another while it was away pulls nothing under it: it could
// not keep the lease.
func TestTakenNamePullsNothing(t *testing.T) {
	s := start(t, Options{AckWait: time.Minute})
	w := connect(t, s, "w1", 1)
	c := do(t.Context(), s, task("j", 0))
	eventually(t, "stored", func() bool { return stored(s) == 1 })
	if err := w.beat(t.Context(), false); err != nil || len(w.pull) != 1 {
		t.Fatal(err, w.pull)
	}
	w.self = "late" // as if the one that is known were another
	if err := w.beat(t.Context(), false); !errors.Is(err, ErrNameTaken) || len(w.pull) != 0 {
		t.Error(err, w.pull)
	}
	s.CancelJob("j")
	get(t, c, "end of Do")
}

// What is on its way to the engine for long is not gone from there.
func TestSlowPublishIsNotRestored(t *testing.T) {
	s := start(t, Options{})
	c, err := s.class(t.Context(), newClass(task("j", 0)))
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := s.enter(task("j", 0), c)
	if err != nil {
		t.Fatal(err)
	}
	s.restore(time.Now().Add(time.Hour))
	if n := stored(s); n != 0 {
		t.Errorf("%d stored", n)
	}
	if err := s.publish(p); err != nil {
		t.Error(err)
	}
	s.leave(p, context.Canceled)
}

// After a silence that cost it the lease a worker's answer is as good as any, as
// long as nobody else has begun.
func TestAnswerAfterSilence(t *testing.T) {
	s := start(t, Options{AckWait: time.Hour})
	var runs atomic.Int32
	serve(t, connect(t, s, "w1", 1), func(_ context.Context, k Task) ([]byte, error) {
		runs.Add(1)
		s.mu.Lock()
		s.lose(s.pending[key("j", 1, 0)])
		s.mu.Unlock()
		return k.Body, nil
	})
	if r := get(t, do(t.Context(), s, task("j", 0)), "answer"); r.err != nil || runs.Load() != 1 {
		t.Errorf("%+v after %d runs", r, runs.Load())
	}
}
