package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// spent is what a command cost.
type spent struct {
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu_seconds"`               // of the whole machine
	Own     float64 `json:"own_cpu_seconds,omitempty"` // of its process alone
	Memory  int64   `json:"memory_kib,omitempty"`      // the most of its process
	Guest   int64   `json:"guest_kib,omitempty"`       // the most of a guest

	status int
}

// clockTicks is USER_HZ, which is 100 on every x86.
const clockTicks = 100

// run carries out a command to its end and measures it. Exit status 1 and 3 are
// answers.
func run(dir string, env []string, argv ...string) ([]byte, spent, error) {
	return runSampled(dir, env, 0, argv...)
}

// runSampled also looks at its process now and then.
func runSampled(dir string, env []string, every time.Duration, argv ...string) ([]byte, spent, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	start, busy := time.Now(), machineCPU()
	if err := cmd.Start(); err != nil {
		return nil, spent{}, err
	}
	var s spent
	var ended atomic.Bool
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for every > 0 && !ended.Load() {
			s.sample(cmd.Process.Pid)
			time.Sleep(every)
		}
	}()
	err := cmd.Wait()
	took := time.Since(start)
	ended.Store(true)
	<-watched
	s.Seconds = took.Seconds()
	s.CPU = machineCPU() - busy
	s.status = cmd.ProcessState.ExitCode()
	if err != nil && s.status != 1 && s.status != 3 {
		return nil, s, fmt.Errorf("%s: %w\n%s%s", strings.Join(argv, " "), err, errs.Bytes(), out.Bytes())
	}
	return out.Bytes(), s, nil
}

// machineCPU is the seconds that all processors have worked since the start.
func machineCPU() float64 {
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	all := 0.0
	for _, i := range []int{1, 2, 3, 6, 7} { // user, nice, system, irq, softirq
		if f := strings.Fields(line); len(f) > i {
			ticks, _ := strconv.ParseFloat(f[i], 64)
			all += ticks / clockTicks
		}
	}
	return all
}

// sample reads what /proc knows of a process and of the guests that run.
func (s *spent) sample(pid int) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return
	}
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	s.Own = max(s.Own, (user+system)/clockTicks)
	s.Memory = max(s.Memory, peak(fmt.Sprintf("/proc/%d/status", pid)))
	guests, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, g := range guests {
		if name, err := os.ReadFile(g); err == nil && strings.HasPrefix(string(name), "qemu-system") {
			s.Guest = max(s.Guest, peak(filepath.Join(filepath.Dir(g), "status")))
		}
	}
}

// peak is the most memory that a process had, in KiB.
func peak(status string) int64 {
	text, _ := os.ReadFile(status)
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	f := strings.Fields(rest)
	if len(f) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(f[0], 10, 64)
	return n
}

// ours is the orchestrator with a data directory of its own.
type ours struct{ binary, home string }

// json runs a command of the orchestrator and reads its report.
func (o ours) json(into any, args ...string) (spent, error) {
	out, s, err := runSampled("", []string{"KBISECT_HOME=" + o.home}, 300*time.Millisecond, append([]string{o.binary, "--format", "json"}, args...)...)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(out, into); err != nil {
		return s, fmt.Errorf("%v: %w\n%.500s", args, err, out)
	}
	return s, nil
}
