package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/guest"
	"github.com/kernel-bisect/kbisect/internal/imagecache"
	"github.com/kernel-bisect/kbisect/internal/job"
	"github.com/kernel-bisect/kbisect/internal/kbuild"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/qemu"
	"github.com/kernel-bisect/kbisect/internal/runner"
	"github.com/kernel-bisect/kbisect/internal/settings"
	"github.com/kernel-bisect/kbisect/internal/store"
	"github.com/kernel-bisect/kbisect/vmimage"
)

// qemuBinary is what a guest of the native architecture runs under.
const qemuBinary = "qemu-system-x86_64"

// buildTimeout bounds one build. A slim kernel takes minutes, a distribution
// configuration an hour.
const buildTimeout = 2 * time.Hour

// request is what a job was asked for, whole: it is stored with the job, and a
// job resumes from it.
type request struct {
	Kind    string            `json:"kind"`
	Command string            `json:"command"`
	Profile string            `json:"profile"`
	Kconfig []kbuild.Fragment `json:"kconfig,omitempty"`
	Carry   []gitrepo.Carry   `json:"carry,omitempty"` // on every commit
	Repo    string            `json:"repo,omitempty"`
	Base    string            `json:"base,omitempty"` // object ids, so that moving branches do not matter
	Head    string            `json:"head,omitempty"`
	// Stranger names what came as mail or a bundle, by its commits, or a pull request:
	// what has the same name is built together, and apart from everything else.
	Stranger    string           `json:"stranger,omitempty"`
	Trusted     string           `json:"trusted,omitempty"` // the commit of the repository's own that his stand on, if known
	Kernels     []string         `json:"kernels,omitempty"` // paths of ready images
	Modules     []string         `json:"modules,omitempty"` // paths of their modules
	Tests       []string         `json:"tests,omitempty"`
	Files       []vmimage.File   `json:"files,omitempty"` // what the user brings into the guest
	Programs    []runner.Program `json:"programs,omitempty"`
	Guest       settings.Guest   `json:"guest,omitzero"` // what they want of it
	Allowed     []kernel.Allowed `json:"allowed,omitempty"`
	Runs        int              `json:"runs,omitempty"`
	MaxRuns     int              `json:"max_runs,omitempty"`     // 0: as many as it takes
	TestTimeout time.Duration    `json:"test_timeout,omitempty"` // of the catalogue's tests; 0: their own
	Search      searchRequest    `json:"search,omitzero"`        // of a bisection
	Configs     *configEnds      `json:"configs,omitempty"`      // of a bisect-config, whose commit is Head
	Fresh       bool             `json:"fresh,omitempty"`
	NoSandbox   bool             `json:"no_sandbox,omitempty"`
	BootPerRun  bool             `json:"boot_per_run,omitempty"`
	ShareGuests bool             `json:"share_guests,omitempty"`
}

// bench is everything a job needs, wired.
type bench struct {
	ws      *workspace
	id      string
	req     request
	profile kernel.Profile
	lab     *job.Lab
	host    kernel.Host
	bar     *progress
	log     *zap.Logger
	repo    *gitrepo.Repo // nil for a ready kernel
	build   builders      // of a job that builds, and builds here
	carried carrying
	started time.Time
	attempt int // of a service's job, from 1
}

// newBench wires a job of an open workspace. repo is nil for a ready kernel.
func (o *options) newBench(ctx context.Context, ws *workspace, id string, req request, repo *gitrepo.Repo) (*bench, error) {
	b := &bench{ws: ws, id: id, req: req, repo: repo, log: o.logger(), started: time.Now(), attempt: o.attempt}
	var err error
	if b.profile, err = profileOf(req.Profile); err != nil {
		return nil, err
	}
	b.profile.Machine = req.Guest.On(b.profile.Machine)
	b.bar = o.newProgress()
	if err := b.wire(ctx, o); err != nil {
		b.bar.close()
		return nil, err
	}
	b.carry()
	if o.measure != nil {
		o.measure(b.lab)
	}
	return b, nil
}

// wire makes the job's lab.
func (b *bench) wire(ctx context.Context, o *options) error {
	b.lab = &job.Lab{Job: b.id, Record: b.ws.store, Fresh: b.req.Fresh, Notify: b.bar.notify}
	if b.attempt > 0 {
		b.lab.Record = store.Fenced{Store: b.ws.store, Attempt: b.attempt}
	}
	if o.fleet != nil {
		return o.fleet.equip(ctx, b, o)
	}
	if o.simulate != nil {
		o.simulate.lab(b.lab)
		return nil
	}
	if err := b.addGuests(ctx, o); err != nil || b.repo == nil {
		return err
	}
	return b.addBuilder(ctx, o)
}

