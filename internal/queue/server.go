package queue

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// Options of a Server.
type Options struct {
	Dir         string            // for the engine's own files, emptied at Start; one process at a time
	Listen      string            // host:port for workers on other machines, "" for none
	TLS         *tls.Config       // of Listen; nil: secrets and bodies travel in clear
	Credentials map[string]string // worker name -> Hash of its secret; needed with Listen
	Log         *zap.Logger
	AckWait     time.Duration // a lease without heartbeat lives this long; 0: 30 s
	StuckAfter  time.Duration // Do gives up when no worker met the needs for so long; 0: never
}

// maxLosses is how many workers may die on a task before it is an error.
const maxLosses = 5

// Hash is what is kept of a worker's secret: secrets are random, so that a plain
// digest cannot be searched.
func Hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// serverUser is the server's own connection. A worker's name has no dot.
const serverUser = "server."

// Server is the queue of one orchestrator.
type Server struct {
	opts Options
	log  *zap.Logger
	ns   *natsd.Server
	nc   *nats.Conn
	js   jetstream.JetStream
	ring chan struct{} // work may have come
	stop chan struct{}
	wg   sync.WaitGroup

	classMu sync.Mutex // held while a class is made

	// mu guards the following fields.
	mu      sync.Mutex
	secrets map[string]string        // user -> secret: the server, workers in process
	pending map[string]*pending      // key -> task without answer
	workers map[string]*workerRecord // name -> what it last said
	classes map[string]*class        // stream.consumer -> what it serves
	closed  bool
}

// Start starts the engine and opens the port, if any. The server runs until Close; ctx
// is for starting only.
func Start(ctx context.Context, opts Options) (_ *Server, err error) {
	if opts.Log == nil {
		opts.Log = zap.NewNop()
	}
	if opts.AckWait == 0 {
		opts.AckWait = 30 * time.Second
	}
	for name := range opts.Credentials {
		if err := checkName(name); err != nil {
			return nil, err
		}
		if h := opts.Credentials[name]; h == "" || h == Hash("") {
			return nil, fmt.Errorf("worker %s has an empty secret", name)
		}
	}
	s := &Server{
		opts: opts, log: opts.Log,
		ring: make(chan struct{}, 1), stop: make(chan struct{}),
		secrets: map[string]string{serverUser: rand.Text()},
		pending: map[string]*pending{}, workers: map[string]*workerRecord{}, classes: map[string]*class{},
	}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if err := os.RemoveAll(opts.Dir); err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	if err := s.listen(); err != nil {
		return nil, err
	}
	if s.nc, err = s.dial(serverUser); err != nil {
		return nil, fmt.Errorf("connect to the queue in process: %w", err)
	}
	if s.js, err = jetstream.New(s.nc); err != nil {
		return nil, err
	}
	for subject, handle := range map[string]nats.MsgHandler{
		startSubject + "*":  s.onStart,
		beatSubject + "*":   s.onBeat,
		answerSubject + "*": s.onAnswer,
		backSubject + "*":   s.onBack,
		reportSubject + "*": s.onReport,
	} {
		if _, err := s.nc.Subscribe(subject, handle); err != nil {
			return nil, fmt.Errorf("subscribe %s: %w", subject, err)
		}
	}
	if err := s.nc.FlushTimeout(10 * time.Second); err != nil { // a worker may come at once
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	s.wg.Go(s.watch)
	s.wg.Go(s.ringBell)
	return s, nil
}

// listen starts the engine, with a port only when one is asked for.
func (s *Server) listen() error {
	o := &natsd.Options{
		ServerName: "kbisect", NoSigs: true, DontListen: true,
		JetStream: true, StoreDir: s.opts.Dir,
		MaxPayload:                 MaxBody + 256<<10, // and the description beside it
		AuthTimeout:                10,
		TLSTimeout:                 10,
		CustomClientAuthentication: (*authority)(s),
	}
	if s.opts.Listen != "" {
		if len(s.opts.Credentials) == 0 {
			return fmt.Errorf("queue: listening on %s needs the credentials of workers", s.opts.Listen)
		}
		host, port, err := net.SplitHostPort(s.opts.Listen)
		if err != nil {
			return fmt.Errorf("queue: listen on %q: want host:port", s.opts.Listen)
		}
		if o.Port, err = strconv.Atoi(port); err != nil || o.Port < 0 || o.Port > 65535 {
			return fmt.Errorf("queue: listen on %q: want a port from 0 to 65535", s.opts.Listen)
		}
		if o.Port == 0 {
			o.Port = natsd.RANDOM_PORT
		} else if l, err := net.Listen("tcp", s.opts.Listen); err != nil {
			return fmt.Errorf("queue: %w", err) // the engine would only log it
		} else if err := l.Close(); err != nil {
			return fmt.Errorf("queue: %w", err)
		}
		o.Host, o.DontListen, o.TLSConfig = host, false, s.opts.TLS
		if ip := net.ParseIP(host); s.opts.TLS == nil && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			s.log.Warn("queue listens without TLS: secrets of workers travel in clear", zap.String("listen", s.opts.Listen))
		}
	}
	ns, err := natsd.NewServer(o)
	if err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	ns.SetLoggerV2(engineLog{s.log}, false, false, false)
	s.ns = ns
	ns.Start()
	if !ns.ReadyForConnections(20 * time.Second) {
		return fmt.Errorf("queue in %s did not start within 20 s: see the log", s.opts.Dir)
	}
	return nil
}

