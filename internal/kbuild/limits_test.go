package kbuild

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/leash"
)

// Which limit, and whose fault.
func TestLimits(t *testing.T) {
	l := LimitsOf(2)
	for _, c := range []struct {
		u    usage
		says string
	}{
		{usage{}, ""},
		{usage{l.Processes, l.Memory, l.Disk, l.Files, l.Idle}, ""},
		{usage{processes: 1101}, "it had 1101 processes and threads at once, and may have 1100"},
		{usage{memory: 7e9}, "it used 7.0 GB of memory, and may use 6.4 GB"},
		{usage{disk: 50e9}, "its object tree and ccache took 50.0 GB, and may take 42.9 GB"},
		{usage{files: 2e6 + 1}, "its object tree and ccache had more than 2000000 files"},
		{usage{idle: time.Hour}, "it did nothing for 10m0s"},
	} {
		s := l.over(c.u)
		if c.says == "" && s != nil || c.says != "" && (s == nil || s.Error() != "the build was stopped: "+c.says || !s.own) {
			t.Errorf("%+v: %v", c.u, s)
		}
	}
	if LimitsOf(64).Memory-LimitsOf(2).Memory != 62<<30 {
		t.Error("each job needs memory")
	}
}

func TestFloors(t *testing.T) {
	const gb = int64(1) << 30
	for _, c := range []struct {
		memory, memoryTotal, disk, diskTotal int64
		says                                 string
	}{
		{gb, 16 * gb, gb, 100 * gb, ""},
		{gb / 4, 16 * gb, gb, 100 * gb, "has only 268 MB of memory left: use fewer --jobs"},
		{gb / 4, 4 * gb, gb, 100 * gb, ""},
		{gb, 16 * gb, gb / 5, 100 * gb, "the disk is full"},
		{gb, 16 * gb, gb / 5, 10 * gb, ""},
		{1 << 62, 0, 0, 0, ""}, // neither is known
	} {
		s := short(c.memory, c.memoryTotal, c.disk, c.diskTotal)
		if c.says == "" && s != nil || c.says != "" && (s == nil || !strings.Contains(s.Error(), c.says) || s.own) {
			t.Errorf("%+v: %v", c, s)
		}
	}
	if left, total := availableMemory(); left <= 0 || left > total {
		t.Errorf("of %d bytes %d are available", total, left)
	}
}

// The machine's memory or disk runs short during a build: nothing is said of the
// commit, and what it wrote is gone.
func TestStoppedForTheMachine(t *testing.T) {
	needSandbox(t)
	b, src := builder(t, true, goodBuild+"sleep 20")
	if err := os.Mkdir(b.Objects, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=8m", "kbisect", b.Objects).CombinedOutput(); err != nil {
		t.Skipf("no mount here: %v: %s", err, out)
	}
	defer func() { _ = exec.Command("umount", "-l", b.Objects).Run() }()
	src.write("build.sh", goodBuild+"head -c 8380k /dev/zero > $obj/fill; sleep 20\n")
	if got, err := b.Build(t.Context(), src.commit()); err == nil || !strings.Contains(err.Error(), "the disk is full: free some space under "+b.Owner) {
		t.Errorf("%+v, %v", got, err)
	}
	noEntry(t, b, src)
	if left, _ := os.ReadDir(b.Objects); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// What cannot be looked at has no limits: it does not go on.
func TestGuardThatSeesNothing(t *testing.T) {
	b, _ := builder(t, false, "")
	if err := os.Mkdir(b.Objects, 0o755); err != nil {
		t.Fatal(err)
	}
	g := &guard{b: b, init: os.Getpid(), since: time.Now()} // no sandbox: it sees what we see
	if err := g.look(); err != nil || g.proc != nil {
		t.Errorf("at first: %v", err)
	}
	g.since = g.since.Add(-unseen)
	if err := g.look(); err == nil || !strings.Contains(err.Error(), "cannot be looked at") {
		t.Errorf("later: %v", err)
	}
}

// Nobody reads what a build has left before its last process has ended.
func TestGuardWaitsForTheEnd(t *testing.T) {
	needSandbox(t)
	b, _ := builder(t, true, "")
	if err := os.Mkdir(b.Objects, 0o755); err != nil {
		t.Fatal(err)
	}
	name, args, env := b.wrap(nil, []string{"sleep", "100"})
	start := func() (*exec.Cmd, *guard) {
		cmd := leash.Command(t.Context(), b.Owner, env, name, args...)
		g, err := b.begin(cmd, func(err error) { t.Error(err) })
		if err != nil {
			t.Fatal(err)
		}
		return cmd, g
	}
	cmd, g := start()
	if err := g.end(50 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "did not end within 50ms") {
		t.Errorf("it sleeps: %v", err)
	}
	_ = cmd.Cancel()
	_ = cmd.Wait()
	cmd, g = start()
	_ = cmd.Cancel()
	_ = cmd.Wait()
	if err := g.end(10 * time.Second); err != nil {
		t.Errorf("it was killed: %v", err)
	}
	waitGone(t, b.Owner)
}

func TestParseStat(t *testing.T) {
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	if p := parseStat(text); p.threads < 2 || p.pages < 100 {
		t.Errorf("%+v of %s", p, text)
	}
	const line = "7 (a) b) 1 R) S 1 2 3 4 5 6 7 8 9 10 1100 1200 13 14 15 16 42 18 19 20 99 22 23"
	if p := parseStat([]byte(line)); p != (stat{42, 99, 2300}) {
		t.Errorf("%+v", p)
	}
	for _, odd := range []string{"", "x", "1 (a) S", ")"} {
		if p := parseStat([]byte(odd)); p != (stat{}) {
			t.Errorf("%q: %+v", odd, p)
		}
	}
}

// What a guard counts is what is there: the tree and ccache, no links.
func TestStored(t *testing.T) {
	b, _ := builder(t, true, "")
	for _, name := range []string{b.Objects + "/a/b/x", b.ccacheDir() + "/y"} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, make([]byte, 1<<20), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/usr", b.Objects+"/usr"); err != nil {
		t.Fatal(err)
	}
	if disk, files := b.stored(100); disk < 2<<20 || disk > 3<<20 || files != 7 {
		t.Errorf("%d bytes in %d files", disk, files)
	}
	if _, files := b.stored(3); files < 4 || files > 5 {
		t.Errorf("it goes on after 3: %d", files)
	}
}
