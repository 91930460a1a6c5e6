package qemu

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// lookAround is the name under which this test binary tells what cell it can make.
const lookAround = "look-around"

// A container may forbid any of it. The rest is used, and what is missing is told.
func TestCellWithout(t *testing.T) {
	complete := NewCell()
	if len(complete.Lacks) > 0 {
		t.Skipf("not on this machine: %q", complete.Lacks)
	}
	for _, c := range []struct {
		name    string
		refused uint32
		lack    string
		seen    string // what String leaves out
	}{
		{"no Landlock", unix.SYS_LANDLOCK_CREATE_RULESET, "no Landlock", ", no files but its own (Landlock)"},
		{"no filter", unix.SYS_SECCOMP, "no seccomp filter", ", no network (seccomp)"},
		{"no other user", unix.SYS_SETUID, "QEMU stays root", ", user 65534"},
		{"all", unix.SYS_SWAPON, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.refused == unix.SYS_SETUID && os.Getuid() != 0 {
				t.Skip("only root becomes another user")
			}
			cmd := exec.Command("/proc/self/exe")
			cmd.Args[0] = lookAround
			out := make(chan []byte)
			go func() {
				defer close(out)
				runtime.LockOSThread() // what starts from here may not do it, either
				if err := (&Cell{}).enter(nil); err != nil {
					t.Error(err)
				}
				if err := refuse([]uint32{c.refused}); err != nil {
					t.Error(err)
				}
				b, err := cmd.Output()
				if err != nil {
					t.Error(err)
				}
				out <- b
			}()
			var got struct {
				Lacks []string
				Seen  string
			}
			if err := json.Unmarshal(<-out, &got); err != nil {
				t.Fatal(err)
			}
			if lacks := strings.Join(got.Lacks, "\n"); len(got.Lacks) > 1 || !strings.Contains(lacks, c.lack) || c.lack == "" && lacks != "" {
				t.Errorf("lacks %q, want %q", got.Lacks, c.lack)
			}
			if want := strings.Replace(complete.String(), c.seen, "", 1); got.Seen != want {
				t.Errorf("%q, want %q", got.Seen, want)
			}
		})
	}
}

func tellCell() {
	c := NewCell()
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"Lacks": c.Lacks, "Seen": c.String()})
}

// What QEMU may take is bounded, by what its machine has.
func TestBound(t *testing.T) {
	cell := NewCell()
	if len(cell.Lacks) > 0 {
		t.Skipf("not on this machine: %q", cell.Lacks)
	}
	cmd := exec.Command("sh", "-c", "ulimit -v; ulimit -f; ulimit -c")
	var out bytes.Buffer
	cmd.Stdout = &out
	gone := make(chan struct{})
	defer close(gone)
	cell.bound(cmd, kernel.Machine{CPUs: 2, MemoryMiB: 512})
	if err := cell.start(cmd, gone); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	// ulimit counts address space in KiB, files in blocks of 512 bytes.
	if want := fmt.Sprintf("%d\n%d\n0\n", (512<<20+ownMemory+2*cpuMemory)>>10, 512<<20/512); out.String() != want {
		t.Errorf("limits %q, want %q", out.String(), want)
	}
}

// BenchmarkCell is what a cell costs a process that does nothing.
func BenchmarkCell(b *testing.B) {
	for name, cell := range map[string]*Cell{"none": nil, "all": NewCell()} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				cmd, gone := exec.Command("/bin/true"), make(chan struct{})
				if err := cell.start(cmd, gone); err != nil {
					b.Fatal(err)
				}
				if err := cmd.Wait(); err != nil {
					b.Fatal(err)
				}
				close(gone)
			}
		})
	}
}
