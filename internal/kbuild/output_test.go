package kbuild

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Objects are what progress and the price of a build are counted in.
func TestObjectsAreCounted(t *testing.T) {
	b, src := builder(t, false, goodBuild+`echo "  CC      init/main.o"
echo "  CC [M]  fs/ext4.o"
echo "  AS      arch/x86/entry.o"
echo "  AS [M]  arch/x86/lib.o"
echo "  HOSTCC  scripts/fixdep"
echo "  CCLD    x"
echo "  LD      vmlinux"
echo "CC not.o"
`)
	var counts []int
	b.Progress = func(p Progress) {
		if p.Phase == "compile" {
			counts = append(counts, p.Objects)
		}
	}
	if got := build(t, b, src); got.Objects != 4 {
		t.Errorf("%d objects, want 4", got.Objects)
	}
	if !slices.Equal(counts, []int{1, 2, 3, 4}) {
		t.Errorf("progress: %v", counts)
	}
}

// A patch may print what it likes.
func TestHostileOutput(t *testing.T) {
	both(t, func(t *testing.T, sandbox bool) {
		noise := `head -c 300000 /dev/zero | tr '\0' x
head -c 1000 /dev/zero
printf '\377\033[2J error: \033]0;title\007\n'
printf 'no newline at the end'
`
		b, src := builder(t, sandbox, goodBuild+noise)
		got := build(t, b, src)
		if got.Status != kernel.BuildOK {
			t.Errorf("%+v", got)
		}
		if log := read(t, got.Log); len(log) < 301_000 || !strings.Contains(log, "no newline at the end") {
			t.Errorf("a log of %d bytes", len(log))
		}
		src.write("build.sh", noise+`echo; echo "mm/a.c:1:1: error: $(head -c 300000 /dev/zero | tr '\0' y)"; exit 1`)
		got = build(t, b, src)
		if got.Status != kernel.BuildFailed || !strings.HasPrefix(got.Error, "mm/a.c:1:1: error: yyy") {
			t.Errorf("%s: %.100q", got.Status, got.Error)
		}
		if len(got.Error) > 2000 {
			t.Errorf("an error of %d bytes, for one line of a table", len(got.Error))
		}
	})
}

// A Makefile can print for ever; the disk is finite.
func TestLogIsBounded(t *testing.T) {
	b, _ := builder(t, false, goodBuild)
	m, err := b.newMake(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	m.logged = maxLog - 10
	line := []byte(strings.Repeat("x", 99) + "\n")
	for range 1000 {
		if err := m.keep(line); err != nil {
			t.Fatal(err)
		}
	}
	log, err := m.logText()
	if err != nil || len(log) > 300 || !strings.Contains(string(log), "dropped") {
		t.Errorf("a log of %d bytes (%v): %.300s", len(log), err, log)
	}
	// What comes after it still counts.
	_ = m.keep([]byte("  CC      a.o\n"))
	_ = m.keep([]byte("a.c:1:1: error: late\n"))
	if m.objects != 1 || m.firstError() != "a.c:1:1: error: late" {
		t.Errorf("%d objects, %q", m.objects, m.firstError())
	}
	for range 10 * maxErrors {
		_ = m.keep([]byte("error\n"))
	}
	if len(m.errors) > maxErrors {
		t.Errorf("%d lines kept", len(m.errors))
	}
}

// Nor does it keep us busy with whose fault it is: what comes late is still logged
// and counted, and not judged.
func TestJudgedLinesAreBounded(t *testing.T) {
	for _, c := range []struct {
		lines int
		want  string
	}{{maxSuspects - 1, noMemory}, {maxSuspects, ""}} {
		b, _ := builder(t, false, goodBuild)
		m, err := b.newMake(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for range c.lines {
			_ = m.keep([]byte("error\n"))
			_ = m.keep([]byte("  LD      a.o\n")) // no suspect
		}
		_ = m.keep([]byte("make: *** [Makefile:3: a.o] Killed\n"))
		_ = m.keep([]byte("  CC      a.o\n"))
		if why := m.signs.why(); !strings.HasSuffix(why, c.want) || (why == "") != (c.want == "") || m.objects != 1 {
			t.Errorf("after %d lines: %q, %d objects", c.lines, why, m.objects)
		}
		log, err := m.logText()
		if err != nil || !strings.HasSuffix(string(log), "Killed\n  CC      a.o\n") {
			t.Errorf("the log: %v", err)
		}
		m.close()
	}
}

// endless starts a child of its own and says when it is there.
const endless = `sleep 1000 & echo "  CC      a.o"; wait`

func TestCancelKillsMakeAndItsChildren(t *testing.T) {
	both(t, func(t *testing.T, sandbox bool) {
		b, src := builder(t, sandbox, endless)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var over atomic.Bool
		b.Progress = func(p Progress) {
			if over.Load() {
				t.Error("progress after the end")
			}
			if p.Objects > 0 {
				if len(marked(b.Owner)) == 0 {
					t.Error("found no process of the build while it runs: the test tests nothing")
				}
				cancel()
			}
		}
		got, err := b.Build(ctx, src.commit())
		over.Store(true)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%+v, %v: want Canceled", got, err)
		}
		waitGone(t, b.Owner)
		noEntry(t, b, src)
		b.Progress = nil
		src.write("build.sh", goodBuild)
		if got := build(t, b, src); got.Status != kernel.BuildOK {
			t.Errorf("the next build: %+v", got)
		}
	})
}

func TestTimeout(t *testing.T) {
	both(t, func(t *testing.T, sandbox bool) {
		b, src := builder(t, sandbox, endless)
		b.Timeout = 300 * time.Millisecond
		got, err := b.Build(t.Context(), src.commit())
		if err == nil || !strings.Contains(err.Error(), "not through after 300ms") || !strings.Contains(err.Error(), src.commit().Short()) {
			t.Errorf("%+v, %v", got, err)
		}
		waitGone(t, b.Owner)
		noEntry(t, b, src)
	})
}

// A build may leave a process that holds its output open. It must not hold the
// build as well; in the sandbox it does not live on.
func TestDaemonOfABuild(t *testing.T) {
	both(t, func(t *testing.T, sandbox bool) {
		b, src := builder(t, sandbox, goodBuild+"sleep 1000 &\n")
		if got := build(t, b, src); got.Status != kernel.BuildOK {
			t.Errorf("%+v", got)
		}
		waitGone(t, b.Owner)
	})
}

// marked lists the processes that carry the owner's mark (see leash).
func marked(owner string) []string {
	var pids []string
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		environ, _ := os.ReadFile(filepath.Join(d, "environ"))
		if slices.Contains(strings.Split(string(environ), "\x00"), "KBISECT_OWNER="+owner) {
			pids = append(pids, filepath.Base(d))
		}
	}
	return pids
}

func waitGone(t *testing.T, owner string) {
	t.Helper()
	var left []string
	for range 1000 {
		if left = marked(owner); len(left) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("still alive: %v", left)
}

func TestBuildsAreNice(t *testing.T) {
	both(t, func(t *testing.T, sandbox bool) {
		b, src := builder(t, sandbox, goodBuild+"nice\n")
		if log := read(t, build(t, b, src).Log); !strings.Contains(log, "\n10\n") {
			t.Errorf("niceness:\n%s", log)
		}
	})
}
