package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// WorkerStatus is what the server knows of a worker.
type WorkerStatus struct {
	Name      string
	Connected bool // heartbeat within AckWait
	LastBeat  time.Time
	Announce  Announce
	Busy      int
	Tasks     []Task // that it has the lease of, without bodies
}

type workerRecord struct {
	instance string
	announce Announce
	last     time.Time
	away     time.Time // since when it has no connection; zero while it has
	gone     bool      // it said farewell
	doubted  bool      // see Distrust
	drops    *drops    // of its name
}

// maxAway is how long a worker may be without connection: it tries to get back
// every half second, and a process that was killed does not.
const maxAway = 3 * time.Second

// A worker could send a million answers that are dropped: so many in so long are
// worth a line each.
const (
	loudDrops  = 5
	dropsEvery = 10 * time.Second
)

// drops counts the answers of a worker that were dropped lately.
type drops struct {
	since time.Time
	n     int
}

// dropLevel is the level at which one more is logged.
func (s *Server) dropLevel(name string) zapcore.Level {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.workers[name]
	if w == nil {
		return zap.DebugLevel // it has no task either
	}
	if time.Since(w.drops.since) > dropsEvery {
		*w.drops = drops{since: time.Now()}
	}
	if w.drops.n++; w.drops.n > loudDrops {
		return zap.DebugLevel
	}
	return zap.WarnLevel
}

// maxReport bounds what a worker says of its progress.
const maxReport = 64 << 10

func (s *Server) connected(name string) bool {
	w := s.workers[name]
	return w != nil && !w.gone && !w.doubted && time.Since(w.last) < s.opts.AckWait && (w.away.IsZero() || time.Since(w.away) < maxAway)
}

// present are the instances that have a connection.
func (s *Server) present() map[string]bool {
	here := map[string]bool{}
	conns, err := s.ns.Connz(&natsd.ConnzOptions{Limit: 1 << 16})
	if err != nil {
		s.log.Warn("connections cannot be listed", zap.Error(err))
		return nil
	}
	for _, c := range conns.Conns {
		here[c.Name] = true
	}
	return here
}

// serves says whether a worker's name and announcement fit a class.
func (c *class) serves(name string, a Announce) bool {
	return (c.worker == "" || c.worker == name) && a.meets(c.needs)
}

// Workers lists every worker heard of since Start, by name.
func (s *Server) Workers() []WorkerStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	byName := map[string]*WorkerStatus{}
	for n, w := range s.workers {
		byName[n] = &WorkerStatus{Name: n, Connected: s.connected(n), LastBeat: w.last, Announce: w.announce}
	}
	for _, p := range s.pending {
		if w := byName[p.holder]; w != nil {
			w.Busy++
			w.Tasks = append(w.Tasks, p.task())
		}
	}
	var ws []WorkerStatus
	for _, w := range byName {
		ws = append(ws, *w)
	}
	slices.SortFunc(ws, func(a, b WorkerStatus) int { return strings.Compare(a.Name, b.Name) })
	return ws
}

func (p *pending) task() Task {
	return Task{Job: p.meta.Job, Attempt: p.meta.Attempt, Seq: p.meta.Seq, Kind: p.meta.Kind,
		Priority: p.class.priority, Needs: p.class.needs, Worker: p.class.worker}
}

// Depth counts the tasks that no worker has, by priority.
func (s *Server) Depth() map[int]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := map[int]int{}
	for _, p := range s.pending {
		if p.holder == "" {
			d[p.class.priority]++
		}
	}
	return d
}

// Stuck lists the queued tasks that no connected worker may have.
func (s *Server) Stuck() []Task {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ts []Task
	for _, p := range s.pending {
		if p.holder == "" && !s.met(p.class) {
			ts = append(ts, p.task())
		}
	}
	return ts
}

func (s *Server) met(c *class) bool {
	for n, w := range s.workers {
		if s.connected(n) && c.serves(n, w.announce) {
			return true
		}
	}
	return false
}

