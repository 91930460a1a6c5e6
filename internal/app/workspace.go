package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/leash"
	"github.com/kernel-bisect/kbisect/internal/store"
)

// workspace is the data directory in the hands of this process.
type workspace struct {
	data, cache string
	store       *store.Store
	locks       []*os.File
	told        sync.Once     // what accelerators are of no use
	slot        chan struct{} // full while a worktree is in use: jobs beside each other share it

	mu        sync.Mutex
	checkouts map[string]*gitrepo.Worktree // those that sandboxed builds use
}

// worktree is the checkout at dir for sandboxed builds. It is the same for all jobs,
// and all tasks of a worker: it knows how it left the files, and need not look at them.
func (w *workspace) worktree(repo *gitrepo.Repo, dir string) *gitrepo.Worktree {
	w.mu.Lock()
	defer w.mu.Unlock()
	tree := w.checkouts[dir]
	if tree == nil {
		tree = repo.Worktree(dir)
		tree.Kept = true
		if w.checkouts == nil {
			w.checkouts = map[string]*gitrepo.Worktree{}
		}
		w.checkouts[dir] = tree
	}
	return tree
}

// takeSlot waits for the worktree and the object tree: one build uses all
// processors, and two would only take turns on them.
func (w *workspace) takeSlot(ctx context.Context) (free func(), err error) {
	select {
	case w.slot <- struct{}{}:
		return func() { <-w.slot }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// openWorkspace takes the data directory for work. While it is open no other
// kbisect works there; what a killed one left behind is swept up.
func (o *options) openWorkspace(ctx context.Context) (*workspace, error) {
	w, err := o.openWorkshop(ctx)
	if err != nil {
		return nil, err
	}
	if w.store, err = store.Open(ctx, w.data); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// openWorkshop is openWorkspace without the record, which workers have not.
func (o *options) openWorkshop(ctx context.Context) (*workspace, error) {
	data, cache, err := o.dirs()
	if err != nil {
		return nil, err
	}
	w := &workspace{data: data, cache: cache, slot: make(chan struct{}, 1)}
	for _, dir := range []string{data, cache} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			w.close()
			return nil, fmt.Errorf("data directory: %w (use --data-dir)", err)
		}
		lock, err := takeLock(filepath.Join(dir, "lock"), o.commandLine())
		if err != nil {
			w.close()
			return nil, err
		}
		w.locks = append(w.locks, lock)
	}
	if n := leash.Sweep(data); n > 0 {
		o.logger().Info("killed processes that an earlier kbisect left behind", zap.Int("processes", n))
	}
	sweepCompiles(cache)
	w.trim(ctx, time.Now(), o.logger())
	return w, nil
}

// compileDir is where a user's program is compiled, followed by our pid.
const compileDir = "compile-"

// sweepCompiles removes what compilations of processes that are gone left.
func sweepCompiles(cache string) {
	dirs, _ := filepath.Glob(filepath.Join(cache, compileDir+"*"))
	for _, d := range dirs {
		pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(d), compileDir))
		if err != nil || unix.Kill(pid, 0) != nil {
			_ = os.RemoveAll(d)
		}
	}
}

func (w *workspace) close() {
	if w.store != nil {
		_ = w.store.Close()
	}
	for _, l := range w.locks {
		_ = l.Close() // gives up the lock
	}
}

// abandon marks a job that ended before it got anywhere: it is not running. What
// becomes of a service's jobs is the service's to say.
func (o *options) abandon(ctx context.Context, w *workspace, id string) {
	if o.attempt == 0 {
		_ = w.store.Abandon(context.WithoutCancel(ctx), id)
	}
}

// inUse says whether some kbisect holds the data directory.
func inUse(data string) bool {
	f, err := os.Open(filepath.Join(data, "lock"))
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// takeLock locks a file that says who holds it.
func takeLock(path, who string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w (use --data-dir)", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		holder, _ := os.ReadFile(path)
		_ = f.Close()
		return nil, fmt.Errorf("%s is in use by another kbisect (%s): wait for it, or use another --data-dir",
			filepath.Dir(path), strings.TrimSpace(string(holder)))
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	_ = f.Truncate(0)
	_, _ = fmt.Fprintf(f, "pid %d: %s\n", os.Getpid(), who)
	return f, nil
}
