package kbuild

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Where the trees appear inside the sandbox. Constant, so that no path of this
// machine can get into an image.
const (
	sandboxSrc = "/build/src"
	sandboxObj = "/build/obj"
)

// paths returns the source and object tree as make sees them.
func (b *Builder) paths() (src, obj string) {
	if b.Sandbox {
		return sandboxSrc, sandboxObj
	}
	return b.Source.Dir(), b.Objects
}

// buildEnv is the whole environment of a build: nothing of ours gets in.
func buildEnv(more []string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=/tmp", "TMPDIR=/tmp", "SOURCE_DATE_EPOCH=0"}, more...)
}

// wrap puts a command into the sandbox: make on a patch from the Internet runs
// whatever the patch says. It sees the system's programs and the sources
// read-only, can write to the object tree and a private /tmp, and has no
// network, no home and no other processes.
func (b *Builder) wrap(env, argv []string) (name string, args, environ []string) {
	environ = buildEnv(env)
	if !b.Sandbox {
		return argv[0], argv[1:], environ
	}
	args = append(sandboxArgs(),
		"--ro-bind", b.Source.Dir(), sandboxSrc,
		"--bind", b.Objects, sandboxObj,
		"--chdir", sandboxObj, "--")
	return "bwrap", append(args, argv...), environ
}

// systemDirs hold compilers and what they need.
var systemDirs = []string{"/usr", "/opt", "/nix/store", "/gnu/store", "/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d"}

func sandboxArgs() []string {
	a := []string{
		"--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL",
		"--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
	}
	for _, d := range systemDirs {
		a = append(a, "--ro-bind-try", d, d)
	}
	for _, d := range []string{"/bin", "/sbin", "/lib", "/lib32", "/lib64"} {
		// Links into /usr on most systems, directories on some.
		if to, err := os.Readlink(d); err == nil {
			a = append(a, "--symlink", strings.TrimPrefix(to, "/"), d)
		} else {
			a = append(a, "--ro-bind-try", d, d)
		}
	}
	return a
}

// CheckSandbox says whether the sandbox works on this machine.
func CheckSandbox(ctx context.Context) error {
	path, err := exec.LookPath("bwrap")
	if err != nil {
		return errors.New("bubblewrap (bwrap) is not installed")
	}
	out, err := exec.CommandContext(ctx, path, append(sandboxArgs(), "--", "true")...).CombinedOutput()
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("%s: %s", filepath.Base(path), line)
	}
	return nil
}
