// Package kconfigs carries the kernel configuration fragments and the profiles
// that are made of them. README.md gives the reason of every symbol. It must
// not know how a configuration is composed.
package kconfigs

import (
	"embed"
	"fmt"
	"slices"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

//go:embed *.config
var fragments embed.FS

// Guest is the fragment that a whole .config of a user's gets on top.
const Guest = "guest.x86_64.config"

// Fragment returns a fragment's text by its file name.
func Fragment(name string) ([]byte, error) {
	b, err := fragments.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("no such config fragment: %s", name)
	}
	return b, nil
}

// slim is the machine of the fast profiles: no PCI, no ACPI, no firmware
// tables. 512 MiB hold the swap tests with room to spare; two CPUs let parent
// and child really run at once.
var slim = kernel.Machine{Type: "microvm", Arch: "x86_64", MemoryMiB: 512, CPUs: 2, SwapMiB: 128, Cmdline: memoryArgs}

// everywhere are the tests that do not skip on a kernel of profile cow, be it
// 5.10, 6.1, 6.12 or 7.3: 209 of those of the catalogue. What is not here wants a
// later kernel (mTHP, MADV_COLLAPSE, pins that gup_test holds, secret memory,
// userfaultfd's write protection), a device, or pages of 1 GiB. None of them skipped
// with cow-debug on 5.10 and 6.1 either, nor those of byDevice with cow-vfio on 6.1.
var everywhere = kernel.Cells{
	Cases: []string{
		"fork-basic", "fork-basic-mprotect",
		"vmsplice-child-unmap", "vmsplice-child-unmap-mprotect", "vmsplice-before-fork", "vmsplice-after-fork", "vmsplice-fork-exit", "vmsplice-swap",
		"fixed-buffer-read-only", "fixed-buffer-fork", "fixed-buffer-soft-dirty", "fixed-buffer-tail-page",
		"process-vm-readv", "process-vm-writev", "proc-mem-write", "proc-mem-write-private", "private-write",
		"ro-pin-unshares", "ro-pin-unshares-fast", "ro-pin-unshares-longterm", "ro-get-keeps-shared",
		"direct-io-fork", "direct-io-soft-dirty", "direct-io-swap", "fork-snapshot-pinned", "dirty-pipe",
		"file-pin-fork", "file-pin-shared-io-uring", "file-pin-private-io-uring", "hugetlb-pool-exhausted",
	},
	Memory: []string{
		"base", "swap", "thp-pmd", "thp-pmd-swap", "thp-pte", "thp-pte-swap", "thp-single", "thp-single-swap", "thp-mremap", "thp-shared",
		"hugetlb-2m", "zeropage", "huge-zeropage", "memfd", "tmpfile", "private-file", "memfd-hugetlb-2m", "ksm",
	},
}

// byDevice are those of everywhere, and the pins by VFIO, for which the profile is.
var byDevice = kernel.Cells{
	Cases:  slices.Concat(everywhere.Cases, []string{"ro-longterm-pin-vfio", "ro-longterm-pin-shared-vfio", "ro-longterm-pin-exclusive-vfio", "private-ro-longterm-pin-vfio"}),
	Memory: everywhere.Memory,
}

// anywhere are those that any kernel can run which boots at all.
var anywhere = kernel.Cells{
	Cases:  []string{"fork-basic", "fork-basic-mprotect", "vmsplice-child-unmap", "vmsplice-child-unmap-mprotect", "vmsplice-before-fork", "vmsplice-after-fork", "vmsplice-fork-exit", "private-write"},
	Memory: []string{"base", "zeropage", "memfd", "tmpfile", "private-file"},
}

// large is slim with two free pages of 1 GiB. That takes 5 GiB: of the three
// below the device hole the kernel itself lies in the first, the initramfs at the
// end of the second, and what the kernel takes early at the end of all memory.
var large = kernel.Machine{Type: "microvm", Arch: "x86_64", MemoryMiB: 5 << 10, CPUs: 2, SwapMiB: 128, Cmdline: "hugepagesz=1G hugepages=2 hugepagesz=2M " + memoryArgs}

