package kbuild

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Where the trees appear inside the sandbox. Constant, so that no path of this
// machine can get into an image.
const (
	sandboxSrc = "/build/src"
	sandboxObj = "/build/obj"
	// sandboxCcache holds objects that were compiled for other commits.
	sandboxCcache = "/build/ccache"
)

// paths returns the source and object tree as make sees them.
func (b *Builder) paths() (src, obj string) {
	if b.Sandbox {
		return sandboxSrc, sandboxObj
	}
	return b.Source.Dir(), b.Objects
}

// buildEnv is the whole environment of a build: nothing of ours gets in but
// the mark that leash puts on every process (KBISECT_OWNER).
func buildEnv(sandbox bool, more []string) []string {
	return append([]string{"PATH=" + buildPath(sandbox), "LC_ALL=C", "HOME=/tmp", "TMPDIR=/tmp", "SOURCE_DATE_EPOCH=0"}, more...)
}

// buildPath is the PATH of a build: ours, in the sandbox without what is not
// to be seen there.
func buildPath(sandbox bool) string {
	path := os.Getenv("PATH")
	if !sandbox {
		return path
	}
	dirs := slices.DeleteFunc(filepath.SplitList(path), func(d string) bool { return !inSandbox(d) })
	if len(dirs) == 0 {
		return "/usr/local/bin:/usr/bin:/bin"
	}
	return strings.Join(dirs, ":")
}

// inSandbox says whether the sandbox shows a path of the machine.
func inSandbox(path string) bool {
	path = filepath.Clean(path)
	return slices.ContainsFunc(slices.Concat(systemDirs, rootDirs), func(d string) bool {
		return path == d || strings.HasPrefix(path, d+"/")
	})
}

// wrap puts a command into the sandbox: make on a patch from the Internet runs
// whatever the patch says. It sees the system's programs and the sources
// read-only, can write to the object tree and a private /tmp, and has no
// network, no home and no other processes.
func (b *Builder) wrap(env, argv []string) (name string, args, environ []string) {
	links, keep := Ccache(), b.ccacheDir()
	if links != "" && os.MkdirAll(keep, 0o755) == nil {
		seen := keep
		if b.Sandbox {
			seen = sandboxCcache
		}
		env = append(ccacheEnv(links, seen, buildPath(b.Sandbox)), env...)
	} else {
		links = ""
	}
	environ = buildEnv(b.Sandbox, env)
	if !b.Sandbox {
		return argv[0], argv[1:], environ
	}
	args = slices.Concat(sandboxArgs(), guardArgs, []string{"--ro-bind", b.Source.Dir(), sandboxSrc})
	args = append(args, hide(b.Source.Dir())...)
	if links != "" {
		args = append(args, "--bind", keep, sandboxCcache)
	}
	args = append(args, "--ro-bind-try", b.submakeFile(), sandboxSubmake, "--ro-bind-try", b.sumsFile(), sandboxSums, "--bind", b.Objects, sandboxObj, "--chdir", sandboxObj, "--")
	return "bwrap", append(args, argv...), environ
}

// systemDirs hold compilers and what they need.
var systemDirs = []string{"/usr", "/opt", "/nix/store", "/gnu/store", "/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d"}

// rootDirs are links into /usr on most systems, directories on some.
var rootDirs = []string{"/bin", "/sbin", "/lib", "/lib32", "/lib64"}

func sandboxArgs() []string {
	a := []string{
		"--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL",
		"--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
		// Root without capabilities is still who owns the files in /proc/sys, such as
		// core_pattern, a program that the kernel starts outside.
		"--remount-ro", "/proc",
	}
	for _, d := range systemDirs {
		a = append(a, "--ro-bind-try", d, d)
	}
	for _, d := range rootDirs {
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
	cmd := exec.CommandContext(ctx, path, append(sandboxArgs(), "--", "true")...)
	cmd.Env = buildEnv(true, nil)
	out, err := cmd.CombinedOutput()
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("%s: %s", filepath.Base(path), line)
	}
	return nil
}
