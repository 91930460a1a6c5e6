//go:build e2e

package tests

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/u-root/u-root/pkg/cpio"
	"go.uber.org/zap"

	"github.com/kernel-bisect/kbisect/internal/agentproto"
	"github.com/kernel-bisect/kbisect/internal/guest"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/qemu"
	"github.com/kernel-bisect/kbisect/internal/runner"
	"github.com/kernel-bisect/kbisect/kconfigs"
	"github.com/kernel-bisect/kbisect/vmimage"
)

// The figures of README and issues: go test -tags e2e -run '^$' -bench . ./tests

const bareMark = "bare init is running"

const bareInit = `#include <fcntl.h>
#include <unistd.h>
int main(void) { int fd = open("/dev/console", O_WRONLY); write(fd, "` + bareMark + `\n", 21); for (;;) pause(); }
`

// sound returns the kernel of tag longterm and the accelerator in use.
func sound(b *testing.B) (image, accel string) {
	b.Helper()
	res := decode[kernel.CheckResult](b, 0, "check", "--repo", seriesRepo, "--rev", "longterm", "--test", "cow/fork-basic/base")
	return res.Kernel.Image, res.Host.Accelerator
}

func qemuPath(b *testing.B) string {
	b.Helper()
	p, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// writeFile stores data in a temporary file.
func writeFile(b *testing.B, name string, data []byte) string {
	b.Helper()
	file := filepath.Join(b.TempDir(), name)
	if err := os.WriteFile(file, data, 0o755); err != nil {
		b.Fatal(err)
	}
	return file
}

// BenchmarkBareInit boots to the first line of an init that does nothing else.
func BenchmarkBareInit(b *testing.B) {
	image, accel := sound(b)
	src := writeFile(b, "init.c", []byte(bareInit))
	bin := src + ".bin"
	if out, err := exec.Command("gcc", "-static", "-Os", "-w", "-o", bin, src).CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	code, err := os.ReadFile(bin)
	if err != nil {
		b.Fatal(err)
	}
	archive, err := os.Create(filepath.Join(b.TempDir(), "bare.cpio"))
	if err != nil {
		b.Fatal(err)
	}
	w := cpio.Newc.Writer(archive)
	recs := []cpio.Record{cpio.Directory("dev", 0o755), cpio.CharDev("dev/console", 0o600, 5, 1), cpio.StaticFile("init", string(code), 0o755)}
	for i := range recs {
		recs[i].Ino = uint64(i + 1)
	}
	if err := cpio.WriteRecords(w, recs); err != nil {
		b.Fatal(err)
	}
	if err := cpio.WriteTrailer(w); err != nil {
		b.Fatal(err)
	}
	profile := kconfigs.Profiles()[0]
	for b.Loop() {
		ram, err := qemu.NewRAM(profile.Machine.MemoryMiB)
		if err != nil {
			b.Fatal(err)
		}
		vm, err := qemu.Start(context.Background(), qemu.Options{Owner: home, Binary: qemuPath(b), Cell: qemu.NewCell(), Accel: accel, Machine: profile.Machine, Kernel: image, Initrd: archive.Name(), RAM: ram})
		if err != nil {
			b.Fatal(err)
		}
		if !vm.Console.WaitFor(context.Background(), bareMark) {
			b.Fatalf("no bare init:\n%s", vm.Console.Bytes())
		}
		vm.Kill()
		_ = ram.Close()
	}
}

// BenchmarkAgentReady boots the same kernel to the agent's hello.
func BenchmarkAgentReady(b *testing.B) {
	image, accel := sound(b)
	initrd, err := vmimage.Image()
	if err != nil {
		b.Fatal(err)
	}
	path := writeFile(b, "image.cpio", initrd)
	profile := kconfigs.Profiles()[0]
	for b.Loop() {
		ram, err := qemu.NewRAM(profile.Machine.MemoryMiB)
		if err != nil {
			b.Fatal(err)
		}
		vm, err := qemu.Start(context.Background(), qemu.Options{Owner: home, Binary: qemuPath(b), Cell: qemu.NewCell(), Accel: accel, Machine: profile.Machine, Kernel: image, Initrd: path, Append: agentproto.Env + " kbisect.swap_mib=128", RAM: ram})
		if err != nil {
			b.Fatal(err)
		}
		s := guest.New(guest.Machine{Agent: vm.Agent, Console: vm.Console, Exited: vm.Exited(), End: func() (string, bool, string) { return "", false, "" }}, guest.DefaultLimits)
		if _, err := s.Hello(context.Background()); err != nil {
			b.Fatal(err)
		}
		s.Close()
		vm.Kill()
		_ = ram.Close()
	}
}

// BenchmarkForkedRun is one run of a base-page test in a forked guest.
func BenchmarkForkedRun(b *testing.B) { benchRun(b, false) }

// BenchmarkBootedRun is the same in a guest that boots for it.
func BenchmarkBootedRun(b *testing.B) { benchRun(b, true) }

func benchRun(b *testing.B, noFork bool) {
	booted := bootSound(b, noFork)
	for b.Loop() {
		runOnce(b, booted, 0)
	}
}

// BenchmarkTwoForkedRuns is two such runs at a time, of two kernels that are up.
func BenchmarkTwoForkedRuns(b *testing.B) {
	one, other := bootSound(b, false), bootSound(b, false)
	for b.Loop() {
		var both sync.WaitGroup
		both.Go(func() { runOnce(b, one, 0) })
		both.Go(func() { runOnce(b, other, 0) })
		both.Wait()
	}
}

// BenchmarkIteration tells what one more iteration of a test within a run costs,
// beside a forked run: medians, of runs that follow one another.
func BenchmarkIteration(b *testing.B) {
	const more, inARow = 20, 5
	booted := bootSound(b, false)
	var runs, iterations []float64
	for b.Loop() {
		for range inARow {
			runs = append(runs, runOnce(b, booted, 0))
		}
		for range inARow {
			iterations = append(iterations, runOnce(b, booted, 1+more))
		}
	}
	run := median(runs)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(run*1000, "ms/run")
	b.ReportMetric((median(iterations)-run)*1000/more, "ms/iteration")
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}

// runOnce runs a base-page test and returns how long that took.
func runOnce(b *testing.B, booted *runner.Booted, iterations int) (seconds float64) {
	b.Helper()
	p := runner.Program{Name: "cow/fork-basic/base", Argv: []string{vmimage.ReproducerPath, "cow/fork-basic/base"}, Limit: time.Minute, Iterations: iterations}
	start := time.Now()
	r, err := booted.Run(context.Background(), p)
	if err != nil || r.Outcome != kernel.Pass {
		b.Error(err, r.Outcome, r.Reason) // not Fatal: it may be a goroutine of its own
	}
	return time.Since(start).Seconds()
}

// bootSound boots the kernel of tag longterm.
func bootSound(b *testing.B, noFork bool) *runner.Booted {
	b.Helper()
	image, accel := sound(b)
	initrd, err := vmimage.Image()
	if err != nil {
		b.Fatal(err)
	}
	lab := &runner.Lab{Owner: home, QEMU: qemuPath(b), Cell: qemu.NewCell(), Accel: accel, Image: writeFile(b, "image.cpio", initrd), Limits: guest.DefaultLimits, Log: zap.NewNop(), NoFork: noFork,
		Waiting: []string{vmimage.ReproducerPath, vmimage.ReproducerWaits}}
	booted, boot, err := lab.Boot(context.Background(), kernel.Kernel{Image: image}, kconfigs.Profiles()[0].Machine)
	if err != nil || booted == nil {
		b.Fatal(err, boot.Reason)
	}
	b.Cleanup(booted.Close)
	return booted
}
