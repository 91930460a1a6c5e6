package gitrepo

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
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

// MaxMail bounds what is read of mail, in bytes. A thread on lore has some megabytes.
const MaxMail = 256 << 20

// Mail finds a series in a file or directory: a mailbox, plain or compressed, as
// git format-patch, b4 and lore write it, a Maildir, or a directory of patches.
// What is no series is a *UserError; name is what it calls the mail.
func (r *Repo) Mail(ctx context.Context, path, name string) (patchmail.Series, error) {
	mails, err := r.mails(ctx, path, name)
	if err != nil {
		return patchmail.Series{}, err
	}
	s, err := patchmail.Find(mails)
	if err != nil {
		err = userErrorf("%s: %v", name, err)
	}
	return s, err
}

// mails splits what there is into messages. It is git that knows where one ends.
func (r *Repo) mails(ctx context.Context, path, name string) ([][]byte, error) {
	boxes, err := mailboxes(path)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "kbisect-mail-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var mails [][]byte
	most := 0 // mails that there can be
	for i, box := range boxes {
		text, err := readMail(box)
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		// Before git makes a file of each.
		if most += 1 + bytes.Count(text, []byte("\nFrom ")); most > patchmail.MaxMessages {
			return nil, userErrorf("%s: more than %d mails", name, patchmail.MaxMessages)
		}
		out := filepath.Join(dir, strconv.Itoa(i))
		if err := os.Mkdir(out, 0o700); err != nil {
			return nil, err
		}
		// A file that is one mail may have no separator (-b). Archives of
		// public-inbox quote ">From " in the text of mails.
		args := []string{"mailsplit", "-d8", "-b", "-o" + out}
		if bytes.HasPrefix(text, []byte("From mboxrd@z ")) {
			args = append(args, "--mboxrd")
		}
		if _, err := r.gitInput(ctx, dir, nil, bytes.NewReader(text), args...); err != nil {
			var ge *gitError
			if errors.As(err, &ge) {
				err = userErrorf("%s: no mailbox: %s", box, oneLine(ge.stderr))
			}
			return nil, err
		}
		split, err := filepath.Glob(filepath.Join(out, "*"))
		if err != nil {
			return nil, err
		}
		for _, file := range split {
			m, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			mails = append(mails, m)
		}
	}
	if len(mails) == 0 {
		return nil, userErrorf("%s: no mail in it", name)
	}
	return mails, nil
}

// mailboxes are the files that hold the mail.
func mailboxes(path string) ([]string, error) {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, userErrorf("%s: no such file", path)
	case err != nil:
		return nil, userErrorf("%v", err)
	case !st.IsDir():
		return []string{path}, nil
	}
	dirs := []string{path}
	if _, err := os.Stat(filepath.Join(path, "cur")); err == nil { // a Maildir
		dirs = []string{filepath.Join(path, "new"), filepath.Join(path, "cur")}
	}
	var files []string
	for _, d := range dirs {
		entries, err := os.ReadDir(d)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, userErrorf("%v", err)
		}
		for _, e := range entries {
			// What editors leave behind is no mail.
			if !e.Type().IsRegular() || e.Name()[0] == '.' || strings.HasSuffix(e.Name(), "~") {
				continue
			}
			if files = append(files, filepath.Join(d, e.Name())); len(files) > patchmail.MaxMessages {
				return nil, userErrorf("%s: more than %d files", path, patchmail.MaxMessages)
			}
		}
	}
	return files, nil
}

// readMail reads a file, and unpacks it if it is compressed.
func readMail(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, userErrorf("%v", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxMail+1))
	if err == nil && bytes.HasPrefix(text, []byte{0x1f, 0x8b}) {
		var z *gzip.Reader
		if z, err = gzip.NewReader(bytes.NewReader(text)); err == nil {
			text, err = io.ReadAll(io.LimitReader(z, MaxMail+1))
		}
	}
	switch {
	case err != nil:
		return nil, userErrorf("%s: %v", path, err)
	case len(text) > MaxMail:
		return nil, userErrorf("%s: more than %d MiB of mail", path, MaxMail>>20)
	}
	return text, nil
}

// ApplyError says which patch of an mbox does not apply, and where.
type ApplyError struct {
	Patch   int // from 1
	Subject string
	Files   []string // that conflict
	Detail  string   // git's own words, one line
}

