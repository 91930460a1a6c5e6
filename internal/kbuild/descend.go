package kbuild

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// In a warm object tree make spends most of its time on finding out that there is
// nothing to do: it goes into each of some 370 directories with a make of its own
// (6.7 of 8.3 CPU seconds of a slim 6.1 in which nothing changed). Where a commit
// edits nothing but files that the compiler's lists of included files (.cmd files,
// scripts/basic/fixdep.c) name for ordinary objects, it is known beforehand which
// directories those are in, and make need not go into the others. All that is made
// is made by kbuild's own rules, and a make without this finds nothing left to do.

// dirs are the directories of the object tree that make is to go into, "." among
// them; nil: into all.
type dirs map[string]bool

// maxEdited is how many edited files are looked for in the lists, and maxCmd how
// long a list may be: those of 6.1 have 40 KB.
const (
	maxEdited = 50
	maxCmd    = 1 << 20
)

// stale finds the directories in which something is to be made for c, and which
// objects. The .config must be as it was.
func (b *Builder) stale(ctx context.Context, c kernel.Commit, known *reads) (dirs, []string) {
	if !known.Complete || len(known.Trees) == 0 {
		return nil, nil
	}
	edited := map[string]bool{}
	for _, tree := range known.Trees {
		changes, err := b.differ(ctx, tree, c.Tree)
		if err != nil {
			return nil, nil // git may have lost the other commit
		}
		for _, x := range changes {
			switch {
			case b.Sandbox && x.Regular && isInert(x.Path):
			case !x.Edited: // rules may list directories and look for names
				return nil, nil
			case known.Files[x.Path]:
				edited[x.Path] = true
			}
		}
	}
	if len(edited) > maxEdited || b.named(edited, known) {
		return nil, nil
	}
	return b.compiled(edited)
}

// compiled finds the objects that were compiled of files, and their directories; nil
// where one of them is used for something else, or nobody knows for what.
func (b *Builder) compiled(edited map[string]bool) (dirs, []string) {
	var objects []string
	into := dirs{".": true}
	found := map[string]bool{}
	everywhere := false
	buf := make([]byte, maxCmd)
	err := filepath.WalkDir(b.Objects, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.Type().IsRegular() || d.Name()[0] != '.' || !strings.HasSuffix(file, ".cmd") {
			return nil
		}
		text, err := readShort(file, buf)
		if err != nil {
			return err
		}
		for f := range edited {
			if !lists(text, f) {
				continue
			}
			found[f] = true
			name, err := filepath.Rel(b.Objects, file)
			if err != nil {
				return err
			}
			if everywhere = everywhere || !ordinary(name); everywhere {
				return fs.SkipAll
			}
			objects = append(objects, path.Join(path.Dir(name), strings.TrimSuffix(path.Base(name)[1:], ".cmd")))
			into.add(path.Dir(name))
			into.add(path.Dir(f)) // where a rule of its own may stand
		}
		return nil
	})
	// What cannot be read, a build has made so: make is to find out.
	if err != nil || everywhere || len(found) < len(edited) {
		return nil, nil
	}
	return into, objects
}

// lists says whether a .cmd file names a file of the sources: by any path, for
// kernel/rcu includes ../time/tick-internal.h.
func lists(cmd []byte, file string) bool {
	// Without the slash before it, of which such a list is full.
	base := []byte(path.Base(file))
	for {
		i := bytes.Index(cmd, base)
		if i < 0 {
			return false
		}
		end := i + len(base)
		if i > 0 && cmd[i-1] == '/' && (end == len(cmd) || !isNameByte(cmd[end])) {
			start := 1 + bytes.LastIndexFunc(cmd[:i], func(r rune) bool { return r <= ' ' })
			if strings.HasSuffix(path.Clean(string(cmd[start:end])), "/"+file) {
				return true
			}
		}
		cmd = cmd[end:]
	}
}

// readShort reads a file into buf, which is longer than any .cmd file. No process
// of a build is left, and WalkDir follows no link: what is regular stays so.
func readShort(file string, buf []byte) ([]byte, error) {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: file, Err: err}
	}
	defer unix.Close(fd)
	n := 0
	for n < len(buf) {
		k, err := unix.Read(fd, buf[n:])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: file, Err: err}
		case k == 0:
			return buf[:n], nil
		default:
			n += k
		}
	}
	return nil, &fs.PathError{Op: "read", Path: file, Err: errOdd}
}