// onStart lets a worker run a delivery, unless its task is withdrawn or
// leased to another since.
func (s *Server) onStart(m *nats.Msg) {
	name := strings.TrimPrefix(m.Subject, startSubject)
	var h held
	reply := replyDrop
	if err := json.Unmarshal(m.Data, &h); err == nil {
		s.mu.Lock()
		p := s.pending[h.Key]
		switch {
		case s.doubts(name):
			reply = replyBack
		case s.workers[name] == nil:
			reply = replyUnknown
		case p != nil && p.class.serves(name, s.announced(name)) && h.Delivery > p.delivery:
			given := false
			if p.holder != "" { // it was silent so long that the engine gave the task to another
				s.cancelOn(p.holder, p.key)
				p.ack = "" // handing that delivery back would take the task from this worker
				given = s.lose(p)
			}
			if !given {
				p.holder, p.last, p.delivery, p.ack = name, name, h.Delivery, ""
				if strings.HasPrefix(h.Ack, "$JS.ACK."+p.class.name()+".") {
					p.ack = h.Ack
				}
				reply = replyOK
			}
		}
		s.mu.Unlock()
	}
	s.respond(m, []byte(reply))
}

// lose takes the lease of a task from its holder, and says whether the task is
// given up: those who have it die. The caller has mu.
func (s *Server) lose(p *pending) bool {
	p.holder, p.queued = "", time.Now()
	if p.losses++; p.losses < maxLosses {
		if p.ack != "" { // the engine would wait for AckWait
			if err := s.nc.Publish(p.ack, ackHandBack); err != nil {
				s.log.Debug("take a delivery back", zap.Error(err))
			}
			s.wake()
		}
		return false
	}
	s.log.Warn("task given up: its workers die", zap.String("task", p.name()), zap.Int("workers", p.losses))
	delete(s.pending, p.key)
	p.finish(Answer{}, fmt.Errorf("%w, %d times", ErrGivenUp, p.losses))
	s.wg.Go(func() { s.withdraw(p) })
	return true
}

// onBack hears that a worker hands a task back in order.
func (s *Server) onBack(m *nats.Msg) {
	name := strings.TrimPrefix(m.Subject, backSubject)
	var h held
	if err := json.Unmarshal(m.Data, &h); err == nil {
		s.mu.Lock()
		if p := s.pending[h.Key]; p != nil && p.holder == name && p.delivery == h.Delivery {
			p.holder, p.queued = "", time.Now()
		}
		s.mu.Unlock()
	}
	s.respond(m, []byte(replyOK))
}

// onReport passes on how far a worker is with a task that it has.
func (s *Server) onReport(m *nats.Msg) {
	name := strings.TrimPrefix(m.Subject, reportSubject)
	d, err := decodeMeta(m)
	if err != nil || len(m.Data) > maxReport {
		return
	}
	s.mu.Lock()
	var tell []func([]byte)
	if p := s.pending[key(d.Job, d.Attempt, d.Seq)]; p != nil && p.holder == name {
		tell = p.progress
	}
	s.mu.Unlock()
	for _, f := range tell {
		f(m.Data)
	}
}

func (s *Server) announced(name string) Announce {
	if w := s.workers[name]; w != nil {
		return w.announce
	}
	return Announce{}
}

func (s *Server) respond(m *nats.Msg, b []byte) {
	if m.Reply == "" {
		return
	}
	if err := m.Respond(b); err != nil {
		s.log.Debug("reply to a worker", zap.String("subject", m.Subject), zap.Error(err))
	}
}

func (s *Server) onBeat(m *nats.Msg) {
	name := strings.TrimPrefix(m.Subject, beatSubject)
	var b beat
	err := json.Unmarshal(m.Data, &b)
	if err == nil {
		err = checkVersion(b.V)
	}
	if err != nil {
		s.log.Warn("heartbeat refused", zap.String("worker", name), zap.Error(err))
		s.respond(m, encode(beatReply{V: version, Err: err.Error()}))
		return
	}
	s.respond(m, encode(s.hear(name, b)))
	if b.Bye {
		s.wake()
	}
}

