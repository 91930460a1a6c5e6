package gitrepo

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kernel-bisect/kbisect/internal/patchmail"
)

// Base is a commit that a series may have been made on.
type Base struct {
	Name string // what the user calls it: a branch, a tag
	SHA  string
	// Match counts the files that are there as the series changes them.
	Match int
}

// What is looked at for a base. Each is one look into a tree per file: 53 branches of
// Linux and 7 files took 0.2 to 0.4 s on a busy machine.
const (
	mostBranches = 25
	mostTags     = 25 // before the mail was sent; half as many of today's
	mostFiles    = 500
)

// Bases are commits that a series may have been made on, best first: those that have
// most of its files just as its patches say ("index A..B") come before others, then
// the branch that is checked out, tags by their age, which stay where they are, other
// branches by their last commits, and what was checked out when the mail was sent. files is how many files the
// patches say something of, as far as is looked.
func (r *Repo) Bases(ctx context.Context, s patchmail.Series) (bases []Base, files int, err error) {
	if bases, err = r.namedCommits(ctx, s); err != nil {
		return nil, 0, err
	}
	want := before(s)
	var ask strings.Builder
	for _, b := range bases {
		for _, f := range want {
			fmt.Fprintf(&ask, "%s:%s\n", b.SHA, f.Path())
		}
	}
	out, err := r.gitInput(ctx, r.mirror, nil, strings.NewReader(ask.String()), "cat-file", "--batch-check=%(objectname)")
	if err != nil {
		return nil, 0, err
	}
	lines := strings.Split(out, "\n")
	if len(want) > 0 && len(lines) != len(want)*len(bases) {
		return nil, 0, fmt.Errorf("git cat-file: %d answers, not %d", len(lines), len(want)*len(bases))
	}
	for i := range bases {
		for k, f := range want {
			id := lines[i*len(want)+k]
			there := objectID.MatchString(id)
			if there && f.Blob != "" && strings.HasPrefix(id, f.Blob) || !there && f.Old == "" {
				bases[i].Match++
			}
		}
	}
	slices.SortStableFunc(bases, func(a, b Base) int { return cmp.Compare(b.Match, a.Match) })
	return bases, len(want), nil
}

// before are the files of a series as its first patch finds them.
func before(s patchmail.Series) (files []patchmail.File) {
	seen := map[string]bool{}
	for _, p := range s.Patches {
		for _, f := range p.Files() {
			name := f.Old
			if name == "" {
				name = f.New
			}
			known := seen[name]
			seen[f.Old], seen[f.New] = true, true
			// git would take a name from the directory that it is in, and a line's
			// end for the end of the name.
			if known || len(files) == mostFiles || f.Old != "" && f.Blob == "" || name == "" || name[0] == '.' && strings.Contains(name, "./") || strings.ContainsAny(name, "\n\x00") {
				continue
			}
			files = append(files, patchmail.File{Old: f.Old, New: name, Blob: f.Blob})
		}
	}
	return files
}

// namedCommits are what somebody may have made a series on.
func (r *Repo) namedCommits(ctx context.Context, s patchmail.Series) (bases []Base, err error) {
	seen := map[string]bool{}
	add := func(name, sha string) {
		if !seen[sha] {
			seen[sha] = true
			bases = append(bases, Base{Name: name, SHA: sha})
		}
	}
	sent := time.Time{}
	for _, p := range s.Patches {
		if p.Date.After(sent) {
			sent = p.Date
		}
	}
	name, _ := r.git(ctx, r.source, "symbolic-ref", "--quiet", "--short", "HEAD")
	name = cmp.Or(name, "HEAD")
	head, err := r.git(ctx, r.source, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
	if err == nil {
		add(name, head)
	}
	refs := func(sort, from string, each func(date int64, sha, name string)) error {
		out, err := r.git(ctx, r.source, append([]string{"for-each-ref", "--sort=-" + sort,
			"--format=%(" + sort + ":unix) %(objecttype) %(objectname) %(*objecttype) %(*objectname) %(refname:short)"}, strings.Fields(from)...)...)
		for line := range strings.Lines(out) {
			if m := refLine.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
				date, _ := strconv.ParseInt(m[1], 10, 64)
				each(date, m[2]+m[3], m[4])
			}
		}
		return err
	}
	then, now := 0, 0
	err = refs("creatordate", "refs/tags", func(date int64, sha, name string) {
		if date <= sent.Unix() {
			if then++; then <= mostTags {
				add(name, sha)
			}
		} else if now++; now <= mostTags/2 {
			add(name, sha)
		}
	})
	if err != nil {
		return nil, err
	}
	branches := 0
	err = refs("committerdate", "refs/heads refs/remotes", func(_ int64, sha, name string) {
		if branches++; branches <= mostBranches {
			add(name, sha)
		}
	})
	if err != nil || head == "" || sent.IsZero() {
		return bases, err
	}
	// The branch may have gone on since.
	sha, err := r.git(ctx, r.source, "rev-list", "--first-parent", "--max-count=1", "--before="+sent.UTC().Format(time.RFC3339), head, "--")
	if sha != "" {
		add(name+" of "+sent.UTC().Format(time.DateOnly), sha)
	}
	return bases, err
}

// refLine is a ref that names a commit, or a tag of one.
var refLine = regexp.MustCompile(`^(\d+) (?:tag [0-9a-f]+ commit ([0-9a-f]+)|commit ([0-9a-f]+)) +(.+)$`)

// mostNeeded bounds the commits among which the prerequisites of a series are looked
// for: git has to diff each. They are the last ones made before it, as a rule.
const mostNeeded = 1000

// Lacks are those of a series' prerequisites (by their patch id) that neither base
// nor the commits before it have made, as far as the one that the series names as
// its own base.
func (r *Repo) Lacks(ctx context.Context, base string, s patchmail.Series) (missing []string, err error) {
	if len(s.Prerequisites) == 0 {
		return nil, nil
	}
	args := []string{"--max-count=" + strconv.Itoa(mostNeeded), base}
	if s.Base != "" {
		if sha, err := r.git(ctx, r.mirror, "rev-parse", "--verify", "--quiet", s.Base+"^{commit}"); err == nil {
			args = append(args, "^"+sha)
		}
	}
	made, err := r.made(ctx, append(args, "--")...)
	if err != nil {
		return nil, err
	}
	for _, id := range s.Prerequisites {
		if !slices.Contains(made, id) {
			missing = append(missing, id)
		}
	}
	return missing, nil
}
