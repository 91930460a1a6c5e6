package kbuild

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Limits are what one build may use, in the sandbox. They do not depend on the
// machine but for its jobs, so that a commit whose build goes over one does not
// build anywhere. Where the machine has less than that, its floors are reached
// first, and nothing is said of the commit.
type Limits struct {
	Memory    int64         // bytes of its processes, /tmp and /dev
	Processes int           // and threads
	File      int64         // bytes of the largest file
	Disk      int64         // bytes of the object tree and ccache
	Files     int64         // in them
	Output    int64         // bytes that are printed
	Idle      time.Duration // without a process that works, begins or ends
}

// LimitsOf are the limits of a build with so many jobs, far above what one needs:
//   - cc1 takes 0.2 GB for the largest files, a job with make, shell and assembler
//     five processes, each of the directories that make is in three; the link of a
//     distribution's kernel and pahole some 3 GB at once.
//   - The object tree of such a kernel with debug information takes some 25 GB in
//     100,000 files, vmlinux 1 GB; ccache is kept at 2 GB. A build prints 5 MB.
//   - While a file is compiled or linked there is always a process that runs.
func LimitsOf(jobs int) Limits {
	return Limits{
		Memory:    4<<30 + int64(jobs)<<30,
		Processes: 1000 + 50*jobs,
		File:      8 << 30,
		Disk:      40 << 30,
		Files:     2e6,
		Output:    512 << 20,
		Idle:      10 * time.Minute,
	}
}

func (b *Builder) limits() Limits {
	if b.Limits == (Limits{}) {
		return LimitsOf(b.Jobs)
	}
	return b.Limits
}

// hardProcesses stops what forks faster than we look. From Linux 5.14 on
// RLIMIT_NPROC counts what is in the sandbox; before, all that the user has, of
// which a desktop has some 3,000. Of root it stops nothing.
const hardProcesses = 1 << 14

// rlimits are those that the kernel keeps of each process.
func (l Limits) rlimits() map[int]uint64 {
	return map[int]uint64{
		unix.RLIMIT_FSIZE: uint64(l.File), //nolint:gosec // never negative
		unix.RLIMIT_CORE:  0,
		unix.RLIMIT_NPROC: hardProcesses,
	}
}

// stopped says why a build was stopped.
type stopped struct {
	why  string
	own  bool // it went over a limit: its own doing
	disk bool // for what it wrote
}

func (e *stopped) Error() string { return "the build was stopped: " + e.why }

// over says which limit is passed, nil if none is.
func (l Limits) over(u usage) *stopped {
	switch {
	case u.processes > l.Processes:
		return &stopped{why: fmt.Sprintf("it had %d processes and threads at once, and may have %d", u.processes, l.Processes), own: true}
	case u.memory > l.Memory:
		return &stopped{why: fmt.Sprintf("it used %s of memory, and may use %s", bytesOf(u.memory), bytesOf(l.Memory)), own: true}
	case u.disk > l.Disk:
		return &stopped{why: fmt.Sprintf("its object tree and ccache took %s, and may take %s", bytesOf(u.disk), bytesOf(l.Disk)), own: true, disk: true}
	case u.files > l.Files:
		return &stopped{why: fmt.Sprintf("its object tree and ccache had more than %d files", l.Files), own: true, disk: true}
	case u.idle > l.Idle:
		return &stopped{why: fmt.Sprintf("it did nothing for %s", l.Idle), own: true}
	}
	return nil
}

func bytesOf(n int64) string {
	if n < 1e9 {
		return fmt.Sprintf("%d MB", n/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

// Floors: what a build leaves to others of this machine. Below that a desktop
// swaps or cannot save, and the build would fail soon for want of the same.
const (
	floorMemory = 512 << 20 // and not more than one part in 32
	floorDisk   = 256 << 20 // and not more than one part in 100
)

// short says what the machine has too little of, nil if nothing.
func short(memory, memoryTotal, disk, diskTotal int64) *stopped {
	switch {
	case memory < min(floorMemory, memoryTotal/32):
		return &stopped{why: fmt.Sprintf("the machine has only %s of memory left: use fewer --jobs", bytesOf(memory))}
	case disk < min(floorDisk, diskTotal/100):
		return &stopped{why: diskFull, disk: true}
	}
	return nil
}

// usage is what a build takes at one time.
type usage struct {
	processes           int
	memory, disk, files int64
	idle                time.Duration
}

// most keeps the largest of each.
func (u *usage) most(now usage) {
	u.processes = max(u.processes, now.processes)
	u.memory = max(u.memory, now.memory)
	u.disk, u.files = max(u.disk, now.disk), max(u.files, now.files)
}
