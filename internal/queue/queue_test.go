package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

type handler func(context.Context, Task) ([]byte, error)

func echo(_ context.Context, t Task) ([]byte, error) { return t.Body, nil }

func start(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.AckWait == 0 {
		o.AckWait = time.Second
	}
	if testing.Verbose() && o.Log == nil {
		o.Log = zaptest.NewLogger(t)
	}
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func connect(t testing.TB, s *Server, name string, slots int) *Worker {
	t.Helper()
	w, err := Connect(t.Context(), WorkerOptions{Name: name, Server: s, Log: s.log,
		Announce: Announce{Version: "v1", Labels: []string{"arch:x86_64", "accel:tcg"}, Slots: slots}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// serve runs the worker and returns what ends it.
func serve(t testing.TB, w *Worker, h handler) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := w.Serve(ctx, h); err != nil {
			t.Error(err)
		}
	})
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return stop
}

func task(job string, seq int) Task {
	return Task{Job: job, Attempt: 1, Seq: seq, Priority: 1, Kind: "run", Body: fmt.Appendf(nil, "%s %d", job, seq)}
}

type result struct {
	a   Answer
	err error
}

func do(ctx context.Context, s *Server, t Task) chan result {
	c := make(chan result, 1)
	go func() {
		a, err := s.Do(ctx, t)
		c <- result{a, err}
	}()
	return c
}

func get[T any](t testing.TB, c chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s did not come", what)
		panic("unreachable")
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not so", what)
		}
	}
}

func queued(s *Server) (n int) {
	for _, d := range s.Depth() {
		n += d
	}
	return n
}

func TestRoundTrip(t *testing.T) {
	s := start(t, Options{})
	serve(t, connect(t, s, "w1", 2), func(_ context.Context, k Task) ([]byte, error) {
		if k.Seq == 1 {
			return []byte("half"), errors.New("no space")
		}
		return append([]byte(k.Kind+" "), k.Body...), nil
	})
	k := task("job with blanks.and >", 0)
	k.Needs = []string{"arch:x86_64", "accel:tcg"}
	if r := get(t, do(t.Context(), s, k), "answer"); r.err != nil || r.a.Worker != "w1" || string(r.a.Body) != "run job with blanks.and > 0" {
		t.Errorf("%+v", r)
	}
	if r := get(t, do(t.Context(), s, task("j", 1)), "answer"); r.err != nil || r.a.Err != "no space" || string(r.a.Body) != "half" {
		t.Errorf("%+v", r)
	}
	ws := s.Workers()
	if len(ws) != 1 || !ws[0].Connected || ws[0].Announce.Slots != 2 || ws[0].Busy != 0 {
		t.Errorf("%+v", ws)
	}
}

func TestHeartbeatsKeepTheLease(t *testing.T) {
	s := start(t, Options{AckWait: 500 * time.Millisecond})
	var runs atomic.Int32
	long := func(ctx context.Context, _ Task) ([]byte, error) {
		runs.Add(1)
		select {
		case <-time.After(1500 * time.Millisecond):
		case <-ctx.Done():
		}
		return nil, context.Cause(ctx)
	}
	serve(t, connect(t, s, "w1", 1), long)
	serve(t, connect(t, s, "w2", 1), long)
	if r := get(t, do(t.Context(), s, task("j", 0)), "answer"); r.err != nil || r.a.Err != "" || runs.Load() != 1 {
		t.Errorf("%+v after %d runs", r, runs.Load())
	}
}

