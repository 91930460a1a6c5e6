package qemu

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// escaped is the name under which this test binary is a QEMU whose guest has
// broken out: it tries what it was told not to, and tells what came of it.
const escaped = "qemu-escaped"

func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case escaped:
		breakOut()
	case lookAround:
		tellCell()
	default:
		os.Exit(m.Run())
	}
}

// orders are what an escaped guest is after. They come as the kernel's arguments.
type orders struct {
	Secret   string // a file that everybody may read
	Writable string // a directory that everybody may write to
	Listener string // TCP address
	Socket   string // path of a UNIX socket
	Parent   int    // PID of who started it
}

// attempts go beyond what QEMU needs; every one must be refused in the cell.
func attempts(o orders) map[string]func() error {
	dial := func(network, addr string) func() error {
		return func() error {
			c, err := net.Dial(network, addr)
			if err == nil {
				_ = c.Close()
			}
			return err
		}
	}
	syscallErr := func(nr uintptr, args ...uintptr) error {
		a := append(args, 0, 0, 0, 0, 0, 0)
		if _, _, e := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]); e != 0 {
			return e
		}
		return nil
	}
	read := func(path string) func() error {
		return func() error { _, err := os.ReadFile(path); return err }
	}
	parent := uintptr(o.Parent)
	var word [8]byte
	var params [120]byte // struct io_uring_params
	at := unix.Iovec{Base: &word[0], Len: 8}
	return map[string]func() error{
		"read a file":                read(o.Secret),
		"write a file":               func() error { return os.WriteFile(filepath.Join(o.Writable, "left"), nil, 0o666) },
		"list a directory":           func() error { _, err := os.ReadDir(o.Writable); return err },
		"list processes":             func() error { _, err := os.ReadDir("/proc"); return err },
		"read the parent's tokens":   read(fmt.Sprintf("/proc/%d/environ", o.Parent)),
		"connect by TCP":             dial("tcp", o.Listener),
		"connect to a UNIX socket":   dial("unix", o.Socket),
		"connect to an abstract one": dial("unix", "@"+o.Socket),
		"signal the parent":          func() error { return unix.Kill(o.Parent, 0) },
		"trace the parent":           func() error { return syscallErr(unix.SYS_PTRACE, unix.PTRACE_SEIZE, parent) },
		"read the parent's memory": func() error {
			return syscallErr(unix.SYS_PROCESS_VM_READV, parent, uintptr(unsafe.Pointer(&at)), 1, uintptr(unsafe.Pointer(&at)), 1)
		},
		"make sockets by io_uring": func() error { return syscallErr(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params))) },
		"make memory that no limit counts": func() error {
			fd, err := unix.MemfdCreate("x", 0)
			if err == nil {
				_ = unix.Close(fd)
			}
			return err
		},
		"use a key":   func() error { return syscallErr(unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, ^uintptr(3), 0) },
		"become root": func() error { return unix.Setresuid(0, 0, 0) },
		"change what forks begin with": func() error {
			_, err := unix.Pwrite(fdRAM, []byte("x"), 0)
			return err
		},
		"write to its image": func() error { return openTo(argument("-initrd")) },
	}
}

func argument(flag string) string { return os.Args[slices.Index(os.Args, flag)+1] }

func openTo(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		_ = f.Close()
	}
	return err
}

// breakOut answers as QEMU does, and then tells on the console, a line each.
func breakOut() {
	go func() {
		qmp := os.NewFile(fdQMP, "qmp")
		fmt.Fprintln(qmp, `{"QMP": {}}`)
		for in := json.NewDecoder(qmp); ; {
			var c command
			if in.Decode(&c) != nil {
				return
			}
			fmt.Fprintf(qmp, `{"return": {"status": "completed"}, "id": %q}`+"\n", c.ID)
		}
	}()
	console := os.NewFile(fdConsole, "console")
	_, _ = bufio.NewReader(os.NewFile(fdAgent, "agent")).ReadString('\n') // Start is through
	told := argument("-append")
	var o orders
	if err := json.Unmarshal([]byte(told[strings.Index(told, "{"):]), &o); err != nil {
		fmt.Fprintln(console, "orders:", err)
		return
	}
	for name, try := range attempts(o) {
		fmt.Fprintf(console, "%s: %v\n", name, try())
	}
	// What QEMU does need.
	for i, flag := range []string{"-kernel", "-initrd"} {
		b, err := os.ReadFile(argument(flag))
		fmt.Fprintf(console, "own file %d: %q %v\n", i, b, err)
	}
	fmt.Fprintf(console, "memory: %v\n", openTo(fmt.Sprintf("/proc/self/fd/%d", fdRAM)))
	fmt.Fprintf(console, "null: %v\n", openTo(os.DevNull))
	fmt.Fprintf(console, "user: %d %d\n", os.Getuid(), os.Getgid())
}

