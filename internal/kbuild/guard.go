package kbuild

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// guard keeps a build within its limits, from outside the sandbox: it looks at what
// all processes in there use together, which rlimits do not count. Control groups
// do, where there are some; a guard does for everybody. What it stops is gone to the
// last process: the first one of a PID namespace takes the others with it, and none
// can be started there any more.
type guard struct {
	b      *Builder
	group  *group // nil: none
	init   int    // the sandbox's first process, as we see it
	pidfd  int
	since  time.Time
	proc   *os.File   // the sandbox's /proc, once it is there
	memory []*os.File // its file systems that are memory
	mark   int        // of what there was, and what it had done, when something last went on
	active time.Time  // when that was
	peak   usage
	quit   chan struct{}
	done   chan struct{}

	walked      time.Time // when object tree and ccache were measured last
	free, nodes int64     // bytes and inodes of their file system then
}

// Descriptors of bwrap: one that it says on which process is the sandbox's first,
// and one that this waits for before it runs the command.
const infoFD, blockFD = 3, 4

var guardArgs = []string{"--info-fd", strconv.Itoa(infoFD), "--block-fd", strconv.Itoa(blockFD)}

const (
	// lookEvery is the lead that a build has: a CPU fills some 4 GB of memory in a
	// second. A look at 20 processes takes 0.4 ms.
	lookEvery = 100 * time.Millisecond
	// walkEvery is for what grows while others delete; else the trees are measured
	// when their file system has lost one part in walkParts of what they may have.
	walkEvery = time.Minute
	walkParts = 16
	// unseen is how long a sandbox may take to be there.
	unseen = 10 * time.Second
)

// begin starts a sandbox, and sets the limits of its processes before it runs
// anything. The guard looks at it until end, and calls stop at a limit; it is nil
// where the sandbox does not come that far.
func (b *Builder) begin(cmd *exec.Cmd, stop context.CancelCauseFunc) (*guard, error) {
	info, infoW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer info.Close()
	blockR, block, err := os.Pipe()
	if err != nil {
		_ = infoW.Close()
		return nil, err
	}
	defer block.Close() // now it may run
	cmd.ExtraFiles = []*os.File{infoW, blockR}
	var own *group
	if all, none := ownGroups(); none == nil {
		if own, err = all.make(b.limits()); err != nil {
			b.Log.Warn("the build has no control group", zap.Error(err))
		}
	}
	started := own.into(cmd)
	err = cmd.Start()
	started()
	_ = infoW.Close()
	_ = blockR.Close()
	if err != nil {
		own.remove()
		return nil, err
	}
	var about struct {
		Init int `json:"child-pid"`
	}
	if json.NewDecoder(info).Decode(&about) != nil || about.Init <= 0 {
		go own.remove() // with what did not come further
		return nil, nil
	}
	g := &guard{b: b, group: own, init: about.Init, since: time.Now(), walked: time.Now(), active: time.Now(), quit: make(chan struct{}), done: make(chan struct{})}
	if g.pidfd, err = unix.PidfdOpen(g.init, 0); err != nil {
		g.pidfd = -1 // ended already, or Linux before 5.3
	}
	for what, n := range b.limits().rlimits() {
		if err := lower(g.init, what, n); err != nil && !errors.Is(err, unix.ESRCH) {
			g.close()
			_ = cmd.Cancel()
			_ = cmd.Wait()
			own.remove()
			return nil, fmt.Errorf("limits: %w", err)
		}
	}
	// Who else is here lives longer.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", g.init), []byte("500"), 0)
	g.free, _, g.nodes = room(b.Objects)
	go g.keep(stop)
	return g, nil
}

// lower sets a limit of a process that may be lower already.
func lower(pid, what int, n uint64) error {
	var old unix.Rlimit
	if err := unix.Prlimit(pid, what, nil, &old); err != nil {
		return err
	}
	n = min(n, old.Max)
	return unix.Prlimit(pid, what, &unix.Rlimit{Cur: n, Max: n}, nil)
}

// room is what is free of a file system: bytes, of how many, and inodes.
func room(dir string) (free, total, nodes int64) {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return 0, 0, 0
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, int64(st.Ffree) //nolint:gosec // of no disk
}

func (g *guard) keep(stop context.CancelCauseFunc) {
	defer close(g.done)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-g.quit:
			return
		case <-tick.C:
		}
		if err := g.look(); err != nil {
			stop(err)
			return
		}
	}
}

// end waits until no process of the sandbox is left: its first one ends when all
// others have. One that lived on could write into what we read.
func (g *guard) end(patience time.Duration) error {
	close(g.quit)
	<-g.done
	defer g.close()
	defer g.group.remove()
	g.b.Log.Debug("the build used at most", zap.Int("processes", g.peak.processes), zap.Int64("memory", g.peak.memory))
	if err := g.gone(patience); err != nil {
		return err
	}
	if s := g.group.over(); s != nil {
		return s // where that ended it, nobody stopped it
	}
	return nil
}

// gone waits until the sandbox's first process has ended.
func (g *guard) gone(patience time.Duration) error {
	if g.pidfd < 0 {
		return nil
	}
	for until := time.Now().Add(patience); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(g.pidfd), Events: unix.POLLIN}}, int(max(0, time.Until(until)).Milliseconds())) //nolint:gosec // a descriptor
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("end of the build: %w", err)
		case n == 0:
			return fmt.Errorf("processes of the build did not end within %s", patience)
		default:
			return nil
		}
	}
}

