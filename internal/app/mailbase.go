package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/patchmail"
	"github.com/kernel-bisect/kbisect/internal/report"
)

// applyOnBase applies a series to the commit that the user names for it, or the mail,
// or else to one that is found. It tells what it took, and why.
func (w *workspace) applyOnBase(ctx context.Context, repo *gitrepo.Repo, r revRange, tell func(string)) (base kernel.Commit, head string, err error) {
	if r.name == "" {
		r.name = r.mbox
	}
	mail, err := repo.Mail(ctx, r.mbox, r.name)
	if err != nil {
		return base, "", err
	}
	rev := r.base
	if rev == "" {
		if rev = mail.Base; rev == "" {
			return w.findBase(ctx, repo, r.name, "names no base-commit", mail, tell)
		}
		if _, err := repo.Resolve(ctx, rev); isUsers(err) {
			return w.findBase(ctx, repo, r.name, "is based on commit "+kernel.Abbrev(rev)+", which the repository lacks", mail, tell)
		}
	}
	if base, err = repo.Resolve(ctx, rev); err != nil {
		return base, "", err
	}
	if err := repo.CheckKernel(ctx, base); err != nil {
		return base, "", err
	}
	lacks, err := repo.Lacks(ctx, base.SHA, mail)
	switch {
	case err != nil:
		return base, "", err
	case len(lacks) > 0 && r.base == "":
		return w.findBase(ctx, repo, r.name, "needs "+needed(lacks)+" on top of "+base.Short(), mail, tell)
	case len(lacks) > 0: // they may be there all the same, a little changed
		tell(fmt.Sprintf("warning: %s needs %s, which %s lacks", r.name, needed(lacks), base.Short()))
	}
	head, took, err := w.applyMail(ctx, repo, base, r.name, mail)
	if err == nil {
		tell(took)
	}
	return base, head, err
}

func needed(ids []string) string { return "prerequisite-patch-id " + patchmail.Some(ids) }

// mostTried bounds the commits to which a series is applied for a try: each checks
// out a kernel, which takes seconds where it is far from the last. baseTime bounds
// the whole search.
const (
	mostTried = 3
	baseTime  = 5 * time.Minute
)

// findBase looks for the commit that a series was made on. why is what is wrong with
// the mail's own word.
func (w *workspace) findBase(ctx context.Context, repo *gitrepo.Repo, name, why string, mail patchmail.Series, tell func(string)) (base kernel.Commit, head string, err error) {
	ctx, stop := context.WithTimeoutCause(ctx, baseTime, usagef("%s %s, and %s was not enough to find a commit that it applies to: name one with --base", name, why, baseTime))
	defer stop()
	bases, files, err := repo.Bases(ctx, mail)
	if err != nil {
		return base, "", err
	}
	closest := ""
	for i, b := range bases[:min(len(bases), mostTried)] {
		var took string
		base, head, took, err = w.tryBase(ctx, repo, b, name, mail)
		switch {
		case err == nil:
			tell(fmt.Sprintf("base: %s (%s), %s%s", report.Plain(b.Name), base.Short(), agreement(b, files), besides(bases, i, files)))
			tell(took)
			return base, head, nil
		case context.Cause(ctx) != nil:
			return base, "", context.Cause(ctx)
		case !isUsers(err):
			return base, "", err
		case closest == "":
			var ae *gitrepo.ApplyError
			if errors.As(err, &ae) {
				err = ae
			}
			closest = fmt.Sprintf("closest is %s, %s: %s; ", b.Name, agreement(b, files), strings.TrimPrefix(err.Error(), name+": "))
		}
	}
	return base, "", usagef("%s %s, and none of %d branches and tags fits; %sname a commit that it applies to with --base", name, why, len(bases), closest)
}

// tryBase applies a series to a commit that it may have been made on.
func (w *workspace) tryBase(ctx context.Context, repo *gitrepo.Repo, b gitrepo.Base, name string, mail patchmail.Series) (base kernel.Commit, head, took string, err error) {
	if base, err = repo.Commit(ctx, b.SHA); err != nil {
		return base, "", "", err
	}
	if err := repo.CheckKernel(ctx, base); err != nil {
		return base, "", "", err
	}
	lacks, err := repo.Lacks(ctx, base.SHA, mail)
	if err != nil {
		return base, "", "", err
	}
	if len(lacks) > 0 {
		return base, "", "", usagef("it lacks %s", needed(lacks))
	}
	head, took, err = w.applyMail(ctx, repo, base, name, mail)
	return base, head, took, err
}

// agreement says how much of what a series says of its files is true of a commit.
func agreement(b gitrepo.Base, files int) string {
	switch {
	case files == 0:
		return "of whose files the patches say nothing"
	case b.Match == files && files == 1:
		return "on which its one file is as the patches have it"
	case b.Match == files:
		return fmt.Sprintf("on which all %d files are as the patches have them", files)
	}
	return fmt.Sprintf("on which %d of %d files are as the patches have them", b.Match, files)
}

// besides names a few of the commits that were not taken.
func besides(bases []gitrepo.Base, taken, files int) string {
	var others []string
	for i, b := range bases {
		if i != taken && len(others) < 3 {
			others = append(others, fmt.Sprintf("%s %d", report.Plain(b.Name), b.Match))
		}
	}
	if len(others) == 0 {
		return ""
	}
	if files == 0 {
		return fmt.Sprintf("; the first of %d branches and tags", len(bases))
	}
	return fmt.Sprintf("; of %d branches and tags, others: %s", len(bases), strings.Join(others, ", "))
}
