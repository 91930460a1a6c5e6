package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/config"
	"github.com/kernel-bisect/kbisect/internal/depot"
	"github.com/kernel-bisect/kbisect/internal/queue"
)

// secretVariable holds a worker's secret.
const secretVariable = "KBISECT_WORKER_SECRET" //nolint:gosec // a name, no secret

var errNoQEMU = fmt.Errorf("%s is not installed: deploy/install-deps installs it (see `orchestrator doctor`)", qemuBinary)

func newWorker(o *options) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "worker --config FILE",
		Short: "Build and run for a service on another machine",
		Long: `Takes builds and runs from a service and carries them out on this machine. Sources, kernels
and results go through the service; this machine needs what doctor asks for, and nothing of the
service's data. Killed and started again it goes on; what it had is done by another meanwhile.`,
		Example: `  orchestrator worker --config /etc/kbisect/worker.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef("--config: which service? See deploy/worker.yaml")
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return usagef("--config %v", err)
			}
			abs, err := filepath.Abs(file)
			if err != nil {
				return err
			}
			cfg, err := config.ParseWorker(file, filepath.Dir(abs), text)
			if err != nil {
				return &configError{err.Error()}
			}
			return o.worker(cmd.Context(), cfg)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration `file`, YAML")
	return cmd
}

// worker works for a service until ctx ends.
func (o *options) worker(ctx context.Context, cfg *config.Worker) error {
	secret, err := workerSecret(cfg.SecretFile)
	if err != nil {
		return err
	}
	pool, err := trusted(cfg.CA)
	if err != nil {
		return err
	}
	ws, err := o.openWorkshop(ctx)
	if err != nil {
		return err
	}
	defer ws.close()
	log := o.serviceLog(cfg.Log)
	defer func() { _ = log.Sync() }()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	w := &workshop{o: o, ws: ws, log: log, supply: farSupply{ws.data, &depot.Client{
		URL: strings.TrimRight(cfg.Server, "/") + depotPath, Name: cfg.Name, Secret: secret, CA: cfg.CA, HTTP: &http.Client{Transport: transport},
	}}}
	announce, err := w.announce(ctx, cfg.Slots)
	if err != nil {
		return err
	}
	wo := queue.WorkerOptions{Name: cfg.Name, Announce: announce, URL: cfg.Queue, Secret: secret, Log: log}
	if strings.HasPrefix(cfg.Queue, "tls:") {
		wo.TLS = transport.TLSClientConfig.Clone()
	}
	conn, err := connect(ctx, wo)
	if err != nil {
		return err
	}
	log.Info("working", zap.String("service", cfg.Server), zap.String("name", cfg.Name), zap.Strings("has", announce.Labels), zap.Int("slots", cfg.Slots))
	fmt.Fprintf(o.stderr, "worker %s works for %s (stop it with ^C: what it has goes to others)\n", cfg.Name, cfg.Server)
	return w.serve(ctx, conn, cfg.Slots)
}

// connect waits for a service that is not there yet.
func connect(ctx context.Context, o queue.WorkerOptions) (*queue.Worker, error) {
	for said := ""; ; {
		conn, err := queue.Connect(ctx, o)
		if !errors.Is(err, queue.ErrUnreachable) {
			return conn, err
		}
		if err.Error() != said {
			said = err.Error()
			o.Log.Warn("the service cannot be reached: trying again and again", zap.Error(err))
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func workerSecret(file string) (string, error) {
	if file == "" {
		if s := os.Getenv(secretVariable); s != "" {
			return s, nil
		}
		return "", usagef("no secret: secret_file in the configuration, or $%s", secretVariable)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", usagef("secret_file: %v", err)
	}
	s := strings.TrimSpace(string(text))
	if s == "" {
		return "", usagef("secret_file: %s is empty", file)
	}
	return s, nil
}

// trusted are the system's certificates and those of a file.
func trusted(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // the system's, as crypto/tls has it
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, usagef("ca: %v", err)
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, usagef("ca: %s has no certificate in PEM form", file)
	}
	return pool, nil
}

// version is that of this program, for people; "" if it does not know.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "(devel)" {
		return ""
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v = s.Value[:min(len(s.Value), 12)]
		}
	}
	return v
}

// runLocal is the worker inside the service, until ctx ends.
func (s *service) runLocal(ctx context.Context, slots int) {
	w := &workshop{o: s.o, ws: s.ws, supply: ownSupply{s.ws.data}, log: s.log}
	err := func() error {
		announce, err := w.announce(ctx, slots)
		if err != nil {
			return err
		}
		conn, err := queue.Connect(ctx, queue.WorkerOptions{Name: config.LocalWorker, Announce: announce, Server: s.fleet.queue, Log: s.log})
		if err != nil {
			return err
		}
		return w.serve(ctx, conn, slots)
	}()
	if err != nil && !errors.Is(err, context.Canceled) && ctx.Err() == nil {
		s.log.Error("this machine is no worker", zap.Error(err))
		s.fleet.fail(err)
	}
}
