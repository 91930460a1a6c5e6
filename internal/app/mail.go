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
	"github.com/kernel-bisect/kbisect/internal/lore"
	"github.com/kernel-bisect/kbisect/internal/patchmail"
	"github.com/kernel-bisect/kbisect/internal/report"
)

// getMail brings the mail of a series into a file, if it is not in one. remove is to
// be called when it was applied.
func getMail(ctx context.Context, cache string, r *revRange, tell func(string)) (remove func(), err error) {
	remove = func() {}
	if _, err := os.Lstat(r.mbox); r.mbox == "" || err == nil {
		return remove, nil
	}
	switch {
	case r.mbox == "-":
		text, err := io.ReadAll(io.LimitReader(os.Stdin, gitrepo.MaxMail+1))
		if err != nil {
			return nil, usagef("--mbox -: %v", err)
		}
		if len(text) > gitrepo.MaxMail {
			return nil, usagef("--mbox -: more than %d MiB of mail", gitrepo.MaxMail>>20)
		}
		r.name, r.piped = "standard input", true
		r.mbox, remove, err = spoolMbox("", text)
		return remove, err
	case lore.Names(r.mbox):
		a := lore.Archive{URL: os.Getenv("KBISECT_LORE"), Dir: filepath.Join(cache, "threads"), Agent: "kbisect"}
		file, remark, err := a.Fetch(ctx, r.mbox)
		var le *lore.Error
		if errors.As(err, &le) && !le.Network {
			return nil, usagef("%v", err)
		}
		if err != nil {
			return nil, err
		}
		if remark != "" {
			tell("warning: " + remark)
		}
		r.name, r.mbox = r.mbox, file
	}
	return remove, nil
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

// applyMail applies a series in the build slot's worktree. It returns its last
// commit, and what it took in a line.
func (w *workspace) applyMail(ctx context.Context, repo *gitrepo.Repo, base kernel.Commit, name string, mail patchmail.Series) (head, took string, err error) {
	free, err := w.takeSlot(ctx)
	if err != nil {
		return "", "", err
	}
	defer free()
	slot := repo.Worktree(filepath.Join(w.slots(), repo.ID(), "src"))
	defer touch(never, slot.Dir())
	commits, there, err := slot.Apply(ctx, base.SHA, name, mail)
	var ae *gitrepo.ApplyError
	if errors.As(err, &ae) {
		return "", "", fmt.Errorf("%s on %s: %w", name, base.Short(), err)
	}
	if err != nil {
		return "", "", err
	}
	return commits[len(commits)-1].SHA, tookMail(mail, base, there), nil
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
	if len(there) > 0 {
		subjects := make([]string, len(there))
		for i, t := range there {
			subjects[i] = report.Plain(t)
		}
		s.WriteString("; there already: " + strings.Join(subjects, ", "))
	}
	return s.String()
}
