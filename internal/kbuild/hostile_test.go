package kbuild

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// A hostile commit: what its build.sh tries, with what it is stopped, and what is
// to be seen. "BOAST" in its output, or a file that it made outside, is a failure.
// SECURITY.md has the table. What a case could do to this machine if its defence
// were gone is bounded by the case itself.
type hostile struct {
	name   string
	script string
	limits func(*Limits)
	// what the build is, by default BuildOK, and what its error says
	status kernel.BuildStatus
	says   string
	infra  string // instead: what the error says if nothing is known of the commit
	check  func(t *testing.T, h *hostage, got kernel.Build)
}

// hostage is what a hostile build would like to get at.
type hostage struct {
	b      *Builder
	src    *tree
	home   string // the user's, with a secret
	secret string
	port   string // somebody listens there
}

const password = "hunter2"

var hostiles = []hostile{
	{name: "reads the home", script: `cat '{home}'/.ssh/id && echo BOAST; ls -A '{home}' && echo BOAST; cat /root/.ssh/* && echo BOAST; ls /home/* && echo BOAST`},
	{name: "reads what lies beside the trees", script: `cat '{secret}' && echo BOAST; ls $obj/../cache && echo BOAST; ls '{top}' && echo BOAST`},
	{name: "reads accounts and sockets", script: `cat /etc/passwd /etc/shadow && echo BOAST; ls /run/user /var/run /var/lib && echo BOAST; ls /sys/kernel && echo BOAST`},
	{name: "reads secrets of the environment", script: `env; cat /proc/[0-9]*/environ | tr '\0' '\n'`},
	{name: "writes to the sources", script: `echo x >> $src/Makefile && echo BOAST; rm -f $src/absent && echo BOAST; mv $src/scripts $src/x && echo BOAST; ln -s / $src/root && echo BOAST`},
	{name: "writes to the system and the home", script: `touch /usr/kbisect-canary '{home}'/canary '{top}'/canary /etc/kbisect-canary /canary-root; ls /usr/kbisect-canary && echo BOAST`},
	{name: "writes to another slot", script: `d='{top}'/other/obj; mkdir -p "$d" && echo x > "$d/canary"; ls -d /build/* | grep -v -e /src -e /obj -e /ccache -e /submake -e /sums | sed 's/^/BOAST /'`},
	{name: "connects to the network", script: `cat /proc/net/dev | sed -n 's/^ *\([^l ][^ ]*\):.*/BOAST \1/p'
bash -c 'echo x > /dev/tcp/127.0.0.1/{port}' && echo BOAST`},
	{name: "a fork bomb", script: `cat > $obj/bomb <<'B'
[ $1 -gt 0 ] && { sh $0 $(($1-1)) & sh $0 $(($1-1)) & }
sleep 20
B
sh $obj/bomb 10`, limits: func(l *Limits) { l.Processes = 150 },
		status: kernel.BuildFailed, says: "processes and threads at once, and may have 150"},
	{name: "a fork bomb that leaves its parents", script: `i=0; while [ $i -lt 1500 ]; do (setsid sleep 20 &) ; i=$((i+1)); done; sleep 20`,
		limits: func(l *Limits) { l.Processes = 150 }, status: kernel.BuildFailed, says: "processes and threads at once, and may have 150"},
	{name: "allocates all memory", script: `head -c 500M /dev/zero | tail > $obj/tail; sleep 20`, limits: func(l *Limits) { l.Memory = 200e6 },
		status: kernel.BuildFailed, says: "of memory, and may use 200 MB"},
	{name: "fills tmp, which is memory", script: `head -c 300M /dev/zero > /tmp/fill; sleep 20`, limits: func(l *Limits) { l.Memory = 200e6 },
		status: kernel.BuildFailed, says: "of memory, and may use 200 MB"},
	{name: "fills shm, which is memory", script: `head -c 300M /dev/zero > /dev/shm/fill; sleep 20`, limits: func(l *Limits) { l.Memory = 200e6 },
		status: kernel.BuildFailed, says: "of memory, and may use 200 MB"},
	{name: "fills the disk", script: `i=0; while [ $i -lt 60 ]; do head -c 5M /dev/urandom > $obj/fill$i; i=$((i+1)); done; sleep 20`, limits: func(l *Limits) { l.Disk = 64e6 },
		status: kernel.BuildFailed, says: ", and may take 64 MB", check: emptied},
	{name: "fills the disk in ccache's name", script: `i=0; while [ $i -lt 60 ]; do head -c 5M /dev/urandom > /build/ccache/fill$i; i=$((i+1)); done; sleep 20`, limits: func(l *Limits) { l.Disk = 64e6 },
		status: kernel.BuildFailed, says: ", and may take 64 MB", check: emptied},
	{name: "fills the disk with files", script: `mkdir $obj/n; cd $obj/n; seq 20000 | xargs touch; sleep 20`, limits: func(l *Limits) { l.Files = 5000 },
		status: kernel.BuildFailed, says: "had more than 5000 files", check: emptied},
	{name: "makes a huge file", script: `truncate -s 1T $obj/holes && echo BOAST; head -c 30M /dev/zero > $obj/large && echo BOAST; ls -ln $obj/large`, limits: func(l *Limits) { l.File = 20e6 },
		check: func(t *testing.T, h *hostage, _ kernel.Build) {
			if st, err := os.Stat(filepath.Join(h.b.Objects, "large")); err == nil && st.Size() > 20e6 {
				t.Errorf("a file of %d bytes", st.Size())
			}
		}},
	{name: "has the limits of every process", script: `cat /proc/self/limits`, check: func(t *testing.T, _ *hostage, got kernel.Build) {
		log := strings.Join(strings.Fields(read(t, got.Log)), " ")
		for _, want := range []string{"Max file size 8589934592 8589934592", "Max core file size 0 0", "Max processes 16384 16384"} {
			if !strings.Contains(log, want) {
				t.Errorf("%q is missing in %s", want, log)
			}
		}
	}},
	{name: "is killed before others", script: `cat /proc/self/oom_score_adj > $obj/oom`, check: func(t *testing.T, h *hostage, _ kernel.Build) {
		if n := read(t, filepath.Join(h.b.Objects, "oom")); n != "500\n" {
			t.Error(n)
		}
	}},
	{name: "leaves a daemon", script: `(setsid sh -c 'trap "" HUP TERM INT; while :; do touch {canaryObj}; sleep 0.01; done' >/dev/null 2>&1 &)`,
		check: func(t *testing.T, h *hostage, _ kernel.Build) {
			if left := marked(h.b.Owner); len(left) > 0 {
				t.Errorf("when the build has ended, there are still %v", left)
			}
		}},
	{name: "sleeps for ever", script: `sleep 1000`, limits: func(l *Limits) { l.Idle = 500 * time.Millisecond }, status: kernel.BuildFailed, says: "did nothing for 500ms"},
	{name: "stops itself", script: `if [ -e /proc/{pid} ]; then echo BOAST; else kill -STOP -1; fi; sleep 1000`, limits: func(l *Limits) { l.Idle = 500 * time.Millisecond }, status: kernel.BuildFailed, says: "did nothing for 500ms"},
	{name: "plants links", script: `ln -sfn / $obj/root; ln -sf '{secret}' $obj/vmlinux; ln -sfn '{home}' $obj/include/generated; ln -sf '{secret}' $obj/kbisect-0.config; rm -f $obj/.x.o.cmd; ln -s '{secret}' $obj/.x.o.cmd`, check: func(t *testing.T, h *hostage, _ kernel.Build) {
		h.b.Dependents()
		h.b.compiled(map[string]bool{"x": true})
		h.cleared(t)
	}},
	{name: "plants a link for the kernel", script: `rm $obj/arch/x86/boot/bzImage; ln -s '{secret}' $obj/arch/x86/boot/bzImage`,
		status: kernel.BuildFailed, says: "the build left no kernel image"},
	{name: "plants a setuid program", script: `cp /bin/sh $obj/su && chmod 6777 $obj/su && chmod 777 $obj; $obj/su -p -c 'grep ^Cap /proc/self/status' | grep -v 0000000000000000 | sed 's/^/BOAST /'; grep NoNewPrivs /proc/self/status`,
		check: func(t *testing.T, h *hostage, got kernel.Build) {
			if st, err := os.Stat(filepath.Join(h.b.Objects, "su")); err != nil || st.Mode()&fs.ModeSetuid == 0 {
				t.Skip("it is not setuid at all: nothing is tested")
			}
			if st, err := os.Stat(filepath.Dir(h.b.Objects)); err != nil || st.Mode().Perm() != 0o700 {
				t.Errorf("others of this machine can run it: %v, %v", st.Mode(), err)
			}
			if log := read(t, got.Log); !strings.Contains(log, "NoNewPrivs:\t1") {
				t.Errorf("a setuid program of the system would have its rights: %s", log)
			}
		}},
	{name: "poisons ccache", script: `find /build/ccache -type f | while read f; do echo poison > "$f"; done; echo poison > /build/ccache/ccache.conf`, check: apart},
	{name: "poisons the object tree", script: `echo 'echo stale > $obj/arch/x86/boot/bzImage' > $obj/hook; touch -d 2099-01-01 $obj/hook`, check: apart},
	{name: "changes what later builds run", script: `mkdir -p $obj/scripts/basic $obj/tools/objtool; for p in scripts/basic/fixdep tools/objtool/objtool; do printf '#!/bin/sh\necho poison\n' > $obj/$p; chmod +x $obj/$p; done; echo 'echo stale > $obj/arch/x86/boot/bzImage' > $obj/hook`, check: apart},
	{name: "prints without end", script: `yes 'error: x' | head -c 1G`, limits: func(l *Limits) { l.Output = 4 << 20 },
		status: kernel.BuildFailed, says: "printed more than 4 MB", check: func(t *testing.T, _ *hostage, got kernel.Build) {
			if st, err := os.Stat(got.Log); err != nil || st.Size() > maxLog+1<<20 {
				t.Errorf("%v, %v", st, err)
			}
		}},
	{name: "prints escape sequences", script: `printf '\033]0;title\007\033[2J\033[31mmm/x.c:1:1: error: \033[0m\302\233 \342\200\256x\r\n'; exit 1`,
		status: kernel.BuildFailed, says: "error:", check: func(t *testing.T, _ *hostage, got kernel.Build) {
			if strings.ContainsFunc(got.Error, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) {
				t.Errorf("%q", got.Error)
			}
		}},
	{name: "has huge names", script: `n=$(printf 'a%.0s' $(seq 250)); cd $obj; i=0; while [ $i -lt 40 ]; do mkdir $n; cd $n; i=$((i+1)); done; touch .x.o.cmd; cd $obj; touch "$(printf 'new\nline \033[31m')"`,
		check: func(t *testing.T, h *hostage, _ kernel.Build) { h.cleared(t) }},
	{name: "leaves directories too deep for a path", script: `cd $obj; perl -e '$d = "d" x 20; for (1..500) { mkdir $d; chdir $d or die }' || echo BOAST nothing was tried`,
		check: func(t *testing.T, h *hostage, _ kernel.Build) {
			var was syscall.Rlimit
			if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 300, Max: was.Max}); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was) }()
			h.cleared(t)
		}},
	{name: "leaves what its owner cannot delete", script: `mkdir -p $obj/a/b; touch $obj/a/b/.c.o.cmd; chmod 0 $obj/a/b/.c.o.cmd $obj/a/b; chmod 500 $obj/a`,
		check: func(t *testing.T, h *hostage, _ kernel.Build) { h.cleared(t) }},
	{name: "looks for us and kills", script: `cat /proc/[0-9]*/cmdline | tr '\0' ' ' | grep -e '\.test' -e {pid} && echo BOAST; ls /proc/{pid}/root/ && echo BOAST; if [ -e /proc/{pid} ]; then echo BOAST; kill -9 {pid}; else kill -9 -1; fi`,
		infra: "make was killed"},
	{name: "traces us", script: `for p in 1 {pid}; do head -c 1 /proc/$p/mem && echo BOAST; cat /proc/$p/environ | tr '\0' '\n' | grep ` + password + ` && echo BOAST; done; true`},
	{name: "writes to the kernel", script: `v=$(cat /proc/sys/kernel/core_pattern); [ "$v" ] || echo BOAST nothing was tried; echo "$v" > /proc/sys/kernel/core_pattern && echo BOAST
[ -w /proc/sysrq-trigger ] && echo BOAST; for f in /proc/sys/*/* /proc/irq/*/* /proc/acpi/* /proc/bus/*/*; do [ -w $f ] && echo BOAST $f; done; ls /sys && echo BOAST`},
	{name: "writes to devices", script: `for d in /dev/mem /dev/kmsg /dev/sda /dev/vda /dev/nvme0n1 /dev/kvm /dev/fuse /dev/loop-control; do [ -e $d ] && echo BOAST $d; done; ls /dev | grep -v -x -e console -e core -e fd -e full -e null -e ptmx -e pts -e random -e shm -e stderr -e stdin -e stdout -e tty -e urandom -e zero | sed 's/^/BOAST /'`},
	{name: "makes device nodes", script: `mknod $obj/disk b 254 0 && echo BOAST; mknod $obj/mem c 1 1 && echo BOAST`},
	{name: "mounts", script: `mount -o remount,rw $src && echo BOAST; mount -t tmpfs x $src && echo BOAST; mount --bind / $obj && echo BOAST; umount $src && echo BOAST
unshare -Urm sh -c "mount -o remount,rw,bind $src && echo BOAST; umount -l $src && echo BOAST; touch $src/canary-ns && echo BOAST; mount -t proc x /proc && cat /proc/{pid}/environ && echo BOAST"`},
	{name: "loads modules", script: `insmod $obj/x.ko && echo BOAST; modprobe loop && echo BOAST; grep ^CapBnd /proc/self/status | grep -v 0000000000000000 && echo BOAST; true`},
}

