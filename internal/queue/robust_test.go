package queue

import (
	"context"
	"errors"
	"strings"
	"testing"

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
