package qemu

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/kernel-bisect/kbisect/internal/leash"
)

// Trial is one accelerator, tried.
type Trial struct {
	Accel   string  `json:"accel"`
	Seconds float64 `json:"seconds"`         // until the probe had done its work
	Error   string  `json:"error,omitempty"` // why it is of no use
}

// Choice is the accelerator to use and what was seen of each.
type Choice struct {
	QEMU   string  `json:"qemu"` // version line
	Boot   string  `json:"boot"` // the host's boot id: a reboot may change what works
	KVM    bool    `json:"kvm"`  // /dev/kvm could be opened: a new group membership changes what works
	Cell   string  `json:"cell"` // so may what QEMU is locked into
	Accel  string  `json:"accel"`
	Trials []Trial `json:"trials"`
}

// Version returns the first line of QEMU's --version.
func Version(ctx context.Context, qemu string) (string, error) {
	out, err := exec.CommandContext(ctx, qemu, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", qemu, err)
	}
	return firstLine(string(out)), nil
}

// ChooseAccel measures the accelerators and returns the fastest, remembering
// the answer in cacheFile until QEMU or the host's boot changes.
//
// That /dev/kvm exists and opens proves nothing: on a machine without usable
// virtualisation a guest under it aborts, or runs twenty times slower than
// under TCG, or never boots. So a small guest is timed under each.
func ChooseAccel(ctx context.Context, cell *Cell, owner, qemu, cacheFile string, fresh bool) (Choice, error) {
	version, err := Version(ctx, qemu)
	if err != nil {
		return Choice{}, err
	}
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	c := Choice{QEMU: version, Boot: strings.TrimSpace(string(boot)), KVM: openKVM() == nil, Cell: cell.String()}
	if old, ok := remembered(cacheFile); ok && !fresh && old.QEMU == c.QEMU && old.Boot == c.Boot && old.KVM == c.KVM && old.Cell == c.Cell {
		return old, nil
	}
	tcg := probe(ctx, cell, owner, qemu, "tcg", 20*time.Second)
	c.Trials = append(c.Trials, tcg)
	// Nobody wants an accelerator that takes longer than emulation.
	limit := 5 * time.Second
	if tcg.Error == "" {
		limit = max(time.Second, 2*time.Duration(tcg.Seconds*float64(time.Second)))
	}
	c.Trials = append(c.Trials, probe(ctx, cell, owner, qemu, "kvm", limit))
	if err := ctx.Err(); err != nil {
		return Choice{}, err
	}
	c.Accel = fastest(c.Trials)
	if c.Accel == "" {
		return c, fmt.Errorf("no accelerator of %s works: tcg: %s; kvm: %s", qemu, c.Trials[0].Error, c.Trials[1].Error)
	}
	if b, err := json.Marshal(c); err == nil && cacheFile != "" {
		_ = os.MkdirAll(filepath.Dir(cacheFile), 0o755)
		_ = os.WriteFile(cacheFile, b, 0o644) // only a cache: measured again without it
	}
	return c, nil
}

func openKVM() error {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

func remembered(file string) (Choice, bool) {
	var c Choice
	b, err := os.ReadFile(file)
	return c, err == nil && json.Unmarshal(b, &c) == nil && c.Accel != ""
}

func fastest(trials []Trial) string {
	best := ""
	var t float64
	for _, tr := range trials {
		if tr.Error == "" && (best == "" || tr.Seconds < t) {
			best, t = tr.Accel, tr.Seconds
		}
	}
	return best
}

// probeExit is what QEMU exits with when the probe has done its work:
// isa-debug-exit turns the value v into the status 2v+1.
const probeValue, probeExit = 42, 2*42 + 1

func probe(ctx context.Context, cell *Cell, owner, qemu, accel string, limit time.Duration) Trial {
	t := Trial{Accel: accel}
	if accel == "kvm" {
		if err := openKVM(); err != nil {
			t.Error = err.Error()
			return t
		}
	}
	image, err := memfd("kbisect-probe")
	if err == nil {
		defer image.Close()
		_, err = image.Write(probeImage())
	}
	if err != nil {
		t.Error = err.Error()
		return t
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := leash.Command(ctx, owner, []string{"PATH=" + os.Getenv("PATH")}, qemu,
		"-no-user-config", "-nodefaults", "-display", "none", "-no-reboot", "-m", "64M",
		"-machine", "microvm,acpi=off", "-accel", accel, "-cpu", cpuModel(accel),
		"-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-kernel", "/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{image}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	start := time.Now()
	gone := make(chan struct{})
	if err = cell.start(cmd, gone, installed(qemu)...); err == nil {
		err = cmd.Wait()
	}
	close(gone)
	t.Seconds = time.Since(start).Seconds()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == probeExit:
	case ctx.Err() != nil:
		t.Error = fmt.Sprintf("the probe was not through after %.1f s", limit.Seconds())
	default:
		t.Error = firstLine(strings.TrimSpace(stderr.String()))
		if t.Error == "" {
			t.Error = fmt.Sprintf("the probe ended with %v", err)
		}
	}
	return t
}

// probeImage is a 32-bit ELF kernel with a PVH entry (note XEN_ELFNOTE_PHYS32_ENTRY,
// include/xen/interface/elfnote.h) that does what a booting kernel does to an
// accelerator: plain instructions, and port writes, each of which leaves the guest.
// 100 million loop steps take TCG about 0.2 s; 10 000 port writes take a sound
// KVM about 20 ms.
func probeImage() []byte {
	const (
		base  = 0x100000
		loops = 100_000_000
		exits = 10_000
		ehdr  = 52
		phdr  = 32
		note  = ehdr + 2*phdr
		// name "Xen\0" and an 8-byte descriptor: QEMU reads 8 bytes of it
		noteLen = 12 + 4 + 8
		entry   = base + note + noteLen
	)
	le := binary.LittleEndian
	code := []byte{0xb9}                              // mov ecx, loops
	code = le.AppendUint32(code, loops)               //
	code = append(code, 0x49, 0x75, 0xfd)             // 1: dec ecx; jnz 1b
	code = append(code, 0xb9)                         // mov ecx, exits
	code = le.AppendUint32(code, exits)               //
	code = append(code, 0xe6, 0x80, 0x49, 0x75, 0xfb) // 1: out 0x80, al; dec ecx; jnz 1b
	code = append(code, 0x66, 0xba, 0xf4, 0x00)       // mov dx, 0xf4
	code = append(code, 0xb0, probeValue, 0xee)       // mov al, 42; out dx, al
	code = append(code, 0xf4, 0xeb, 0xfd)             // 1: hlt; jmp 1b
	size := uint32(note + noteLen + len(code))

	img := []byte{0x7f, 'E', 'L', 'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	img = le.AppendUint16(img, 2) // ET_EXEC
	img = le.AppendUint16(img, 3) // EM_386
	for _, v := range []uint32{1, entry, ehdr, 0, 0} {
		img = le.AppendUint32(img, v)
	}
	for _, v := range []uint16{ehdr, phdr, 2, 0, 0, 0} {
		img = le.AppendUint16(img, v)
	}
	for _, v := range []uint32{
		1, 0, base, base, size, size, 7, 4096, // PT_LOAD
		4, note, base + note, base + note, noteLen, noteLen, 4, 4, // PT_NOTE
		4, 8, 18, // n_namesz, n_descsz, XEN_ELFNOTE_PHYS32_ENTRY
	} {
		img = le.AppendUint32(img, v)
	}
	img = append(img, "Xen\x00"...)
	img = le.AppendUint64(img, entry)
	return append(img, code...)
}
