package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// peer is what a kernel developer has without us: a worktree, an object tree,
// scripts, and a guest that boots for every run.
type peer struct {
	dir    string // is put back for each measurement, and holds src and obj
	src    string
	obj    string
	made   string // what is made anew each time: the script, the guest and results
	initrd string
	ccache bool // that of the distribution, with the objects of the base
}

// step is the script of `git bisect run`: an incremental build, and as many
// boots as asked for, until one fails. Exit status 125 is "cannot test".
const step = `#!/bin/sh
# usage: step SOURCE OBJECTS RUNS TEST...
# All tests run in one boot, or with APART=1 each in one of its own, once.
src=$1 obj=$2 runs=$3
shift 3
boot() {
	said=$(%s -kernel "$obj/arch/x86/boot/bzImage" -append "console=ttyS0 quiet panic=-1 reboot=t random.trust_cpu=on tsc=reliable %s tests=$1" </dev/null | tr -d '\r')
	[ -z "$TABLE" ] || echo "$said" | grep '^RESULT' >>"$TABLE"
}
make -s -C "$src" O="$obj" -j"$(nproc)" ARCH=x86_64 LOCALVERSION= KBUILD_BUILD_VERSION=1 bzImage >"$obj.log" 2>&1 || exit 125
if [ -n "$APART" ]; then
	for t; do boot "$t"; done
	exit 0
fi
tries=3
while [ "$runs" -gt 0 ]; do
	boot "$(echo "$@" | tr ' ' ,)"
	case $said in
	*"ALL DONE"*) ;;
	*) exit 1 ;; # it crashed, or hangs
	esac
	case $said in *"RESULT 1"*) exit 1 ;; esac
	# One test alone that skips says nothing.
	if [ $# = 1 ] && case $said in *"RESULT 4"*) true ;; *) false ;; esac then
		tries=$((tries - 1))
		[ $tries -gt 0 ] && continue
		exit 125
	fi
	runs=$((runs - 1))
done
exit 0
`

// guestInit runs the tests that the command line names, one after another.
const guestInit = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t tmpfs none /tmp
mount -t debugfs none /sys/kernel/debug
echo madvise >/sys/kernel/mm/transparent_hugepage/enabled
echo lzo-rle >/sys/block/zram0/comp_algorithm
echo 128M >/sys/block/zram0/disksize && mkswap /dev/zram0 >/dev/null && swapon /dev/zram0
tests=$(sed 's/.*tests=//; s/ .*//; s/,/ /g' /proc/cmdline)
for t in $tests; do
	case $t in
	flaky) sh /flaky.sh >/dev/null 2>&1 ;;
	*) /bin/repro "$t" >/dev/null 2>&1 ;;
	esac
	echo "RESULT $? $t"