// ordinary says whether a .cmd file is of an object that becomes part of the
// kernel in the directory where it is made, or above it. Those of programs that the
// build itself runs, of linker scripts and of what headers are generated from
// (bounds.s, asm-offsets.s) are of consequence elsewhere.
func ordinary(cmd string) bool {
	top, _, _ := strings.Cut(cmd, "/")
	return strings.HasSuffix(cmd, ".o.cmd") && top != "scripts" && top != "tools" && top != "usr"
}

func (d dirs) add(dir string) {
	for ; dir != "." && !d[dir]; dir = path.Dir(dir) {
		d[dir] = true
	}
}

// named says whether a Makefile or script that builds have opened names one of the
// files, so that more may be made of it than objects.
func (b *Builder) named(edited map[string]bool, known *reads) bool {
	var names [][]byte
	for f := range edited {
		names = append(names, []byte(path.Base(f)))
	}
	for f := range known.Files {
		if !isRule(f) {
			continue
		}
		text, err := readInside(b.Source.Dir(), f)
		if err != nil || slices.ContainsFunc(names, func(n []byte) bool { return hasName(text, n) }) {
			return true
		}
	}
	return false
}

// isRule says whether a file tells make or the shell what to do.
func isRule(file string) bool {
	name := path.Base(file)
	if strings.HasPrefix(name, "Makefile") || strings.HasPrefix(name, "Kbuild") {
		return true
	}
	switch path.Ext(name) {
	case ".mk", ".include", ".sh", ".pl", ".awk", ".sed", ".py":
		return true
	case "":
		return strings.HasPrefix(file, "scripts/") && name != "Kconfig"
	}
	return false
}

// hasName finds a file's name that is not the end of a longer one.
func hasName(text, name []byte) bool {
	for {
		i := bytes.Index(text, name)
		if i < 0 {
			return false
		}
		if i == 0 || !isNameByte(text[i-1]) {
			return true
		}
		text = text[i+1:]
	}
}

func isNameByte(c byte) bool {
	return c == '_' || c == '-' || c == '.' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// submake stands in for the makes that make starts. It goes into a directory if it
// is among ours, and to the build's own programs and generated headers, which were
// made of files that have not changed, not at all. need-builtin is what kbuild says
// when it goes into a directory, from 4.19 on.
//
// Before the link it has the objects compared (see comparison), and ends make if they
// are as they were.
const submake = `#!/bin/sh
case "$*" in
*' need-builtin='*)
	for a; do
		case $a in obj=*)
			case "$KBISECT_DIRS" in *" ${a#obj=} "*) ;; *) exit 0 ;; esac
			;;
		esac
	done
	;;
*'/Makefile.vmlinux_o'*)
	if [ -n "$KBISECT_SUMS" ] && sha256sum --status -c "$KBISECT_SUMS"; then
		: > "$KBISECT_EQUAL"
		echo 'all objects are as they were: not linked'
		exit 1
	fi
	;;
*' obj=scripts'* | *' subdir=tools '* | *'/Makefile.asm-generic '*) exit 0 ;;
esac
exec make "$@"
`

// sandboxSubmake is where it is in the sandbox.
const sandboxSubmake = "/build/submake"

func (b *Builder) submakeFile() string { return submakeFile(b.Objects) }

func submakeFile(objects string) string { return objects + ".submake" }

// into gives what makes make go into some directories only: further arguments of
// it, and of its environment.
func (b *Builder) into(d dirs) (args, env []string, err error) {
	if d == nil {
		return nil, nil, nil
	}
	file := b.submakeFile()
	if err := os.WriteFile(file, []byte(submake), 0o755); err != nil {
		return nil, nil, err
	}
	if b.Sandbox {
		file = sandboxSubmake
	} else if file, err = filepath.Abs(file); err != nil {
		return nil, nil, err
	}
	list := " "
	for dir := range d {
		list += dir + " "
	}
	return []string{"MAKE=" + file}, []string{"KBISECT_DIRS=" + list}, nil
}
