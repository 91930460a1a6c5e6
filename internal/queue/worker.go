package queue

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

// ErrUnreachable is a server that is not there, or speaks otherwise. It may come.
var ErrUnreachable = errors.New("no connection")

// ErrNameTaken is a worker whose name another one has, which lives.
var ErrNameTaken = errors.New("another worker of that name is connected: give each its own")

// Causes of the end of a task's context, beside the end of Serve's.
var (
	ErrWithdrawn = errors.New("task is withdrawn or leased to another worker")
	ErrLeaseLost = errors.New("lease lost: the orchestrator cannot be reached")
)

const (
	maxSlots   = 1024
	maxErr     = 16 << 10         // bytes of a handler's error
	keepAnswer = 10 * time.Minute // an answer waits so long for the orchestrator to come back
	leaveTime  = 10 * time.Second // and so long when the worker is told to end
)

// WorkerOptions say who a worker is and where its server: in process, or a URL.
type WorkerOptions struct {
	Name     string // letters, digits, - and _; no two workers share one
	Announce Announce
	Server   *Server     // in process
	URL      string      // nats://host:port or tls://host:port
	Secret   string      // with URL
	TLS      *tls.Config // with URL
	Log      *zap.Logger
}

// Worker is a connection that tasks come over.
type Worker struct {
	opts    WorkerOptions
	log     *zap.Logger
	nc      *nats.Conn
	ackWait time.Duration
	wake    chan struct{}
	self    string // names this process
	inbox   string // where pulls are answered, a dot and the pull's number behind it
	pulls   *nats.Subscription
	asked   int // pulls made; Serve's goroutine counts

	// mu guards the following fields.
	mu      sync.Mutex
	running map[string]*running // key -> delivery it has
	pull    []string            // stream.consumer, the most urgent first
	classes int                 // that the list is of
	rung    int                 // classes that the last bell told of: with others, ask before pulling
}

type running struct {
	delivery int
	ack      string // subject of its acknowledgements
	stop     context.CancelCauseFunc
}

// Acknowledgements of JetStream's protocol.
var (
	ackDone     = []byte("+ACK")
	ackHandBack = []byte("-NAK")
	ackProgress = []byte("+WPI")
)

// Connect makes a worker known. It fails at once when the server is not there
// or refuses it; once connected it reconnects for ever.
func Connect(ctx context.Context, o WorkerOptions) (*Worker, error) {
	if err := checkName(o.Name); err != nil {
		return nil, err
	}
	if o.Announce.Slots < 1 || o.Announce.Slots > maxSlots {
		return nil, fmt.Errorf("worker %s: %d slots, want 1 to %d", o.Name, o.Announce.Slots, maxSlots)
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	w := &Worker{opts: o, log: o.Log.With(zap.String("worker", o.Name)), running: map[string]*running{}, wake: make(chan struct{}, 1), self: rand.Text()}
	nc, err := w.dial()
	if err != nil {
		return nil, err
	}
	w.nc = nc
	if err := w.hello(ctx); err != nil {
		nc.Close()
		return nil, fmt.Errorf("worker %s: %w", o.Name, err)
	}
	return w, nil
}

func (w *Worker) dial() (*nats.Conn, error) {
	o := w.opts
	opts := []nats.Option{
		nats.Name(w.self), nats.CustomInboxPrefix(inbox(o.Name)), nats.MaxReconnects(-1), nats.ReconnectBufSize(-1),
		nats.ReconnectWait(250 * time.Millisecond), nats.ReconnectJitter(250*time.Millisecond, 250*time.Millisecond),
		nats.IgnoreAuthErrorAbort(), nats.PingInterval(20 * time.Second), nats.Timeout(10 * time.Second),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				w.log.Warn("connection to the orchestrator lost", zap.Error(err))
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { w.log.Info("connected to the orchestrator again"); w.forget(); w.ringOwn() }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { w.log.Warn("queue", zap.Error(err)) }),
	}
	if o.Server != nil {
		o.Server.mu.Lock()
		if o.Server.secrets[o.Name] == "" {
			if o.Server.secrets[o.Name] = o.Server.opts.Credentials[o.Name]; o.Server.secrets[o.Name] == "" {
				o.Server.secrets[o.Name] = rand.Text()
			}
		}
		o.Server.mu.Unlock()
		nc, err := o.Server.dial(o.Name, opts...)
		if err != nil {
			return nil, fmt.Errorf("worker %s: connect in process: %w", o.Name, err)
		}
		return nc, nil
	}
	if o.TLS != nil {
		opts = append(opts, nats.Secure(o.TLS))
	}
	nc, err := nats.Connect(o.URL, append(opts, nats.UserInfo(o.Name, o.Secret))...)
	switch {
	case errors.Is(err, nats.ErrAuthorization):
		return nil, fmt.Errorf("worker %s: refused by %s: wrong name or secret", o.Name, o.URL)
	case err != nil:
		return nil, fmt.Errorf("worker %s: connect to %s: %w (%w)", o.Name, o.URL, ErrUnreachable, err)
	}
	return nc, nil
}

