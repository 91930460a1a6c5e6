package kbuild

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os/exec"
	"strings"
)

// toolchain returns a digest of the versions of the programs that make an image.
func toolchain(ctx context.Context) (string, error) {
	h := sha256.New()
	for _, tool := range []string{"gcc", "ld", "as", "make", "flex", "bison"} {
		out, err := exec.CommandContext(ctx, tool, "--version").Output()
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

// Compiler returns the first line of the compiler's version, for reports.
func Compiler(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "gcc", "--version").Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}
