package gitrepo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/patchmail"
)

// Carry is a patch that every commit is to have.
type Carry struct {
	Name string    `json:"name"`
	Diff []byte    `json:"diff"`
	Date time.Time `json:"date,omitzero"` // of the mail that it came in
}

// Digest is the sha256 of the patch.
func (p Carry) Digest() string {
	sum := sha256.Sum256(p.Diff)
	return hex.EncodeToString(sum[:])
}

// CarryError says why a carried patch cannot be applied to a commit.
type CarryError struct{ Name, Reason string }

func (e *CarryError) Error() string {
	return fmt.Sprintf("carried %s does not apply: %s", e.Name, e.Reason)
}

// MaxCarry bounds a carried patch, in bytes: a hot-fix or a test hook has some
// kilobytes, and each job that has it is recorded with it.
const MaxCarry = 1 << 20

// mailHeader begins a mail. Other patches may have words in front, too.
var mailHeader = regexp.MustCompile(`^(?:From |(?:[A-Za-z-]+:.*\r?\n(?:[ \t].*\r?\n)*)*?Subject:)`)

// ReadCarry takes a patch from a mail, as git format-patch writes it, or from a
// plain diff. What is neither is a *UserError.
func (r *Repo) ReadCarry(ctx context.Context, name string, text []byte) (Carry, error) {
	p := Carry{Name: name, Diff: text}
	if len(text) > MaxCarry {
		return p, userErrorf("%s: more than %d KiB", name, MaxCarry>>10)
	}
	if mailHeader.Match(text) {
		if err := r.unpack(ctx, &p); err != nil {
			return p, err
		}
	}
	said, ok, err := r.apply(ctx, nil, p.Diff, "--numstat")
	if err == nil && !ok {
		err = userErrorf("%s: no patch that git can read: %s", name, gitComplaint(said))
	}
	return p, err
}