// hello subscribes and makes the first heartbeat.
func (w *Worker) hello(ctx context.Context) error {
	if _, err := w.nc.Subscribe(cancelSubject+w.opts.Name, func(m *nats.Msg) {
		w.stop(string(m.Data), ErrWithdrawn)
	}); err != nil {
		return err
	}
	if _, err := w.nc.Subscribe(bellSubject, func(m *nats.Msg) {
		n, err := strconv.Atoi(string(m.Data))
		w.mu.Lock()
		if err == nil {
			w.rung = n
		}
		w.mu.Unlock()
		w.ringOwn()
	}); err != nil {
		return err
	}
	w.inbox = w.nc.NewInbox()
	var err error
	if w.pulls, err = w.nc.SubscribeSync(w.inbox + ".*"); err != nil {
		return err
	}
	// Whoever had the name before may have died a moment ago.
	for until := time.Now(); ; {
		ask, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := w.beat(ask, false)
		cancel()
		if !errors.Is(err, ErrNameTaken) {
			return err
		}
		if w.ackWait > 0 && until.Before(time.Now().Add(-w.ackWait-w.ackWait/4)) {
			return err
		}
		select {
		case <-time.After(min(w.ackWait/8, time.Second)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// forget has a heartbeat made before the next pull.
func (w *Worker) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.classes, w.rung = -1, 0
}

func (w *Worker) ringOwn() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Close drops the connection. Tasks that run lose their lease; Serve ends with
// ErrClosed after them.
func (w *Worker) Close() { w.nc.Close() }

// stop ends a task's context.
func (w *Worker) stop(key string, cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := w.running[key]; r != nil {
		r.stop(cause)
	}
}

// beat tells the server what is held and learns what to stop and where to pull.
func (w *Worker) beat(ctx context.Context, bye bool) error {
	b := beat{V: version, Instance: w.self, Announce: w.opts.Announce, Bye: bye}
	w.mu.Lock()
	for k, r := range w.running {
		b.Held = append(b.Held, held{Key: k, Delivery: r.delivery})
	}
	w.mu.Unlock()
	m, err := w.nc.RequestWithContext(ctx, beatSubject+w.opts.Name, encode(b))
	if err != nil {
		return fmt.Errorf("heartbeat: %w (%w)", ErrUnreachable, err)
	}
	var r beatReply
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return fmt.Errorf("reply to a heartbeat: %w", err)
	}
	if r.Err != "" {
		return fmt.Errorf("the orchestrator says: %s", r.Err)
	}
	if err := checkVersion(r.V); err != nil {
		return err
	}
	w.mu.Lock()
	if w.ackWait == 0 {
		w.ackWait = max(time.Duration(r.AckWait)*time.Millisecond, 40*time.Millisecond)
	}
	w.pull, w.classes = r.Pull, r.Classes // nothing if the name is taken
	w.mu.Unlock()
	if r.Taken {
		return ErrNameTaken
	}
	for _, k := range r.Stop {
		w.stop(k, ErrWithdrawn)
	}
	return nil
}

// Serve runs tasks, as many at once as there are slots, until ctx ends. Then
// the contexts of running tasks end; one whose handler gives an error is handed
// back to the queue. A task's context also ends when it is withdrawn
// (ErrWithdrawn) or its lease is lost (ErrLeaseLost), and its answer is dropped.
func (w *Worker) Serve(ctx context.Context, handle func(context.Context, Task) ([]byte, error)) error {
	var beats, tasks sync.WaitGroup
	stopBeats := make(chan struct{})
	beats.Go(func() { w.keepLeases(stopBeats) })
	defer func() {
		tasks.Wait()
		close(stopBeats)
		beats.Wait()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if err := w.beat(last, true); err != nil {
			w.log.Debug("farewell", zap.Error(err))
		}
		w.nc.Close()
	}()
	slots := make(chan struct{}, w.opts.Announce.Slots)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		m := w.next(ctx)
		if m == nil && ctx.Err() == nil {
			return fmt.Errorf("worker %s: %w", w.opts.Name, ErrClosed)
		}
		if m == nil {
			return nil
		}
		tasks.Go(func() {
			defer func() { <-slots }()
			w.run(ctx, m, handle)
		})
	}
}

// next waits for a task, nil when ctx ended or the worker is closed.
func (w *Worker) next(ctx context.Context) *nats.Msg {
	poll := time.NewTicker(min(w.ackWait/4, time.Second)) // what others lost or hand back comes without a bell
	defer poll.Stop()
	again := time.Millisecond // the engine shows a new task to a pull a moment after it stored it
	for ctx.Err() == nil && !w.nc.IsClosed() {
		if m := w.scan(ctx); m != nil {
			return m
		}
		var soon <-chan time.Time
		if again > 0 && again < 200*time.Millisecond {
			soon = time.After(again)
			again *= 4
		}
		select {
		case <-w.wake:
			again = time.Millisecond
		case <-soon:
		case <-poll.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// scan asks the consumers for a task, the most urgent first.
func (w *Worker) scan(ctx context.Context) *nats.Msg {
	w.mu.Lock()
	// Not a flag: a reply that was on its way when the bell rang would clear it.
	stale := w.classes < 0 || w.rung > w.classes
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if stale {
		if err := w.beat(ctx, false); err != nil {
			return nil
		}
	}
	w.mu.Lock()
	pull := w.pull
	w.mu.Unlock()
	for _, c := range pull {
		m, err := w.pull1(ctx, c)
		if m != nil || err != nil {
			return m
		}
	}
	return nil
}

// pull1 asks a consumer for a task, nil when it has none. The answer is not one
// to a Request: a task comes under its own subject, by which the client would
// not find who asked if two did.
func (w *Worker) pull1(ctx context.Context, consumer string) (*nats.Msg, error) {
	w.asked++
	inbox := w.inbox + "." + strconv.Itoa(w.asked)
	if err := w.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+consumer, inbox, []byte(`{"batch":1,"no_wait":true}`)); err != nil {
		return nil, err
	}
	for {
		m, err := w.pulls.NextMsgWithContext(ctx)
		if err != nil {
			return nil, err
		}
		if m.Reply != "" { // a task, of an earlier pull perhaps
			return m, nil
		}
		if m.Subject == inbox {
			return nil, nil
		}
	}
}

// ack acknowledges a delivery; one that gets lost is made good by redelivery.
func (w *Worker) ack(subject string, what []byte) {
	if err := w.nc.Publish(subject, what); err != nil {
		w.log.Debug("acknowledge", zap.Error(err))
	}
}

// run handles one delivery.
func (w *Worker) run(ctx context.Context, m *nats.Msg, handle func(context.Context, Task) ([]byte, error)) {
	d, err := decodeMeta(m)
	delivery, ackErr := parseAck(m.Reply)
	if err := errors.Join(err, ackErr); err != nil {
		w.log.Error("task refused", zap.Error(err))
		return // the lease runs out: another may understand it
	}
	t := Task{Job: d.Job, Attempt: d.Attempt, Seq: d.Seq, Priority: d.Priority, Kind: d.Kind, Needs: d.Needs, Worker: d.Worker, Body: m.Data}
	k := key(t.Job, t.Attempt, t.Seq)
	tctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	w.mu.Lock()
	if w.running[k] != nil { // our own lease ran out, the earlier run is still ending
		w.mu.Unlock()
		return
	}
	w.running[k] = &running{delivery: delivery, ack: m.Reply, stop: stop}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.running, k)
		w.mu.Unlock()
	}()

	switch reply := w.ask(tctx, startSubject, &nats.Msg{Data: encode(held{Key: k, Delivery: delivery, Ack: m.Reply})}); reply {
	case replyOK:
	case replyDrop:
		if context.Cause(tctx) == nil {
			w.log.Debug("task is gone", zap.Stringer("task", t))
		}
		w.ack(m.Reply, ackDone)
		return
	default: // it was started anew, perhaps: it must know us first; or the task is for another
		w.forget()
		w.ack(m.Reply, ackHandBack)
		return
	}
	t.Report = func(text []byte) {
		m := &nats.Msg{Subject: reportSubject + w.opts.Name, Header: nats.Header{metaHeader: {string(encode(meta{V: version, Job: t.Job, Attempt: t.Attempt, Seq: t.Seq}))}}}
		m.Data = text[:min(len(text), maxReport)]
		if err := w.nc.PublishMsg(m); err != nil {
			w.log.Debug("report", zap.Error(err))
		}
	}
	body, err := w.try(tctx, t, handle)
	switch {
	case lost(tctx):
		w.log.Info("task stopped", zap.Stringer("task", t), zap.Error(context.Cause(tctx)))
	case ctx.Err() != nil && err != nil:
		w.log.Info("task handed back", zap.Stringer("task", t))
		w.ask(context.WithoutCancel(ctx), backSubject, &nats.Msg{Data: encode(held{Key: k, Delivery: delivery})})
		w.ack(m.Reply, ackHandBack)
	default:
		w.answer(ctx, tctx, m.Reply, t, body, err)
	}
}

// try runs a handler. A bug in one task must not take the others along.
func (w *Worker) try(ctx context.Context, t Task, handle func(context.Context, Task) ([]byte, error)) (body []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			w.log.Error("a task panics", zap.Stringer("task", t), zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
			body, err = nil, fmt.Errorf("a bug in kbisect: %v (the worker's log has more)", r)
		}
	}()
	return handle(ctx, t)
}