// hear records a heartbeat.
func (s *Server) hear(name string, b beat) beatReply {
	r := beatReply{V: version, AckWait: s.opts.AckWait.Milliseconds()}
	here := s.present()
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.workers[name]
	another := old != nil && old.instance != b.Instance
	if another && s.connected(name) && (here == nil || here[old.instance]) {
		r.Taken = true
		return r
	}
	if another { // its predecessor is dead
		for _, p := range s.pending {
			if p.holder == name {
				s.lose(p)
			}
		}
	}
	now := &workerRecord{instance: b.Instance, announce: b.Announce, last: time.Now(), gone: b.Bye, drops: &drops{}}
	if old != nil {
		now.doubted, now.drops = old.doubted && !another, old.drops
	}
	s.workers[name] = now
	for _, h := range b.Held {
		p := s.pending[h.Key]
		switch {
		case p == nil || h.Delivery < p.delivery:
			r.Stop = append(r.Stop, h.Key)
		case p.holder == "" && p.delivery == h.Delivery && !b.Bye: // after a silence
			p.holder = name
		}
	}
	if b.Bye {
		for _, p := range s.pending {
			if p.holder == name {
				p.holder, p.queued = "", time.Now()
			}
		}
	}
	var cs []*class
	for _, c := range s.classes {
		if c.serves(name, b.Announce) && !now.doubted {
			cs = append(cs, c)
		}
	}
	slices.SortFunc(cs, func(a, b *class) int {
		if a.priority != b.priority {
			return a.priority - b.priority
		}
		return strings.Compare(a.name(), b.name())
	})
	for _, c := range cs {
		r.Pull = append(r.Pull, c.name())
	}
	r.Classes = len(s.classes)
	return r
}

// Distrust gives a worker no further tasks, and takes those that it has: what it
// answered cannot be. A new process of that name is believed again.
func (s *Server) Distrust(name string, why error) {
	s.mu.Lock()
	w := s.workers[name]
	fresh := w != nil && !w.doubted
	if fresh {
		w.doubted = true
	}
	s.mu.Unlock()
	if fresh {
		s.log.Error("worker gets no more tasks: its answer cannot be; look at it and start it again", zap.String("worker", name), zap.Error(why))
	}
}

func (s *Server) doubts(name string) bool { return s.workers[name] != nil && s.workers[name].doubted }

// onAnswer takes an answer from the worker that has the lease, once.
func (s *Server) onAnswer(m *nats.Msg) {
	name := strings.TrimPrefix(m.Subject, answerSubject)
	d, err := decodeMeta(m)
	if err == nil && len(m.Data) > MaxBody {
		err = fmt.Errorf("answer of %d bytes, at most %d", len(m.Data), MaxBody)
	}
	if err != nil {
		s.log.Log(s.dropLevel(name), "answer dropped", zap.String("worker", name), zap.Error(err))
		s.respond(m, []byte(replyDrop))
		return
	}
	why := ""
	k := key(d.Job, d.Attempt, d.Seq)
	s.mu.Lock()
	p := s.pending[k]
	switch {
	case p == nil:
		why = "nobody waits for it"
	case p.holder != name && p.holder != "":
		why = "the task is leased to " + p.holder
	case p.holder == "" && p.last != name:
		why = "its lease ran out, or it had none"
	default:
		delete(s.pending, k)
		p.finish(Answer{Worker: name, Body: m.Data, Err: d.Err}, nil) // perhaps after a silence, when nobody else had begun
	}
	s.mu.Unlock()
	if why != "" {
		s.log.Log(s.dropLevel(name), "answer dropped: "+why, zap.String("worker", name), zap.String("job", clip(d.Job, 128)),
			zap.Int("attempt", d.Attempt), zap.Int("seq", d.Seq))
		s.respond(m, []byte(replyDrop))
		return
	}
	s.respond(m, []byte(replyOK))
}

