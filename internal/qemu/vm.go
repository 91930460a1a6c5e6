// Package qemu starts and ends one virtual machine: command line, QMP through
// go-qemu, console capture, snapshot and fork, and the measured choice of the
// accelerator. It must not know what runs in the guest: the agent channel is
// a connection that it hands out.
//
// The three channels are socketpairs and guest memory is a memfd, so a machine
// leaves no socket, pipe or temporary file behind, however it ends.
package qemu

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	goqemu "github.com/digitalocean/go-qemu/qemu"
	"github.com/digitalocean/go-qemu/qmp"
	"github.com/digitalocean/go-qemu/qmp/raw"

	"github.com/kernel-bisect/kbisect/internal/leash"
)

// qmpTimeout bounds one QMP command. QEMU answers within milliseconds; under
// TCG with other guests and a build beside it, seconds were seen.
const qmpTimeout = 30 * time.Second

// maxSaid bounds what QEMU says in an error, in characters: it may be its guest's.
const maxSaid = 300

// VM is one running QEMU.
type VM struct {
	Console *Capture
	Agent   net.Conn // the guest's virtio-serial port

	opts   Options
	cmd    *exec.Cmd
	mon    *Monitor
	raw    *raw.Monitor
	domain *goqemu.Domain
	stderr *Capture
	exited chan struct{} // closed when QEMU is gone and the console is drained

	mu  sync.Mutex // mu guards the following field
	end End
}

// End says how a machine ended, from QMP events and never from QEMU's exit
// status: a panic that powers off exits 0.
type End struct {
	Reason   string // SHUTDOWN.reason: guest-reset, guest-panic, host-signal…; "" when QEMU died without one
	Panicked bool   // GUEST_PANICKED was seen
	Exit     string // QEMU's exit status, for the log only
	Stderr   string // what QEMU itself complained about
}

// Start starts QEMU and connects to its monitor. The machine dies with ctx.
func Start(ctx context.Context, o Options) (*VM, error) {
	pairs := make([]pair, 3)
	defer func() {
		for _, p := range pairs {
			p.closeTheirs()
		}
	}()
	for i := range pairs {
		var err error
		if pairs[i], err = newPair(); err != nil {
			return nil, err
		}
	}
	vm := &VM{Console: NewCapture(), Agent: pairs[2].ours, opts: o, stderr: NewCapture(), exited: make(chan struct{})}
	if err := vm.launch(ctx, []*os.File{pairs[0].theirs, pairs[1].theirs, pairs[2].theirs}); err != nil {
		for _, p := range pairs {
			_ = p.ours.Close()
		}
		return nil, fmt.Errorf("start qemu: %w", err)
	}
	vm.mon = NewMonitor(pairs[0].ours, qmpTimeout, vm.note)
	vm.raw = raw.NewMonitor(vm.mon)
	drained := make(chan struct{})
	go func() { defer close(drained); _, _ = vm.Console.ReadFrom(pairs[1].ours) }()
	connected := make(chan error, 1)
	go vm.reap(drained, pairs, connected)

	for i := range pairs { // QEMU holds them now; its end must be the stream's end
		pairs[i].closeTheirs()
	}
	err := vm.mon.Connect()
	connected <- err
	if err == nil {
		vm.domain, err = goqemu.NewDomain(vm.mon, "kbisect")
	}
	if err != nil {
		vm.Kill()
		return nil, vm.explain(err)
	}
	return vm, nil
}

// launch starts the process with files as its descriptors from 3 on.
func (vm *VM) launch(ctx context.Context, files []*os.File) error {
	o := vm.opts
	if o.RAM != nil {
		files = append(files, o.RAM.file)
	}
	if o.Cell != nil {
		for _, path := range []*string{&o.Kernel, &o.Initrd} {
			f, err := handOver(*path)
			if err != nil {
				return err
			}
			defer f.Close()
			*path = fmt.Sprintf("/proc/self/fd/%d", fdQMP+len(files))
			files = append(files, f)
		}
	}
	// Nothing of our environment reaches QEMU: it may hold secrets.
	vm.cmd = leash.Nice(leash.Command(ctx, o.Owner, []string{"PATH=" + os.Getenv("PATH")}, o.Binary, args(o)...))
	vm.cmd.Stderr = vm.stderr
	vm.cmd.ExtraFiles = files
	o.Cell.bound(vm.cmd, o.Machine)
	return o.Cell.start(vm.cmd, vm.exited, append(installed(o.Binary), rule{vm.opts.Kernel, readFile}, rule{vm.opts.Initrd, readFile})...)
}

// reap waits for QEMU's end and then for all that it said.
func (vm *VM) reap(drained <-chan struct{}, pairs []pair, connected <-chan error) {
	err := vm.cmd.Wait()
	<-drained
	if <-connected == nil {
		<-vm.mon.Done() // every event is in
	}
	vm.mu.Lock()
	vm.end.Exit = "exit status 0"
	if err != nil {
		vm.end.Exit = err.Error()
	}
	vm.end.Stderr = strings.TrimSpace(string(vm.stderr.Bytes()))
	vm.mu.Unlock()
	_ = pairs[0].ours.Close()
	_ = pairs[1].ours.Close()
	close(vm.exited)
}

func (vm *VM) note(ev qmp.Event) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	switch ev.Event {
	case "SHUTDOWN":
		if r, ok := ev.Data["reason"].(string); ok && vm.end.Reason == "" {
			vm.end.Reason = r
		}
	case "GUEST_PANICKED":
		vm.end.Panicked = true
	}
}

// explain adds what QEMU printed, which is the real reason for most failures.
func (vm *VM) explain(err error) error {
	if s := strings.TrimSpace(string(vm.stderr.Bytes())); s != "" {
		return fmt.Errorf("qemu: %.*s", maxSaid, firstLine(s))
	}
	return fmt.Errorf("qemu: %w", err)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// Exited is closed when QEMU is gone and its console drained.
func (vm *VM) Exited() <-chan struct{} { return vm.exited }

// End returns how the machine ended. Meaningful after Exited.
func (vm *VM) End() End {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return vm.end
}

// Kill ends QEMU at once and waits until it is gone.
func (vm *VM) Kill() {
	_ = vm.cmd.Process.Kill()
	<-vm.exited
	_ = vm.Agent.Close()
}
