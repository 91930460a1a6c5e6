package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/pprof"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"github.com/kernel-bisect/kbisect/internal/api"
	"github.com/kernel-bisect/kbisect/internal/config"
	"github.com/kernel-bisect/kbisect/internal/depot"
	"github.com/kernel-bisect/kbisect/internal/imagecache"
	"github.com/kernel-bisect/kbisect/internal/queue"
	"github.com/kernel-bisect/kbisect/internal/store"
	"github.com/kernel-bisect/kbisect/internal/web"
	"github.com/kernel-bisect/kbisect/kconfigs"
)

func newServe(o *options) *cobra.Command {
	var file, listen string
	var repos []string
	cmd := &cobra.Command{
		Use:   "serve [--config FILE]",
		Short: "Carry out jobs for others: pages, an API, a queue",
		Long: `Serves pages and an API on which people ask for checks, series and bisections, and carries
them out one after the other. Killed and started again it takes them up where they were.

Without a configuration it listens on this machine only, and who is on it may do all.`,
		Example: `  orchestrator serve
  orchestrator serve --repo linux=$HOME/linux
  orchestrator serve --config /etc/kbisect/serve.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := serveConfig(file, listen, repos)
			if err != nil {
				return err
			}
			return o.serve(cmd.Context(), cfg)
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "configuration `file`, YAML")
	f.StringVar(&listen, "listen", "", "`HOST:PORT` of pages and API (default: the configuration's, or "+config.DefaultListen+")")
	f.StringArrayVar(&repos, "repo", nil, "a repository that jobs may name, `NAME=DIR`; repeatable")
	return cmd
}

// serveConfig reads the configuration; flags go over it.
func serveConfig(file, listen string, repos []string) (*config.Config, error) {
	cfg := &config.Config{Listen: listen}
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, usagef("--config %v", err)
		}
		abs, err := filepath.Abs(file)
		if err != nil {
			return nil, err
		}
		if cfg, err = config.Parse(file, filepath.Dir(abs), text, listen); err != nil {
			return nil, &configError{err.Error()}
		}
	}
	for _, r := range repos {
		name, dir, err := repoFlag(r)
		if err != nil {
			return nil, err
		}
		if cfg.Repos == nil {
			cfg.Repos = map[string]string{}
		}
		cfg.Repos[name] = dir
	}
	if err := cfg.Complete(); err != nil {
		return nil, usagef("%v", err)
	}
	for name, dir := range cfg.Repos {
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			return nil, usagef("repository %s: no directory %s", name, dir)
		}
	}
	return cfg, nil
}

// repoFlag reads NAME=DIR, or DIR, which gives its own name.
func repoFlag(text string) (name, dir string, err error) {
	name, dir, named := strings.Cut(text, "=")
	if !named {
		name, dir = "", text
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", "", err
	}
	if name == "" {
		name = filepath.Base(dir)
	}
	return name, dir, nil
}

// configError is what is wrong with a configuration file: it shows the place on
// lines of its own.
type configError struct{ text string }

func (e *configError) Error() string { return e.text }

// shutdown is how long requests under way may take when the service stops.
const shutdown = 10 * time.Second

// serve runs the service until ctx ends.
func (o *options) serve(ctx context.Context, cfg *config.Config) error {
	var known secrets
	if cfg.GitHub != nil { // before anything is started that could see them
		var err error
		if known, err = readSecrets(cfg.GitHub); err != nil {
			return err
		}
	}
	ws, err := o.openWorkspace(ctx)
	if err != nil {
		return err
	}
	defer ws.close()
	o.noBuilds = *cfg.Slots == 0
	log := o.serviceLog(cfg.Log)
	defer func() { _ = log.Sync() }()
	q, err := startQueue(ctx, cfg, ws, log)
	if err != nil {
		return err
	}
	defer q.Close()
	kept, err := openArtifacts(ctx, cfg.Artifacts, ws.data)
	if err != nil {
		return err
	}
	defer func() { _ = kept.Close() }()
	s := newService(o, cfg, ws, q, kept, log)
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w (use --listen, or listen: in the configuration)", err)
	}
	if _, port, _ := net.SplitHostPort(cfg.Listen); port == "0" { // any that is free
		if cfg.URL == "http://"+cfg.Listen {
			cfg.URL = "http://" + listener.Addr().String()
		}
		cfg.Listen = listener.Addr().String()
	}
	if cfg.GitHub != nil {
		if s.github, err = newForge(s, cfg.GitHub, known); err != nil {
			return err
		}
	}
	handler, err := s.handler(ctx)
	if err != nil {
		return err
	}
	server := newServer(handler, log)
	failed := make(chan error, 2)
	go func() { failed <- server.Serve(listener) }()
	if cfg.Admin != "" {
		admin, err := net.Listen("tcp", cfg.Admin)
		if err != nil {
			return fmt.Errorf("admin: %w", err)
		}
		debug := newServer(adminHandler(), log)
		go func() { failed <- debug.Serve(admin) }()
		defer func() { _ = debug.Close() }()
	}
	log.Info("serving", zap.String("url", "http://"+listener.Addr().String()+"/"), zap.String("data", ws.data), zap.Int("slots", *cfg.Slots), zap.String("open", cfg.Open))
	fmt.Fprintf(o.stderr, "kbisect is at http://%s/ (stop it with ^C: jobs go on when it is started again)\n", listener.Addr())
	jobs, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	through := make(chan error, 1)
	go func() { through <- s.run(jobs) }()
	select {
	case <-ctx.Done():
		err = nil
	case err = <-failed:
	case err = <-through:
		through <- err
	}
	log.Info("stopping")
	stop(errStopped)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdown)
	defer cancel()
	close(s.stop) // those who look on would keep their connections
	if serr := server.Shutdown(grace); errors.Is(serr, context.DeadlineExceeded) {
		_ = server.Close()
	}
	if rerr := <-through; err == nil && !errors.Is(rerr, context.Canceled) {
		err = rerr
	}
	log.Info("stopped")
	return err
}

// webhookPath is where GitHub sends webhooks.
const webhookPath = "/github/webhook"

// depotPath is where workers on other machines get sources and kernels.
const depotPath = "/worker"

// stuckAfter is how long a run waits for the worker that has its kernel up before
// another boots it: one that was restarted is back by then.
const stuckAfter = 15 * time.Second

// startQueue starts what takes tasks to workers.
func startQueue(ctx context.Context, cfg *config.Config, ws *workspace, log *zap.Logger) (*queue.Server, error) {
	o := queue.Options{Dir: filepath.Join(ws.data, "queue"), Listen: cfg.Workers.Listen, Log: log, StuckAfter: stuckAfter, Credentials: map[string]string{}}
	for name, hash := range cfg.Workers.Secrets {
		o.Credentials[name] = strings.TrimPrefix(hash, hashPrefix)
	}
	if cfg.Workers.Cert != "" {
		cert, err := tls.LoadX509KeyPair(cfg.Workers.Cert, cfg.Workers.Key)
		if err != nil {
			return nil, usagef("workers.cert: %v", err)
		}
		o.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
	return queue.Start(ctx, o)
}

// depot gives workers on other machines what they need.
func (s *service) depot() (http.Handler, error) {
	cache, err := imagecache.Open(filepath.Join(s.ws.cache, "kernels"))
	if err != nil {
		return nil, err
	}
	h, err := depot.New(depot.Options{Data: s.ws.data, Files: filepath.Join(s.ws.data, uploads), Cache: cache, Known: s.fleet.queue.Known, Log: s.log})
	if err != nil {
		return nil, err
	}
	return http.StripPrefix(depotPath, h), nil
}

// newServer has the limits that a server in the open needs.
func newServer(h http.Handler, log *zap.Logger) *http.Server {
	std, _ := zap.NewStdLogAt(log, zap.WarnLevel)
	return &http.Server{
		Handler: h, ErrorLog: std,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 5 * time.Minute, WriteTimeout: 5 * time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
	}
}

// handler is everything that is served: pages, and what machines ask for.
func (s *service) handler(ctx context.Context) (http.Handler, error) {
	p := &pages{s.hub, s}
	choices, err := s.choices(ctx)
	if err != nil {
		return nil, err
	}
	o := web.Options{Record: p, Live: p, Doer: p, ReadOnly: s.cfg.Open != config.OpenAll, Choices: choices, Hosts: s.hosts(), Stop: s.stop,
		Log: func(r *http.Request, err error) {
			s.log.Error("a page could not be made", zap.String("path", r.URL.Path), zap.Error(err))
		}}
	mux := http.NewServeMux()
	a := apis{p}
	o.Artifacts = a.pageArtifacts()
	if s.cfg.Open != config.OpenNothing {
		mux.Handle("/", web.New(o))
	}
	service := api.New(api.Options{
		Jobs: a, Runs: a, Submitter: a, Live: a, Record: a, Artifacts: a, Tokens: a, Profiles: kconfigs.Profiles(), Repos: s.apiRepos(),
		AnonymousRead: s.cfg.Open != config.OpenNothing, Uploads: s.ws.data, Stop: s.stop, Log: s.log,
	})
	service = web.OnlyHosts(s.hosts(), service)
	mux.Handle("/api/", service)
	mux.Handle("/openapi.json", service)
	if s.cfg.Workers.Listen != "" {
		h, err := s.depot()
		if err != nil {
			return nil, err
		}
		mux.Handle(depotPath+"/", h)
	}
	if s.github != nil && s.github.webhook != nil {
		mux.Handle(webhookPath, s.github.webhook)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if _, err := s.ws.store.JobList(r.Context(), store.JobFilter{Limit: 1}); err != nil {
			http.Error(w, "the record cannot be read: "+oneLine(err.Error()), http.StatusServiceUnavailable)
			return
		}
		if err := s.ground.trouble(); err != nil {
			http.Error(w, "jobs wait: "+oneLine(err.Error()), http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ready\n")
	})
	mux.Handle("GET /metrics", s.metrics.handler())
	return mux, nil
}

// apiRepos are the configured repositories: where they lie is nobody's business.
func (s *service) apiRepos() []api.Repo {
	repos := []api.Repo{}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Repos)) {
		repos = append(repos, api.Repo{Name: name})
	}
	return repos
}

// hosts are the names under which browsers may ask for pages on which they may
// do all: a page of a stranger could have its own name lead here.
func (s *service) hosts() []string {
	if s.cfg.Open != config.OpenAll {
		return nil
	}
	_, port, _ := net.SplitHostPort(s.cfg.Listen)
	hosts := []string{s.cfg.Listen}
	if s.cfg.Loopback() {
		hosts = append(hosts, "localhost:"+port, "127.0.0.1:"+port, "[::1]:"+port)
	}
	if u, err := url.Parse(s.cfg.URL); err == nil {
		hosts = append(hosts, u.Host)
	}
	return hosts
}

// choices are what the form for new jobs offers.
func (s *service) choices(ctx context.Context) (web.Choices, error) {
	repos, err := s.repos(ctx)
	if err != nil {
		return web.Choices{}, err
	}
	c := web.Choices{Repos: slices.Sorted(maps.Keys(repos)), Example: "v6.1..my-branch"}
	for _, p := range kconfigs.Profiles() {
		if len(p.Fragments) > 0 {
			c.Profiles = append(c.Profiles, web.Profile{Name: p.Name, Description: p.Description})
		}
	}
	tests, err := catalogue()
	for _, t := range tests {
		c.Tests = append(c.Tests, t.Name)
	}
	return c, err
}

func adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// serviceLog logs to standard error: lines for people on a terminal, else JSON.
func (o *options) serviceLog(form string) *zap.Logger {
	f, isFile := o.stderr.(*os.File)
	if form == "" {
		form = "json"
		if isFile && term.IsTerminal(int(f.Fd())) {
			form = "text"
		}
	}
	level := zap.InfoLevel
	if o.verbose {
		level = zap.DebugLevel
	}
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.ISO8601TimeEncoder
	encoder := zapcore.NewJSONEncoder(enc)
	if form == "text" {
		enc := zap.NewDevelopmentEncoderConfig()
		enc.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		encoder = zapcore.NewConsoleEncoder(enc)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(o.stderr)), level))
}
