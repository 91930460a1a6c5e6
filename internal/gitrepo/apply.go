package gitrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/patchmail"
	"github.com/kernel-bisect/kbisect/internal/report"
)

// ApplyError says which patch of a series does not apply, and where.
type ApplyError struct {
	Patch, Of int // from 1
	Subject   string
	// At is where git finds no place for it: mm/x.c:123 for a hunk that the patch
	// has at that line, "mm/y.c: does not exist in index" for a whole file.
	At    []string
	Files []string // that conflict, or that the repository lacks a version of
	Merge string   // what the three-way merge came to
}

func (e *ApplyError) Error() string {
	msg := fmt.Sprintf("patch %d of %d (%q) does not apply", e.Patch, e.Of, oneLine(e.Subject))
	if len(e.At) > 0 {
		msg += " at " + oneLine(report.Plain(patchmail.Some(e.At)))
	}
	return msg + "; three-way merge: " + oneLine(report.Plain(e.Merge))
}

// Apply applies the patches of a series on top of base and returns the commits,
// oldest first, and the subjects of the patches that base has already. Committer
// and dates come from the mails, so that the same series on the same base gives
// the same commits. A patch that does not apply is an *ApplyError; name is what
// messages call the series.
func (w *Worktree) Apply(ctx context.Context, base, name string, s patchmail.Series) (commits []kernel.Commit, there []string, err error) {
	there, err = w.am(ctx, base, name, s.Patches)
	var ae *ApplyError
	if errors.As(err, &ae) {
		// What later commits of base have changed further looks like a conflict.
		left, gone, lerr := w.repo.notIn(ctx, base, s.Patches)
		if lerr != nil || len(left) == len(s.Patches) {
			return nil, nil, err
		}
		var more []string
		if err = nil; len(left) > 0 {
			more, err = w.am(ctx, base, name, left)
		}
		if errors.As(err, &ae) {
			ae.Patch, ae.Of = left[ae.Patch-1].Number, len(s.Patches)
		}
		there = append(gone, more...)
	}
	if err != nil {
		return nil, nil, err
	}
	head, err := w.repo.git(ctx, w.dir, "rev-parse", "HEAD")
	if err != nil {
		return nil, nil, err
	}
	if head == base {
		return nil, there, userErrorf("%s: %s has all of its patches (%d) already", name, kernel.Abbrev(base), len(s.Patches))
	}
	// A ref keeps the commits for reports and resumed jobs.
	if _, err := w.repo.git(ctx, w.repo.mirror, "update-ref", "refs/kbisect/"+head, head); err != nil {
		return nil, nil, err
	}
	commits, err = w.repo.Range(ctx, base, head)
	return commits, there, err
}

// committer is who git am says that it is; it does nothing without, not even abort.
var committer = []string{"GIT_COMMITTER_NAME=kbisect", "GIT_COMMITTER_EMAIL=kbisect@localhost"}

// am applies patches, and returns the subjects of those that changed nothing.
func (w *Worktree) am(ctx context.Context, base, name string, patches []patchmail.Patch) (there []string, err error) {
	files, remove, err := spool(patches)
	if err != nil {
		return nil, err
	}
	defer remove()
	if err := w.Checkout(ctx, base); err != nil {
		return nil, err
	}
	said, err := w.repo.gitEnv(ctx, w.dir, committer, append([]string{"am", "-3", "--patch-format=mboxrd", "--scissors", "--committer-date-is-author-date", "--"}, files...)...)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, w.explainAm(ctx, name, len(patches), err)
	}
	return alreadyThere(said), nil
}

// mostSearched bounds the commits among which a patch is looked for.
const mostSearched = 5000

// notIn separates the patches whose change no commit of base made since they were
// mailed (git-patch-id(1)) from the subjects of the others.
func (r *Repo) notIn(ctx context.Context, base string, patches []patchmail.Patch) (left []patchmail.Patch, there []string, err error) {
	args := []string{"--full-diff", "--max-count=" + strconv.Itoa(mostSearched)}
	var paths []string
	since := patches[0].Date
	for _, p := range patches {
		if p.Date.Before(since) {
			since = p.Date
		}
		for _, f := range p.Files() {
			paths = append(paths, f.Path())
		}
	}
	if slices.Sort(paths); !since.IsZero() && len(paths) > 0 {
		args = append(args, "--since="+since.AddDate(0, 0, -1).Format(time.RFC3339))
	}
	if paths = slices.Compact(paths); len(paths) == 0 || len(paths) > 1000 {
		return patches, nil, nil
	}
	args = append(append(args, base, "--"), paths...)
	made, err := r.made(ctx, args...)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range patches {
		ids, err := r.patchIDs(ctx, bytes.NewReader(p.Text()))
		if err != nil {
			return nil, nil, err
		}
		if len(ids) == 1 && slices.Contains(made, ids[0]) {
			there = append(there, p.Subject)
		} else {
			left = append(left, p)
		}
	}
	return left, there, nil
}

// made are the patch ids of what the commits that git log lists change.
func (r *Repo) made(ctx context.Context, args ...string) ([]string, error) {
	running, stop := context.WithCancel(ctx)
	defer stop()
	log := r.gitCommand(running, r.mirror, []string{"GIT_LITERAL_PATHSPECS=1"}, append([]string{"log", "-p", "--no-merges", "--no-ext-diff", "--no-textconv"}, args...)...)
	var stderr bytes.Buffer
	log.Stderr = &stderr
	out, err := log.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := log.Start(); err != nil {
		return nil, err
	}
	ids, err := r.patchIDs(ctx, out)
	if err != nil {
		stop()
	}
	if ended := log.Wait(); err == nil && ended != nil {
		err = &gitError{log.Args[1:], "", stderr.String(), ended}
	}
	return ids, err
}