done
echo ALL DONE
reboot -f
`

// machine is the guest of our profile cow.
const (
	machine  = "timeout 120 qemu-system-x86_64 -M microvm,acpi=off,pit=on,pic=on,rtc=on,isa-serial=on -accel tcg -cpu max,-erms -smp 2 -m 512M -nodefaults -no-user-config -display none -no-reboot -serial stdio -initrd %s"
	machines = "hugepages=8 secretmem.enable=1"
)

// newPeer makes the guest and the script; the object tree has the configuration.
func newPeer(dir, repo, base, config string) (*peer, error) {
	p := &peer{dir: dir, src: filepath.Join(dir, "src"), obj: filepath.Join(dir, "obj"), made: dir + ".made"}
	p.initrd = filepath.Join(p.made, "initrd")
	root := filepath.Join(p.made, "root")
	for _, d := range []string{"bin", "proc", "sys", "dev", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return nil, err
		}
	}
	busybox, err := output("", nil, "sh", "-c", "command -v busybox")
	if err != nil {
		return nil, err
	}
	for from, to := range map[string]string{busybox: "bin/busybox", "bin/repro": "bin/repro", "tests/programs/flaky.sh": "flaky.sh"} {
		text, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(root, to), text, 0o755); err != nil {
			return nil, err
		}
	}
	for name, text := range map[string]string{filepath.Join(root, "init"): guestInit, p.script(): fmt.Sprintf(step, fmt.Sprintf(machine, p.initrd), machines)} {
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			return nil, err
		}
	}
	if _, err := output(root, nil, "sh", "-c", "mknod dev/console c 5 1 2>/dev/null; find . | cpio --quiet -o -H newc > "+p.initrd); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(p.obj, 0o755); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(config)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(p.obj, ".config"), text, 0o644); err != nil {
		return nil, err
	}
	if _, err := os.Stat(p.src); err == nil {
		return p, nil
	}
	_, err = output("", nil, "git", "clone", "-q", "--shared", "--no-checkout", repo, p.src)
	return p, err
}

func (p *peer) script() string { return filepath.Join(p.made, "step") }

func (p *peer) env() []string {
	if !p.ccache {
		return nil
	}
	return []string{"CCACHE_DIR=" + filepath.Join(p.dir, "ccache"), "CCACHE_DEPEND=1", "PATH=/usr/lib/ccache:" + os.Getenv("PATH")}
}

// build makes the kernel of a commit, and nothing else.
func (p *peer) build(rev string) error {
	if _, err := output(p.src, nil, "git", "checkout", "-q", "-f", "--detach", rev); err != nil {
		return err
	}
	_, _, err := run("", p.env(), p.script(), p.src, p.obj, "0")
	return err
}

// bisect is `git bisect run`, after the script was tried on both ends: it is
// worth nothing unless it fails on one and passes on the other. git does not do
// that, so that ends has what it costs.
func (p *peer) bisect(s series, runs int, test string) (found string, ends, all spent, err error) {
	// The good end first: its objects are there.
	try := fmt.Sprintf("git checkout -q -f --detach %s && %s %s %s %d %s && git checkout -q -f --detach %s && ! %s %s %s %d %s",
		s.base, p.script(), p.src, p.obj, runs, test, s.head, p.script(), p.src, p.obj, runs, test)
	if _, ends, err = run(p.src, p.env(), "sh", "-ec", try); err != nil {
		return "", ends, all, err
	}
	if ends.status != 0 {
		say("%s: the peer's ends do not differ in %d runs; it goes on", s.name, runs)
	}
	if _, err = output(p.src, nil, "git", "bisect", "start", s.head, s.base); err != nil {
		return "", ends, all, err
	}
	out, search, err := run(p.src, p.env(), "git", "bisect", "run", p.script(), p.src, p.obj, fmt.Sprint(runs), test)
	if err != nil {
		return "", ends, all, err
	}
	all = spent{Seconds: ends.Seconds + search.Seconds, CPU: ends.CPU + search.CPU}
	for l := range strings.Lines(string(out)) {
		if sha, rest, ok := strings.Cut(l, " "); ok && strings.HasPrefix(rest, "is the first bad commit") {
			found = sha
		}
	}
	_, err = output(p.src, nil, "git", "bisect", "reset")
	return found, ends, all, err
}

// loop builds and tests every commit of a series: one boot for all its tests, or
// one for each.
func (p *peer) loop(s series, tests []string, apart bool) (spent, string, error) {
	table := filepath.Join(p.made, fmt.Sprintf("results-apart-%v", apart))
	_ = os.RemoveAll(table)
	if err := os.MkdirAll(table, 0o755); err != nil {
		return spent{}, "", err
	}
	each := fmt.Sprintf(`for c in %s $(git rev-list --reverse %s..%s); do git checkout -q -f --detach $c; TABLE=%s/$c %s %s %s 1 %s || :; done`,
		s.base, s.base, s.head, table, p.script(), p.src, p.obj, strings.Join(tests, " "))
	env := p.env()
	if apart {
		env = append(env, "APART=1")
	}
	_, cost, err := run(p.src, env, "sh", "-c", each)
	return cost, table, err
}