// die takes a task and cuts the connection without a word; false when the
// Do ended instead.
func die(t *testing.T, s *Server, name string, c chan result) bool {
	t.Helper()
	w := connect(t, s, name, 1)
	took := make(chan struct{})
	stop := serve(t, w, func(ctx context.Context, _ Task) ([]byte, error) {
		w.nc.Close()
		close(took)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	defer stop()
	select {
	case <-took:
		return true
	case r := <-c:
		c <- r
		return false
	case <-time.After(patience):
		t.Fatal("neither task nor end of it")
		return false
	}
}

func TestDeadWorkersTaskGoesToAnother(t *testing.T) {
	s := start(t, Options{AckWait: 500 * time.Millisecond})
	c := do(t.Context(), s, task("j", 0))
	die(t, s, "w1", c)
	serve(t, connect(t, s, "w2", 1), echo)
	if r := get(t, c, "answer"); r.err != nil || r.a.Worker != "w2" {
		t.Errorf("%+v", r)
	}
}

// One that is killed has no connection any more: nobody waits for AckWait,
// neither for another worker nor for its successor.
func TestKilledWorkersTaskGoesSoon(t *testing.T) {
	s := start(t, Options{AckWait: time.Hour})
	for i, successor := range []string{"w2", "w1"} {
		c := do(t.Context(), s, task("j", i))
		die(t, s, "w1", c)
		stop := serve(t, connect(t, s, successor, 1), echo)
		if r := get(t, c, "answer"); r.err != nil || r.a.Worker != successor {
			t.Errorf("%+v", r)
		}
		stop()
	}
}

func TestTaskThatKillsItsWorkers(t *testing.T) {
	s := start(t, Options{AckWait: 200 * time.Millisecond})
	c := do(t.Context(), s, task("j", 0))
	deaths := 0
	for die(t, s, fmt.Sprint("w", deaths), c) {
		deaths++
	}
	if deaths != maxLosses {
		t.Errorf("%d deaths", deaths)
	}
	if r := get(t, c, "answer"); !errors.Is(r.err, ErrGivenUp) {
		t.Errorf("%+v", r)
	}
}

func TestUrgentFirst(t *testing.T) {
	s := start(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	var cs []chan result
	for i := range 100 {
		k := task("nightly", i)
		k.Priority = 2
		cs = append(cs, do(ctx, s, k))
	}
	eventually(t, "100 queued", func() bool { return s.Depth()[2] == 100 })
	urgent := task("person", 0)
	urgent.Priority = 0
	cs = append(cs, do(ctx, s, urgent))
	eventually(t, "urgent one stored", func() bool { return stored(s) == 101 })
	var first atomic.Pointer[string]
	serve(t, connect(t, s, "w1", 1), func(_ context.Context, k Task) ([]byte, error) {
		first.CompareAndSwap(nil, &k.Job)
		return nil, nil
	})
	get(t, cs[100], "urgent answer")
	if *first.Load() != "person" {
		t.Errorf("first was %s", *first.Load())
	}
	for _, c := range cs[:100] {
		get(t, c, "answer")
	}
	cancel()
}

// stored counts the messages in the store.
func stored(s *Server) (n uint64) {
	for i := range s.js.ListStreams(context.Background()).Info() {
		n += i.State.Msgs
	}
	return n
}

func TestCancelQueuedAndRunning(t *testing.T) {
	s := start(t, Options{})
	started, stopped := make(chan Task, 10), make(chan error, 10)
	serve(t, connect(t, s, "w1", 1), func(ctx context.Context, k Task) ([]byte, error) {
		started <- k
		<-ctx.Done()
		stopped <- context.Cause(ctx)
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	one := do(ctx, s, task("a", 0))
	get(t, started, "start")
	cancel()
	if r := get(t, one, "end of Do"); !errors.Is(r.err, context.Canceled) {
		t.Errorf("%+v", r)
	}
	if err := get(t, stopped, "stop"); !errors.Is(err, ErrWithdrawn) {
		t.Errorf("cause %v", err)
	}

	running := do(t.Context(), s, task("b", 0))
	get(t, started, "start")
	waiting := do(t.Context(), s, task("b", 1))
	eventually(t, "queued", func() bool { return queued(s) == 1 })
	s.CancelJob("b")
	for _, c := range []chan result{running, waiting} {
		if r := get(t, c, "end of Do"); !errors.Is(r.err, ErrCancelled) {
			t.Errorf("%+v", r)
		}
	}
	get(t, stopped, "stop")
	eventually(t, "store is empty", func() bool { return stored(s) == 0 })
	if len(started) != 0 {
		t.Errorf("a withdrawn task was started")
	}
}

func TestSameTaskTwiceRunsOnce(t *testing.T) {
	s := start(t, Options{})
	a, b := do(t.Context(), s, task("j", 0)), do(t.Context(), s, task("j", 0))
	eventually(t, "both wait", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		p := s.pending[key("j", 1, 0)]
		return p != nil && p.waiters == 2
	})
	var runs atomic.Int32
	serve(t, connect(t, s, "w1", 2), func(context.Context, Task) ([]byte, error) { runs.Add(1); return nil, nil })
	for _, c := range []chan result{a, b} {
		if r := get(t, c, "answer"); r.err != nil {
			t.Error(r.err)
		}
	}
	if runs.Load() != 1 {
		t.Errorf("%d runs", runs.Load())
	}
}

// A worker that lies: answers for what it was not given change nothing.
func TestFencing(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	s := start(t, Options{Log: zap.New(core)})
	started, finish := make(chan struct{}), make(chan struct{})
	serve(t, connect(t, s, "w1", 1), func(context.Context, Task) ([]byte, error) {
		close(started)
		<-finish
		return []byte("true"), nil
	})
	c := do(t.Context(), s, task("j", 0))
	get(t, started, "start")
	liar := connect(t, s, "liar", 1)
	for _, d := range []meta{
		{V: version, Job: "j", Attempt: 1},               // leased to w1
		{V: version, Job: "j", Attempt: 2},               // another attempt
		{V: version + 1, Job: "j", Attempt: 1},           // another version
		{V: version, Job: "j", Attempt: 1, Seq: 1 << 30}, // another task
	} {
		m := &nats.Msg{Header: nats.Header{metaHeader: {string(encode(d))}}, Data: []byte("lie")}
		if r := liar.ask(t.Context(), answerSubject, m); r != replyDrop {
			t.Errorf("%+v: %q", d, r)
		}
	}
	if n := logs.FilterMessageSnippet("answer dropped").Len(); n != 4 {
		t.Errorf("%d lines: %v", n, logs.All())
	}
	for range 100 {
		liar.ask(t.Context(), answerSubject, &nats.Msg{Header: nats.Header{metaHeader: {string(encode(meta{V: version, Job: "k"}))}}})
	}
	if n := logs.FilterMessageSnippet("answer dropped").Len(); n > loudDrops {
		t.Errorf("%d lines about one worker", n)
	}
	close(finish)
	if r := get(t, c, "answer"); string(r.a.Body) != "true" {
		t.Errorf("%+v", r)
	}
}

func TestOversized(t *testing.T) {
	s := start(t, Options{AckWait: 5 * time.Second})
	serve(t, connect(t, s, "w1", 1), func(_ context.Context, k Task) ([]byte, error) {
		return make([]byte, MaxBody+k.Seq), nil
	})
	if r := get(t, do(t.Context(), s, task("j", 0)), "answer"); r.err != nil || len(r.a.Body) != MaxBody || r.a.Err != "" {
		t.Errorf("at the limit: %v %q", r.err, r.a.Err)
	}
	if r := get(t, do(t.Context(), s, task("j", 1)), "answer"); r.err != nil || !strings.Contains(r.a.Err, "answer of 8388609 bytes, at most 8388608") {
		t.Errorf("%v %q", r.err, r.a.Err)
	}
	big := task("j", 2)
	big.Body = make([]byte, MaxBody+1)
	if _, err := s.Do(t.Context(), big); err == nil || !strings.Contains(err.Error(), "body of 8388609 bytes") {
		t.Error(err)
	}
}

func TestGracefulEndHandsBack(t *testing.T) {
	s := start(t, Options{AckWait: time.Minute}) // redelivery by AckWait would be too late
	started := make(chan struct{})
	stop := serve(t, connect(t, s, "w1", 1), func(ctx context.Context, _ Task) ([]byte, error) {
		close(started)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	c := do(t.Context(), s, task("j", 0))
	get(t, started, "start")
	serve(t, connect(t, s, "w2", 1), echo)
	stop()
	if r := get(t, c, "answer"); r.err != nil || r.a.Worker != "w2" {
		t.Errorf("%+v", r)
	}
}

func TestStuck(t *testing.T) {
	s := start(t, Options{AckWait: 400 * time.Millisecond, StuckAfter: 400 * time.Millisecond})
	serve(t, connect(t, s, "w1", 1), echo)
	k := task("j", 0)
	k.Needs = []string{"arch:arm64"}
	c := do(t.Context(), s, k)
	eventually(t, "listed", func() bool { ts := s.Stuck(); return len(ts) == 1 && ts[0].Needs[0] == "arch:arm64" })
	if r := get(t, c, "error"); !errors.Is(r.err, ErrNoWorker) || !strings.Contains(r.err.Error(), "needs arch:arm64") {
		t.Errorf("%+v", r)
	}
	k.Needs, k.Worker, k.Seq = nil, "w2", 1
	if r := get(t, do(t.Context(), s, k), "error"); !errors.Is(r.err, ErrNoWorker) || !strings.Contains(r.err.Error(), "only worker w2") {
		t.Errorf("%+v", r)
	}
}

func TestOnlyThisWorker(t *testing.T) {
	s := start(t, Options{})
	serve(t, connect(t, s, "w1", 4), echo)
	serve(t, connect(t, s, "w2", 1), echo)
	for i := range 10 {
		k := task("j", i)
		k.Worker = "w2"
		if r := get(t, do(t.Context(), s, k), "answer"); r.err != nil || r.a.Worker != "w2" {
			t.Errorf("%+v", r)
		}
	}
}

func TestBadOptions(t *testing.T) {
	for want, o := range map[string]Options{
		"needs the credentials of workers": {Listen: "127.0.0.1:0"},
		"want host:port":                   {Listen: "nowhere", Credentials: map[string]string{"w": Hash("s")}},
		"want a port from 0 to 65535":      {Listen: "127.0.0.1:70000", Credentials: map[string]string{"w": Hash("s")}},
		"worker name":                      {Credentials: map[string]string{"w.>": Hash("s")}},
		"w has an empty secret":            {Credentials: map[string]string{"w": ""}},
		"v has an empty secret":            {Credentials: map[string]string{"v": Hash("")}},
	} {
		o.Dir = t.TempDir()
		if _, err := Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestCloseEndsDo(t *testing.T) {
	s := start(t, Options{})
	c := do(t.Context(), s, task("j", 0))
	eventually(t, "queued", func() bool { return stored(s) == 1 })
	s.Close()
	if r := get(t, c, "error"); !errors.Is(r.err, ErrClosed) {
		t.Errorf("%+v", r)
	}
	if _, err := s.Do(t.Context(), task("j", 1)); err == nil {
		t.Error("a closed queue took a task")
	}
}

func FuzzWire(f *testing.F) {
	f.Add("$JS.ACK.ANY.p1_x.2.3.4.5.6", `{"v":1,"job":"j"}`)
	f.Fuzz(func(t *testing.T, subject, description string) {
		if n, err := parseAck(subject); err == nil && !bytes.Contains([]byte(subject), fmt.Append(nil, n)) && n != 0 {
			t.Logf("%q: %d", subject, n) // +5 reads as 5
		}
		d, err := decodeMeta(&nats.Msg{Header: nats.Header{metaHeader: {description}}})
		if err == nil && d.V != version {
			t.Errorf("%q accepted", description)
		}
	})
}

// Handed back in order a task may be as often as workers are restarted.
func TestHandedBackIsNotLost(t *testing.T) {
	s := start(t, Options{AckWait: time.Minute})
	c := do(t.Context(), s, task("j", 0))
	for i := range 2 * maxLosses {
		started := make(chan struct{})
		stop := serve(t, connect(t, s, fmt.Sprint("w", i), 1), func(ctx context.Context, _ Task) ([]byte, error) {
			close(started)
			<-ctx.Done()
			return nil, ctx.Err()
		})
		get(t, started, "start")
		stop()
	}
	serve(t, connect(t, s, "last", 1), echo)
	if r := get(t, c, "answer"); r.err != nil || r.a.Worker != "last" {
		t.Errorf("%+v", r)
	}
}

// Of two workers of one name the second is refused while the first lives.
func TestOneNameOneWorker(t *testing.T) {
	s := start(t, Options{AckWait: 400 * time.Millisecond})
	first := connect(t, s, "w1", 1)
	started := make(chan struct{})
	stop := serve(t, first, func(ctx context.Context, _ Task) ([]byte, error) {
		close(started)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	c := do(t.Context(), s, task("j", 0))
	get(t, started, "start")
	if _, err := Connect(t.Context(), WorkerOptions{Name: "w1", Server: s, Announce: Announce{Slots: 1}}); !errors.Is(err, ErrNameTaken) {
		t.Errorf("%v", err)
	}
	first.nc.Close() // as if it were killed
	serve(t, connect(t, s, "w1", 1), echo)
	if r := get(t, c, "answer"); r.err != nil || string(r.a.Body) != "j 0" {
		t.Errorf("%+v", r)
	}
	stop()
}

// A worker that acknowledges what is not its own does not make a task disappear.
func TestStrayAcknowledgement(t *testing.T) {
	s := start(t, Options{AckWait: 200 * time.Millisecond})
	c := do(t.Context(), s, task("j", 0))
	eventually(t, "queued", func() bool { return stored(s) == 1 })
	w := connect(t, s, "liar", 1)
	m, err := w.nc.Request("$JS.API.CONSUMER.MSG.NEXT."+newClass(task("j", 0)).name(), []byte(`{"batch":1,"no_wait":true}`), 5*time.Second)
	if err != nil || m.Reply == "" {
		t.Fatal(m, err)
	}
	if err := w.nc.Publish(m.Reply, ackDone); err != nil {
		t.Fatal(err)
	}
	eventually(t, "gone", func() bool { return stored(s) == 0 })
	serve(t, connect(t, s, "w1", 1), echo)
	if r := get(t, c, "answer"); r.err != nil || r.a.Worker != "w1" {
		t.Errorf("%+v", r)
	}
}

// Words of progress come from who has the task, and from nobody else.
func TestProgress(t *testing.T) {
	s := start(t, Options{})
	words := make(chan string, 10)
	k := task("j", 0)
	k.Progress = func(b []byte) { words <- string(b) }
	liar := connect(t, s, "liar", 1)
	serve(t, connect(t, s, "w1", 1), func(_ context.Context, k Task) ([]byte, error) {
		m := &nats.Msg{Subject: reportSubject + "liar", Header: nats.Header{metaHeader: {string(encode(meta{V: version, Job: "j", Attempt: 1}))}}, Data: []byte("a lie")}
		if err := liar.nc.PublishMsg(m); err != nil {
			t.Error(err)
		}
		if err := liar.nc.Flush(); err != nil {
			t.Error(err)
		}
		k.Report([]byte("half"))
		k.Report(make([]byte, 2*maxReport))
		eventually(t, "two words", func() bool { return len(words) == 2 }) // later ones may get lost
		return nil, nil
	})
	get(t, do(t.Context(), s, k), "answer")
	if got := get(t, words, "first word"); got != "half" {
		t.Error(got)
	}
	if got := get(t, words, "second word"); len(got) != maxReport {
		t.Error(len(got))
	}
}

// A worker that nobody trusts gets no tasks until it is started again, and those
// that it had go to another at once.
func TestDistrust(t *testing.T) {
	s := start(t, Options{AckWait: 20 * time.Second}) // a lease that runs out would be too late
	one := connect(t, s, "one", 1)
	stop := serve(t, one, func(_ context.Context, t Task) ([]byte, error) { return []byte("a lie"), nil })
	if r := get(t, do(t.Context(), s, task("j", 1)), "an answer"); string(r.a.Body) != "a lie" {
		t.Fatal(r)
	}
	s.Distrust("one", errors.New("it lies"))
	s.Distrust("nobody", errors.New("it lies"))
	waiting := do(t.Context(), s, task("j", 2))
	time.Sleep(100 * time.Millisecond)
	if ws := s.Workers(); ws[0].Connected || len(s.Stuck()) != 1 {
		t.Errorf("%+v, stuck %v", ws, s.Stuck())
	}
	two := connect(t, s, "two", 1)
	serve(t, two, echo)
	begin := time.Now()
	if r := get(t, waiting, "an answer"); r.a.Worker != "two" || time.Since(begin) > 15*time.Second {
		t.Errorf("%+v after %s", r, time.Since(begin))
	}
	stop()
	again := connect(t, s, "one", 1)
	serve(t, again, echo)
	if r := get(t, do(t.Context(), s, Task{Job: "j", Seq: 3, Worker: "one"}), "an answer"); r.err != nil || r.a.Worker != "one" {
		t.Error(r)
	}
}

// A bell that rings while a heartbeat's reply is on its way is not forgotten:
// the reply knows less.
func TestBellDuringHeartbeat(t *testing.T) {
	s := start(t, Options{AckWait: time.Hour})
	w := connect(t, s, "w1", 1)
	c := do(t.Context(), s, task("j", 0))
	eventually(t, "the bell rang", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.rung == 1 })
	w.mu.Lock()
	w.pull, w.classes = nil, 0 // as an older reply says
	w.mu.Unlock()
	serve(t, w, echo)
	if r := get(t, c, "answer"); r.err != nil {
		t.Errorf("%+v", r)
	}
}
