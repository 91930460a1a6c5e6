package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/patchmail"
	"github.com/kernel-bisect/kbisect/internal/report"
)

// maxStdin bounds the mail that is taken from standard input.
const maxStdin = 256 << 20

// stdinMail keeps what comes on standard input in a file while it is applied.
func (o *options) stdinMail() (file string, remove func(), err error) {
	text, err := io.ReadAll(io.LimitReader(os.Stdin, maxStdin+1))
	switch {
	case err != nil:
		return "", nil, usagef("--mbox -: %v", err)
	case len(text) > maxStdin:
		return "", nil, usagef("--mbox -: more than %d MiB of mail", maxStdin>>20)
	}
	return spoolMbox("", text)
}

// spoolMbox keeps mails in a file while they are applied.
func spoolMbox(dir string, text []byte) (path string, remove func(), err error) {
	f, err := os.CreateTemp(dir, "upload-*.mbox")
	if err != nil {
		return "", nil, fmt.Errorf("upload: %w", err)
	}
	remove = func() { _ = os.Remove(f.Name()) }
	_, err = f.Write(text)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		remove()
		return "", nil, fmt.Errorf("upload: %w", err)
	}
	return f.Name(), remove, nil
}

// baseOf is the commit that a series applies to: what the user says, or else the
// mail.
func baseOf(ctx context.Context, repo *gitrepo.Repo, mail patchmail.Series, r revRange) (string, error) {
	switch {
	case r.base != "":
		return r.base, nil
	case mail.Base == "":
		return "", usagef("%s names no base-commit: say with --base which commit it applies to", r.mbox)
	}
	if _, err := repo.Resolve(ctx, mail.Base); err != nil {
		return "", usagef("%s is based on commit %s, which the repository lacks: fetch it, or name another one with --base", r.mbox, kernel.Abbrev(mail.Base))
	}
	return mail.Base, nil
}

// applyMail applies a series in the build slot's worktree. It returns its last
// commit, and the subjects of patches that base has already.
func (w *workspace) applyMail(ctx context.Context, repo *gitrepo.Repo, base kernel.Commit, name string, mail patchmail.Series) (head string, there []string, err error) {
	free, err := w.takeSlot(ctx)
	if err != nil {
		return "", nil, err
	}
	defer free()
	slot := repo.Worktree(filepath.Join(w.cache, "slots", repo.ID(), "src"))
	defer touch(never, slot.Dir())
	commits, there, err := slot.Apply(ctx, base.SHA, name, mail)
	var ae *gitrepo.ApplyError
	if errors.As(err, &ae) {
		return "", nil, fmt.Errorf("%s on %s: %w", name, base.Short(), err)
	}
	if err != nil {
		return "", nil, err
	}
	return commits[len(commits)-1].SHA, there, nil
}

// tookMail says in a line what was taken of a heap of mail.
func tookMail(mail patchmail.Series, base kernel.Commit, there []string) string {
	var s strings.Builder
	s.WriteString("mail: ")
	if mail.Version > 1 {
		fmt.Fprintf(&s, "version %d, ", mail.Version)
	}
	fmt.Fprintf(&s, "%d of %d patches", len(mail.Patches)-len(there), len(mail.Patches))
	if mail.Title != "" {
		fmt.Fprintf(&s, " (%s)", report.Plain(mail.Title))
	}
	fmt.Fprintf(&s, " on %s", base.Short())
	if len(mail.Others) > 0 {
		fmt.Fprintf(&s, "; versions besides: %s", strings.Trim(fmt.Sprint(mail.Others), "[]"))
	}
	for i, t := range there {
		if i == 0 {
			s.WriteString("; there already: ")
		} else {
			s.WriteString(", ")
		}
		s.WriteString(report.Plain(t))
	}
	return s.String()
}

