package qemu

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

var testRAM = &RAM{}

func options(machine, accel string) Options {
	return Options{
		Binary: "qemu-system-x86_64", Accel: accel, Kernel: "/k/bzImage", Initrd: "/k/initrd", Append: "kbisect.swap_mib=64",
		Machine: kernel.Machine{Type: machine, Arch: "x86_64", MemoryMiB: 512, CPUs: 2, Cmdline: "quiet"},
	}
}

// flags pairs every flag with its value. QEMU does not mind their order, only
// that a chardev or an object stands before its user.
func flags(t *testing.T, a []string) []string {
	t.Helper()
	var out []string
	for i := 0; i < len(a); i++ {
		if !strings.HasPrefix(a[i], "-") {
			t.Fatalf("%q is neither a flag nor a value: %q", a[i], a)
		}
		f := a[i]
		if i+1 < len(a) && !strings.HasPrefix(a[i+1], "-") {
			i++
			f += " " + a[i]
		}
		out = append(out, f)
	}
	slices.Sort(out)
	return out
}

func TestArgs(t *testing.T) {
	common := []string{
		"-no-user-config", "-nodefaults", "-display none", "-no-reboot", "-name kbisect",
		"-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-smp 2", "-m 512M",
		"-chardev socket,id=qmp,fd=3", "-mon chardev=qmp,mode=control",
		"-chardev socket,id=console,fd=4", "-serial chardev:console",
		"-chardev socket,id=agent,fd=5", "-device virtserialport,chardev=agent,name=kbisect.agent",
		"-kernel /k/bzImage", "-initrd /k/initrd", "-append " + BootArgs + " quiet kbisect.swap_mib=64",
	}
	const microvm = "-machine microvm,acpi=off,pit=on,pic=on,rtc=on,isa-serial=on"
	tcg := []string{"-accel tcg", "-cpu max,-erms"}
	for _, c := range []struct {
		name string
		opts func() Options
		want []string
	}{
		{"microvm tcg", func() Options { return options("microvm", "tcg") },
			slices.Concat(tcg, []string{microvm, "-device virtio-serial-device"})},
		{"microvm kvm", func() Options { return options("microvm", "kvm") },
			[]string{"-accel kvm", "-cpu host", microvm, "-device virtio-serial-device"}},
		{"q35", func() Options { return options("q35", "tcg") },
			slices.Concat(tcg, []string{"-machine q35", "-device virtio-serial-pci", "-device pvpanic-pci"})},
		{"devices", func() Options {
			o := options("q35", "tcg")
			o.Machine.Devices = []string{"intel-iommu,intremap=off", "edu"}
			return o
		}, slices.Concat(tcg, []string{"-machine q35", "-device virtio-serial-pci", "-device pvpanic-pci",
			"-device intel-iommu,intremap=off", "-device edu"})},
		{"template", func() Options { o := options("microvm", "tcg"); o.RAM = testRAM; return o },
			slices.Concat(tcg, []string{microvm + ",memory-backend=ram", "-device virtio-serial-device",
				"-object memory-backend-file,id=ram,size=512M,mem-path=/proc/self/fd/6,share=on"})},
		{"fork", func() Options { o := options("q35", "tcg"); o.RAM, o.Fork = testRAM, true; return o },
			slices.Concat(tcg, []string{"-machine q35,memory-backend=ram", "-device virtio-serial-pci", "-device pvpanic-pci",
				"-object memory-backend-file,id=ram,size=512M,mem-path=/proc/self/fd/6,share=off", "-incoming defer"})},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := args(c.opts())
			want := slices.Concat(common, c.want)
			slices.Sort(want)
			if diff := cmp.Diff(want, flags(t, a)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			bus := slices.IndexFunc(a, func(s string) bool { return strings.HasPrefix(s, "virtio-serial-") })
			port := slices.IndexFunc(a, func(s string) bool { return strings.HasPrefix(s, "virtserialport,") })
			if bus > port {
				t.Error("the port stands before its bus")
			}
		})
	}
}

// The console must be there and a panic must end the machine, or a crash is
// seen as silence.
func TestBootArgs(t *testing.T) {
	for _, want := range []string{"console=ttyS0", "panic=-1", "reboot=t"} {
		if !slices.Contains(strings.Fields(BootArgs), want) {
			t.Errorf("%q is missing", want)
		}
	}
	o := options("microvm", "tcg")
	o.Machine.Cmdline, o.Append = "", ""
	a := args(o)
	if got := a[slices.Index(a, "-append")+1]; got != BootArgs {
		t.Errorf("%q", got)
	}
}
