package gitrepo

import (
	"context"
	"fmt"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Differ lists the files in which two trees, or commits, differ. Renamed ones
// are listed under both names.
func (r *Repo) Differ(ctx context.Context, one, other string) ([]kernel.FileChange, error) {
	out, err := r.git(ctx, r.mirror, "diff-tree", "-r", "-z", "--raw", "--no-renames", "--end-of-options", one, other)
	if err != nil {
		return nil, err
	}
	var all []kernel.FileChange
	for out = strings.TrimSuffix(out, "\x00"); out != ""; {
		// ":100644 100644 ID ID M", and the path behind a NUL.
		meta, rest, ok := strings.Cut(out, "\x00")
		f := strings.Fields(strings.TrimPrefix(meta, ":"))
		if !ok || len(f) != 5 {
			return nil, fmt.Errorf("git diff-tree: %.100q", out)
		}
		var path string
		path, out, _ = strings.Cut(rest, "\x00")
		all = append(all, kernel.FileChange{Path: path, Edited: f[0] == f[1] && isFile(f[0]), Regular: isFile(f[0]) && isFile(f[1])})
	}
	return all, nil
}

const noFile = "000000"

func isFile(mode string) bool { return mode == "100644" || mode == "100755" || mode == noFile }

// Differ is that of the repository.
func (w *Worktree) Differ(ctx context.Context, one, other string) ([]kernel.FileChange, error) {
	return w.repo.Differ(ctx, one, other)
}
