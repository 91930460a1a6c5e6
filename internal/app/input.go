package app

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// inputFlags are commits that the repository does not have.
type inputFlags struct{ mbox, base, bundle string }

func (in *inputFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&in.mbox, "mbox", "", "patches to apply, in a mailbox `file`, plain or compressed, a Maildir, or a directory of patches, - for standard input, or a thread at lore.kernel.org by its address or a message id: the newest version of the series in it")
	f.StringVar(&in.bundle, "bundle", "", "commits in a `file` as git bundle makes it; they are kept in kbisect's own mirror")
	f.StringVar(&in.base, "base", "", "commit that they go on top of (default: the base-commit that the mail names, or else the branch or tag that it fits best; what the bundle stands on)")
}

// revRange is what the user gave: two revisions, of a bisection the good and the bad
// one; or mail or a bundle, and its base. The mail is called name if it has another
// than that of its file, and is gone afterwards if it was piped.
type revRange struct {
	base, head, mbox, name, bundle string
	piped                          bool
}

// span is what the flags bring.
func (in inputFlags) span() (revRange, error) {
	if in.mbox != "" && in.bundle != "" {
		return revRange{}, usagef("--mbox and --bundle exclude each other")
	}
	return revRange{base: in.base, mbox: in.mbox, bundle: in.bundle}, nil
}

// brought says whether the commits come with the command.
func (r revRange) brought() bool { return r.mbox != "" || r.bundle != "" }

// fromStranger makes commits that came with the command, up to head, what a request is
// about. What they stand on is not the stranger's.
func (r *request) fromStranger(base kernel.Commit, head string) {
	r.Base, r.Head = base.SHA, head
	r.Stranger, r.Trusted = base.SHA+".."+head, base.SHA
}

// takeInput makes the commits that the user brings, and tells what it took.
func (w *workspace) takeInput(ctx context.Context, repo *gitrepo.Repo, r revRange, tell func(string)) (base kernel.Commit, head string, err error) {
	if r.mbox != "" {
		return w.applyOnBase(ctx, repo, r, tell)
	}
	b, err := repo.Unbundle(ctx, r.bundle)
	if err != nil {
		return base, "", err
	}
	if r.head, err = b.Find(r.head); err != nil {
		return base, "", usagef("%s: %v", r.bundle, err)
	}
	if r.base == "" {
		if r.base = b.Base; r.base == "" {
			return base, "", usagef("%s: a bundle that stands on nothing: say what it goes on top of, with --base", r.bundle)
		}
	}
	if base, err = repo.Resolve(ctx, r.base); err != nil {
		return base, "", err
	}
	if err = repo.CheckKernel(ctx, base); err != nil {
		return base, "", err
	}
	head, err = seriesHead(ctx, repo, base, r)
	if err == nil {
		tell("bundle: " + base.Short() + ".." + kernel.Abbrev(head))
	}
	return base, head, err
}

// again is the command line that asks for the same once more: with the base, where one
// was found, and for mail that came through a pipe with the commits that it became,
// which kbisect's mirror keeps.
func (o *options) again(r revRange, req request) string {
	args := slices.Clone(o.args)
	switch {
	case r.piped && req.Kind == "series":
		args = append(without(args, "--mbox", "--base"), req.Base+".."+req.Head)
	case r.piped:
		good, bad := req.Base, req.Head
		if req.Search.FindFix {
			good, bad = bad, good
		}
		args = append(without(args, "--mbox", "--base"), "--good", good, "--bad", bad)
	case r.mbox != "" && r.base == "":
		args = append(args, "--base", req.Base)
	}
	return (&options{args: args}).commandLine()
}

// without leaves flags and their values out of a command line.
func without(args []string, flags ...string) (rest []string) {
	for i := 0; i < len(args); i++ {
		name, _, whole := strings.Cut(args[i], "=")
		if !slices.Contains(flags, name) {
			rest = append(rest, args[i])
		} else if !whole {
			i++
		}
	}
	return rest
}