// addGuests wires the boot of kernels.
func (b *bench) addGuests(ctx context.Context, o *options) error {
	req := b.req
	image, digest, err := guestImage(b.ws.cache, req.Files, nil)
	if err != nil {
		return err
	}
	qemuPath, err := exec.LookPath(qemuBinary)
	if err != nil {
		return errNoQEMU
	}
	cell := qemu.NewCell()
	accel, err := qemu.ChooseAccel(ctx, cell, b.ws.data, qemuPath, filepath.Join(b.ws.cache, "accel.json"), false)
	if err != nil {
		return err
	}
	b.ws.told.Do(func() {
		for _, lack := range cell.Lacks {
			b.log.Info("QEMU is locked up less well than it could be", zap.String("lack", lack))
		}
		for _, t := range accel.Trials {
			if t.Error != "" {
				b.log.Info("accelerator of no use here", zap.String("accelerator", t.Accel), zap.String("seen", t.Error))
			}
		}
	})
	b.host = kernel.Host{CPUs: runtime.NumCPU(), QEMU: accel.QEMU, Accelerator: accel.Accel, Compiler: kbuild.Compiler(ctx), Guest: digest}
	lab := &runner.Lab{Owner: b.ws.data, QEMU: qemuPath, Cell: cell, Accel: accel.Accel, Image: image, Limits: guest.DefaultLimits, Log: b.log, Allowed: req.Allowed, NoFork: req.BootPerRun, Tail: o.tail}
	if len(req.Programs) == 0 { // else they have the guest to themselves
		lab.Waiting = []string{vmimage.ReproducerPath, vmimage.ReproducerWaits}
	}
	b.lab.Setting = setting(b.profile.Machine, accel, digest, req.Allowed)
	b.lab.Boot = func(ctx context.Context, k kernel.Kernel) (job.Bench, kernel.Boot, error) {
		booted, boot, err := lab.Boot(ctx, k, b.profile.Machine)
		if booted == nil { // not a *Booted in an interface
			return nil, boot, err
		}
		return booted, boot, err
	}
	return nil
}

// addBuilder wires the build of commits.
func (b *bench) addBuilder(ctx context.Context, o *options) error {
	builders, err := b.builders(ctx, o)
	if err != nil {
		return err
	}
	b.build = builders
	builders.his.Progress, builders.ours.Progress, b.lab.BuildAhead = b.bar.building, b.bar.building, true
	b.lab.Build = func(ctx context.Context, c kernel.Commit) (kernel.Build, error) {
		builder := builders.of(c)
		// See kept; that ours does not build holds for his, too.
		for _, by := range []*kbuild.Builder{builders.ours, builder} {
			if known, ok, err := by.Known(ctx, c); ok || err != nil {
				return known, err
			}
		}
		return b.inSlot(ctx, c, builder, builder.Build)
	}
	b.lab.BuildClean = func(ctx context.Context, c kernel.Commit) (kernel.Build, error) {
		builder := builders.of(c)
		return b.inSlot(ctx, c, builder, builder.BuildClean)
	}
	b.lab.Revert = b.revert
	return nil
}

func (b *bench) revert(ctx context.Context, culprit, head kernel.Commit) (kernel.Commit, string, error) {
	c, err := b.repo.Revert(ctx, culprit.SHA, head.SHA)
	var refused *gitrepo.RevertError
	if errors.As(err, &refused) {
		return c, refused.Reason, nil
	}
	return c, "", err
}

// kernels opens the cache of builds.
func (b *bench) kernels() (*imagecache.Cache, error) {
	return imagecache.Open(filepath.Join(b.ws.cache, "kernels"))
}

// inSlot builds in the trees of a builder when no other job builds.
func (b *bench) inSlot(ctx context.Context, c kernel.Commit, in *kbuild.Builder, build buildFunc) (kernel.Build, error) {
	free, err := b.ws.takeSlot(ctx)
	if err != nil {
		return kernel.Build{}, err
	}
	defer free()
	return inTrees(in.Objects, in.Source.Dir(), func() (kernel.Build, error) { return build(ctx, c) })
}

// builders are those of a job. One that tests what a stranger wrote has two: what
// he wrote is built apart, and where it begins as everybody else's, so that there
// are objects to begin with.
type builders struct {
	his, ours *kbuild.Builder
	trusted   string
}

// of is the builder of a commit.
func (b builders) of(c kernel.Commit) *kbuild.Builder {
	if c.SHA == b.trusted {
		return b.ours
	}
	return b.his
}

// kept is the kernel of a commit that need not be built. What was built as ours of the
// same tree is as good for him; what was built as his is for nobody else.
func (b builders) kept(ctx context.Context, c kernel.Commit) (kernel.Build, bool, error) {
	if built, ok, err := b.ours.Kept(ctx, c); ok || err != nil || b.of(c) == b.ours {
		return built, ok, err
	}
	return b.his.Kept(ctx, c)
}

