package app

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/kernel-bisect/kbisect/internal/kbuild"
	"github.com/kernel-bisect/kbisect/internal/qemu"
	"github.com/kernel-bisect/kbisect/vmimage"
)

// finding is one thing that doctor looked at.
type finding struct {
	What   string `json:"what"`
	OK     bool   `json:"ok"`
	Seen   string `json:"seen"`             // measured
	Remedy string `json:"remedy,omitempty"` // what to do about it
	Needed bool   `json:"needed"`           // nothing works without it
	Caches []sum  `json:"caches,omitempty"` // what could be made again, the most first
}

func newDoctor(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Tell what works on this machine, measured, and what is missing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			found, err := o.examine(cmd.Context())
			if err != nil {
				return err
			}
			if err := o.printFindings(found); err != nil {
				return err
			}
			for _, f := range found {
				if f.Needed && !f.OK {
					return statusError(exitInfra)
				}
			}
			return nil
		},
	}
}

// packages are the commands that a build or a guest needs and their Debian packages.
var packages = []struct{ command, pkg string }{
	{"git", "git"}, {"make", "make"}, {"gcc", "gcc"}, {"ld", "binutils"}, {"flex", "flex"}, {"bison", "bison"},
	{"bc", "bc"}, {"cpio", "cpio"}, {"xz", "xz-utils"}, {qemuBinary, "qemu-system-x86"}, {"bwrap", "bubblewrap"},
}

func (o *options) examine(ctx context.Context) ([]finding, error) {
	data, cache, err := o.dirs()
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, p := range packages {
		if _, err := exec.LookPath(p.command); err != nil {
			missing = append(missing, p.pkg)
		}
	}
	tools := finding{What: "tools", Needed: true, OK: len(missing) == 0, Seen: fmt.Sprintf("all %d found", len(packages))}
	if !tools.OK {
		tools.Seen = "missing: " + strings.Join(missing, " ")
		tools.Remedy = "apt-get install " + strings.Join(missing, " ") + "   (or deploy/install-deps)"
	}
	found := []finding{
		{What: "machine", OK: true, Seen: fmt.Sprintf("%d CPUs, %s of memory", runtime.NumCPU(), memory())},
		tools,
		{What: "compiler", OK: kbuild.Compiler(ctx) != "", Seen: kbuild.Compiler(ctx), Needed: true, Remedy: "deploy/install-deps"},
		sandbox(ctx), buildLimits(),
		ccache(),
		guestFinding(),
	}
	found = append(found, accelerators(ctx, data, cache)...)
	return append(found, space("data directory", data), space("cache directory", cache), caches(cache), cacheLimits()), ctx.Err()
}

// caches says what could be made again.
func caches(dir string) finding {
	f := finding{What: "caches", OK: true, Seen: "empty"}
	if _, err := os.Stat(dir); err != nil {
		return f
	}
	items, err := (&workspace{cache: dir}).cached(false) // a job may be at work
	if err != nil {
		f.OK, f.Seen = false, err.Error()
		return f
	}
	var parts []string
	for _, s := range sums(items) {
		f.Caches = append(f.Caches, s)
		parts = append(parts, fmt.Sprintf("%s %d (%s)", s.What, s.Count, size(s.Bytes)))
	}
	if len(parts) > 0 {
		f.Seen = strings.Join(parts, ", ")
	}
	return f
}

// cacheLimits says what is kept of that.
func cacheLimits() finding {
	return finding{What: "cache limits", OK: true, Seen: fmt.Sprintf(
		"kernels %s, trees and ccache %s, guest images %d days; `orchestrator clean --max SIZE` deletes more, what was used longest ago first",
		size(maxKernels), size(maxTrees), int(keepImages.Hours()/24))}
}

func sandbox(ctx context.Context) finding {
	f := finding{What: "build sandbox", OK: true, Seen: "bubblewrap works: no network, read-only system, private /tmp", Needed: true}
	if err := kbuild.CheckSandbox(ctx); err != nil {
		f.OK, f.Seen = false, err.Error()
		f.Remedy = "install bubblewrap and allow user namespaces; --no-sandbox for sources you trust"
	}
	return f
}