// unpack takes the diff out of a mail: its text may be encoded.
func (r *Repo) unpack(ctx context.Context, p *Carry) error {
	dir, err := os.MkdirTemp("", "kbisect-carry-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	box := filepath.Join(dir, "box")
	if err := os.WriteFile(box, p.Diff, 0o600); err != nil {
		return err
	}
	mails, err := r.mails(ctx, box, p.Name)
	if err != nil {
		return err
	}
	if len(mails) != 1 {
		return userErrorf("%s: %d mails: give each patch in a file of its own", p.Name, len(mails))
	}
	diff := filepath.Join(dir, "diff")
	about, err := r.gitInput(ctx, r.mirror, nil, bytes.NewReader(mails[0]), "mailinfo", filepath.Join(dir, "message"), diff)
	if err != nil {
		var ge *gitError
		if errors.As(err, &ge) {
			err = userErrorf("%s: no mail: %s", p.Name, oneLine(ge.stderr))
		}
		return err
	}
	for line := range strings.Lines(about) {
		if d, ok := strings.CutPrefix(line, "Date: "); ok {
			p.Date, _ = mail.ParseDate(strings.TrimSpace(d)) // else it is not known
		}
	}
	p.Diff, err = os.ReadFile(diff)
	return err
}

// apply runs git apply in the mirror. It returns what that said, and false if
// the patch is no good, or not for what is in the index.
func (r *Repo) apply(ctx context.Context, env []string, diff []byte, args ...string) (said string, ok bool, err error) {
	cmd := r.gitCommand(ctx, r.mirror, env, append(append([]string{"apply", "--whitespace=nowarn"}, args...), "-")...)
	cmd.Stdin = bytes.NewReader(diff)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && ctx.Err() != nil {
		return "", false, ctx.Err()
	}
	if errors.As(err, &exit) && exit.Exited() {
		return stderr.String(), false, nil
	}
	return stderr.String(), err == nil, err
}

// gitComplaint is the first error in what git said.
func gitComplaint(said string) string {
	for line := range strings.Lines(said) {
		if e, ok := strings.CutPrefix(strings.TrimSpace(line), "error: "); ok {
			e, _, _ = strings.Cut(e, " (allow with")
			return e
		}
	}
	return oneLine(said)
}

// carryRef is what the refs of commits begin with that Carry made of others, whose
// ids are behind it.
func carryRef(patches []Carry) string {
	h := sha256.New()
	for _, p := range patches {
		fmt.Fprintln(h, p.Digest())
	}
	return "refs/kbisect/carry/" + hex.EncodeToString(h.Sum(nil)[:8]) + "/"
}

// Carry makes a commit on top of c that has patches besides, in their order, in
// the mirror and without a worktree; there are the names of those that c has
// already. With all of them it is c itself. Equal patches on equal commits give an
// equal one. A patch that does not apply is a *CarryError.
func (r *Repo) Carry(ctx context.Context, c kernel.Commit, patches []Carry) (with kernel.Commit, there []string, err error) {
	dir, err := os.MkdirTemp("", "kbisect-carry-")
	if err != nil {
		return c, nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	env := append([]string{"GIT_INDEX_FILE=" + filepath.Join(dir, "index")}, ownCommit...)
	if _, err := r.gitEnv(ctx, r.mirror, env, "read-tree", c.Tree); err != nil {
		return c, nil, err
	}
	tree := c.Tree
	for _, p := range patches {
		next, err := r.carryOne(ctx, env, c.SHA, tree, p)
		if err != nil {
			return c, nil, err
		}
		if next == tree {
			there = append(there, p.Name)
		}
		tree = next
	}
	with = c
	if tree != c.Tree {
		message := fmt.Sprintf("%s, with what is carried", c.Short())
		sha, err := r.gitEnv(ctx, r.mirror, env, "commit-tree", "-p", c.SHA, "-m", message, tree)
		if err != nil {
			return c, nil, err
		}
		if with, err = r.Commit(ctx, sha); err != nil {
			return c, nil, err
		}
	}
	_, err = r.git(ctx, r.mirror, "update-ref", carryRef(patches)+c.SHA, with.SHA)
	return with, there, err
}

// carryOne applies a patch to the index, which has a tree, and returns the tree
// that comes out: the same if the patch is in there.
func (r *Repo) carryOne(ctx context.Context, env []string, sha, tree string, p Carry) (string, error) {
	_, reverse, err := r.apply(ctx, env, p.Diff, "--cached", "--check", "--reverse")
	if err != nil {
		return "", err
	}
	complaint, forward, err := r.apply(ctx, env, p.Diff, "--cached", "--check")
	if err != nil {
		return "", err
	}
	if reverse && !forward {
		return tree, nil
	}
	said, ok, err := r.apply(ctx, env, p.Diff, "--cached", "--3way")
	if err != nil {
		return "", err
	}
	// Both ways where a function has a twin: git finds the lines in either. With
	// the file that the patch was made for it knows which is meant.
	if ok && reverse && strings.Contains(said, "direct application") {
		return "", &CarryError{p.Name, "one cannot tell whether it is there already: its lines are there before and after the change, and the file that it was made for is not known"}
	}
	if ok {
		return r.gitEnv(ctx, r.mirror, env, "write-tree")
	}
	if !p.Date.IsZero() {
		// Later commits may have changed what it brought.
		bare := append([]byte("\n"), p.Diff...) // without headers
		left, _, err := r.notIn(ctx, sha, []patchmail.Patch{{Raw: bare, Date: p.Date}})
		if err != nil {
			return "", err
		}
		if len(left) == 0 {
			_, err = r.gitEnv(ctx, r.mirror, env, "read-tree", tree) // without the conflicts
			return tree, err
		}
	}
	if forward { // by the lines alone: git am would not take it either
		complaint = said
	}
	return "", &CarryError{p.Name, p.where(complaint)}
}

var (
	patchFailed = regexp.MustCompile(`(?m)^error: patch failed: (.+):(\d+)$`)
	unmerged    = regexp.MustCompile(`(?m)^U (.+)$`)
	hunkStart   = regexp.MustCompile(`^@@ -(\d+)`)
)

// where tells which hunk git could not apply.
func (p Carry) where(said string) string {
	m := patchFailed.FindStringSubmatch(said)
	if m == nil {
		if u := unmerged.FindStringSubmatch(said); u != nil {
			return u[1] + " has other changes in the same place"
		}
		return gitComplaint(said)
	}
	at, n, in := 0, 0, false
	for line := range bytes.Lines(p.Diff) {
		if name, ok := bytes.CutPrefix(line, []byte("--- ")); ok {
			name, _, _ = bytes.Cut(bytes.TrimSpace(name), []byte("\t"))
			_, short, _ := bytes.Cut(name, []byte("/"))
			in = string(short) == m[1]
		} else if h := hunkStart.FindSubmatch(line); h != nil && in {
			if n++; string(h[1]) == m[2] {
				at = n
			}
		}
	}
	if at == 0 {
		return m[1] + ", line " + m[2]
	}
	return fmt.Sprintf("%s, hunk %d of %d (line %s)", m[1], at, n, m[2])
}

// Carried are the commits that Carry has given these patches: the id of each, and
// what it was made into.
func (r *Repo) Carried(ctx context.Context, patches []Carry) (map[string]kernel.Commit, error) {
	out, err := r.git(ctx, r.mirror, "for-each-ref", "--format=%(refname) %(objectname) %(tree)", carryRef(patches))
	if err != nil {
		return nil, err
	}
	made := map[string]kernel.Commit{}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 3 {
			made[strings.TrimPrefix(f[0], carryRef(patches))] = kernel.Commit{SHA: f[1], Tree: f[2]}
		}
	}
	return made, nil
}
