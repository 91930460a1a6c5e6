package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/dispatch"
	"github.com/kernel-bisect/kbisect/internal/imagecache"
	"github.com/kernel-bisect/kbisect/internal/job"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/qemu"
	"github.com/kernel-bisect/kbisect/internal/queue"
	"github.com/kernel-bisect/kbisect/vmimage"
)

// Labels of workers, each with its value behind it. What influences runs is
// among a task's needs: those of one job are made by equal workers, so that
// their runs may be compared.
const (
	archLabel     = "arch:"
	accelLabel    = "accel:"
	qemuLabel     = "qemu:"  // version line
	guestLabel    = "guest:" // digest of the guest image without a user's files
	compilerLabel = "compiler:"
	cpusLabel     = "cpus:"
)

// fleet are the workers of a service: this machine, and others.
type fleet struct {
	queue *queue.Server
	log   *zap.Logger
	alone bool // no other machine may come
	// leave keeps what a build left for people.
	leave func(ctx context.Context, b kernel.Build) kernel.Build

	mu    sync.Mutex
	wrong error // why this machine is no worker
}

// guestDigest names the guest image that this program has inside.
func guestDigest() (string, error) {
	image, err := vmimage.Image()
	if err != nil {
		return "", err
	}
	shell, err := vmimage.Shell()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(append(image, shell...))
	return hex.EncodeToString(sum[:8]), nil
}

// slots is how much all connected workers do at once.
func (f *fleet) slots() int {
	n := 0
	for _, w := range f.queue.Workers() {
		if w.Connected {
			n += w.Announce.Slots
		}
	}
	return n
}

// fail records that this machine cannot be a worker.
func (f *fleet) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wrong = err
}

// patience is how long a job waits for a worker without a word: after a start
// this machine tries its accelerators first, which takes seconds.
const patience = 10 * time.Second

// choose finds the kind of worker that a job has its runs from: of those with
// this program's guest image the accelerator and QEMU with most slots. It waits
// until there is one.
func (f *fleet) choose(ctx context.Context, waiting func()) (needs []string, like queue.Announce, slots int, err error) {
	digest, err := guestDigest()
	if err != nil {
		return nil, like, 0, err
	}
	for start, told := time.Now(), false; ; {
		if needs, like, slots = biggest(f.queue.Workers(), []string{archLabel + "x86_64", guestLabel + digest}); needs != nil {
			return needs, like, slots, nil
		}
		f.mu.Lock()
		wrong := f.wrong
		f.mu.Unlock()
		if f.alone && wrong != nil {
			return nil, like, 0, wrong
		}
		if !told && time.Since(start) > patience {
			f.log.Warn("no worker is connected that this job could have: it waits", zap.String("guest image", digest))
			waiting()
			told = true
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, like, 0, context.Cause(ctx)
		}
	}
}

// biggest groups the workers that have some labels by what else influences runs,
// and returns the needs of the group with most slots, one of it, and how many they are.
func biggest(workers []queue.WorkerStatus, labels []string) (needs []string, like queue.Announce, most int) {
	slots := map[string]int{}
	for _, w := range workers {
		a := w.Announce
		accel, qemu := label(a, accelLabel), label(a, qemuLabel)
		if !w.Connected || accel == "" || qemu == "" || !hasAll(a.Labels, labels) {
			continue
		}
		group := append(slices.Clone(labels), accelLabel+accel, qemuLabel+qemu)
		key := strings.Join(group, "\x00")
		slots[key] += a.Slots
		if slots[key] > most { // workers come in the order of their names
			most, needs, like = slots[key], group, a
		}
	}
	return needs, like, most
}

func hasAll(have, want []string) bool {
	for _, l := range want {
		if !slices.Contains(have, l) {
			return false
		}
	}
	return true
}

// label is the value of the first label of a kind.
func label(a queue.Announce, kind string) string {
	for _, l := range a.Labels {
		if v, ok := strings.CutPrefix(l, kind); ok {
			return v
		}
	}
	return ""
}

// equip has a bench's builds and runs made by workers.
func (f *fleet) equip(ctx context.Context, b *bench, o *options) error {
	needs, like, slots, err := f.choose(ctx, func() {
		b.bar.notify(job.Event{Phase: "wait", Text: "no worker is connected"})
	})
	if err != nil {
		return err
	}
	_, image, err := guestImage(b.ws.cache, b.req.Files, nil)
	if err != nil {
		return err
	}
	accel := qemu.Choice{Accel: label(like, accelLabel), QEMU: label(like, qemuLabel)}
	cpus, _ := strconv.Atoi(label(like, cpusLabel)) // 0 if it does not say
	b.host = kernel.Host{CPUs: cpus, QEMU: accel.QEMU, Accelerator: accel.Accel, Compiler: label(like, compilerLabel), Guest: image}
	b.lab.Setting = setting(b.profile.Machine, accel, image, b.req.Allowed)
	asked := b.req
	asked.Carry = nil // they get commits that have it
	request, err := json.Marshal(asked)
	if err != nil {
		return err
	}
	lab := &dispatch.Lab{Queue: f.queue, Job: b.id, Attempt: b.attempt, Priority: o.priority, Needs: needs, Request: request, Progress: b.bar.said, Turn: o.turn}
	if b.repo != nil {
		lab.Mirror = b.repo.Mirror()
		b.lab.Revert = b.revert
	}
	lab.Equip(b.lab, b.repo != nil)
	// With a single slot the builds would only keep the runs waiting.
	b.lab.BuildAhead = slots > 1
	if o.simulate != nil {
		o.simulate.record(b.lab)
		return nil
	}
	if b.repo == nil {
		return nil
	}
	cache, err := b.kernels()
	if err != nil {
		return err
	}
	b.lab.Build, b.lab.BuildClean = f.kept(cache, b.lab.Build), f.kept(cache, b.lab.BuildClean)
	return nil
}

type buildFunc = func(ctx context.Context, c kernel.Commit) (kernel.Build, error)

// kept finds what a worker built in our cache, where it is by then: its own
// paths are of no use here.
func (f *fleet) kept(cache *imagecache.Cache, build buildFunc) buildFunc {
	return func(ctx context.Context, c kernel.Commit) (kernel.Build, error) {
		b, err := build(ctx, c)
		if err != nil {
			return b, err
		}
		if b.Kernel.Key == "" && b.Status != kernel.BuildOK {
			b.Kernel, b.Log = kernel.Kernel{}, "" // paths of another machine
			return b, nil
		}
		if !imagecache.IsKey(b.Kernel.Key) {
			return b, errors.New("a worker's build has no key of a build")
		}
		ours, ok, err := cache.Get(b.Kernel.Key)
		if err != nil {
			return b, err
		}
		if !ok || ours.Kernel.Digest != b.Kernel.Digest {
			return b, errors.New("a worker's build did not come here: see its log")
		}
		ours.Cached, ours.Seconds, ours.Objects = b.Cached, b.Seconds, b.Objects
		return f.leave(ctx, ours), nil
	}
}