func (g *guard) close() {
	for _, f := range append(g.memory, g.proc) {
		_ = f.Close() // of nil: an error
	}
	if g.pidfd >= 0 {
		_ = unix.Close(g.pidfd)
	}
}

// look says why the build is to be stopped, nil if it is not.
func (g *guard) look() error {
	left, memory := availableMemory()
	free, disk, nodes := room(g.b.Objects)
	if s := short(left, memory, free, disk); s != nil {
		s.why = strings.ReplaceAll(s.why, "{dir}", g.b.Owner)
		return s
	}
	if g.proc == nil && !g.enter() {
		if time.Since(g.since) > unseen {
			return errors.New("the build cannot be looked at: its limits would not hold")
		}
		return nil
	}
	u := g.running()
	limits := g.b.limits()
	if g.free-free > limits.Disk/walkParts || g.nodes-nodes > limits.Files/walkParts || time.Since(g.walked) > walkEvery {
		u.disk, u.files = g.b.stored(limits.Files)
		g.walked, g.free, g.nodes = time.Now(), free, nodes
	}
	u.idle = time.Since(g.active)
	g.peak.most(u)
	if s := limits.over(u); s != nil {
		return s
	}
	if s := g.group.over(); s != nil {
		return s
	}
	return nil
}

// enter opens what is to be looked at, once the sandbox has it: at first its first
// process sees what we see.
func (g *guard) enter() bool {
	root := fmt.Sprintf("/proc/%d/root", g.init)
	var ours, its unix.Stat_t
	if unix.Stat("/proc", &ours) != nil || unix.Stat(root+"/proc", &its) != nil || ours.Dev == its.Dev {
		return false
	}
	proc, err := os.Open(root + "/proc")
	if err != nil {
		return false
	}
	if unix.Fstat(int(proc.Fd()), &its) != nil || ours.Dev == its.Dev {
		_ = proc.Close()
		return false
	}
	for _, dir := range []string{"/", "/tmp", "/dev"} {
		if f, err := os.Open(root + dir); err == nil {
			g.memory = append(g.memory, f)
		}
	}
	g.proc = proc
	return true
}

// running is what the processes of the sandbox take.
func (g *guard) running() usage {
	var u usage
	if _, err := g.proc.Seek(0, 0); err != nil {
		return u
	}
	names, _ := g.proc.Readdirnames(-1)
	var buf [1 << 10]byte
	mark := 0
	for _, name := range names {
		if name[0] < '1' || name[0] > '9' {
			continue
		}
		fd, err := unix.Openat(int(g.proc.Fd()), name+"/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // ended
		}
		n, _ := unix.Read(fd, buf[:])
		_ = unix.Close(fd)
		p := parseStat(buf[:max(n, 0)])
		u.processes += max(p.threads, 1)
		u.memory += int64(p.pages) * int64(os.Getpagesize())
		pid, _ := strconv.Atoi(name)
		mark += pid + p.ticks
	}
	if mark != g.mark {
		g.mark, g.active = mark, time.Now()
	}
	for _, f := range g.memory {
		var st unix.Statfs_t
		if unix.Fstatfs(int(f.Fd()), &st) == nil {
			u.memory += int64(st.Blocks-st.Bfree) * st.Bsize //nolint:gosec // of no disk
		}
	}
	return u
}

// stat is what /proc/PID/stat tells of a process with all its threads.
type stat struct{ threads, pages, ticks int }

// parseStat reads fields 14, 15, 20 and 24 of it (proc(5)); a command's name may
// hold anything.
func parseStat(text []byte) stat {
	f := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(f) < 22 {
		return stat{}
	}
	field := func(i int) int {
		n, _ := strconv.Atoi(string(f[i-3]))
		return n
	}
	return stat{threads: field(20), pages: field(24), ticks: field(14) + field(15)}
}

// availableMemory is what programs can still have without swapping, and all there
// is, in bytes; as much as one likes where the kernel does not say.
func availableMemory() (left, total int64) {
	text, _ := os.ReadFile("/proc/meminfo")
	left = 1 << 62
	for line := range bytes.Lines(text) {
		name, rest, _ := bytes.Cut(line, []byte(":"))
		switch f := bytes.Fields(rest); {
		case len(f) == 0:
		case string(name) == "MemTotal":
			total, _ = strconv.ParseInt(string(f[0]), 10, 64)
		case string(name) == "MemAvailable":
			kb, _ := strconv.ParseInt(string(f[0]), 10, 64)
			return kb << 10, total << 10
		}
	}
	return left, total
}

// stored is how much object tree and ccache take of the disk, in how many files, as
// far as there are not more than most.
func (b *Builder) stored(most int64) (disk, files int64) {
	for _, dir := range []string{b.Objects, b.ccacheDir()} {
		_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
			if files++; files > most {
				return fs.SkipAll
			}
			if err != nil {
				return nil //nolint:nilerr // deleted; or too deep for us, which floors are for
			}
			if st, err := d.Info(); err == nil {
				disk += st.Sys().(*syscall.Stat_t).Blocks * 512
			}
			return nil
		})
	}
	return disk, files
}
