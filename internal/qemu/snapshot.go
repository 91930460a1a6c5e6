package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/digitalocean/go-qemu/qmp"
	"golang.org/x/sys/unix"
)

// Snapshot stops the guest, saves the state of its devices, and ends the
// machine: from then on its RAM is the template of every fork. RAM must have
// been given. The state of a slim kernel takes about 54 KB, because RAM itself
// stays where it is (capability x-ignore-shared).
func (vm *VM) Snapshot() (*Snapshot, error) {
	if vm.opts.RAM == nil {
		return nil, errors.New("snapshot: the machine has no memory of its own")
	}
	if err := vm.raw.Stop(); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	if err := vm.ignoreSharedRAM(); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	state, err := memfd("kbisect-state")
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	// QEMU before 8.2 has no file: migration and our seccomp filter denies
	// exec:, so the file is handed over by descriptor.
	if _, err = vm.mon.RunWithFile([]byte(`{"execute":"getfd","arguments":{"fdname":"state"}}`), int(state.Fd())); err == nil {
		err = vm.raw.Migrate("fd:state", nil, nil, nil)
	}
	if err == nil {
		err = vm.waitMigration()
	}
	if err != nil {
		_ = state.Close()
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	vm.Kill()
	for _, f := range []*os.File{vm.opts.RAM.file, state} {
		if err := seal(f); err != nil {
			_ = state.Close()
			return nil, fmt.Errorf("snapshot: %w", err)
		}
	}
	return &Snapshot{opts: vm.opts, state: state}, nil
}

// seal makes a memfd read-only for all who have it and for ever; private mappings
// stay writable. Every fork gets the snapshot's memory and state, and one that was
// taken over must not change what the next begins with.
func seal(f *os.File) error {
	const seals = unix.F_SEAL_FUTURE_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return fmt.Errorf("seal %s: %w", f.Name(), err)
	}
	return nil
}

func (vm *VM) ignoreSharedRAM() error {
	_, err := vm.domain.Run(qmp.Command{Execute: "migrate-set-capabilities", Args: map[string]any{
		"capabilities": []map[string]any{{"capability": "x-ignore-shared", "state": true}},
	}})
	return err
}

// waitMigration polls: the MIGRATION event exists only with a further
// capability, and the whole thing takes milliseconds. query-migrate is decoded
// here because go-qemu's enumerations stop at QEMU 2.11 and refuse newer values.
func (vm *VM) waitMigration() error {
	for deadline := time.Now().Add(qmpTimeout); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		out, err := vm.domain.Run(qmp.Command{Execute: "query-migrate"})
		if err != nil {
			return err
		}
		var r struct {
			Return struct {
				Status string `json:"status"`
				Desc   string `json:"error-desc"`
			} `json:"return"`
		}
		if err := json.Unmarshal(out, &r); err != nil {
			return fmt.Errorf("query-migrate: %w", err)
		}
		switch r.Return.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return fmt.Errorf("migration %s: %s", r.Return.Status, r.Return.Desc)
		}
	}
	return fmt.Errorf("migration did not end within %s", qmpTimeout)
}

// Snapshot is a stopped guest from which fresh guests are forked.
type Snapshot struct {
	opts  Options
	state *os.File
}

// Fork starts a guest that goes on where the snapshot was taken. Its writes
// stay its own.
func (s *Snapshot) Fork(ctx context.Context) (*VM, error) {
	o := s.opts
	o.Fork = true
	vm, err := Start(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := vm.restore(s.state); err != nil {
		vm.Kill()
		return nil, fmt.Errorf("fork a guest: %w", err)
	}
	return vm, nil
}

func (vm *VM) restore(state *os.File) error {
	if err := vm.ignoreSharedRAM(); err != nil {
		return err
	}
	// Opened anew: every fork reads from offset 0 of its own description.
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", state.Fd()))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := vm.mon.RunWithFile([]byte(`{"execute":"getfd","arguments":{"fdname":"state"}}`), int(f.Fd())); err != nil {
		return err
	}
	if _, err := vm.domain.Run(qmp.Command{Execute: "migrate-incoming", Args: map[string]string{"uri": "fd:state"}}); err != nil {
		return err
	}
	if err := vm.waitMigration(); err != nil {
		return err
	}
	return vm.raw.Cont()
}

// Close releases the snapshot. Its RAM belongs to the caller.
func (s *Snapshot) Close() error { return s.state.Close() }

// RAM is guest memory in a memfd: shared by the template, mapped privately by
// every fork, gone with the last process that holds it.
type RAM struct{ file *os.File }

// NewRAM returns mib MiB of guest memory. Nothing is allocated before the
// guest touches it.
func NewRAM(mib int) (*RAM, error) {
	f, err := memfd("kbisect-ram")
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(int64(mib) << 20); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("guest memory: %w", err)
	}
	return &RAM{f}, nil
}

// Close releases the memory.
func (r *RAM) Close() error { return r.file.Close() }

func memfd(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
