package gitrepo

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/history"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// RangeOptions say which commits of a range a search looks at.
type RangeOptions struct {
	// Paths are pathspecs from the top of the tree. Only commits that touch one
	// of them are candidates; so is every merge that joins two lines of such
	// commits.
	Paths []string
	// FirstParent follows only the first parent of a merge: what came in with
	// it counts as the merge's doing.
	FirstParent bool
	// AncestryPath leaves out what is no descendant of the older end. A search
	// for a fix needs it: a branch that forked before the failure came in does
	// not show it, and would look fixed.
	AncestryPath bool
}

// Candidates returns the commits that are reachable from newer and not from
// older, parents before children. They have ids and parents only: Commit gives
// the rest of one. 1.3 million commits take 300 MB; EachCandidate keeps none.
//
// With Paths, the parents are rewritten to the nearest candidates below. The
// last commit is newer in any case, for a search starts by testing it; outside
// says that it touches none of the paths. It then stands for all that was left
// out above the other candidates, and a search that names it says that the
// paths were the wrong ones.
//
// Paths without any candidate are a *UserError.
func (r *Repo) Candidates(ctx context.Context, older, newer string, o RangeOptions) (commits []kernel.Commit, outside bool, err error) {
	one := map[string]string{} // a single copy of each id
	keep := func(id string) string {
		if _, ok := one[id]; !ok {
			id = strings.Clone(id) // it is part of a line
			one[id] = id
		}
		return one[id]
	}
	outside, err = r.EachCandidate(ctx, older, newer, o, func(sha string, parents []string) {
		c := kernel.Commit{SHA: keep(sha)}
		for _, p := range parents {
			c.Parents = append(c.Parents, keep(p))
		}
		commits = append(commits, c)
	})
	return commits, outside, err
}

// EachCandidate calls each with the commits of Candidates, in their order.
func (r *Repo) EachCandidate(ctx context.Context, older, newer string, o RangeOptions, each func(sha string, parents []string)) (outside bool, err error) {
	args := []string{"--topo-order", "--reverse", "--parents"}
	if o.FirstParent {
		args = append(args, "--first-parent")
	}
	if o.AncestryPath {
		args = append(args, "--ancestry-path")
	}
	if len(o.Paths) > 0 {
		if err := r.checkPaths(ctx, older, newer, o); err != nil {
			return false, err
		}
		// By default git leaves out a side branch when the merge took the files
		// under the paths from the other side. A commit of it may be the culprit
		// all the same, by a file elsewhere that it changed too.
		args = append(args, "--simplify-merges")
	}
	heads := map[string]bool{} // no parent of another, so far
	var ids []string
	err = r.revList(ctx, older, newer, o.Paths, func(line string) {
		ids = append(ids[:0], strings.Fields(line)...)
		if o.FirstParent && len(ids) > 2 {
			ids = ids[:2]
		}
		for _, p := range ids[1:] {
			delete(heads, p)
		}
		heads[ids[0]] = true
		each(ids[0], ids[1:])
	}, args...)
	if err != nil || len(o.Paths) == 0 || heads[newer] {
		return false, err
	}
	each(newer, slices.Sorted(maps.Keys(heads)))
	return true, nil
}

// checkPaths returns a *UserError for a path that no commit of the range
// touches: mistyped, or true of another range.
func (r *Repo) checkPaths(ctx context.Context, older, newer string, o RangeOptions) error {
	for _, p := range o.Paths {
		args := []string{"--max-count=1", "--full-history"}
		if o.FirstParent {
			args = append(args, "--first-parent")
		}
		if o.AncestryPath {
			args = append(args, "--ancestry-path")
		}
		touched := false
		err := r.revList(ctx, older, newer, []string{p}, func(string) { touched = true }, args...)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && strings.Contains(err.Error(), p) { // one from outside the tree, for instance
			return userErrorf("path %q: %v", p, err)
		}
		if err != nil {
			return err
		}
		if !touched {
			return userErrorf("no commit between the ends touches %q: paths count from the top of the tree", p)
		}
	}
	return nil
}

// revList calls each with every line of git rev-list for a range.
func (r *Repo) revList(ctx context.Context, older, newer string, paths []string, each func(line string), args ...string) error {
	args = append([]string{"rev-list"}, args...)
	args = append(args, newer, "^"+older, "--")
	return r.gitLines(ctx, nil, '\n', each, append(args, paths...)...)
}

// maxPiece bounds what git says in one piece. The longest is a commit's message.
const maxPiece = 64 << 20

// gitLines runs git in the mirror, with further variables, and calls each with every piece of its
// output, pieces ending with sep. It holds back nothing: 1.3 million commits
// are 110 MB of lines.
func (r *Repo) gitLines(ctx context.Context, env []string, sep byte, each func(string), args ...string) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	cmd := r.gitCommand(running, r.mirror, env, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	pieces := bufio.NewScanner(out)
	pieces.Buffer(make([]byte, 64<<10), maxPiece)
	pieces.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		if i := bytes.IndexByte(data, sep); i >= 0 {
			return i + 1, data[:i], nil
		}
		if atEOF && len(data) > 0 {
			return len(data), data, nil
		}
		return 0, nil, nil
	})
	for pieces.Scan() {
		each(pieces.Text())
	}
	if err = pieces.Err(); err != nil {
		stop()
	}
	ended := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("git %s: %w", args[0], err)
	case ended != nil:
		return &gitError{args, "", stderr.String(), ended}
	}
	return nil
}

// Changes calls each with the message and the changed files of every commit of
// a range that is no merge. It reads the trees of all of them.
func (r *Repo) Changes(ctx context.Context, older, newer string, each func(history.Change)) error {
	var c history.Change
	flush := func() {
		if c.SHA != "" {
			each(c)
		}
		c = history.Change{}
	}
	// An empty piece, the id, the message and the files; no file has an empty
	// name, so that an empty piece in their place is the next commit.
	field := 0
	piece := func(s string) {
		switch {
		case field == 1:
			c.SHA = s
		case field == 2:
			c.Message = s
		case s == "":
			flush()
			field = 0
		default:
			if field == 3 {
				s = strings.TrimPrefix(s, "\n") // git sets the list of files off
			}
			c.Files = append(c.Files, s)
		}
		field++
	}
	err := r.gitLines(ctx, nil, 0, piece, "log", "-z", "--no-show-signature", "--no-merges", "--no-renames", "--name-only",
		"--format=%x00%H%x00%B", newer, "^"+older, "--")
	if err == nil {
		flush()
	}
	return err
}

// Trees calls each with every commit of a range and its tree.
func (r *Repo) Trees(ctx context.Context, older, newer string, each func(sha, tree string)) error {
	return r.gitLines(ctx, nil, '\n', func(line string) {
		if sha, tree, ok := strings.Cut(line, " "); ok {
			each(sha, tree)
		}
	}, "log", "--format=%H %T", newer, "^"+older)
}
