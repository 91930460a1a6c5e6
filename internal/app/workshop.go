package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/depot"
	"github.com/kernel-bisect/kbisect/internal/dispatch"
	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/imagecache"
	"github.com/kernel-bisect/kbisect/internal/job"
	"github.com/kernel-bisect/kbisect/internal/kbuild"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/qemu"
	"github.com/kernel-bisect/kbisect/internal/queue"
)

// workshop is what a worker builds and boots with: a workspace without a
// record.
type workshop struct {
	o      *options
	ws     *workspace
	supply supply
	log    *zap.Logger
}

// supply is where a worker has sources and kernels from.
type supply interface {
	repo(ctx context.Context, req request, mirror string) (*gitrepo.Repo, error)
	// fetch sees to it that the repository has a commit.
	fetch(ctx context.Context, repo *gitrepo.Repo, mirror, sha string) error
	// pull takes a build into the cache if there is one elsewhere.
	pull(ctx context.Context, key string, into *imagecache.Cache) error
	push(ctx context.Context, key string, from *imagecache.Cache) error
	// image has the file of a kernel that was not built by us.
	image(ctx context.Context, k kernel.Kernel) (string, error)
}

// ownSupply is that of the orchestrator's machine.
type ownSupply struct{ data string }

func (s ownSupply) repo(ctx context.Context, req request, _ string) (*gitrepo.Repo, error) {
	return gitrepo.Open(ctx, s.data, req.Repo)
}
func (ownSupply) fetch(context.Context, *gitrepo.Repo, string, string) error { return nil }
func (ownSupply) pull(context.Context, string, *imagecache.Cache) error      { return nil }
func (ownSupply) push(context.Context, string, *imagecache.Cache) error      { return nil }
func (ownSupply) image(_ context.Context, k kernel.Kernel) (string, error) {
	return k.Image, nil
}

// farSupply is that of another machine.
type farSupply struct {
	data   string
	client *depot.Client
}

func (s farSupply) repo(ctx context.Context, _ request, mirror string) (*gitrepo.Repo, error) {
	return gitrepo.Fetched(ctx, s.data, mirror)
}

func (s farSupply) fetch(ctx context.Context, repo *gitrepo.Repo, mirror, sha string) error {
	return s.client.Fetch(ctx, repo, mirror, sha)
}

func (s farSupply) pull(ctx context.Context, key string, into *imagecache.Cache) error {
	_, err := s.client.Pull(ctx, key, into)
	return err
}

// pushTries is how often a build is handed in: it may have taken an hour.
const pushTries = 5

func (s farSupply) push(ctx context.Context, key string, from *imagecache.Cache) error {
	var err error
	for i := range pushTries {
		if err = s.client.Push(ctx, key, from); err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(time.Second << i):
		case <-ctx.Done():
		}
	}
	return err
}

func (s farSupply) image(ctx context.Context, k kernel.Kernel) (string, error) {
	return s.client.File(ctx, k.Digest, filepath.Join(s.data, uploads))
}

// Open implements dispatch.Opener.
func (w *workshop) Open(ctx context.Context, request json.RawMessage, mirror string, progress func(dispatch.Word)) (*dispatch.Opened, error) {
	req, err := decodeRequest(request)
	if err != nil {
		return nil, err
	}
	o := w.options()
	o.tail = func(text string) { progress(dispatch.Word{Tail: text}) }
	b, err := o.newBench(ctx, w.ws, "", req, nil)
	if err != nil {
		return nil, err
	}
	build := func(clean bool) buildFunc {
		return func(ctx context.Context, c kernel.Commit) (kernel.Build, error) {
			return w.build(ctx, req, mirror, c, clean, progress)
		}
	}
	return &dispatch.Opened{
		Build: build(false), BuildClean: build(true), Close: b.close,
		Boot: func(ctx context.Context, k kernel.Kernel) (job.Bench, kernel.Boot, error) {
			if err := w.locate(ctx, b, &k); err != nil {
				return nil, kernel.Boot{}, err
			}
			return b.lab.Boot(ctx, k)
		},
	}, nil
}

// options are those of a bench on this machine.
func (w *workshop) options() *options {
	return &options{stdout: io.Discard, stderr: io.Discard, format: "json", dataDir: w.o.dataDir, jobs: w.o.jobs, log: w.log, simulate: w.o.simulate}
}

