package qemu

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Cell is what a QEMU process is locked into, beside QEMU's own -sandbox: whoever
// breaks out of a guest finds no network, no privileges, no files but QEMU's own,
// and no other process. A nil *Cell locks nothing up.
//
// It is Landlock and a filter of system calls, put on the thread that starts
// QEMU, and for root another user. That takes 0.8 ms, no privileges and no
// namespaces, which containers forbid. Measured beside it, per process: bubblewrap
// 8 ms, namespaces of user, network, PIDs and mounts without it 2.5 ms.
type Cell struct {
	landlock int                 // version of its ABI; 0: none
	filter   bool                // of system calls
	user     *syscall.Credential // who QEMU runs as; nil: who we are
	prlimit  string              // path of the program that bounds it; "": none
	own      int64               // bytes of address space beside the guest's memory

	// Lacks says what this machine does not allow, and what an escaped guest could
	// do therefore.
	Lacks []string
}

// landlockSignals is the first ABI of Landlock, Linux 6.15, with which a process
// can be kept from signalling others but not itself: before, a thread of ours that
// was restricted could not signal the other threads (landlock(7), erratum 2).
const landlockSignals = 7

// nobody is the user that owns nothing, on all distributions.
const nobody = 65534

// NewCell finds out, by trying, what this machine lets us lock QEMU into.
func NewCell() *Cell {
	c := &Cell{own: ownMemory}
	for _, m := range []struct {
		lock func(*Cell) error
		lack string
	}{
		{func(c *Cell) (err error) { c.landlock, err = landlockABI(); return err },
			"no Landlock (Linux 5.13, `landlock` among lsm=): an escaped guest could use the files of its user"},
		{func(c *Cell) error { c.filter = true; return nil },
			"no seccomp filter: an escaped guest could use the network"},
		{func(c *Cell) error { c.user = otherUser(); return nil },
			"QEMU stays root: an escaped guest would be, too"},
		{func(c *Cell) (err error) { c.prlimit, err = exec.LookPath("prlimit"); return err },
			"no prlimit (package util-linux): an escaped guest could take all memory"},
	} {
		more := *c
		err := m.lock(&more)
		if err == nil {
			err = more.try()
		}
		if err != nil {
			c.Lacks = append(c.Lacks, fmt.Sprintf("%s (%v)", m.lack, err))
			continue
		}
		*c = more
	}
	if c.landlock > 0 && c.landlock < landlockSignals {
		c.Lacks = append(c.Lacks, "Linux before 6.15: an escaped guest could kill processes of its user")
	}
	return c
}

// String says what QEMU is locked into.
func (c *Cell) String() string {
	if c == nil {
		return ""
	}
	s := "-sandbox"
	if c.landlock > 0 {
		s += ", no files but its own (Landlock)"
	}
	if c.filter {
		s += ", no network (seccomp)"
	}
	if c.prlimit != "" {
		s += ", bounded memory"
	}
	if c.user != nil {
		s += fmt.Sprintf(", user %d", c.user.Uid)
	}
	return s
}

// try starts a program that does nothing.
func (c *Cell) try() error {
	path, err := exec.LookPath("true")
	if err != nil {
		return err
	}
	cmd, gone := exec.Command(path), make(chan struct{})
	defer close(gone)
	c.bound(cmd, kernel.Machine{MemoryMiB: 1})
	if err := c.start(cmd, gone); err != nil {
		return err
	}
	return cmd.Wait()
}

// otherUser is whom QEMU runs as if we are root. It may use /dev/kvm if that is
// its group's.
func otherUser() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	user := &syscall.Credential{Uid: nobody, Gid: nobody}
	var st unix.Stat_t
	if unix.Stat("/dev/kvm", &st) == nil && st.Gid != 0 {
		user.Groups = []uint32{st.Gid}
	}
	return user
}

// start starts cmd in the cell. gone must be closed when it has ended: its thread
// is kept until then, because the kernel takes the thread's end for the parent's
// (PR_SET_PDEATHSIG). It may use what rules say, beside what every program needs.
func (c *Cell) start(cmd *exec.Cmd, gone <-chan struct{}, rules ...rule) error {
	if c == nil {
		return cmd.Start()
	}
	if c.user != nil {
		if cmd.SysProcAttr == nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{}
		}
		cmd.SysProcAttr.Credential = c.user
	}
	started := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and what it may not do
		// with it. Go makes no thread from a locked one.
		runtime.LockOSThread()
		err := c.enter(rules)
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			<-gone
		}
	}()
	return <-started
}

// enter locks up the calling thread and all that it will start.
func (c *Cell) enter(rules []rule) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if c.landlock > 0 {
		if err := restrictFiles(c.landlock, append(rules, system...)); err != nil {
			return fmt.Errorf("landlock: %w", err)
		}
	}
	if c.filter {
		if err := refuse(denied); err != nil {
			return fmt.Errorf("seccomp: %w", err)
		}
	}
	return nil
}

func landlockABI() (int, error) {
	v, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if e != 0 {
		return 0, e
	}
	return int(v), nil
}

// What Landlock handles by the version of its ABI (landlock(7)): the first 13
// rights with 1, the next with each of 2, 3 and 5.
func handled(abi int) uint64 {
	rights := uint64(unix.LANDLOCK_ACCESS_FS_MAKE_SYM)<<1 - 1
	for _, r := range []struct {
		since int
		right uint64
	}{{2, unix.LANDLOCK_ACCESS_FS_REFER}, {3, unix.LANDLOCK_ACCESS_FS_TRUNCATE}, {5, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV}} {
		if abi >= r.since {
			rights |= r.right
		}
	}
	return rights
}