// Addr is the address workers connect to, "" without a port.
func (s *Server) Addr() string {
	if s.opts.Listen == "" {
		return ""
	}
	return s.ns.Addr().String()
}

// dial connects a user in process.
func (s *Server) dial(user string, opts ...nats.Option) (*nats.Conn, error) {
	s.mu.Lock()
	secret := s.secrets[user]
	s.mu.Unlock()
	return nats.Connect("", append(opts, nats.InProcessServer(s.ns), nats.UserInfo(user, secret),
		nats.MaxReconnects(-1), nats.Timeout(10*time.Second))...)
}

// Close ends the engine; a Do that waits returns ErrClosed.
func (s *Server) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	for k, p := range s.pending {
		delete(s.pending, k)
		p.finish(Answer{}, ErrClosed)
	}
	s.mu.Unlock()
	close(s.stop)
	if s.nc != nil {
		s.nc.Close()
	}
	s.wg.Wait()
	if s.ns != nil {
		s.ns.Shutdown()
		s.ns.WaitForShutdown()
	}
}

// authority decides who may connect, and what a worker may say and hear: it
// pulls tasks for all and its own, and speaks under its own name.
type authority Server

func (a *authority) Check(c natsd.ClientAuthentication) bool {
	user, secret := c.GetOpts().Username, c.GetOpts().Password
	if !(*Server)(a).Known(user, secret) {
		from := "in process"
		if addr := c.RemoteAddress(); addr != nil {
			from = addr.String()
		}
		a.log.Warn("worker refused: wrong name or secret", zap.String("worker", clip(user, 64)), zap.String("from", from))
		return false
	}
	u := &natsd.User{Username: user}
	if user != serverUser {
		u.Permissions = workerPermissions(user)
	}
	c.RegisterUser(u)
	return true
}

// Known says whether a worker of that name has that secret.
func (s *Server) Known(name, secret string) bool {
	s.mu.Lock()
	own, inside := s.secrets[name]
	s.mu.Unlock()
	want, ok := s.opts.Credentials[name]
	if inside {
		want, ok = Hash(own), true
	}
	return ok && subtle.ConstantTimeCompare([]byte(want), []byte(Hash(secret))) == 1
}

func workerPermissions(name string) *natsd.Permissions {
	own := "W_" + name
	return &natsd.Permissions{
		Publish: &natsd.SubjectPermission{Allow: []string{
			startSubject + name, beatSubject + name, answerSubject + name, backSubject + name, reportSubject + name,
			"$JS.API.CONSUMER.MSG.NEXT." + anyStream + ".*", "$JS.API.CONSUMER.MSG.NEXT." + own + ".*",
			"$JS.ACK." + anyStream + ".>", "$JS.ACK." + own + ".>",
		}},
		Subscribe: &natsd.SubjectPermission{Allow: []string{
			inbox(name) + ".>", cancelSubject + name, bellSubject,
		}},
	}
}

func inbox(name string) string { return "_INBOX_" + name }

// engineLog passes on what the engine complains about. Refused logins have a
// line of their own.
type engineLog struct{ log *zap.Logger }

func (engineLog) Noticef(string, ...any)           {}
func (engineLog) Debugf(string, ...any)            {}
func (engineLog) Tracef(string, ...any)            {}
func (l engineLog) Warnf(format string, v ...any)  { l.log.Debug("nats: " + fmt.Sprintf(format, v...)) }
func (l engineLog) Errorf(format string, v ...any) { l.log.Debug("nats: " + fmt.Sprintf(format, v...)) }
func (l engineLog) Fatalf(format string, v ...any) { l.log.Error("nats: " + fmt.Sprintf(format, v...)) }

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}
