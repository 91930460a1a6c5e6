package agent

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
)

// look finds out what this guest has, but for its memory.
func look() agentproto.Hello {
	h := agentproto.Hello{CPUs: runtime.NumCPU(), ConfigCRC: configCRC()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.Release = unix.ByteSliceToString(u.Release[:])
	}
	h.HugetlbSizes = hugetlbSizes()
	for _, name := range agentproto.Features {
		if probes[name]() {
			h.Features = append(h.Features, name)
		}
	}
	return h
}

// probes find out whether the guest has a feature, by its name in
// agentproto.Features.
var probes = map[string]func() bool{
	"clear_refs":        exists("/proc/self/clear_refs"),
	"gup_benchmark":     exists("/sys/kernel/debug/gup_benchmark"),
	"gup_test":          exists("/sys/kernel/debug/gup_test"),
	"gup_test_longterm": holdsPins,
	"io_uring":          hasIOUring,
	"kpageflags":        exists("/proc/kpageflags"),
	"ksm":               exists("/sys/kernel/mm/ksm"),
	"userfaultfd":       exists("/proc/sys/vm/unprivileged_userfaultfd"),
	"vfio": func() bool {
		return exists("/dev/vfio/vfio")() && hasEdu("/sys/bus/pci/devices")
	},
}

func exists(path string) func() bool {
	return func() bool {
		var st unix.Stat_t
		return unix.Stat(path, &st) == nil
	}
}

// hasIOUring: io_uring_setup(0, NULL) fails with EFAULT or EINVAL where it exists.
func hasIOUring() bool {
	_, _, e := unix.Syscall(unix.SYS_IO_URING_SETUP, 0, 0, 0)
	return e != unix.ENOSYS && e != unix.EPERM
}

// holdsPins says whether gup_test knows requests that hold a pin (6.2): one that
// lets go is granted though there is nothing to let go.
func holdsPins() bool {
	const pinLongtermTestStop = 'g'<<8 | 8 // _IO('g', 8), mm/gup_test.h
	fd, err := unix.Open("/sys/kernel/debug/gup_test", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), pinLongtermTestStop, 0)
	return e == 0
}

// hasEdu says whether QEMU's edu is there behind an IOMMU: the device that the
// reproducers drive through VFIO.
func hasEdu(pciDevices string) bool {
	groups, _ := filepath.Glob(pciDevices + "/*/iommu_group")
	return slices.ContainsFunc(groups, func(group string) bool {
		dir := filepath.Dir(group)
		return readWord(dir+"/vendor") == "0x1234" && readWord(dir+"/device") == "0x11e8"
	})
}

// lookAtMemory adds what enableTHP and setUpSwap have a part in.
func lookAtMemory(h *agentproto.Hello) {
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) == nil {
		unit := int64(si.Unit)
		h.MemoryKiB, h.SwapKiB = int64(si.Totalram)*unit>>10, int64(si.Totalswap)*unit>>10
	}
	h.THPSizes = thpSizes()
}

// configCRC is the CRC-32 of the .config that the running kernel carries
// (CONFIG_IKCONFIG_PROC): the proof that the right kernel booted. It stands in
// the last eight bytes of the gzip file (RFC 1952), so that nothing has to be
// unpacked while the host waits.
func configCRC() string {
	fd, err := unix.Open("/proc/config.gz", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	var trailer [8]byte
	if unix.Fstat(fd, &st) != nil {
		return ""
	}
	if n, err := unix.Pread(fd, trailer[:], st.Size-int64(len(trailer))); err != nil || n != len(trailer) {
		return ""
	}
	crc := binary.BigEndian.AppendUint32(nil, binary.LittleEndian.Uint32(trailer[:]))
	return hex.EncodeToString(crc)
}

const thpDir = "/sys/kernel/mm/transparent_hugepage"

// thpSizes returns the sizes in bytes that madvise() can get: the PMD size
// where THP is on at all, and the mTHP sizes of 6.8 and later.
func thpSizes() []int64 {
	if on := readWord(thpDir + "/enabled"); on == "" || strings.Contains(on, "[never]") {
		return nil
	}
	var sizes []int64
	if n, err := strconv.ParseInt(readWord(thpDir+"/hpage_pmd_size"), 10, 64); err == nil {
		sizes = append(sizes, n)
	}
	for _, kb := range hugeSizes(thpDir, "enabled") {
		if len(sizes) == 0 || kb<<10 != sizes[0] {
			sizes = append(sizes, kb<<10)
		}
	}
	return sizes
}

func hugetlbSizes() []int64 {
	const dir = "/sys/kernel/mm/hugepages"
	var sizes []int64
	for _, kb := range hugeSizes(dir, "nr_hugepages") {
		if readWord(dir+"/hugepages-"+strconv.FormatInt(kb, 10)+"kB/nr_hugepages") != "0" {
			sizes = append(sizes, kb<<10)
		}
	}
	return sizes
}

// hugeSizes are the sizes in KiB for which dir has a directory hugepages-64kB with
// that file in it. Not all have: since 6.12 some sizes are for shared memory only,
// and have no "enabled".
func hugeSizes(dir, file string) (sizes []int64) {
	for _, name := range names(dir) {
		number, ok := strings.CutPrefix(name, "hugepages-")
		number, kB := strings.CutSuffix(number, "kB")
		kb, err := strconv.ParseInt(number, 10, 64)
		if ok && kB && err == nil && exists(dir+"/"+name+"/"+file)() {
			sizes = append(sizes, kb)
		}
	}
	slices.Sort(sizes)
	return sizes
}

// enableTHP lets programs ask for huge pages: the kernel turns them off by
// itself on machines with less than 512 MiB (hugepage_init, mm/huge_memory.c).
func enableTHP() (problems []string) {
	file := thpDir + "/enabled"
	if !strings.Contains(readWord(file), "[never]") {
		return nil
	}
	if err := writeFile(file, "madvise"); err != nil {
		return []string{"transparent huge pages: " + err.Error()}
	}
	return nil
}

// setUpSwap makes a zram device of the given MiB the swap space.
func setUpSwap(mib string) (problems []string) {
	n, err := strconv.ParseInt(mib, 10, 32)
	if err != nil || n <= 0 {
		return nil
	}
	if err := zramSwap(n << 20); err != nil {
		return []string{"swap: " + err.Error()}
	}
	return nil
}

func zramSwap(size int64) error {
	// One compressor on all kernels, where there is a choice: it decides how much
	// of a page fits, and a distribution's own may be a module that nobody loaded.
	_ = writeFile("/sys/block/zram0/comp_algorithm", "lzo-rle")
	if err := writeFile("/sys/block/zram0/disksize", strconv.FormatInt(size, 10)); err != nil {
		return err
	}
	// union swap_header (include/linux/swap.h): version and last_page at byte
	// 1024, the magic in the last ten bytes of the first page.
	page := make([]byte, os.Getpagesize())
	binary.NativeEndian.PutUint32(page[1024:], 1)
	binary.NativeEndian.PutUint32(page[1028:], uint32(size/int64(len(page))-1))
	copy(page[len(page)-10:], "SWAPSPACE2")
	if err := writeFile("/dev/zram0", string(page)); err != nil {
		return err
	}
	dev, _ := unix.BytePtrFromString("/dev/zram0")
	if _, _, e := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(dev)), 0, 0); e != 0 {
		return fmt.Errorf("swapon /dev/zram0: %w", e)
	}
	return nil
}
