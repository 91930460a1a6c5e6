package kbuild

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// versioned are the programs whose versions tell images apart; needed are those
// without which no kernel is built.
var (
	versioned = []string{"gcc", "ld", "as", "make", "flex", "bison"}
	needed    = append([]string{"bc"}, versioned...)
)

// toolchain returns a digest of the versions of the programs that make an
// image, as a build finds them.
func toolchain(ctx context.Context, sandbox bool) (string, error) {
	var missing []string
	for _, tool := range needed {
		if lookTool(tool, sandbox) == "" {
			missing = append(missing, tool)
		}
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("not found in %s: %s: install the build tools with deploy/install-deps", buildPath(sandbox), strings.Join(missing, ", "))
	}
	h := sha256.New()
	for _, tool := range versioned {
		out, err := version(ctx, tool, sandbox)
		if err != nil {
			if ctx.Err() != nil {
				return "", ctx.Err()
			}
			return "", fmt.Errorf("%s does not run (%w): install the build tools with deploy/install-deps", tool, err)
		}
		fmt.Fprintf(h, "%s\n%s\n", tool, out)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// lookTool finds a program as a build does, "" if there is none. A link out of
// what the sandbox shows is dead there.
func lookTool(tool string, sandbox bool) string {
	for _, dir := range filepath.SplitList(buildPath(sandbox)) {
		if !filepath.IsAbs(dir) {
			continue
		}
		path, err := exec.LookPath(filepath.Join(dir, tool))
		if err != nil {
			continue
		}
		if target, err := filepath.EvalSymlinks(path); err == nil && (!sandbox || inSandbox(target)) {
			return path
		}
	}
	return ""
}

func version(ctx context.Context, tool string, sandbox bool) ([]byte, error) {
	path := lookTool(tool, sandbox)
	if path == "" {
		return nil, exec.ErrNotFound
	}
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Args[0] = tool // some print it
	cmd.Env = buildEnv(sandbox, nil)
	return cmd.Output()
}

// Compiler returns the first line of the version of the compiler that builds in
// the sandbox, for reports.
func Compiler(ctx context.Context) string {
	out, err := version(ctx, "gcc", true)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}
