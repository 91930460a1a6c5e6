package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// RevertError says why a commit cannot be taken out of a later one.
type RevertError struct {
	Reason string
	Files  []string // that conflict
}

func (e *RevertError) Error() string { return e.Reason }

// Revert makes a commit on top of head that undoes culprit, as git revert
// would, in the mirror and without a worktree. Equal commits give an equal
// one. What cannot be reverted is a *RevertError.
func (r *Repo) Revert(ctx context.Context, culprit, head string) (kernel.Commit, error) {
	var none kernel.Commit
	c, err := r.Commit(ctx, culprit)
	if err != nil {
		return none, err
	}
	h, err := r.Commit(ctx, head)
	if err != nil {
		return none, err
	}
	switch len(c.Parents) {
	case 1:
	case 0:
		return none, &RevertError{Reason: "it has no parent to go back to"}
	default:
		return none, &RevertError{Reason: fmt.Sprintf("it is a merge of %d lines: git cannot know which of them to take out", len(c.Parents))}
	}
	parent, err := r.Commit(ctx, c.Parents[0])
	if err != nil {
		return none, err
	}
	tree, err := r.mergeTrees(ctx, c.Tree, h.Tree, parent.Tree)
	if err != nil {
		return none, err
	}
	if tree == h.Tree {
		return none, &RevertError{Reason: "nothing of it is left there"}
	}
	message := fmt.Sprintf("Revert \"%s\"\n\nThis reverts commit %s.", c.Subject, c.SHA)
	sha, err := r.gitEnv(ctx, r.mirror, ownCommit, "commit-tree", "-p", h.SHA, "-m", message, tree)
	if err != nil {
		return none, err
	}
	if _, err := r.git(ctx, r.mirror, "update-ref", "refs/kbisect/"+sha, sha); err != nil {
		return none, err
	}
	return r.Commit(ctx, sha)
}

// mergeTrees applies the way from tree base to tree theirs to tree ours.
func (r *Repo) mergeTrees(ctx context.Context, base, ours, theirs string) (string, error) {
	// git merge-tree takes the base by itself from the commits' history (its
	// option --merge-base came with 2.40), so the trees are given one.
	commit := func(tree string, parents ...string) (string, error) {
		args := []string{"commit-tree", "-m", "merge", tree}
		for _, p := range parents {
			args = append(args, "-p", p)
		}
		return r.gitEnv(ctx, r.mirror, ownCommit, args...)
	}
	b, err := commit(base)
	if err != nil {
		return "", err
	}
	o, err := commit(ours, b)
	if err != nil {
		return "", err
	}
	t, err := commit(theirs, b)
	if err != nil {
		return "", err
	}
	out, err := r.git(ctx, r.mirror, "merge-tree", "--write-tree", "--no-messages", "--name-only", "-z", o, t)
	if err == nil {
		return strings.TrimRight(out, "\x00"), nil
	}
	var ge *gitError
	var exit *exec.ExitError
	if !errors.As(err, &ge) || !errors.As(err, &exit) {
		return "", err
	}
	switch exit.ExitCode() {
	case 1: // the tree with the conflicts, and their files
		files := strings.FieldsFunc(ge.stdout, func(c rune) bool { return c == 0 })[1:]
		slices.Sort(files)
		files = slices.Compact(files)
		return "", &RevertError{"later commits changed the same lines of " + strings.Join(files, ", "), files}
	case 129: // usage: there is no --write-tree
		return "", &RevertError{Reason: "this needs git 2.38 or later"}
	}
	return "", err
}
