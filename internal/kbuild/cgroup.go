package kbuild

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kernel-bisect/kbisect/internal/leash"
)

// groups is where the kernel lets us make control groups (cgroup v2), whose limits of
// memory and processes hold for a whole build: for memory in files that the guard does
// not see, and for what forks faster than it looks.
type groups struct {
	dir  string
	made atomic.Int64
}

// ControlGroups says why builds have no control groups, nil if they have.
func ControlGroups() error {
	_, err := ownGroups()
	return err
}

// ownGroups looks once: a process does not move.
var ownGroups = sync.OnceValues(func() (*groups, error) {
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	dir, err := groupDir(string(self), string(mounts))
	if err != nil {
		return nil, err
	}
	return newGroups(dir)
})

// groupDir finds our own group's directory, from /proc/self/cgroup (cgroups(7)) and
// /proc/self/mountinfo (proc(5)).
func groupDir(self, mounts string) (string, error) {
	path := ""
	for line := range strings.Lines(self) {
		if p, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			path = p
		}
	}
	switch {
	case path == "":
		return "", errors.New("no cgroup v2")
	case strings.HasPrefix(path, "/.."): // of a namespace that we are outside of
		return "", errors.New("our control group is not to be seen here")
	}
	for line := range strings.Lines(mounts) {
		before, after, ok := strings.Cut(line, " - ")
		f := strings.Fields(before)
		if !ok || len(f) < 5 || !strings.HasPrefix(after, "cgroup2 ") {
			continue
		}
		// Another root is that of a container that does not show all.
		if rest, err := filepath.Rel(f[3], path); err == nil && rest != ".." && !strings.HasPrefix(rest, "../") {
			return filepath.Join(f[4], rest), nil
		}
	}
	return "", errors.New("no cgroup v2 is mounted")
}

// Names of groups: our own processes', and those of builds.
const (
	mainGroup  = "kbisect-main"
	buildGroup = "kbisect-build-"
)

// newGroups prepares a group for others below it, and tries one. A group that hands
// on controllers may have no processes itself, but for the root
// (Documentation/admin-guide/cgroup-v2.rst, "No Internal Process Constraint"): if there
// are none but ours, as in a service with Delegate=yes, they go into one of their own.
func newGroups(dir string) (*groups, error) {
	g := &groups{dir: dir}
	have, err := g.read("cgroup.controllers")
	if err != nil {
		return nil, err
	}
	for _, c := range []string{"memory", "pids"} {
		if !slices.Contains(have, c) {
			return nil, fmt.Errorf("cgroup v2 without the %s controller", c)
		}
	}
	if on, err := g.read("cgroup.subtree_control"); err != nil || !slices.Contains(on, "memory") || !slices.Contains(on, "pids") {
		if err := g.handOn(); err != nil {
			return nil, err
		}
	}
	old, _ := filepath.Glob(filepath.Join(dir, buildGroup+"*"))
	for _, d := range old {
		_ = unix.Rmdir(d) // of a process that was killed; one with processes stays
	}
	try, err := g.make(LimitsOf(1))
	if err != nil {
		return nil, err
	}
	defer try.remove()
	cmd := exec.Command("true")
	defer try.into(cmd)()
	return g, cmd.Run()
}

// read is the words of a file of the group.
func (g *groups) read(name string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(g.dir, name))
	return strings.Fields(string(text)), err
}

func (g *groups) handOn() error {
	_, err := os.Stat(filepath.Join(g.dir, "cgroup.type"))
	if root := errors.Is(err, os.ErrNotExist); !root {
		procs, err := g.read("cgroup.procs")
		if err != nil {
			return err
		}
		for _, p := range procs {
			if pid, _ := strconv.Atoi(p); pid != os.Getpid() && leash.Parent(pid) != os.Getpid() {
				return errors.New("our control group has other processes, too; a service with Delegate=yes has one of its own")
			}
		}
		main := filepath.Join(g.dir, mainGroup)
		if err := os.Mkdir(main, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		for _, p := range procs {
			if err := writeTo(main, "cgroup.procs", p); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return writeTo(g.dir, "cgroup.subtree_control", "+memory +pids")
}

func writeTo(dir, name, text string) error {
	return os.WriteFile(filepath.Join(dir, name), []byte(text), 0)
}

// group is that of one command of a build; nil where there are none.
type group struct {
	dir    string
	limits Limits
}

func (g *groups) make(l Limits) (*group, error) {
	b := &group{filepath.Join(g.dir, fmt.Sprintf("%s%d-%d", buildGroup, os.Getpid(), g.made.Add(1))), l}
	if err := os.Mkdir(b.dir, 0o755); err != nil {
		return nil, fmt.Errorf("control group: %w", err)
	}
	for _, w := range []struct{ name, text string }{
		{"memory.max", strconv.FormatInt(l.Memory, 10)},
		{"memory.swap.max", "0"},
		{"memory.oom.group", "1"}, // a make that lost a compiler would call it an error
		{"pids.max", strconv.Itoa(l.Processes)},
	} {
		err := writeTo(b.dir, w.name, w.text)
		if w.name == "memory.swap.max" && errors.Is(err, os.ErrNotExist) {
			continue // a kernel without swap
		}
		if err != nil {
			b.remove()
			return nil, fmt.Errorf("control group: %w", err)
		}
	}
	return b, nil
}

// into has a command start in the group; what it returns is to be called when it has
// started.
func (b *group) into(cmd *exec.Cmd) (started func()) {
	if b == nil {
		return func() {}
	}
	d, err := os.Open(b.dir)
	if err != nil {
		return func() {}
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(d.Fd())
	return func() { _ = d.Close() }
}

// over says which limit the kernel has held the build to, nil if none.
func (b *group) over() *stopped {
	switch {
	case b == nil:
	case b.count("memory.events", "oom_kill") > 0:
		return &stopped{why: "it wanted more memory than the " + bytesOf(b.limits.Memory) + " that it may use", own: true}
	case b.count("pids.events", "max") > 0:
		return &stopped{why: fmt.Sprintf("it wanted more than the %d processes and threads at once that it may have", b.limits.Processes), own: true}
	}
	return nil
}

// count is a line of a flat keyed file.
func (b *group) count(file, key string) int {
	text, _ := os.ReadFile(filepath.Join(b.dir, file))
	for line := range strings.Lines(string(text)) {
		if k, v, _ := strings.Cut(strings.TrimSpace(line), " "); k == key {
			n, _ := strconv.Atoi(v)
			return n
		}
	}
	return 0
}

// remove ends what is still in the group: nothing is, after a build, whose sandbox
// has ended.
func (b *group) remove() {
	if b == nil {
		return
	}
	for i := range 100 {
		if i == 50 {
			_ = writeTo(b.dir, "cgroup.kill", "1") // Linux 5.14
		}
		if err := unix.Rmdir(b.dir); !errors.Is(err, unix.EBUSY) {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}