// build makes a kernel, unless somebody else has.
func (w *workshop) build(ctx context.Context, req request, mirror string, c kernel.Commit, clean bool, progress func(dispatch.Word)) (kernel.Build, error) {
	repo, err := w.supply.repo(ctx, req, mirror)
	if err != nil {
		return kernel.Build{}, err
	}
	o := w.options()
	o.hook = func(e job.Event) { progress(dispatch.Word{Text: e.Text}) }
	b, err := o.newBench(ctx, w.ws, "", req, repo)
	if err != nil {
		return kernel.Build{}, err
	}
	defer b.close()
	make := b.lab.Build
	if clean {
		make = b.lab.BuildClean
	}
	if o.simulate != nil {
		return make(ctx, c)
	}
	builder := b.build.of(c)
	key, err := builder.Key(ctx, c, clean)
	if err != nil {
		return kernel.Build{}, err
	}
	b.bar.notify(job.Event{Phase: "build", Commit: c})
	if !builder.Cache.Has(key) {
		if err := w.supply.pull(ctx, key, builder.Cache); err != nil {
			w.log.Warn("the shared cache cannot be asked: building", zap.Error(err))
		}
	}
	if !builder.Cache.Has(key) {
		if err := w.supply.fetch(ctx, repo, mirror, c.SHA); err != nil {
			return kernel.Build{}, err
		}
	}
	built, err := make(ctx, c)
	if err != nil {
		return built, err
	}
	if imagecache.IsKey(built.Kernel.Key) { // there may be one of ours
		key = built.Kernel.Key
	}
	return built, w.supply.push(ctx, key, builder.Cache)
}

// locate finds the file of a kernel on this machine.
func (w *workshop) locate(ctx context.Context, b *bench, k *kernel.Kernel) error {
	if w.o.simulate != nil {
		return nil
	}
	if k.Key == "" {
		if k.Modules != nil {
			return fmt.Errorf("kernel %s: its modules stay where they are", k.Name())
		}
		var err error
		k.Image, err = w.supply.image(ctx, *k)
		return err
	}
	if !imagecache.IsKey(k.Key) {
		return fmt.Errorf("kernel %.80q is none of a build", k.Key)
	}
	cache, err := b.kernels()
	if err != nil {
		return err
	}
	for range 2 {
		built, ok, err := cache.Get(k.Key)
		if err != nil {
			return err
		}
		if ok && built.Kernel.Digest == k.Digest {
			k.Image, k.Config = built.Kernel.Image, built.Kernel.Config
			return nil
		}
		if err := w.supply.pull(ctx, k.Key, cache); err != nil {
			return err
		}
	}
	return fmt.Errorf("kernel %.12s is not in the cache any more", k.Key)
}

// announce says what this machine has.
func (w *workshop) announce(ctx context.Context, slots int) (queue.Announce, error) {
	digest, err := guestDigest()
	if err != nil {
		return queue.Announce{}, err
	}
	a := queue.Announce{Version: version(), Slots: slots, Labels: []string{archLabel + "x86_64", guestLabel + digest, cpusLabel + strconv.Itoa(runtime.NumCPU())}}
	if w.o.simulate != nil {
		a.Labels = append(a.Labels, accelLabel+"simulated", qemuLabel+"none")
		return a, nil
	}
	path, err := exec.LookPath(qemuBinary)
	if err != nil {
		return a, errNoQEMU
	}
	accel, err := qemu.ChooseAccel(ctx, qemu.NewCell(), w.ws.data, path, filepath.Join(w.ws.cache, "accel.json"), false)
	if err != nil {
		return a, err
	}
	a.Labels = append(a.Labels, accelLabel+accel.Accel, qemuLabel+accel.QEMU, compilerLabel+kbuild.Compiler(ctx))
	return a, nil
}

// serve carries out tasks until ctx ends.
func (w *workshop) serve(ctx context.Context, conn *queue.Worker, slots int) error {
	station := dispatch.NewStation(w, slots)
	keep, stop := context.WithCancel(context.WithoutCancel(ctx))
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		station.Keep(keep)
	}()
	err := conn.Serve(ctx, station.Handle)
	stop()
	<-kept
	return err
}