// builders makes the builders of the bench's profile.
func (b *bench) builders(ctx context.Context, o *options) (builders, error) {
	ours, err := b.builder(ctx, o)
	if err != nil || b.req.Stranger == "" {
		return builders{his: ours, ours: ours}, err
	}
	his := *ours
	sum := sha256.Sum256([]byte(b.req.Stranger))
	his.Apart = hex.EncodeToString(sum[:16])
	slot, name := filepath.Split(ours.Objects)
	his.Objects = filepath.Join(filepath.Clean(slot)+strangersMark+his.Apart, name)
	if ours.Sandbox { // else the paths in it are those of the other tree
		his.Seed = ours.Objects
	}
	return builders{&his, ours, b.req.Trusted}, nil
}

// strangersMark is in the names of slots in which strangers' commits are built.
const strangersMark = "-stranger-"

// builder makes the builder of the bench's profile for commits that are trusted.
func (b *bench) builder(ctx context.Context, o *options) (*kbuild.Builder, error) {
	if len(b.profile.Fragments) == 0 {
		return nil, usagef("profile %s is for ready kernels (check --kernel); to build use another, see `orchestrator list profiles`", b.profile.Name)
	}
	if !b.req.NoSandbox {
		if err := kbuild.CheckSandbox(ctx); err != nil {
			return nil, fmt.Errorf("the build sandbox does not work here: %w; install bubblewrap and allow user namespaces, or pass --no-sandbox for sources you trust", err)
		}
	}
	frags, err := fragments(b.profile, b.req.Kconfig)
	if err != nil {
		return nil, err
	}
	cache, err := b.kernels()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(b.ws.slots(), b.repo.ID())
	src, objects := b.ws.worktree(b.repo, filepath.Join(dir, "src")), filepath.Join(dir, "obj-"+b.profile.Name)
	if b.req.NoSandbox {
		// What runs there may write to the sources.
		src = b.repo.Worktree(src.Dir())
		// Its compiler commands have other paths: it would invalidate every
		// object of the sandboxed tree.
		objects += "-unsandboxed"
	}
	return &kbuild.Builder{
		Owner: b.ws.data, Source: src, Objects: objects, Cache: cache,
		Fragments: frags, Jobs: o.jobs, Direct: b.profile.Machine.Type == "microvm", Timeout: buildTimeout, Sandbox: !b.req.NoSandbox, Log: b.log,
	}, nil
}

// close ends the progress line.
func (b *bench) close() { b.bar.close() }

// save stores the job's result so far.
func (b *bench) save(ctx context.Context, status string, result any) error {
	text, err := json.Marshal(result)
	if err != nil {
		return err
	}
	// The end of a job is recorded even when it was cancelled.
	if b.attempt > 0 { // how it ended is the service's to say
		return b.ws.store.SaveResult(context.WithoutCancel(ctx), b.id, b.attempt, text)
	}
	return b.ws.store.SaveJob(context.WithoutCancel(ctx), b.id, status, text)
}

// guestImage writes the initramfs with the user's files, and an archive of
// modules behind them, into the cache and returns its path and digest.
func guestImage(cache string, files []vmimage.File, modules []byte) (path, digest string, err error) {
	image, err := vmimage.Image()
	if err != nil {
		return "", "", err
	}
	if len(files) > 0 {
		shell, err := vmimage.Shell()
		if err != nil {
			return "", "", err
		}
		if image, err = vmimage.Append(vmimage.Join(image, shell), files); err != nil {
			return "", "", err
		}
	}
	if modules != nil {
		image = vmimage.Join(image, modules)
	}
	sum := sha256.Sum256(image)
	digest = hex.EncodeToString(sum[:])
	path = filepath.Join(cache, "images", digest[:16]+".cpio")
	if old, err := os.ReadFile(path); err == nil && sha256.Sum256(old) == sum {
		now := time.Now() // it is in use: see trim
		_ = os.Chtimes(path, now, now)
		return path, digest, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", "", fmt.Errorf("guest image: %w", err)
	}
	return path, digest, runner.WriteImage(path, image)
}

// setting digests what may influence a run besides kernel and program.
func setting(m kernel.Machine, accel qemu.Choice, image string, allowed []kernel.Allowed) string {
	text, _ := json.Marshal(struct {
		Machine                      kernel.Machine
		Accel, QEMU, BootArgs, Image string
		Allowed                      []kernel.Allowed `json:",omitempty"` // a run is recorded with its outcome
	}{m, accel.Accel, accel.QEMU, qemu.BootArgs + " " + agentproto.Env, image, allowed})
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
