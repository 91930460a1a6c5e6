// Package agent is the guest side: PID 1 of the guest image. It mounts what
// tests need, sets up swap, says hello with what the guest really has, and runs
// one program after another as the host asks. It must not know any test, and
// must stay small: its start is part of every boot.
package agent

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
)

// Main is PID 1. It does not return: when it cannot go on it says why on the
// console and resets the machine, which the host sees as the guest's end.
func Main() {
	err := run()
	fmt.Fprintf(os.Stderr, "kbisect agent: %v\n", err)
	time.Sleep(100 * time.Millisecond) // let the console drain
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	select {}
}

func run() error {
	problems := mountAll()
	problems = append(problems, loadModules(modulesDir)...)
	problems = append(problems, enableTHP()...)
	problems = append(problems, setUpSwap(bootArg("kbisect.swap_mib"))...)
	port, err := openPort()
	if err != nil {
		if len(problems) > 0 { // likely the reason
			err = fmt.Errorf("%w; %s", err, strings.Join(problems, "; "))
		}
		return err
	}
	hello := look()
	hello.Problems = problems
	lookAtMemory(&hello)
	showAll()
	if err := agentproto.EncodeReply(port, agentproto.Message{Type: agentproto.TypeHello, Hello: &hello}); err != nil {
		return err
	}
	return serve(port)
}

// serve answers run messages until the channel breaks.
func serve(p port) error {
	r := agentproto.NewReader(p)
	send := func(m agentproto.Message) error { return agentproto.EncodeReply(p, m) }
	var programs launcher
	for {
		m, err := r.NextRequest()
		switch {
		case errors.Is(err, agentproto.ErrGarbage):
			continue // the host will time out and say so
		case err != nil:
			return fmt.Errorf("agent channel: %w", err)
		}
		var res agentproto.Result
		switch m.Type {
		case agentproto.TypePrepare:
			if err := programs.prepare(m.Prepare.Argv); err != nil {
				res = agentproto.Result{Exit: -1, Error: err.Error()}
			}
			// What was said once while it booted is to be said again in a fork.
			// Source: Documentation/admin-guide/clearing-warn-once.rst.
			_ = writeFile("/sys/kernel/debug/clear_warn_once", "1")
		case agentproto.TypeWake:
			res = wake(*m.Wake, m.ID)
		case agentproto.TypeRun:
			mark(agentproto.BeginMark + m.ID)
			res = programs.execute(*m.Run, m.ID, send)
			mark(agentproto.EndMark + m.ID)
		default:
			continue
		}
		if err := send(agentproto.Message{Type: agentproto.TypeResult, ID: m.ID, Result: &res}); err != nil {
			return fmt.Errorf("agent channel: %w", err)
		}
	}
}

// wake makes a forked guest different from its siblings.
func wake(w agentproto.Wake, id string) agentproto.Result {
	mark(agentproto.WakeMark + id)
	if err := addEntropy(w.Entropy); err != nil {
		return agentproto.Result{Exit: -1, Error: "add entropy: " + err.Error()}
	}
	return agentproto.Result{}
}

// mark writes a line to the kernel log, where it stands in order with all that
// the kernel says. <1> is KERN_ALERT: shown whatever the console's log level.
func mark(line string) {
	if fd, err := unix.Open("/dev/kmsg", unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
		_, _ = unix.Write(fd, []byte("<1>"+line+"\n"))
		_ = unix.Close(fd)
	}
}

// port is a virtio-serial port by its descriptor, in blocking mode: os.File
// would bring in the runtime's poller (see execute).
type port int

func (p port) Write(b []byte) (int, error) {
	for done := 0; ; {
		n, err := ignoringEINTR(func() (int, error) { return unix.Write(int(p), b[done:]) })
		if done += max(n, 0); err != nil || done == len(b) {
			return done, err
		}
	}
}

