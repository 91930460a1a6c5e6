package kbuild

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// The build of a stranger's patch tries what a thief would.
func TestSandboxKeepsABuildIn(t *testing.T) {
	needSandbox(t)
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("hunter2"), 0o644); err != nil {
		t.Fatal(err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GITHUB_TOKEN", "hunter2")
	canary := filepath.Join(os.TempDir(), "kbisect-canary-"+filepath.Base(filepath.Dir(outside)))
	b, src := builder(t, true, goodBuild+`
exec 2>/dev/null
echo x >> $src/Makefile && echo "wrote the source"
touch $src/new && echo "made a file in the source"
mount -o remount,rw $src && echo "remounted the source"
touch '`+home+`/kbisect-canary' && echo "wrote to the home"
echo x > '`+secret+`' && echo "wrote a sibling"
touch '`+canary+`' # its own /tmp, so this may work
touch /usr/kbisect-canary && echo "wrote to the system"
cat '`+secret+`'
ls -A '`+home+`' && echo "saw the home"
cat /etc/shadow /etc/passwd && echo "saw the accounts"
ls /run/user /var/run/docker.sock && echo "saw sockets"
env > $obj/env
cat /proc/net/dev > $obj/net
cat /proc/[0-9]*/cmdline | tr '\0' ' ' > $obj/processes
true
`)
	makefileBefore := read(t, filepath.Join(src.dir, "Makefile"))
	got := build(t, b, src)
	if got.Status != kernel.BuildOK {
		t.Fatalf("%+v", got)
	}
	log := read(t, got.Log)
	for _, boast := range []string{"wrote", "made a file", "saw", "remounted", "hunter2"} {
		if strings.Contains(log, boast) {
			t.Errorf("the build did it (%s):\n%s", boast, log)
		}
	}
	if read(t, filepath.Join(src.dir, "Makefile")) != makefileBefore || read(t, secret) != "hunter2" {
		t.Error("a file outside was changed")
	}
	for _, path := range []string{filepath.Join(src.dir, "new"), filepath.Join(home, "kbisect-canary"), canary, "/usr/kbisect-canary"} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s was made", path)
			_ = os.Remove(path)
		}
	}
	interfaces := 0
	for line := range strings.Lines(read(t, filepath.Join(b.Objects, "net"))) {
		if name, _, ok := strings.Cut(line, ":"); ok {
			interfaces++
			if strings.TrimSpace(name) != "lo" {
				t.Errorf("the build has a network: %s", line)
			}
		}
	}
	if interfaces == 0 {
		t.Error("not even lo: /proc/net/dev was not read, the test tests nothing")
	}
	if ps := read(t, filepath.Join(b.Objects, "processes")); !strings.Contains(ps, "build.sh") || strings.Contains(ps, filepath.Base(os.Args[0])) {
		t.Errorf("processes seen: %s", ps)
	}
}

// With or without a sandbox: what the user has set changes no build, and no
// token gets into a log.
func TestEnvironmentIsOurs(t *testing.T) {
	both(t, func(t *testing.T, sandbox bool) {
		for _, name := range []string{"GITHUB_TOKEN", "KCFLAGS", "MAKEFLAGS", "LOCALVERSION", "KBUILD_OUTPUT", "CROSS_COMPILE", "LANG"} {
			t.Setenv(name, "hunter2")
		}
		b, src := builder(t, sandbox, goodBuild+"env | sort\n")
		got := build(t, b, src)
		log := read(t, got.Log)
		if got.Status != kernel.BuildOK || strings.Contains(log, "hunter2") {
			t.Errorf("%+v:\n%s", got, log)
		}
		for _, line := range []string{"LC_ALL=C\n", "SOURCE_DATE_EPOCH=0\n", "ARCH=x86_64\n", "KBUILD_BUILD_HOST=kbisect\n", "HOME=/tmp\n"} {
			if !strings.Contains(log, "\n"+line) {
				t.Errorf("the environment lacks %q", line)
			}
		}
	})
}

// The trees have the same names in every sandbox: a path of this machine in an
// image would make equal kernels differ.
func TestSandboxHidesPaths(t *testing.T) {
	needSandbox(t)
	b, src := builder(t, true, goodBuild+"echo $src $obj; pwd\n")
	if log := read(t, build(t, b, src).Log); !strings.Contains(log, "/build/src /build/obj\n/build/src\n") || strings.Contains(log, b.Owner+"/") {
		t.Errorf("log: %s", log)
	}
}

