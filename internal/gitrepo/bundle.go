package gitrepo

import (
	"bufio"
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
)

// Bundle is what git bundle packs: refs, and the commits behind them as far as who
// gets it lacks them.
type Bundle struct {
	Refs  []Ref
	Needs []string // commits that it stands on
	Base  string   // the newest commit that all these have, "" if there is none
}

// Ref is a name for a commit.
type Ref struct{ Name, SHA string }

// What a bundle may be. A series has some kilobytes; whoever has more to give has a
// repository, and --repo takes that. A commit of Linux changes 5 files as a rule, and
// its largest merges 15,000; all its files have 1.5 GB.
const (
	maxBundle  = 256 << 20
	maxNames   = 1000
	maxChanges = 200_000
	maxWritten = 4 << 30
	bundleTime = 5 * time.Minute
)

var (
	needForm   = regexp.MustCompile(`^-([0-9a-f]{40})(?: .*)?$`)
	bundleForm = regexp.MustCompile(`^([0-9a-f]{40}) (HEAD|refs/[^\x00-\x20\x7f]{1,250})$`)
)

// parseBundle reads a bundle up to its pack (gitformat-bundle(5)).
func parseBundle(from *bufio.Reader) (b Bundle, err error) {
	line, err := from.ReadSlice('\n')
	if first := string(line); err != nil || first != "# v2 git bundle\n" && first != "# v3 git bundle\n" {
		return b, errors.New("no git bundle")
	}
	for len(b.Refs)+len(b.Needs) <= maxNames {
		line, err := from.ReadSlice('\n') // 4 KiB at most
		if err != nil {
			return b, errors.New("a git bundle that ends in its header, or has a very long line there")
		}
		text := strings.TrimSuffix(string(line), "\n")
		need, ref := needForm.FindStringSubmatch(text), bundleForm.FindStringSubmatch(text)
		switch {
		case text == "" && len(b.Refs) == 0:
			return b, errors.New("a git bundle without a ref")
		case text == "":
			return b, nil
		case text == "@object-format=sha1":
		case need != nil:
			b.Needs = append(b.Needs, need[1])
		case ref != nil:
			b.Refs = append(b.Refs, Ref{ref[2], ref[1]})
		default: // a filter, another hash
			return b, fmt.Errorf("a git bundle of a kind that is not taken: %.60q", text)
		}
	}
	return b, fmt.Errorf("a git bundle with more than %d names", maxNames)
}