// patchIDs are those of the patches in a text.
func (r *Repo) patchIDs(ctx context.Context, text io.Reader) (ids []string, err error) {
	out, err := r.gitInput(ctx, r.mirror, nil, text, "patch-id", "--stable")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(out) {
		id, _, _ := strings.Cut(line, " ")
		ids = append(ids, id)
	}
	return ids, nil
}

// fromLine is a line that git would take for the begin of the next mail, or for
// one that was quoted for that reason.
var fromLine = regexp.MustCompile(`\n(>*From )`)

// spool writes patches to files of their own, which is how git am takes them, as
// mboxrd.
func spool(patches []patchmail.Patch) (files []string, remove func(), err error) {
	dir, err := os.MkdirTemp("", "kbisect-mail-")
	if err != nil {
		return nil, nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	for i, p := range patches {
		file := filepath.Join(dir, fmt.Sprintf("%05d", i+1))
		if err := os.WriteFile(file, fromLine.ReplaceAll(p.Raw, []byte("\n>$1")), 0o600); err != nil {
			remove()
			return nil, nil, err
		}
		files = append(files, file)
	}
	return files, remove, nil
}

// alreadyThere finds the patches that changed nothing in what git am -3 says: it
// passes over them.
func alreadyThere(said string) (subjects []string) {
	subject := ""
	for line := range strings.Lines(said) {
		line = strings.TrimRight(line, "\n")
		if s, ok := strings.CutPrefix(line, "Applying: "); ok {
			subject = s
		} else if strings.HasPrefix(line, "No changes -- Patch already applied") {
			subjects = append(subjects, subject)
		}
	}
	return subjects
}

var (
	fatal    = regexp.MustCompile(`(?m)^(error|fatal): .*`)
	failedAt = regexp.MustCompile(`(?m)^Patch failed at (\d+) (.*)$`)
	noPlace  = regexp.MustCompile(`(?m)^error: (?:patch failed: (.+:\d+)|(.+: (?:does not exist|already exists) in index))$`)
	refused  = regexp.MustCompile(`(?m)^error: (invalid path .*|.* is beyond a symbolic link)$`)
	lacking  = regexp.MustCompile(`(?m)^error: sha1 information is lacking or useless \((.+)\)\.$`)
)

// explainAm turns git am's complaint into an ApplyError and leaves the
// worktree clean.
func (w *Worktree) explainAm(ctx context.Context, name string, of int, err error) error {
	defer func() { _, _ = w.repo.gitEnv(ctx, w.dir, committer, "am", "--abort") }()
	var ge *gitError
	if !errors.As(err, &ge) {
		return err
	}
	said := ge.stderr + "\n" + ge.stdout
	m := failedAt.FindStringSubmatch(said)
	if m == nil {
		if at := fatal.FindString(said); at != "" { // behind warnings, it may be
			said = at
		}
		return userErrorf("%s: %s", name, oneLine(said)) // "Patch is empty." goes to stdout
	}
	n, _ := strconv.Atoi(m[1])
	ae := &ApplyError{Patch: n, Of: of, Subject: m[2]}
	conflicts, _ := w.repo.git(ctx, w.dir, "diff", "--name-only", "--diff-filter=U", "-z")
	ae.Files = strings.FieldsFunc(conflicts, func(r rune) bool { return r == 0 })
	switch lacks := lacking.FindStringSubmatch(said); {
	case len(ae.Files) > 0:
		ae.Merge = "conflict in " + patchmail.Some(ae.Files)
	case lacks != nil:
		ae.Files = []string{lacks[1]}
		ae.Merge = "impossible, the repository lacks the version of " + lacks[1] + " that the patch was made from"
	case refused.MatchString(said):
		ae.Merge = "impossible, " + refused.FindStringSubmatch(said)[1]
	case strings.Contains(said, "Did you hand edit your patch?"):
		ae.Merge = "impossible, the patch does not fit the files that it was made from: somebody edited it"
	default:
		ae.Merge = "impossible"
		if _, why, ok := strings.Cut(said, "error: "); ok {
			ae.Merge += ", " + oneLine(why)
		}
	}
	ae.At = w.noPlaceFor(ctx)
	return ae
}

// noPlaceFor asks git where the patch that git am stopped at does not fit: with -3
// am keeps that to itself.
func (w *Worktree) noPlaceFor(ctx context.Context) (at []string) {
	diff, err := w.repo.gitEnv(ctx, w.dir, committer, "am", "--show-current-patch=diff")
	if err != nil {
		return nil
	}
	if _, err := w.repo.git(ctx, w.dir, "read-tree", "HEAD"); err != nil { // the index is in conflict
		return nil
	}
	// With --reject it goes on to the next hunk, and --check keeps it from doing anything.
	apply := w.repo.gitCommand(ctx, w.dir, nil, "apply", "--cached", "--check", "--reject")
	apply.Stdin = strings.NewReader(diff + "\n\n")
	said, _ := apply.CombinedOutput() // what it says matters, it may exit with 0
	for _, m := range noPlace.FindAllSubmatch(said, -1) {
		at = append(at, string(m[1])+string(m[2]))
	}
	return at
}