// watch frees what silent workers held and finds what will never be run.
func (s *Server) watch() {
	tick := time.NewTicker(min(s.opts.AckWait/4, time.Second))
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case now := <-tick.C:
			s.look(now)
			s.restore(now)
		}
	}
}

func (s *Server) look(now time.Time) {
	drops := map[*pending]error{}
	met := map[*class]bool{}
	here := s.present()
	s.mu.Lock()
	for _, w := range s.workers {
		switch {
		case here == nil || here[w.instance]:
			w.away = time.Time{}
		case w.away.IsZero():
			w.away = now
		}
	}
	for _, c := range s.classes {
		met[c] = s.met(c)
	}
	for _, p := range s.pending {
		if p.holder != "" && !s.connected(p.holder) {
			s.log.Info("lease lost: the worker is silent", zap.String("task", p.name()), zap.String("worker", p.holder))
			if s.lose(p) {
				continue
			}
		}
		switch {
		case p.holder != "" || met[p.class]:
			p.unmet = time.Time{}
		case p.unmet.IsZero():
			p.unmet = now
		case s.opts.StuckAfter > 0 && now.Sub(p.unmet) >= s.opts.StuckAfter:
			drops[p] = fmt.Errorf("%w for %s: %s", ErrNoWorker, s.opts.StuckAfter, p.class.wants())
		}
	}
	s.mu.Unlock()
	for p, err := range drops {
		s.log.Warn("task withdrawn", zap.String("task", p.name()), zap.Error(err))
		s.drop(p, err)
	}
}

// restore queues again what nobody has and the engine does not have either:
// somebody acknowledged a delivery that was not theirs, or the store lost it.
func (s *Server) restore(now time.Time) {
	long := map[string][]*pending{} // by stream
	s.mu.Lock()
	for _, p := range s.pending {
		if p.holder == "" && !p.queued.IsZero() && now.Sub(p.queued) > s.opts.AckWait {
			long[p.class.stream] = append(long[p.class.stream], p)
		}
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for name, ps := range long {
		stream, err := s.js.Stream(ctx, name)
		if err != nil {
			continue
		}
		info, err := stream.Info(ctx, jetstream.WithSubjectFilter(">"))
		if err != nil {
			continue
		}
		for _, p := range ps {
			if info.State.Subjects[p.subject] > 0 {
				continue
			}
			s.mu.Lock()
			here := s.pending[p.key] == p && p.holder == ""
			if here {
				p.queued, p.delivery = now, 0 // the engine counts anew
			}
			s.mu.Unlock()
			if !here {
				continue
			}
			s.log.Warn("task is queued again: it was gone from the queue", zap.String("task", p.name()))
			if err := s.publish(p); err != nil {
				s.drop(p, err)
			}
			s.wake()
		}
	}
}

func (c *class) wants() string {
	needs := "needs " + strings.Join(c.needs, ", ")
	if len(c.needs) == 0 {
		needs = "needs nothing special"
	}
	if c.worker != "" {
		needs += ", only worker " + c.worker
	}
	return needs
}

// wake makes the bell ring.
func (s *Server) wake() {
	select {
	case s.ring <- struct{}{}:
	default:
	}
}

// ringBell tells idle workers that there may be work. One ring serves all that
// was queued in 2 ms: a thousand tasks at once must not wake everyone each.
func (s *Server) ringBell() {
	for {
		select {
		case <-s.stop:
			return
		case <-s.ring:
		}
		s.mu.Lock()
		n := len(s.classes)
		s.mu.Unlock()
		if err := s.nc.Publish(bellSubject, []byte(strconv.Itoa(n))); err != nil {
			s.log.Debug("ring", zap.Error(err))
		}
		select {
		case <-s.stop:
			return
		case <-time.After(2 * time.Millisecond):
		}
	}
}
