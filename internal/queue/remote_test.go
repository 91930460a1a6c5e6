package queue

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"
)

var secrets = map[string]string{"w1": Hash("one"), "w2": Hash("two")}

func remote(t *testing.T, addr, name, secret string) (*Worker, error) {
	w, err := Connect(t.Context(), WorkerOptions{Log: zaptest.NewLogger(t), Name: name, URL: "nats://" + addr, Secret: secret, Announce: Announce{Slots: 1}})
	if err == nil {
		t.Cleanup(w.Close)
	}
	return w, err
}

func TestWrongSecret(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	s := start(t, Options{Listen: "127.0.0.1:0", Credentials: secrets, Log: zap.New(core)})
	for _, c := range [][2]string{{"w1", "two"}, {"w3", "one"}, {"w1", ""}} {
		_, err := remote(t, s.Addr(), c[0], c[1])
		if err == nil || !strings.HasSuffix(err.Error(), "wrong name or secret") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: %v", c, err)
		}
	}
	if n := logs.FilterMessageSnippet("worker refused").Len(); n != 3 {
		t.Errorf("%d lines", n)
	}
	w, err := remote(t, s.Addr(), "w1", "one")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, w, echo)
	if r := get(t, do(t.Context(), s, task("j", 0)), "answer"); r.err != nil || r.a.Worker != "w1" {
		t.Errorf("%+v", r)
	}
}

func TestPermissions(t *testing.T) {
	s := start(t, Options{Listen: "127.0.0.1:0", Credentials: secrets})
	mine := task("mine", 0)
	mine.Worker = "w2"
	c := do(t.Context(), s, mine)
	eventually(t, "stored", func() bool { return stored(s) == 1 })
	refused := make(chan error, 100)
	nc, err := nats.Connect("nats://"+s.Addr(), nats.UserInfo("w1", "one"), nats.CustomInboxPrefix(inbox("w1")),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for _, subject := range []string{
		taskSubject + "ANY.p0_x.j.k", "answer.w2", "beat.w2", "start.w2", "cancel.w2", bellSubject,
		"$JS.API.STREAM.INFO.ANY", "$JS.API.STREAM.PURGE.ANY", "$JS.API.STREAM.MSG.GET.W_w2",
		"$JS.API.CONSUMER.MSG.NEXT.W_w2." + newClass(mine).consumer, "$JS.ACK.W_w2.c.1.1.1.1.1", "_INBOX_w2.x",
	} {
		if err := nc.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		if err := get(t, refused, "refusal of publishing to "+subject); !strings.Contains(err.Error(), "ermissions") {
			t.Errorf("%s: %v", subject, err)
		}
	}
	for _, subject := range []string{">", "t.>", "answer.*", "cancel.w2", "_INBOX_w2.>", "_INBOX.>", "$JS.>"} {
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		if err := get(t, refused, "refusal of subscribing "+subject); !strings.Contains(err.Error(), "ermissions") {
			t.Errorf("%s: %v", subject, err)
		}
	}
	w, err := remote(t, s.Addr(), "w2", "two")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, w, echo)
	get(t, c, "answer")
}

// The orchestrator is restarted while a worker has a task: the attempt that the
// task was of is over, and nothing of it is taken any more.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Options{Dir: dir, Listen: "127.0.0.1:0", Credentials: secrets, AckWait: time.Second})
	addr := s.Addr()
	w, err := remote(t, addr, "w1", "one")
	if err != nil {
		t.Fatal(err)
	}
	started, ended := make(chan Task, 10), make(chan error, 1)
	serve(t, w, func(ctx context.Context, k Task) ([]byte, error) {
		started <- k
		if k.Attempt == 1 {
			<-ctx.Done()
			ended <- context.Cause(ctx)
		}
		return k.Body, nil
	})
	do(t.Context(), s, task("j", 0))
	do(t.Context(), s, task("j", 1))
	get(t, started, "start")
	eventually(t, "both stored", func() bool { return stored(s) == 2 })
	s.Close()

	s = start(t, Options{Dir: dir, Listen: addr, Credentials: secrets, AckWait: time.Second})
	if n := stored(s); n != 0 {
		t.Errorf("%d tasks of earlier attempts are queued", n)
	}
	again := task("j", 0)
	again.Attempt = 2
	r := get(t, do(t.Context(), s, again), "answer")
	if r.err != nil || string(r.a.Body) != "j 0" {
		t.Errorf("%+v", r)
	}
	if err := get(t, ended, "end of the first attempt"); !errors.Is(err, ErrWithdrawn) && !errors.Is(err, ErrLeaseLost) {
		t.Error(err)
	}
	if k := get(t, started, "second start"); k.Attempt != 2 || len(started) != 0 {
		t.Errorf("%+v and %d more starts", k, len(started))
	}
}
