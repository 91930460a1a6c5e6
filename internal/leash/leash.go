// Package leash starts child processes that cannot outlive kbisect, and finds
// those that did all the same. make, git and QEMU start through it. It must
// not know what the processes are for.
//
// Three measures, from gentle to certain: cancelling the context kills the
// child's whole process group; the kernel kills the child when kbisect dies
// (PR_SET_PDEATHSIG), kill -9 included; and Sweep, at the next start, kills
// what still carries our mark, such as the grandchildren of an unsandboxed
// make, which a death signal does not reach.
package leash

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"bytes"
	"strconv"
)

// markVar names the environment variable that says whose process it is: its
// value is the data directory of the kbisect that started it.
const markVar = "KBISECT_OWNER"

// Command returns a command of its own process group which dies with ctx and
// with this process. Its environment is env and the owner's mark; a nil env
// means the environment of this process.
func Command(ctx context.Context, owner string, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	if env == nil {
		env = os.Environ()
	}
	cmd.Env = append(env[:len(env):len(env)], markVar+"="+owner)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// A grandchild may hold the output pipes open; do not wait for it.
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// niceness of builds and guests, as nice(1) has it by default: whoever sits at the
// machine goes first. Both are equally nice, for either can be what the rest waits
// for; which of them goes first changed nothing that could be measured (178 to 193 s
// for a series of 16 commits, on two CPUs).
const niceness = "10"

// Nice has nice(1) start a command: afterwards a process may have started others,
// and threads. A command that there is not stays as it is, and fails as it would.
func Nice(cmd *exec.Cmd) *exec.Cmd {
	if _, err := exec.LookPath(cmd.Path); err != nil || cmd.Err != nil {
		return cmd
	}
	if nice, err := exec.LookPath("nice"); err == nil {
		cmd.Path, cmd.Args = nice, append([]string{"nice", "-n", niceness}, cmd.Args...)
	}
	return cmd
}

// Sweep kills every process that carries owner's mark and returns how many
// there were. Call it only while holding the lock of the data directory: then
// whatever carries the mark is an orphan.
func Sweep(owner string) int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	mark := []byte(markVar + "=" + owner)
	self, killed := os.Getpid(), 0
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == self {
			continue
		}
		environ, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err != nil || !hasVar(environ, mark) || Parent(pid) == self {
			continue
		}
		if syscall.Kill(pid, syscall.SIGKILL) == nil {
			killed++
		}
	}
	return killed
}

func hasVar(environ, entry []byte) bool {
	for v := range bytes.SplitSeq(environ, []byte{0}) {
		if bytes.Equal(v, entry) {
			return true
		}
	}
	return false
}

// Parent returns the parent's pid, 0 for no process, from the field behind the command's name in
// /proc/PID/stat (proc(5)); the name itself may hold spaces and brackets.
func Parent(pid int) int {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b[bytes.LastIndexByte(b, ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(fields[1])
	return n
}