// buildLimits says what keeps a build to its memory and processes. That there is no
// control group is no reason to do anything, on most machines.
func buildLimits() finding {
	f := finding{What: "build limits", OK: true, Seen: "by control groups, and watched"}
	if err := kbuild.ControlGroups(); err != nil {
		f.Seen = "watched; no control groups: " + err.Error()
	}
	return f
}

func ccache() finding {
	if dir := kbuild.Ccache(); dir != "" {
		return finding{What: "ccache", OK: true, Seen: "used, from " + dir}
	}
	return finding{What: "ccache", Seen: "not installed: a whole build takes some five times as long as with it", Remedy: "deploy/install-deps"}
}

func guestFinding() finding {
	f := finding{What: "guest image", OK: true, Needed: true}
	tests, err := vmimage.Tests()
	if err != nil {
		f.OK, f.Seen, f.Remedy = false, err.Error(), "make build"
		return f
	}
	image, err := vmimage.Image()
	if err != nil {
		f.OK, f.Seen = false, err.Error()
		return f
	}
	f.Seen = fmt.Sprintf("embedded, %.1f MB, %d tests", float64(len(image))/1e6, len(tests))
	return f
}

// accelerators measures each one anew, for the jobs to come too.
func accelerators(ctx context.Context, data, cache string) []finding {
	path, err := exec.LookPath(qemuBinary)
	if err != nil {
		return []finding{{What: "accelerator", Seen: "no " + qemuBinary, Needed: true, Remedy: "deploy/install-deps"}}
	}
	cell := qemu.NewCell()
	c, err := qemu.ChooseAccel(ctx, cell, data, path, filepath.Join(cache, "accel.json"), true)
	found := []finding{{What: "QEMU", OK: c.QEMU != "", Seen: c.QEMU, Needed: true}, guestSandbox(cell)}
	for _, t := range c.Trials {
		f := finding{What: "accelerator " + t.Accel, OK: t.Error == "", Seen: fmt.Sprintf("probe guest done in %.2f s", t.Seconds)}
		switch {
		case t.Error != "":
			f.Seen = "not usable: " + t.Error
		case t.Accel == c.Accel:
			f.Seen += ", chosen"
		}
		found = append(found, f)
	}
	if err != nil {
		found = append(found, finding{What: "accelerator", Seen: err.Error(), Needed: true})
	}
	return found
}

// guestSandbox says what keeps a guest that breaks out of QEMU. Without, guests run
// all the same: QEMU's own filter is there in any case.
func guestSandbox(c *qemu.Cell) finding {
	f := finding{What: "guest sandbox", OK: len(c.Lacks) == 0, Seen: c.String()}
	if !f.OK {
		f.Seen += "; " + strings.Join(c.Lacks, "; ")
		f.Remedy = "test kernels that you do not trust on a machine, or in a container, of their own"
	}
	return f
}

// freeWanted is what a source checkout (1.5 GB), an object tree (0.5 GB) and a
// few hundred kernels take.
const freeWanted = 5 << 30

func space(what, dir string) finding {
	at := dir
	for at != "/" {
		if _, err := os.Stat(at); err == nil {
			break
		}
		at = filepath.Dir(at)
	}
	f := finding{What: what, Seen: dir}
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil {
		f.Seen += ": " + err.Error()
		return f
	}
	free := int64(st.Bavail) * st.Bsize
	f.Seen += fmt.Sprintf(", %.1f GB free", float64(free)/1e9)
	if f.OK = free >= freeWanted; !f.OK {
		f.Remedy = "sources and object trees take about 3 GB: use --data-dir or $KBISECT_HOME on a larger disk"
	}
	return f
}

func memory() string {
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%.1f GB", float64(si.Totalram)*float64(si.Unit)/1e9)
}

func (o *options) printFindings(found []finding) error {
	if o.format == "json" {
		return o.printJSON(map[string]any{"schema": "kbisect/doctor/v1", "findings": found})
	}
	return o.print(func(w io.Writer) error {
		for _, f := range found {
			sign := "ok  "
			switch {
			case !f.OK && f.Needed:
				sign = "MISS"
			case !f.OK:
				sign = "-   "
			}
			fmt.Fprintf(w, "%s  %-16s  %s\n", sign, f.What, oneLine(f.Seen))
			if f.Remedy != "" && !f.OK {
				fmt.Fprintf(w, "      %-16s  -> %s\n", "", f.Remedy)
			}
		}
		return nil
	})
}