// The object tree outlives a build, and we read and write it outside the
// sandbox: a link left there must not make us touch the user's files.
func TestLinksLeftByABuild(t *testing.T) {
	both(t, func(t *testing.T, sandbox bool) {
		secret := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(secret, []byte("hunter2"), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ name, file string }{
			{"image", "arch/x86/boot/bzImage"}, {"release", "include/config/kernel.release"}, {"config", ".config"},
		} {
			for how, make := range map[string]string{"link": "ln -s '" + secret + "'", "pipe": "mkfifo", "directory": "mkdir", "nothing": ": "} {
				t.Run(c.name+" "+how, func(t *testing.T) {
					b, src := builder(t, sandbox, goodBuild+"rm $obj/"+c.file+"; "+make+" $obj/"+c.file+"\n")
					got := build(t, b, src)
					if got.Status != kernel.BuildFailed || !strings.HasPrefix(got.Error, "the build left no ") || strings.Contains(got.Error, b.Owner) {
						t.Errorf("a %s in place of the %s: %+v", how, c.name, got)
					}
					// It is not in the way of the next commit.
					src.write("build.sh", goodBuild)
					if got := build(t, b, src); got.Status != kernel.BuildOK {
						t.Errorf("the next build: %+v", got)
					}
					if text := read(t, secret); text != "hunter2" {
						t.Errorf("the user's file was overwritten: %q", text)
					}
				})
			}
		}
		b, src := builder(t, sandbox, goodBuild+"rm $obj/kbisect-0.config; ln -s '"+secret+"' $obj/kbisect-0.config\n")
		build(t, b, src)
		src.write("build.sh", goodBuild)
		if got := build(t, b, src); got.Status != kernel.BuildOK {
			t.Errorf("the next build: %+v", got)
		}
		if text := read(t, secret); text != "hunter2" {
			t.Errorf("the user's file was overwritten: %q", text)
		}
	})
}

// The sources are a stranger's as well.
func TestLinkInTheSources(t *testing.T) {
	b, src := builder(t, false, goodBuild)
	outside := filepath.Join(t.TempDir(), "Makefile")
	if err := os.WriteFile(outside, []byte(makefile), 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(src.dir, "Makefile")
	for how, plant := range map[string]func() error{
		"link": func() error { return os.Symlink(outside, link) },
		"pipe": func() error { return syscall.Mkfifo(link, 0o644) },
	} {
		_ = os.Remove(link)
		if err := plant(); err != nil {
			t.Fatal(err)
		}
		src.write("change", how)
		if got := build(t, b, src); got.Status != kernel.BuildRefused {
			t.Errorf("%s: %+v", how, got)
		}
	}
}

func TestCheckSandboxWithoutBwrap(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if err := CheckSandbox(t.Context()); err == nil || !strings.Contains(err.Error(), "not installed") {
		t.Errorf("%v", err)
	}
}

// A sandbox that does not start is the machine's fault, not the commit's.
func TestSandboxThatDoesNotStart(t *testing.T) {
	for name, script := range map[string]string{
		"refuses": "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n",
		"missing": "",
	} {
		t.Run(name, func(t *testing.T) {
			b, src := builder(t, true, goodBuild)
			bin := t.TempDir()
			if script != "" {
				if err := os.WriteFile(filepath.Join(bin, "bwrap"), []byte(script), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("PATH", bin)
			if got, err := b.Build(t.Context(), src.commit()); err == nil || !strings.Contains(err.Error(), "bwrap") {
				t.Errorf("%+v, %v", got, err)
			}
			noEntry(t, b, src)
		})
	}
}

// When the log cannot be written, make must not wait for somebody to read.
func TestLogThatCannotBeWritten(t *testing.T) {
	b, _ := builder(t, false, goodBuild)
	m, err := b.newMake(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	m.close()
	output := strings.NewReader(strings.Repeat("line\n", 100_000))
	if err := m.consume(output); !errors.Is(err, os.ErrClosed) || output.Len() != 0 {
		t.Errorf("%v, %d bytes unread", err, output.Len())
	}
}
