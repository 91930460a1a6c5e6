package leash

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv("LEASH_TEST_PARENT") != "" {
		actAsParent()
		return
	}
	os.Exit(m.Run())
}

// actAsParent starts a child on a leash, prints its pid, and waits to be killed.
func actAsParent() {
	cmd := Command(context.Background(), os.Getenv("LEASH_TEST_PARENT"), nil, "sleep", "100")
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	os.Stdout.WriteString(strconv.Itoa(cmd.Process.Pid) + "\n")
	_ = cmd.Wait()
}

func TestCancelKillsTheGroup(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cmd := Command(ctx, t.TempDir(), nil, "sh", "-c", "sleep 100 & echo $!; wait")
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	grandchild := readPID(t, out)
	cancel()
	_ = cmd.Wait()
	waitGone(t, grandchild)
}

func TestChildDiesWithAKilledParent(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), "LEASH_TEST_PARENT="+t.TempDir())
	out, _ := parent.StdoutPipe()
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	child := readPID(t, out)
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	waitGone(t, child)
}

func TestSweepKillsOnlyTheOwnersOrphans(t *testing.T) {
	mine, other := t.TempDir(), t.TempDir()
	start := func(owner string) int {
		// A double fork makes an orphan that no death signal reaches.
		cmd := exec.Command("sh", "-c", "sleep 100 >/dev/null 2>&1 & echo $!")
		cmd.Env = append(os.Environ(), markVar+"="+owner)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(string(out)))
		t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
		return pid
	}
	a, b := start(mine), start(other)
	if n := Sweep(mine); n != 1 {
		t.Errorf("swept %d processes, want 1", n)
	}
	waitGone(t, a)
	if syscall.Kill(b, 0) != nil {
		t.Error("the other owner's process is gone too")
	}
}

func readPID(t *testing.T, r interface{ Read([]byte) (int, error) }) int {
	t.Helper()
	buf := make([]byte, 32)
	n, _ := r.Read(buf)
	pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func waitGone(t *testing.T, pid int) {
	t.Helper()
	for range 500 {
		if gone(pid) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %d is still alive", pid)
}

// gone treats a zombie as gone: it holds nothing any more.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(b), ") Z ")
}

func TestNice(t *testing.T) {
	own, err := exec.Command("nice").Output()
	if err != nil {
		t.Fatal(err)
	}
	before, _ := strconv.Atoi(strings.TrimSpace(string(own)))
	// A shell and what it starts; its name stays as it was asked for.
	out, err := Nice(Command(t.Context(), t.TempDir(), nil, "sh", "-c", "nice; echo $0")).Output()
	if want := strconv.Itoa(min(before+10, 19)) + "\nsh\n"; err != nil || string(out) != want {
		t.Errorf("%q, %v; want %q", out, err, want)
	}
	for _, name := range []string{"no-such-program", "/no/such/program"} {
		if err := Nice(Command(t.Context(), t.TempDir(), nil, name)).Run(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