// emptied: of what a stopped build wrote nothing stays.
func emptied(t *testing.T, h *hostage, _ kernel.Build) {
	if disk, files := h.b.stored(1e6); disk > 1e6 || files > 100 {
		t.Errorf("%d bytes are left, in %d files", disk, files)
	}
}

// next builds a harmless commit in the same trees.
func (h *hostage) next(t *testing.T) {
	t.Helper()
	h.src.write("build.sh", goodBuild+"# the next\n")
	h.src.write("scripts/new", "x") // it is configured anew
	if got := build(t, h.b, h.src); got.Status != kernel.BuildOK || got.Cached {
		t.Errorf("the next build: %+v", got)
	}
}

// cleared: what it left is in nobody's way, and can be deleted.
func (h *hostage) cleared(t *testing.T) {
	t.Helper()
	h.next(t)
	if err := emptyDir(h.b.Objects); err != nil {
		t.Error(err)
	}
}

// apart: what a stranger's build left is in nobody else's kernel, though both have
// the same sources, and he began with a copy of our objects.
func apart(t *testing.T, h *hostage, _ kernel.Build) {
	h.src.write("build.sh", goodBuild+`if test -e $obj/hook; then . $obj/hook; fi
for p in scripts/basic/fixdep tools/objtool/objtool; do if test -e $obj/$p; then sh $obj/$p; fi; done
if test -e /build/ccache/ccache.conf; then cat /build/ccache/ccache.conf; fi
`)
	his := build(t, h.b, h.src)
	ours := build(t, h.ours(), h.src)
	if log := read(t, ours.Log); ours.Cached || strings.Contains(log, "poison") || read(t, ours.Kernel.Image) != "image\n" {
		t.Errorf("%+v, built of %q, with the log\n%s", ours, read(t, ours.Kernel.Image), log)
	}
	if log := read(t, his.Log); !strings.Contains(log, "poison") && read(t, his.Kernel.Image) == "image\n" {
		t.Errorf("his own next commit is not poisoned either: nothing is tested\n%s", log)
	}
	other := *h.b
	other.Apart, other.Objects = "another stranger", filepath.Join(h.b.Owner, "another", "obj")
	if got := build(t, &other, h.src); strings.Contains(read(t, got.Log), "poison") || read(t, got.Kernel.Image) != "image\n" {
		t.Errorf("that of another stranger: %+v", got)
	}
}

