package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/api"
	"github.com/kernel-bisect/kbisect/internal/artifact"
	"github.com/kernel-bisect/kbisect/internal/config"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// openArtifacts opens the store of logs and kernels.
func openArtifacts(ctx context.Context, cfg config.Artifacts, data string) (*artifact.Store, error) {
	where := cfg.URL
	if where == "" {
		where = filepath.Join(data, "artifacts")
	}
	s, err := artifact.Open(ctx, where)
	if err != nil {
		return nil, usagef("%v (artifacts.url in the configuration)", err)
	}
	return s, nil
}

// keepFor are the rules of retention.
func keepFor(cfg config.Artifacts) artifact.Keep {
	day := 24 * time.Hour
	kernels := time.Duration(*cfg.Kernels) * day
	return artifact.Keep{artifact.Log: time.Duration(*cfg.Logs) * day, artifact.Kernel: kernels, artifact.Config: kernels}
}

// sweepArtifacts deletes what has had its time, now and once a day.
func (s *service) sweepArtifacts(ctx context.Context) {
	tick := time.NewTicker(24 * time.Hour)
	defer tick.Stop()
	for {
		n, size, err := s.artifacts.Sweep(ctx, keepFor(s.cfg.Artifacts), time.Now())
		if n > 0 {
			s.log.Info("artifacts that have had their time are deleted", zap.Int("objects", n), zap.Int64("bytes", size))
		}
		if err != nil && ctx.Err() == nil {
			s.log.Error("artifacts cannot be swept", zap.Error(err))
		}
		s.trim(ctx) // waits while something is built
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// leave keeps the log, the kernel and the configuration of a build. What cannot
// be kept is a loss, not a failure of the job.
func (s *service) leave(ctx context.Context, b kernel.Build) kernel.Build {
	put := func(k artifact.Kind, path string) string {
		if path == "" {
			return ""
		}
		data, err := os.ReadFile(path)
		var digest string
		if err == nil {
			digest, err = s.artifacts.Put(ctx, k, data)
		}
		if err != nil {
			s.log.Warn("an artifact is not kept", zap.String("kind", string(k)), zap.Error(err))
		}
		return digest
	}
	b.LogDigest = put(artifact.Log, b.Log)
	put(artifact.Kernel, b.Kernel.Image)
	put(artifact.Config, b.Kernel.Config)
	return b
}

// maxArtifact bounds what is read into memory to be served: a kernel has 15 MB.
const maxArtifact = 256 << 20

// Artifact implements api.Artifacts.
func (a apis) Artifact(ctx context.Context, kind, digest string) ([]byte, error) {
	r, err := a.p.s.artifacts.Get(ctx, artifact.Kind(kind), digest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &api.NotFound{What: fmt.Sprintf("%s %.12s: it was never kept, or has had its time", kind, digest)}
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	return io.ReadAll(io.LimitReader(r, maxArtifact))
}

// pageArtifacts serves artifacts to who reads the pages.
func (a apis) pageArtifacts() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind, digest := r.PathValue("kind"), r.PathValue("digest")
		data, err := a.Artifact(r.Context(), kind, digest)
		var gone *api.NotFound
		switch {
		case errors.As(err, &gone) && artifact.Valid(artifact.Kind(kind), digest):
			http.Error(w, "There is no "+gone.What+".", http.StatusGone)
		case errors.As(err, &gone):
			http.NotFound(w, r)
		case err != nil:
			a.p.s.log.Error("an artifact cannot be read", zap.String("path", r.URL.Path), zap.Error(err))
			http.Error(w, "This artifact cannot be read: the log of the service has the cause.", http.StatusInternalServerError)
		default:
			api.ServeArtifact(w, r, kind, digest, data)
		}
	})
}