// lost says that the task is no longer ours.
func lost(tctx context.Context) bool {
	cause := context.Cause(tctx)
	return errors.Is(cause, ErrWithdrawn) || errors.Is(cause, ErrLeaseLost)
}

// ask makes one request and returns the reply, "" without one.
func (w *Worker) ask(ctx context.Context, subject string, m *nats.Msg) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	m.Subject = subject + w.opts.Name
	r, err := w.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return ""
	}
	return string(r.Data)
}

// answer hands in what was made, patiently: it may be worth hours. A lost
// connection does not stop it, the server decides whose answer counts.
func (w *Worker) answer(serve, tctx context.Context, ack string, t Task, body []byte, err error) {
	d := meta{V: version, Job: t.Job, Attempt: t.Attempt, Seq: t.Seq}
	if len(body) > MaxBody {
		err = errors.Join(err, fmt.Errorf("answer of %d bytes, at most %d", len(body), MaxBody))
		body = nil
	}
	if err != nil {
		d.Err = strings.ToValidUTF8(clip(err.Error(), maxErr), "")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(serve), keepAnswer)
	defer cancel()
	defer context.AfterFunc(serve, func() { time.AfterFunc(leaveTime, cancel) })()
	for {
		reply := w.ask(ctx, answerSubject, &nats.Msg{Header: nats.Header{metaHeader: {string(encode(d))}}, Data: body})
		switch reply {
		case replyOK:
			w.ack(ack, ackDone)
			return
		case replyDrop:
			w.log.Info("answer not wanted any more", zap.Stringer("task", t))
			w.ack(ack, ackDone)
			return
		}
		if errors.Is(context.Cause(tctx), ErrWithdrawn) {
			return
		}
		if w.nc.IsClosed() {
			w.log.Warn("answer lost: the worker is closed", zap.Stringer("task", t))
			return
		}
		select {
		case <-time.After(w.ackWait / 10):
		case <-ctx.Done():
			w.log.Warn("answer lost: the orchestrator did not take it", zap.Stringer("task", t))
			w.ack(ack, ackHandBack)
			return
		}
	}
}

// keepLeases makes the heartbeats: each tells the engine that the deliveries
// are worked on and the server what they are.
func (w *Worker) keepLeases(stop <-chan struct{}) {
	tick := time.NewTicker(w.ackWait / 4)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		w.mu.Lock()
		for _, r := range w.running {
			w.ack(r.ack, ackProgress)
		}
		w.mu.Unlock()
		sent := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), w.ackWait/2)
		err := w.beat(ctx, false)
		cancel()
		if err == nil {
			last = sent
			continue
		}
		w.log.Debug("heartbeat", zap.Error(err))
		if time.Since(last) >= w.ackWait {
			w.mu.Lock()
			for _, r := range w.running {
				r.stop(ErrLeaseLost)
			}
			w.mu.Unlock()
		}
	}
}