// ours is the builder of our own commits, beside that of the stranger.
func (h *hostage) ours() *Builder {
	b := *h.b
	b.Apart, b.Seed, b.Objects = "", "", h.b.Seed
	return &b
}

func takeHostage(t *testing.T) *hostage {
	t.Helper()
	b, src := builder(t, true, goodBuild)
	h := &hostage{b: b, src: src, home: t.TempDir()}
	t.Setenv("HOME", h.home)
	t.Setenv("GITHUB_TOKEN", password)
	h.secret = filepath.Join(h.home, ".ssh", "id")
	if err := os.Mkdir(filepath.Dir(h.secret), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.secret, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	_, h.port, _ = net.SplitHostPort(l.Addr().String())
	go func() {
		if c, err := l.Accept(); err == nil {
			t.Error("somebody connected")
			_ = c.Close()
		}
	}()
	// A stranger begins with a copy of what was built of our own.
	h.b.Seed = filepath.Join(b.Owner, "slots", "ours", "obj")
	build(t, h.ours(), src)
	h.b.Apart, h.b.Objects = "stranger", filepath.Join(b.Owner, "slots", "his", "obj")
	return h
}

func TestHostileBuilds(t *testing.T) {
	needSandbox(t)
	for _, c := range hostiles {
		t.Run(c.name, func(t *testing.T) {
			h := takeHostage(t)
			h.b.Limits = LimitsOf(h.b.Jobs)
			if c.limits != nil {
				c.limits(&h.b.Limits)
			}
			script := strings.NewReplacer("{home}", h.home, "{secret}", h.secret, "{top}", h.b.Owner, "{port}", h.port,
				"{pid}", fmt.Sprint(os.Getpid()), "{canaryObj}", sandboxObj+"/alive").Replace(c.script)
			h.src.write("build.sh", goodBuild+script+"\ntrue\n")
			before := h.src.commit()
			got, err := h.b.Build(t.Context(), before)
			if err == nil && c.infra != "" || err != nil && (c.infra == "" || !strings.Contains(err.Error(), c.infra)) {
				t.Fatalf("%+v, %v", got, err)
			}
			want := c.status
			if want == "" {
				want = kernel.BuildOK
			}
			if c.infra != "" {
				noEntry(t, h.b, h.src)
			} else if log := read(t, got.Log); got.Status != want || !strings.Contains(got.Error, c.says) || strings.Contains(log, "BOAST") || strings.Contains(log, password) {
				t.Errorf("%s, %q:\n%.3000s", got.Status, got.Error, log)
			}
			if c.check != nil {
				c.check(t, h, got)
			} else if after := h.src.commit(); after.Tree != before.Tree {
				t.Error("the sources were changed")
			}
			if text := read(t, h.secret); text != password {
				t.Errorf("the user's file was changed: %q", text)
			}
			for _, dir := range []string{"/", "/usr", "/etc", h.home, h.b.Owner, filepath.Join(h.b.Owner, "other")} {
				found, _ := filepath.Glob(filepath.Join(dir, "*canary*"))
				for _, path := range found {
					t.Errorf("%s was made", path)
					_ = os.Remove(path)
				}
			}
			if left := marked(h.b.Owner); len(left) > 0 {
				t.Errorf("still alive: %v", left)
			}
		})
	}
}