const (
	readFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE
	readTree = readFile | unix.LANDLOCK_ACCESS_FS_READ_DIR
	useDev   = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// rule allows rights on a path and what is below it.
type rule struct {
	path   string
	rights uint64
}

// ownMemory and cpuMemory are the address space that QEMU may have beside its
// guest's memory, and that for each of its CPUs. QEMU 7.2 with two takes 1.4 GB:
// 1 GiB for translated code, and 8 MiB of stack and 128 MiB for malloc to cut an
// arena from for each thread.
const (
	ownMemory = 2 << 30
	cpuMemory = 256 << 20
)

// mostThreads is RLIMIT_NPROC: processes and threads of QEMU's user, of which a
// desktop has some 3,000. Of root it stops nothing.
const mostThreads = 1 << 14

// bound has prlimit(1) start QEMU with a bound of what it takes: address space, the
// size of a file (what it was handed it can write to), and threads. Ours would be
// those of this process, and another user's process cannot be bound without
// CAP_SYS_RESOURCE, which root has not in every container.
func (c *Cell) bound(cmd *exec.Cmd, m kernel.Machine) {
	if c == nil || c.prlimit == "" {
		return
	}
	ram := int64(m.MemoryMiB) << 20
	limit := func(name string, what int, n int64) string {
		var ours unix.Rlimit
		if unix.Getrlimit(what, &ours) == nil {
			n = int64(min(uint64(n), ours.Max)) //nolint:gosec // of a machine's memory
		}
		return fmt.Sprintf("--%s=%d", name, n)
	}
	cmd.Args = append([]string{"prlimit",
		limit("as", unix.RLIMIT_AS, ram+c.own+int64(m.CPUs)*cpuMemory), limit("fsize", unix.RLIMIT_FSIZE, ram),
		limit("nproc", unix.RLIMIT_NPROC, mostThreads), limit("core", unix.RLIMIT_CORE, 0), cmd.Path}, cmd.Args[1:]...)
	cmd.Path = c.prlimit
}

// system is what a program needs to start, and QEMU for its firmware and KVM.
var system = []rule{
	{"/usr", readTree}, {"/bin", readTree}, {"/lib", readTree}, {"/lib64", readTree}, {"/etc/ld.so.cache", readFile},
	{"/nix/store", readTree}, {"/gnu/store", readTree},
	{"/dev/null", useDev}, {"/dev/kvm", useDev},
}

// installed is where QEMU has its files, if that is none of the system's places.
func installed(binary string) []rule {
	if path, err := filepath.EvalSymlinks(binary); err == nil {
		binary = path
	}
	dir := filepath.Dir(binary)
	rules := []rule{{dir, readTree}}
	for _, d := range []string{"share/qemu", "lib", "lib64"} {
		rules = append(rules, rule{filepath.Join(dir, "..", d), readTree})
	}
	return rules
}

func restrictFiles(abi int, rules []rule) error {
	attr := unix.LandlockRulesetAttr{Handled_access_fs: handled(abi)}
	if abi >= landlockSignals {
		attr.Scoped = unix.LANDLOCK_SCOPE_SIGNAL
	}
	set, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if e != 0 {
		return e
	}
	defer unix.Close(int(set))
	for _, r := range rules {
		fd, err := unix.Open(r.path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // not on this machine; a file that QEMU does need, it will name
		}
		beneath := unix.LandlockPathBeneathAttr{Allowed_access: r.rights & attr.Handled_access_fs, Parent_fd: int32(fd)}
		_, _, e := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, set, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&beneath)), 0, 0, 0)
		_ = unix.Close(fd)
		if e != 0 {
			return fmt.Errorf("%s: %w", r.path, e)
		}
	}
	if _, _, e := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, set, 0, 0); e != 0 {
		return e
	}
	return nil
}

// denied are the system calls that QEMU is refused beside those that -sandbox
// refuses. It gets its sockets from us, so no new one is needed; without io_uring
// it does as well, which could make sockets past a filter.
var denied = []uint32{
	unix.SYS_SOCKET, unix.SYS_IO_URING_SETUP,
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD,
	unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	unix.SYS_MEMFD_CREATE, unix.SYS_MEMFD_SECRET, // memory that no limit counts
	unix.SYS_SHMGET, unix.SYS_SEMGET, unix.SYS_MSGGET, unix.SYS_MQ_OPEN,
}

// refuse makes system calls fail with EPERM. The filter is classic BPF over struct
// seccomp_data, which has the system call at offset 0 and the architecture at 4
// (seccomp(2)). A call by another architecture's numbers, 32-bit or x32, is none of
// QEMU's.
func refuse(calls []uint32) error {
	const (
		load    = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		atLeast = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		answer  = unix.BPF_RET | unix.BPF_K
		x32     = 0x40000000
	)
	p := []unix.SockFilter{
		{Code: load, K: 4},
		{Code: equal, K: unix.AUDIT_ARCH_X86_64, Jt: 1},
		{Code: answer, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: load, K: 0},
		{Code: atLeast, K: x32, Jt: uint8(len(calls)) + 1},
	}
	for i, nr := range calls {
		p = append(p, unix.SockFilter{Code: equal, K: nr, Jt: uint8(len(calls) - i)})
	}
	p = append(p,
		unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)})
	prog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	if _, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog))); e != 0 {
		return e
	}
	return nil
}

// handOver opens a file for a QEMU that may not be allowed to open it by its path.
func handOver(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && st.Mode()&0o004 != 0 {
		return f, nil
	}
	defer f.Close()
	// A distribution's kernel may be root's alone.
	kept, mErr := memfd("kbisect-file")
	if err = errors.Join(err, mErr); err == nil {
		_, err = io.Copy(kept, f)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return kept, nil
}
