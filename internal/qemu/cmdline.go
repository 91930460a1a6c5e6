package qemu

import (
	"fmt"
	"strconv"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Options say what to start.
type Options struct {
	Owner   string // data directory, marks the process as ours
	Binary  string // path of qemu-system-x86_64
	Cell    *Cell  // what the process is locked into; nil for stand-ins
	Accel   string // "kvm" or "tcg"
	Machine kernel.Machine
	Kernel  string // path of a bzImage, or of an ELF file with a PVH entry
	Initrd  string // path of the initramfs
	Append  string // further kernel arguments
	RAM     *RAM   // guest memory that can be forked; nil for ordinary memory
	Fork    bool   // map RAM privately and wait for a Restore
}

// fixed file descriptors of a QEMU process: 3 and up are exec.Cmd.ExtraFiles.
const (
	fdQMP = 3 + iota
	fdConsole
	fdAgent
	fdRAM
)

// BootArgs are kbisect's own kernel arguments.
//   - panic=-1 reboot=t: a panic resets at once with a triple fault, which
//     -no-reboot turns into the end of QEMU; microvm has no other way off.
//   - random.trust_cpu=on: without it getrandom() blocks for a second until the
//     guest's generator is ready (measured).
//   - watchdog_thresh=15 softlockup_panic=1: a CPU stuck for 30 s is reported by
//     the kernel, with its stack, before the host gives up on a silent guest; the
//     default of 20 s is too short for a starved guest under emulation.
//   - tsc=reliable: with two CPUs under TCG the kernel takes the TSC for
//     unsynchronised and falls back to a 4 ms clock without high-resolution timers.
//   - loglevel=5: warnings and worse. Each character of a console costs an exit;
//     the rest of the boot log takes 0.05 of 1.1 s. A boot that fails is tried once
//     more with all of it (LoudBoot), and the agent turns it on for the tests.
//   - no_hash_pointers is left out: it prints a banner and reports carry no pointers.
const BootArgs = "console=ttyS0 panic=-1 reboot=t random.trust_cpu=on tsc=reliable watchdog_thresh=15 softlockup_panic=1 loglevel=5"

// LoudBoot as a further argument has the kernel tell all while it boots.
const LoudBoot = "loglevel=8"

// args returns QEMU's arguments. It is pure, so that a test can hold it.
func args(o Options) []string {
	m := o.Machine
	a := []string{
		"-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
		// A guest that breaks out of QEMU finds no exec, no setuid, no fork.
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-name", "kbisect",
		"-accel", o.Accel, "-cpu", cpuModel(o.Accel),
		"-smp", strconv.Itoa(m.CPUs), "-m", strconv.Itoa(m.MemoryMiB) + "M",
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", fdQMP), "-mon", "chardev=qmp,mode=control",
		"-chardev", fmt.Sprintf("socket,id=console,fd=%d", fdConsole), "-serial", "chardev:console",
		"-chardev", fmt.Sprintf("socket,id=agent,fd=%d", fdAgent),
	}
	machine := "microvm,acpi=off,pit=on,pic=on,rtc=on,isa-serial=on"
	serial := "virtio-serial-device"
	if m.Type == "q35" {
		machine, serial = "q35", "virtio-serial-pci"
		a = append(a, "-device", "pvpanic-pci")
	}
	for _, d := range m.Devices {
		a = append(a, "-device", d)
	}
	a = append(a, "-device", serial, "-device", "virtserialport,chardev=agent,name="+agentproto.PortName)
	if o.RAM != nil {
		share := "on"
		if o.Fork {
			share = "off"
		}
		a = append(a, "-object", fmt.Sprintf("memory-backend-file,id=ram,size=%dM,mem-path=/proc/self/fd/%d,share=%s", m.MemoryMiB, fdRAM, share))
		machine += ",memory-backend=ram"
	}
	a = append(a, "-machine", machine, "-kernel", o.Kernel, "-initrd", o.Initrd, "-append", join(BootArgs, m.Cmdline, o.Append))
	if o.Fork {
		a = append(a, "-incoming", "defer")
	}
	return a
}

// cpuModel: "max" is everything TCG implements; KVM runs the host's own. TCG
// copies with "rep movsb" byte by byte, so that a kernel that trusts in ERMS takes 5
// to 9 % longer for a run.
func cpuModel(accel string) string {
	if accel == "kvm" {
		return "host"
	}
	return "max,-erms"
}

func join(words ...string) string {
	s := ""
	for _, w := range words {
		if w != "" && s != "" {
			s += " "
		}
		s += w
	}
	return s
}
