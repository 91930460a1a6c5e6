package kbuild

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// inGuest in the environment says that this is a guest's only program, with cgroup v2
// for itself: tests/group_test.go has it run there, for hardly a machine hands out
// control groups. It fails in the end, for nothing is kept of what passes.
const inGuest = "KBISECT_IN_GUEST"

// hog in the environment makes this binary one that takes so many MiB of memory which
// no process has.
const hog = "KBISECT_HOG"

func TestMain(m *testing.M) {
	if mib, err := strconv.Atoi(os.Getenv(hog)); err == nil {
		fd, err := unix.MemfdCreate("hog", 0)
		for chunk := make([]byte, 1<<20); err == nil && mib > 0; mib-- {
			_, err = unix.Write(fd, chunk)
		}
		fmt.Println(err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// guestGroup makes this process one of a service with a group of its own.
func guestGroup(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := unix.Mount("none", root, "cgroup2", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	service := filepath.Join(root, "system.slice", "kbisect.service")
	if err := os.MkdirAll(service, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{root, filepath.Dir(service)} {
		if err := writeTo(dir, "cgroup.subtree_control", "+memory +pids"); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeTo(service, "cgroup.procs", strconv.Itoa(os.Getpid())); err != nil {
		t.Fatal(err)
	}
	return service
}

// What goes over a limit of its control group is ended and told, with the memory that
// the guard does not see; what does not is left alone.
func TestControlGroups(t *testing.T) {
	if os.Getenv(inGuest) != "" {
		service := guestGroup(t)
		defer func() {
			left, _ := filepath.Glob(filepath.Join(service, buildGroup+"*"))
			if procs, _ := os.ReadFile(filepath.Join(service, mainGroup, "cgroup.procs")); len(left) > 0 || !slices.Contains(strings.Fields(string(procs)), strconv.Itoa(os.Getpid())) {
				t.Errorf("left: %q; ours are in %q", left, procs)
			}
			t.Error("this is the guest")
		}()
	}
	g, err := ownGroups()
	if err != nil {
		if os.Getenv(inGuest) != "" {
			t.Fatal(err)
		}
		t.Skipf("%v; `make e2e` does this in a guest", err)
	}
	t.Run("guarded", testGuarded)
	for _, c := range []struct {
		name, command string
		env           string
		want          string
	}{
		{"a small one", "/proc/self/exe", hog + "=8", ""},
		{"memory in files", "/proc/self/exe", hog + "=200", "it wanted more memory than the 100 MB that it may use"},
		{"few processes", "for i in 1 2 3 4 5 6 7 8 9; do sleep 0 & done; wait", "", ""},
		{"processes", "for i in 1 2 3 4 5 6 7 8 9; do for j in 1 2 3; do sleep 9 & done; done", "", "it wanted more than the 20 processes and threads at once that it may have"},
	} {
		t.Run(c.name, func(t *testing.T) {
			own, err := g.make(Limits{Memory: 100e6, Processes: 20})
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("sh", "-c", c.command)
			if c.env != "" {
				cmd = exec.Command(c.command)
			}
			cmd.Env = append(os.Environ(), c.env, "GOMAXPROCS=1")
			started := own.into(cmd)
			out, err := cmd.CombinedOutput()
			started()
			got := ""
			if s := own.over(); s != nil {
				got = s.why
			}
			if got != c.want {
				t.Errorf("%q, want %q; it ended with %v: %s", got, c.want, err, out)
			}
			own.remove()
			if _, err := os.Stat(own.dir); err == nil {
				t.Errorf("%s is left", own.dir)
			}
		})
	}
}

// A build is put into its group, and told what came of it. The sandbox is another
// program here, one that says who its first process is as bwrap does.
func testGuarded(t *testing.T) {
	limits := LimitsOf(1)
	limits.Memory = 100e6
	b := &Builder{Limits: limits, Objects: t.TempDir(), Log: zap.NewNop()}
	for command, want := range map[string]string{
		"true":                           "",
		hog + "=200 exec /proc/self/exe": "it wanted more memory than the 100 MB that it may use",
	} {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sh", "-c", `echo "{\"child-pid\": $$}" >&3; read go <&4; `+strings.ReplaceAll(command, "/proc/self/exe", self))
		g, err := b.begin(cmd, func(error) {})
		if err != nil || g == nil {
			t.Fatal(g, err)
		}
		_ = cmd.Wait()
		got := ""
		var s *stopped
		if err := g.end(time.Second); errors.As(err, &s) && s.own {
			got = s.why
		}
		if got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
}

func TestGroupDir(t *testing.T) {
	const v2 = "24 23 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	for _, c := range []struct{ name, self, mounts, want string }{
		{"systemd", "0::/system.slice/kbisect.service\n", v2, "/sys/fs/cgroup/system.slice/kbisect.service"},
		{"a container with a namespace", "0::/\n", v2, "/sys/fs/cgroup"},
		{"a part of the tree", "0::/a/b\n", "24 23 0:22 /a /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/b"},
		{"another part", "0::/a\n", "24 23 0:22 /b /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "no cgroup v2 is mounted"},
		{"above the namespace", "0::/../x\n", v2, "our control group is not to be seen here"},
		{"both versions", "4:memory:/x\n0::/\n", "30 23 0:25 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n31 23 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/unified"},
		{"version 1", "4:memory:/x\n", v2, "no cgroup v2"},
		{"none", "0::/\n", "garbage\n1 2 3 - cgroup2\n", "no cgroup v2 is mounted"},
	} {
		got, err := groupDir(c.self, c.mounts)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// A directory that is no control group, or one without what is needed, is told.
func TestNoGroups(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ file, text, want string }{
		{"", "", "no such file"},
		{"cgroup.controllers", "cpu io pids\n", "cgroup v2 without the memory controller"},
		{"cgroup.controllers", "cpu memory\n", "cgroup v2 without the pids controller"},
	} {
		if c.file != "" {
			if err := os.WriteFile(filepath.Join(dir, c.file), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := newGroups(dir); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.text, err, c.want)
		}
	}
	var none *group
	if s := none.over(); s != nil {
		t.Error(s)
	}
	none.remove()
	none.into(exec.Command("true"))()
}
