package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/leash"
)

// compileFlags: static, because the guest has no libraries; warnings on,
// because a reproducer that reads uninitialised memory accuses the kernel.
var compileFlags = []string{"-static", "-O2", "-Wall", "-Wextra", "-pthread"}

// compile turns the user's C source into a static program. Warnings are shown
// and are no error.
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
	if source, err = filepath.Abs(source); err != nil { // a name that starts with a dash is no flag
		return nil, err
	}
	args := append(append([]string{}, compileFlags...), "-o", out, source)
	cmd := leash.Command(ctx, data, append(os.Environ(), "TMPDIR="+dir, "LC_ALL=C"), "gcc", args...)
	msg, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && ctx.Err() == nil:
		return nil, usagef("--program %s does not compile: %s", source, firstError(string(msg)))
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("compile %s: gcc is not installed: deploy/install-deps installs it", source)
	case err != nil:
		return nil, fmt.Errorf("compile %s: %w", source, err)
	}
	if len(bytes.TrimSpace(msg)) > 0 {
		_, _ = o.stderr.Write(msg)
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
