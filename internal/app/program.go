package app

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kernel-bisect/kbisect/internal/leash"
	"github.com/kernel-bisect/kbisect/internal/runner"
	"github.com/kernel-bisect/kbisect/vmimage"
)

// bring adds the user's program or script to the request.
func (p *planFlags) bring(ctx context.Context, o *options, r *request) error {
	file, kind := p.program, "program"
	if p.script != "" {
		file, kind = p.script, "script"
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return usagef("--%s %v", kind, err)
	}
	base := filepath.Base(file)
	if kind == "program" && strings.HasSuffix(base, ".c") {
		base = strings.TrimSuffix(base, ".c")
		if data, err = o.compile(ctx, file); err != nil {
			return err
		}
	}
	if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`).MatchString(base) {
		return usagef("--%s %s: the file's name must be made of letters, digits, dots, dashes", kind, file)
	}
	if err := runnable(kind, file, data); err != nil {
		return err
	}
	path := vmimage.UserDir + "/" + base
	argv := []string{path}
	if kind == "script" && !strings.HasPrefix(string(data), "#!") {
		argv = []string{"/bin/sh", path}
	}
	r.Files = []vmimage.File{{Name: base, Data: data}}
	r.Program = &runner.Program{Name: kind + "/" + base, Argv: argv, Limit: p.testTimeout}
	if p.testTimeout < time.Second {
		return usagef("--test-timeout %s: at least 1s", p.testTimeout)
	}
	return nil
}

// guestShells are the interpreters that the guest image has.
var guestShells = []string{"/bin/sh", "/bin/busybox", "/bin/awk", "/bin/env"}

// runnable refuses what cannot start in the guest: there it would only be a
// puzzling "no such file".
func runnable(kind, file string, data []byte) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return usagef("--%s %s: empty", kind, file)
	}
	first, _, _ := bytes.Cut(data, []byte("\n"))
	isELF := bytes.HasPrefix(data, []byte(elf.ELFMAG))
	switch {
	case bytes.HasPrefix(data, []byte("#!")):
		if bytes.HasSuffix(first, []byte("\r")) {
			return usagef("--%s %s: has DOS line ends, which the guest's shell does not take", kind, file)
		}
		words := strings.Fields(string(first[2:]))
		if len(words) == 0 || !slices.Contains(guestShells, words[0]) {
			return usagef("--%s %s: the guest has no interpreter %q, only busybox: %s", kind, file, strings.Join(words, " "), strings.Join(guestShells, ", "))
		}
	case kind == "script" && (isELF || bytes.IndexByte(data, 0) >= 0):
		return usagef("--script %s: not a script; use --program", file)
	case kind == "script":
	case !isELF:
		return usagef("--program %s: neither a C source (.c) nor an executable", file)
	default:
		return staticELF(file, data)
	}
	return nil
}

// staticELF refuses a program for another machine or with a loader: the guest
// has no libraries.
func staticELF(file string, data []byte) error {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return usagef("--program %s: %v", file, err)
	}
	if f.Machine != elf.EM_X86_64 {
		return usagef("--program %s: for %s; the guest is x86_64", file, f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return usagef("--program %s: dynamically linked, and the guest has no libraries: link it with -static", file)
		}
	}
	return nil
}

// compile turns the user's C source into a static program. Warnings are
// nobody's error: only a failure is shown.
func (o *options) compile(ctx context.Context, source string) ([]byte, error) {
	data, cache, err := o.dirs()
	if err != nil {
		return nil, err
	}
	// In the cache and under our pid, so that the next start finds what a kill leaves.
	dir := filepath.Join(cache, compileDir+strconv.Itoa(os.Getpid()))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("compile %s: %w", source, err)
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "program")
	cmd := leash.Command(ctx, data, append(os.Environ(), "TMPDIR="+dir, "LC_ALL=C"), "gcc", "-O1", "-Wall", "-pthread", "-static", "-o", out, source)
	msg, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && ctx.Err() == nil:
		return nil, usagef("--program %s does not compile: %s", source, firstError(string(msg)))
	case err != nil:
		return nil, fmt.Errorf("compile %s: %w", source, err)
	}
	return os.ReadFile(out)
}

func firstError(msg string) string {
	for line := range strings.Lines(msg) {
		if strings.Contains(line, "error") || strings.Contains(line, "undefined") {
			return strings.TrimSpace(line)
		}
	}
	return strings.TrimSpace(msg)
}