// memoryArgs give tests the kinds of memory that are off unless asked for: a few
// huge pages in the pool, and memfd_secret() before 6.5.
const memoryArgs = "hugepages=8 secretmem.enable=1"

// core is what is run unless tests are named: a few cases whose failure means
// what it says, on the three kinds of memory that kernels treat differently. The
// whole catalogue, cow/*, is 50 times larger and every run of it has a guest of
// its own.
var core = coreTests()

func coreTests() (names []string) {
	for _, c := range []string{
		"fork-basic", "fork-basic-mprotect", "vmsplice-child-unmap", "vmsplice-child-unmap-mprotect",
		"vmsplice-before-fork", "vmsplice-after-fork", "vmsplice-fork-exit", "ro-longterm-pin", "ro-longterm-pin-fast",
	} {
		for _, memory := range []string{"base", "thp-pmd", "swap"} {
			if c == "vmsplice-fork-exit" && memory == "swap" {
				continue // either outcome would be right
			}
			names = append(names, "cow/"+c+"/"+memory)
		}
	}
	return names
}

// stockArgs are memoryArgs, and what the profiles that are built here have by
// their configuration: /proc/PID/mem that writes over the protection of pages
// (PROC_MEM_ALWAYS_FORCE). Kernels pass over what they do not know.
const stockArgs = memoryArgs + " proc_mem.force_override=always"

// withDevice has a device that a process can drive through VFIO. edu reads and
// writes memory on request; Intel's IOMMU translates for it, and leaves virtio
// alone. Remapping of interrupts would want a split interrupt controller under
// KVM, and edu's are not used.
var withDevice = kernel.Machine{
	Type: "q35", Arch: "x86_64", MemoryMiB: 512, CPUs: 2, SwapMiB: 128, Cmdline: memoryArgs,
	Devices: []string{"intel-iommu,intremap=off", "edu"},
}

var profiles = []kernel.Profile{
	{
		Name:        "cow",
		Description: "slim kernel for the copy-on-write and unshare reproducers; fast to build and boot",
		Fragments:   []string{"cow.x86_64.config"},
		Machine:     slim,
		Tests:       core,
		MustRun:     everywhere,
	},
	{
		Name:        "cow-debug",
		Description: "cow with DEBUG_VM, DEBUG_VM_PGFLAGS and PAGE_TABLE_CHECK: the kernel's own checks",
		Fragments:   []string{"cow.x86_64.config", "cow-debug.x86_64.config"},
		Machine:     slim,
		Tests:       core,
		MustRun:     everywhere,
	},
	{
		Name:        "cow-1g",
		Description: "cow with pages of 1 GiB, which take 5 GiB of memory and, emulated, seconds a test",
		Fragments:   []string{"cow.x86_64.config"},
		Machine:     large,
		Tests:       []string{"cow/*hugetlb-1g"},
		MustRun:     kernel.Cells{Cases: everywhere.Cases, Memory: []string{"hugetlb-1g", "memfd-hugetlb-1g"}},
	},
	{
		Name:        "cow-vfio",
		Description: "cow on q35 with an IOMMU and a device that reads memory: example B as a device sees it",
		Fragments:   []string{"cow.x86_64.config", "cow-vfio.x86_64.config"},
		Machine:     withDevice,
		Tests:       []string{"cow/*longterm-pin*", "cow/vmsplice-fork-exit/*"},
		MustRun:     byDevice,
	},
	{
		Name:        "stock",
		Description: "a distribution kernel as it is, for check --kernel with --modules; q35",
		Machine:     kernel.Machine{Type: "q35", Arch: "x86_64", MemoryMiB: 1024, CPUs: 2, SwapMiB: 128, Cmdline: stockArgs},
		Tests:       core,
		MustRun:     anywhere,
	},
}

// Profiles returns the profiles, the default one first.
func Profiles() []kernel.Profile { return profiles }

// Profile finds a profile by name.
func Profile(name string) (kernel.Profile, error) {
	var names []string
	for _, p := range profiles {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return kernel.Profile{}, fmt.Errorf("no such profile: %q (there are %s)", name, strings.Join(names, ", "))
}