// escape runs a QEMU whose guest has broken out, and returns what it told.
func escape(t *testing.T, cell *Cell) map[string]string {
	t.Helper()
	place := func(name string, mode os.FileMode) string {
		dir := t.TempDir()
		for _, d := range []string{dir, filepath.Dir(dir)} { // as root it is another user
			if err := os.Chmod(d, 0o777); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(dir, name)
		if mode != 0 {
			if err := os.WriteFile(path, []byte(name), mode); err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	listen := func(network, addr string) string {
		l, err := net.Listen(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l.Addr().String()
	}
	binary := place(escaped, 0)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(binary, self, 0o755); err != nil {
		t.Fatal(err)
	}
	socket := listen("unix", place("socket", 0))
	listen("unix", "@"+socket)
	if err := os.Chmod(socket, 0o777); err != nil {
		t.Fatal(err)
	}
	o := orders{Secret: place("secret", 0o644), Writable: filepath.Dir(place("open", 0)), Listener: listen("tcp", "127.0.0.1:0"), Socket: socket, Parent: os.Getpid()}
	told, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	ram, err := NewRAM(1)
	if err != nil {
		t.Fatal(err)
	}
	defer ram.Close()
	vm, err := Start(t.Context(), Options{Owner: t.TempDir(), Binary: binary, Cell: cell, Accel: "tcg", RAM: ram,
		Machine: kernel.Machine{Type: "microvm", CPUs: 1, MemoryMiB: 1},
		// The kernel of a distribution may be its owner's alone.
		Kernel: place("kernel", 0o600), Initrd: place("initrd", 0o644), Append: string(told)})
	if err != nil {
		t.Fatal(err)
	}
	if cell != nil { // as guests are started that run something
		s, err := vm.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := s.state.Write([]byte("x")); !errors.Is(err, unix.EPERM) {
			t.Errorf("a snapshot's state can be written: %v", err)
		}
		if vm, err = s.Fork(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := vm.Agent.Write([]byte("go on\n")); err != nil {
		t.Error(err)
	}
	<-vm.Exited()
	vm.Kill()
	seen := map[string]string{}
	for line := range strings.Lines(string(vm.Console.Bytes())) {
		what, came, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		seen[what] = came
	}
	if len(seen) == 0 {
		t.Fatalf("it told nothing: %+v", vm.End())
	}
	return seen
}

func refused(came string) bool {
	return strings.Contains(came, "permission denied") || strings.Contains(came, "operation not permitted")
}

// Who breaks out of QEMU gets nowhere, and QEMU gets what it needs.
func TestEscapedGuest(t *testing.T) {
	cell := NewCell()
	if len(cell.Lacks) > 0 {
		t.Skipf("not on this machine: %q", cell.Lacks)
	}
	cell.own = 1 << 50 // the race detector maps terabytes; see TestBound
	free, locked := escape(t, nil), escape(t, cell)
	for what := range attempts(orders{}) {
		if refused(free[what]) && os.Getuid() == 0 { // a user may be refused more
			t.Errorf("%s: %s without a cell, too: this proves nothing", what, free[what])
		}
		if !refused(locked[what]) {
			t.Errorf("%s: %s", what, locked[what])
		}
	}
	for what, want := range map[string]string{"own file 0": `"kernel" <nil>`, "own file 1": `"initrd" <nil>`, "memory": "<nil>", "null": "<nil>"} {
		if locked[what] != want || free[what] != want {
			t.Errorf("%s: %s in the cell, %s outside, want %s", what, locked[what], free[what], want)
		}
	}
	if os.Getuid() == 0 && locked["user"] != "65534 65534" {
		t.Errorf("it ran as %s", locked["user"])
	}
}
