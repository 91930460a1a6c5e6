//go:build e2e

package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/qemu"
	"github.com/kernel-bisect/kbisect/internal/settings"
	"github.com/kernel-bisect/kbisect/kconfigs"
	"github.com/kernel-bisect/kbisect/vmimage"
)

// programIn writes files below a directory called name: what starts with #! is
// executable.
func programIn(t *testing.T, name string, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for n, text := range files {
		mode := fs.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		if err := os.WriteFile(filepath.Join(dir, n), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A directory of programs: each in guests of its own, with its settings, and
// each of their tests with its verdict. One crashes in the middle.
func TestDirectoryOfPrograms(t *testing.T) {
	dir := programIn(t, "mine", map[string]string{
		"several":  "#!/bin/sh\ncat /user/plan\necho ok 1 $1 $COLOUR\necho '# [RUN] second'\necho 'not ok 2 it leaks'\necho '# [RUN] third'\necho 'ok 3 # SKIP no swap'\nexit 1\n",
		"crashes":  "#!/bin/sh\necho TAP version 13; echo 1..4; echo ok 1 before; echo '# [RUN] fatal'; sleep 1; echo c > /proc/sysrq-trigger; sleep 9\n",
		"wants":    "#!/bin/sh\nexit 1\n",
		"huge":     "#!/bin/sh\ngrep -q 'HugePages_Total: *3' /proc/meminfo && grep -q 'MemTotal: *7' /proc/meminfo\n",
		"plan":     "TAP version 13\n1..3\n",
		"source.c": "this is not for the guest",
		"kbisect.yaml": "cmdline: hugepages=3\nmemory: 768M\nenv: {COLOUR: red}\nprograms:\n" +
			"  several: {args: [first]}\n  crashes:\n  wants: {needs: [gup_benchmark]}\n  huge: {needs: [hugetlb, swap]}\n",
	})
	res := decode[kernel.CheckResult](t, 1, "check", "--repo", seriesRepo, "--rev", "longterm", "--program", dir)
	got := verdicts(res.Tests)
	for name, want := range map[string]kernel.Verdict{
		"program/mine/several/first red": kernel.Good, "program/mine/several/second": kernel.Bad, "program/mine/several/third": kernel.Skipped,
		"program/mine/crashes": kernel.Bad, "program/mine/crashes/before": kernel.Good, "program/mine/crashes/fatal": kernel.Bad,
		"program/mine/wants": kernel.Skipped, "program/mine/huge": kernel.Good,
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %s", name, got[name], want)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("and also: %v", got)
	}
	for _, tr := range res.Tests {
		switch tr.Name {
		case "program/mine/crashes":
			if tr.Signature.Kind != "crash" || !strings.HasSuffix(tr.Reason, "; 2 of 4 tests not run") || tr.Console == "" {
				t.Errorf("%+v, %s", tr.Signature, tr.Reason)
			}
		case "program/mine/wants":
			if tr.Reason != "the guest has no gup_benchmark" {
				t.Errorf("%s", tr.Reason)
			}
		}
	}
	waitNone(t)
}

// A program, a script and a test of the catalogue run side by side, in a guest
// that suits all. Warnings of the compiler are shown, and do not stand in the way
// of JSON.
func TestProgramBesideScriptAndTest(t *testing.T) {
	dir := programIn(t, "c", map[string]string{
		"w.c":          "int main(int argc, char **argv) { int unused; return argv[0][0] != '/'; }\n",
		"w.yaml":       "cmdline: hugepages=3\nmemory: 256M\n",
		"huge.sh":      "grep -q 'HugePages_Total: *3' /proc/meminfo && grep -q 'MemTotal: *6' /proc/meminfo && test -x /user/w\n",
		"huge.sh.yaml": "memory: 640M\n",
		"fails.sh":     "exit 1\n",
	})
	r := run(t, "check", "--repo", seriesRepo, "--rev", "longterm", "--format", "json", "--test", "cow/fork-basic/base",
		"--program", filepath.Join(dir, "w.c"), "--script", filepath.Join(dir, "huge.sh"), "--script", filepath.Join(dir, "fails.sh"))
	if r.status != 1 || !strings.Contains(r.stderr, "unused variable") || !strings.Contains(r.stderr, "unused parameter") {
		t.Fatalf("status %d\n%s", r.status, r.stderr)
	}
	var res kernel.CheckResult
	if err := json.Unmarshal([]byte(r.stdout), &res); err != nil {
		t.Fatalf("%v\n%s", err, r.stdout)
	}
	want := map[string]kernel.Verdict{
		"cow/fork-basic/base": kernel.Good, "program/w": kernel.Good, "script/huge.sh": kernel.Good, "script/fails.sh": kernel.Bad,
	}
	if got := verdicts(res.Tests); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

var selftestOn = flag.String("selftest-on", "6.1", "kernel `versions` for TestKernelsOwnCowSelftest, separated by spaces; make versions asks for all")

// The kernel's own mm/cow runs through kbisect to its last line, and every
// result counts as it does without kbisect.
func TestKernelsOwnCowSelftest(t *testing.T) {
	cmd := exec.Command("./get-cow-selftest")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	switch {
	case err != nil && os.Getenv("KBISECT_LINUX") != "": // not on Debian
		t.Skipf("no cow selftest here: %s", said.String())
	case err != nil:
		t.Fatalf("tests/get-cow-selftest: %v\n%s", err, said.String())
	}
	program := strings.TrimSpace(string(out))
	for _, version := range strings.Fields(*selftestOn) {
		t.Run(version, func(t *testing.T) {
			repo, rev := seriesRepo, "base" // of 6.1; built for other tests as well
			if version != "6.1" {
				repo, rev = linux(t, version), "HEAD"
			}
			cowSelftest(t, program, version+".", "--repo", repo, "--rev", rev)
		})
	}
	waitNone(t)
}

// linux is a repository with the source of a kernel version.
func linux(t *testing.T, version string) string {
	cmd := exec.Command("./get-linux", version)
	cmd.Env = append(os.Environ(), "KBISECT_LINUX=") // which is one version
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tests/get-linux %s: %v", version, err)
	}
	return strings.TrimSpace(string(out))
}

func cowSelftest(t *testing.T, program, release string, subject ...string) {
	res := decode[kernel.CheckResult](t, 0, append([]string{"check", "--program", program, "--runs", "1"}, subject...)...)
	if !strings.HasPrefix(res.Kernel.Release, release) {
		t.Errorf("the kernel is %s", res.Kernel.Release)
	}
	got := map[string]int{}
	for _, tr := range res.Tests {
		switch name := strings.TrimPrefix(tr.Name, "program/cow/"); {
		case name == tr.Name || strings.Contains(name, "No leak") || !strings.Contains(name, " "):
			t.Errorf("a verdict text as a name: %s", tr.Name)
		case tr.Verdict == kernel.Skipped:
			got["skip"]++
		case tr.Verdict == kernel.Good && strings.HasPrefix(tr.Reason, "expected failure"):
			got["xfail"]++
		case tr.Verdict == kernel.Good:
			got["pass"]++
		default:
			got["fail"]++
			t.Errorf("%s is %s: %s", tr.Name, tr.Verdict, tr.Reason)
		}
	}
	total := directRun(t, res.Kernel.Image, res.Host.Accelerator, program)
	t.Logf("%s: %d tests in %.0f s, boot included: %v", res.Kernel.Release, len(res.Tests), res.Seconds, got)
	if got["skip"] != total["skip"] || got["xfail"] != total["xfail"] || got["pass"] != total["pass"] || got["fail"] != total["fail"]+total["error"]+total["xpass"] || got["pass"] == 0 {
		t.Errorf("through kbisect %v, without it %v", got, total)
	}
}

const directMark = "direct run: exit status "

// directInit does what is needed to run a program in a guest, and nothing else.
const directInit = `#!/bin/busybox sh
export PATH=/bin
alias b=/bin/busybox
b mount -t proc proc /proc; b mount -t sysfs sysfs /sys; b mount -t devtmpfs devtmpfs /dev
b mount -t tmpfs tmpfs /tmp; b mount -t debugfs debugfs /sys/kernel/debug
b echo 128M > /sys/block/zram0/disksize; b mkswap /dev/zram0 >/dev/null; b swapon /dev/zram0
cd /tmp
/user/cow </dev/null
b echo "` + directMark + `$?"
b sleep 1000
`

var totals = regexp.MustCompile(`(?m)^# Totals: (.*?)\r?$`)

// directRun runs the selftest in a guest without agent, protocol, snapshot or
// parser of ours, and returns what it counted itself.
func directRun(t *testing.T, image, accel, program string) map[string]int {
	t.Helper()
	file := func(name string) []byte {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	initrd, err := vmimage.Pack([]byte(directInit), nil)
	if err != nil {
		t.Fatal(err)
	}
	shell, err := vmimage.PackShell(file(busybox))
	if err != nil {
		t.Fatal(err)
	}
	if initrd, err = vmimage.Append(vmimage.Join(initrd, shell), []vmimage.File{{Name: "cow", Data: file(program)}}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "direct.cpio")
	if err := os.WriteFile(path, initrd, 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := settings.ParseFile(file(program + ".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	binary, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	vm, err := qemu.Start(t.Context(), qemu.Options{Owner: home, Binary: binary, Accel: accel, Machine: s.On(kconfigs.Profiles()[0].Machine), Kernel: image, Initrd: path,
		Append: "loglevel=0"}) // the kernel must not talk into the middle of a line
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Kill()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Minute, errors.New("no end of the direct run"))
	defer cancel()
	ended := vm.Console.WaitFor(ctx, directMark)
	log := vm.Console.Bytes()
	m := totals.FindSubmatch(log)
	if !ended || m == nil {
		t.Fatalf("the direct run did not come to its last line; the machine: %+v\n%s", vm.End(), log[max(0, len(log)-2000):])
	}
	count := map[string]int{}
	for _, field := range strings.Fields(string(m[1])) { // pass:92 fail:0 …
		name, n, _ := strings.Cut(field, ":")
		if count[name], err = strconv.Atoi(n); err != nil {
			t.Fatalf("%q", m[1])
		}
	}
	return count
}