// Read waits over the end-of-file that a virtio port shows while the host's
// side is not connected, which it is for a moment after a restore.
func (p port) Read(b []byte) (int, error) {
	for {
		n, err := ignoringEINTR(func() (int, error) { return unix.Read(int(p), b) })
		if n > 0 || err != nil {
			return max(n, 0), err
		}
		pause := unix.NsecToTimespec(int64(2 * time.Millisecond))
		_ = unix.Nanosleep(&pause, nil)
	}
}

// showAll has all that the kernel says go to the console from now on: what it says
// while a test runs is evidence. 8 is SYSLOG_ACTION_CONSOLE_LEVEL of syslog(2).
func showAll() { _, _, _ = unix.Syscall(unix.SYS_SYSLOG, 8, 0, 7) }

// openPort finds the virtio-serial port by its name. The device is probed
// before init starts on a kernel with built-in drivers; a module may need time.
func openPort() (port, error) {
	const dir = "/sys/class/virtio-ports"
	// The first port of the first device, if nobody added devices.
	ports := []string{"vport0p1"}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		for _, p := range ports {
			if readWord(dir+"/"+p+"/name") == agentproto.PortName {
				dev := "/dev/" + p
				fd, err := unix.Open(dev, unix.O_RDWR|unix.O_CLOEXEC, 0)
				if err != nil {
					return -1, fmt.Errorf("agent channel: %w", err)
				}
				return port(fd), nil
			}
		}
		ports = names(dir)
		if time.Now().After(deadline) {
			return -1, errors.New("agent channel: this kernel shows no virtio-serial port " + agentproto.PortName +
				" (needs CONFIG_VIRTIO_CONSOLE and a virtio transport, built in or from check --modules)")
		}
	}
}

func mountAll() (problems []string) {
	for _, m := range []struct{ what, where, opts string }{
		{"proc", "/proc", ""},
		{"sysfs", "/sys", ""},
		{"devtmpfs", "/dev", ""},
		{"tmpfs", "/tmp", "mode=1777"},
		{"debugfs", "/sys/kernel/debug", ""},
	} {
		_ = unix.Mkdir(m.where, 0o755) // mostly there
		err := unix.Mount(m.what, m.where, m.what, 0, m.opts)
		if err != nil && !errors.Is(err, unix.EBUSY) { // EBUSY: CONFIG_DEVTMPFS_MOUNT did it
			problems = append(problems, fmt.Sprintf("mount %s: %v", m.where, err))
		}
	}
	return problems
}

// bootArg returns the value of NAME=value on the kernel command line.
func bootArg(name string) string {
	b, _ := readFile("/proc/cmdline")
	for _, w := range strings.Fields(string(b)) {
		if v, ok := strings.CutPrefix(w, name+"="); ok {
			return v
		}
	}
	return ""
}

// readWord returns the first line of a small file, trimmed; "" if it cannot be read.
func readWord(path string) string {
	b, _ := readFile(path)
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}

// names lists a directory, in no order.
func names(dir string) (out []string) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var buf [4 << 10]byte
	for {
		n, err := ignoringEINTR(func() (int, error) { return unix.ReadDirent(fd, buf[:]) })
		if err != nil || n <= 0 {
			return out
		}
		_, _, out = unix.ParseDirent(buf[:n], -1, out)
	}
}

// readFile, writeFile and names do without os.File, the first of which sets up the
// runtime's poller, and what is here does without fmt: under TCG each code that is
// reached for the first time is time in which the host waits for hello.
func readFile(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer unix.Close(fd)
	var whole []byte
	var buf [4 << 10]byte
	for {
		n, err := ignoringEINTR(func() (int, error) { return unix.Read(fd, buf[:]) })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if n == 0 {
			return whole, nil
		}
		whole = append(whole, buf[:n]...)
	}
}

// writeFile writes to a file that is there, by one call: as sysfs and procfs want it.
func writeFile(path, text string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		_, err = ignoringEINTR(func() (int, error) { return unix.Write(fd, []byte(text)) })
		_ = unix.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