// Unbundle takes the commits of a bundle into the mirror, where they stay. git checks
// every object (fsck), and nothing is taken that would fill a disk when it is checked
// out. What is no bundle, or stands on commits that are not here, is a *UserError.
func (r *Repo) Unbundle(ctx context.Context, path string) (Bundle, error) {
	fail := func(format string, a ...any) (Bundle, error) {
		return Bundle{}, userErrorf("%s: %s", path, fmt.Sprintf(format, a...))
	}
	f, err := os.Open(path)
	if err != nil {
		return Bundle{}, userErrorf("%v", err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return fail("not a file")
	} else if st.Size() > maxBundle {
		return fail("a bundle of more than %d MiB: clone it, and give the clone as --repo", maxBundle>>20)
	}
	from := bufio.NewReader(f)
	b, err := parseBundle(from)
	if err != nil {
		return fail("%v", err)
	}
	for _, sha := range b.Needs {
		if ok, err := r.Has(ctx, sha); err != nil {
			return b, err
		} else if !ok {
			return fail("it stands on commit %s, which the repository lacks: fetch that first", sha)
		}
	}
	ctx, stop := context.WithTimeoutCause(ctx, bundleTime, userErrorf("%s: to unpack it takes more than %s", path, bundleTime))
	defer stop()
	if err := r.indexPack(ctx, from); err != nil {
		var ge *gitError
		if errors.As(err, &ge) {
			return fail("git does not take it: %s", oneLine(ge.stderr))
		}
		return b, causeOf(ctx, err)
	}
	for _, ref := range b.Refs {
		if ok, err := r.Has(ctx, ref.SHA); err != nil {
			return b, causeOf(ctx, err)
		} else if !ok {
			return fail("%s is no commit", ref.Name)
		}
	}
	if err := r.checkSize(ctx, b); err != nil {
		var ue *UserError
		if errors.As(err, &ue) {
			return fail("%v", err)
		}
		return b, causeOf(ctx, err)
	}
	for _, ref := range b.Refs {
		if _, err := r.git(ctx, r.mirror, "update-ref", "refs/kbisect/"+ref.SHA, ref.SHA+"^{commit}"); err != nil {
			return b, causeOf(ctx, err)
		}
	}
	if len(b.Needs) > 0 {
		b.Base, _ = r.git(ctx, r.mirror, append([]string{"merge-base", "--octopus"}, b.Needs...)...)
	}
	return b, nil
}

// causeOf says why a context ended, where that is why something failed.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// indexPack keeps a pack of objects in the mirror. git bundle unbundle would want a
// ref of the mirror on what the bundle stands on.
func (r *Repo) indexPack(ctx context.Context, pack io.Reader) error {
	// What a delta makes is in memory, however large it says that is; of what is no
	// delta, all above this limit passes through it.
	env := []string{"GIT_ALLOC_LIMIT=512m"}
	fetching.Lock()
	defer fetching.Unlock()
	_, err := r.gitInput(ctx, r.mirror, env, pack, "index-pack", "--stdin", "--fix-thin", "--strict")
	if err != nil {
		left, _ := filepath.Glob(filepath.Join(r.mirror, "objects/pack/tmp_*"))
		for _, path := range left {
			_ = os.Remove(path)
		}
	}
	return err
}

// checkSize looks at what checking out the commits of a bundle would write: a few
// small objects can name each other to a billion large files.
func (r *Repo) checkSize(ctx context.Context, b Bundle) error {
	args := []string{"log", "--raw", "-r", "-m", "--root", "--no-renames", "--no-abbrev", "--format="}
	for _, ref := range b.Refs {
		args = append(args, ref.SHA)
	}
	for _, sha := range b.Needs {
		args = append(args, "^"+sha)
	}
	// git lists what one commit changes before it says a word of it: a pointer each.
	env := []string{"GIT_ALLOC_LIMIT=" + strconv.Itoa(8*8*maxChanges)}
	running, stop := context.WithCancel(ctx)
	defer stop()
	var blobs strings.Builder
	n := 0
	err := r.gitLines(running, env, '\n', func(line string) {
		if f := strings.Fields(line); len(f) > 3 {
			if n++; n > maxChanges {
				stop()
				return
			}
			blobs.WriteString(f[3] + "\n")
		}
	}, append(args, "--")...)
	var ge *gitError
	switch {
	case n > maxChanges:
		return userErrorf("its commits change more than %d files: clone it, and give the clone as --repo", maxChanges)
	case errors.As(err, &ge) && strings.Contains(ge.stderr, "over limit"):
		return userErrorf("one of its commits changes far more than %d files", maxChanges)
	case err != nil:
		return err
	}
	sizes, err := r.gitInput(ctx, r.mirror, nil, strings.NewReader(blobs.String()), "cat-file", "--batch-check=%(objectsize)")
	if err != nil {
		return err
	}
	total := 0
	for line := range strings.Lines(sizes) {
		size, _ := strconv.Atoi(strings.TrimSpace(line)) // what was deleted has none
		if total += size; total > maxWritten {
			return userErrorf("its commits write more than %d GiB", maxWritten>>30)
		}
	}
	return nil
}

// Find is the commit that a name stands for, in full or without what git adds to it;
// the only one for "".
func (b Bundle) Find(name string) (string, error) {
	var names, shas []string
	for _, ref := range b.Refs {
		names = append(names, ref.Name)
		for _, prefix := range []string{"", "refs/", "refs/heads/", "refs/tags/"} {
			if ref.Name == prefix+name {
				return ref.SHA, nil
			}
		}
		if !slices.Contains(shas, ref.SHA) {
			shas = append(shas, ref.SHA)
		}
	}
	if name == "" && len(shas) == 1 {
		return shas[0], nil
	}
	if name == "" {
		return "", userErrorf("it has several refs, say which with BASE..HEAD: %s", strings.Join(names[:min(len(names), 20)], ", "))
	}
	return "", userErrorf("it has no %s; there are %s", name, strings.Join(names[:min(len(names), 20)], ", "))
}
