//go:build e2e

package tests

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Two configurations of the slim kernel differ in ten options, of each of which few
// objects are made. The one that a script fails with is named, though others come and go
// with it; what the guest needs is not in question.
func TestBisectConfig(t *testing.T) {
	base := decode[kernel.CheckResult](t, 0, "check", "--repo", seriesRepo, "--rev", "longterm", "--test", "cow/fork-basic/base")
	text, err := os.ReadFile(base.Kernel.Config)
	if err != nil {
		t.Fatal(err)
	}
	bad := string(text) + "CONFIG_CRAMFS=y\n" // below MISC_FILESYSTEMS, so that it is not in the other
	for _, on := range []string{"PCSPKR_PLATFORM", "DEVMEM", "SYSFS_SYSCALL", "FHANDLE", "TMPFS_XATTR", "MISC_FILESYSTEMS"} {
		bad = strings.Replace(bad, "# CONFIG_"+on+" is not set\n", "CONFIG_"+on+"=y\n", 1)
	}
	for _, off := range []string{"CROSS_MEMORY_ATTACH", "GUP_TEST", "SIGNALFD", "PVH"} {
		bad = strings.Replace(bad, "CONFIG_"+off+"=y\n", "# CONFIG_"+off+" is not set\n", 1)
	}
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	args := []string{"bisect-config", "--repo", seriesRepo, "--rev", "longterm", "--good", file("good.config", string(text)), "--bad", file("bad.config", bad), "--script"}
	res := decode[kernel.ConfigResult](t, 0, append(args, file("one.sh", "[ -e /sys/kernel/debug/gup_test ] || exit 1\n"))...)
	t.Logf("%d configurations, %d builds, %d runs, %.0f s", len(res.Steps), res.Builds, res.Runs, res.Seconds)
	if len(res.Culprits) != 1 || res.Status != kernel.Found || len(res.Options) < 10 {
		t.Fatalf("%s: %+v of %+v", res.Status, res.Culprits, res.Options)
	}
	if c := res.Culprits[0]; c.Symbol != "GUP_TEST" || c.Good != "y" || c.Bad != "n" || c.Without != kernel.Good {
		t.Errorf("%+v", c)
	}
	if len(res.LeftOut) != 1 || res.LeftOut[0].Symbol != "PVH" {
		t.Errorf("left out: %+v", res.LeftOut)
	}
	// What has ended may be taken up again: all of it is there.
	again := run(t, "bisect-config", "--resume", res.ID)
	if again.status != 0 || !strings.HasPrefix(again.stdout, "found: CONFIG_GUP_TEST=n ") || !strings.Contains(again.stdout, ", 0 builds,") {
		t.Errorf("the same again: status %d\n%s%s", again.status, again.stdout, again.stderr)
	}
	if r := decode[kernel.ConfigResult](t, 0, "report", res.ID); r.Schema != "kbisect/bisect-config/v1" || len(r.Culprits) != 1 {
		t.Errorf("the report: %+v", r)
	}
	for _, c := range []struct{ script, want string }{
		// Neither of them alone.
		{"[ -e /sys/kernel/debug/gup_test ] || [ ! -e /dev/mem ] || exit 1\n", "DEVMEM=y GUP_TEST=n"},
		// An option that there is only with another one.
		{"! grep cramfs /proc/filesystems\n", "CRAMFS=y MISC_FILESYSTEMS=y"},
	} {
		res := decode[kernel.ConfigResult](t, 0, append(args, file("several.sh", c.script))...)
		var got []string
		for _, o := range res.Culprits {
			got = append(got, o.Symbol+"="+o.Bad)
		}
		slices.Sort(got)
		if strings.Join(got, " ") != c.want || res.Status != kernel.Found {
			t.Errorf("%s: %s: %+v", c.script, res.Status, res.Culprits)
		}
		t.Logf("%s: %d configurations, %d builds, %.0f s", c.want, len(res.Steps), res.Builds, res.Seconds)
	}
	r := run(t, append(args, file("passes.sh", "exit 0\n"))...)
	if r.status != 3 || !strings.HasPrefix(r.stdout, "not reproduced: the bad end does not fail in 60 runs") {
		t.Errorf("status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
}