func (e *ApplyError) Error() string {
	where := ""
	if len(e.Files) > 0 {
		where = " in " + oneLine(report.Plain(strings.Join(e.Files, ", ")))
	}
	msg := fmt.Sprintf("patch %d (%q) does not apply%s", e.Patch, oneLine(e.Subject), where)
	if e.Detail != "" {
		msg += ": " + e.Detail
	}
	return msg
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
			ae.Patch = left[ae.Patch-1].Number
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
	env := []string{"GIT_COMMITTER_NAME=kbisect", "GIT_COMMITTER_EMAIL=kbisect@localhost"}
	said, err := w.repo.gitEnv(ctx, w.dir, env, append([]string{"am", "-3", "--patch-format=mbox", "--committer-date-is-author-date", "--"}, files...)...)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, w.explainAm(ctx, name, err)
	}
	return alreadyThere(said), nil
}

// mostSearched bounds the commits among which a patch is looked for.
const mostSearched = 5000

var diffOf = regexp.MustCompile(`(?m)^diff --git a/(\S+) b/(\S+)\r?$`)

// notIn separates the patches whose change no commit of base made since they were
// mailed (git-patch-id(1)) from the subjects of the others.
func (r *Repo) notIn(ctx context.Context, base string, patches []patchmail.Patch) (left []patchmail.Patch, there []string, err error) {
	args := []string{"log", "-p", "--no-merges", "--full-diff", "--no-ext-diff", "--no-textconv", "--max-count=" + strconv.Itoa(mostSearched)}
	var paths []string
	since := patches[0].Date
	for _, p := range patches {
		if p.Date.Before(since) {
			since = p.Date
		}
		for _, m := range diffOf.FindAllSubmatch(p.Raw, -1) {
			paths = append(paths, string(m[2]))
		}
	}
	if slices.Sort(paths); !since.IsZero() && len(paths) > 0 {
		args = append(args, "--since="+since.AddDate(0, 0, -1).Format(time.RFC3339))
	}
	if paths = slices.Compact(paths); len(paths) == 0 || len(paths) > 1000 {
		return patches, nil, nil
	}
	args = append(append(args, base, "--"), paths...)
	log, err := r.gitEnv(ctx, r.mirror, []string{"GIT_LITERAL_PATHSPECS=1"}, args...)
	if err != nil {
		return nil, nil, err
	}
	made, err := r.patchIDs(ctx, []byte(log))
	if err != nil {
		return nil, nil, err
	}
	for _, p := range patches {
		ids, err := r.patchIDs(ctx, p.Raw)
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

// patchIDs are those of the patches in a text.
func (r *Repo) patchIDs(ctx context.Context, text []byte) (ids []string, err error) {
	out, err := r.gitInput(ctx, r.mirror, nil, bytes.NewReader(text), "patch-id", "--stable")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(out) {
		id, _, _ := strings.Cut(line, " ")
		ids = append(ids, id)
	}
	return ids, nil
}

// spool writes patches to files of their own, which is how git am takes them.
func spool(patches []patchmail.Patch) (files []string, remove func(), err error) {
	dir, err := os.MkdirTemp("", "kbisect-mail-")
	if err != nil {
		return nil, nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	for i, p := range patches {
		file := filepath.Join(dir, fmt.Sprintf("%05d", i+1))
		if err := os.WriteFile(file, p.Raw, 0o600); err != nil {
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
	fatal      = regexp.MustCompile(`(?m)^(error|fatal): .*`)
	failedAt   = regexp.MustCompile(`(?m)^Patch failed at (\d+) (.*)$`)
	failedFile = regexp.MustCompile(`(?m)^error: (?:sha1 information is lacking or useless \((.+)\)\.|` +
		`(?:patch failed: )?([^:\n]+):(?: \d+|\d+|.*(?:does not|No such)))`)
)

// explainAm turns git am's complaint into an ApplyError and leaves the
// worktree clean.
func (w *Worktree) explainAm(ctx context.Context, name string, err error) error {
	defer func() { _, _ = w.repo.git(ctx, w.dir, "am", "--abort") }()
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
	ae := &ApplyError{Patch: n, Subject: m[2]}
	conflicts, _ := w.repo.git(ctx, w.dir, "diff", "--name-only", "--diff-filter=U", "-z")
	ae.Files = strings.FieldsFunc(conflicts, func(r rune) bool { return r == 0 })
	if len(ae.Files) == 0 {
		for _, f := range failedFile.FindAllStringSubmatch(said, -1) {
			if name := f[1] + f[2]; !slices.Contains(ae.Files, name) {
				ae.Files = append(ae.Files, name)
			}
		}
	}
	for line := range strings.Lines(said) {
		if d, ok := strings.CutPrefix(strings.TrimSpace(line), "error: "); ok {
			ae.Detail = oneLine(d)
			break
		}
	}
	return ae
}

// mostSaid bounds what is repeated of git's words, in bytes: a path of the kernel
// has 100, and one of a stranger's patch as many as it likes.
const mostSaid = 300

func oneLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	if len(line) > mostSaid {
		line = strings.ToValidUTF8(line[:mostSaid], "") + "…"
	}
	return line
}
