package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/kernel-bisect/kbisect/internal/github"
	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/posting"
	"github.com/kernel-bisect/kbisect/internal/pulls"
)

// pullTree fetches pull requests.
type pullTree struct {
	data   string
	client *github.Client
	dirs   map[string]string // clones by OWNER/NAME
	fetch  map[string]string // where git fetches from, where it is not GitHub's URL

	mu      sync.Mutex
	patches map[string]posting.Patch
}

var _ pulls.Tree = (*pullTree)(nil)

// remote is where a repository is fetched from. Our credentials are for GitHub
// only.
func (t *pullTree) remote(ctx context.Context, name, cloneURL string) (gitrepo.Remote, error) {
	if from := t.fetch[name]; from != "" {
		return gitrepo.Remote{URL: from}, nil
	}
	auth, err := t.client.Authorization(ctx, name)
	return gitrepo.Remote{URL: cloneURL, Authorization: auth}, err
}

// userError makes what is the user's to mend in git one for who asked.
func userError(dir, name string, err error) error {
	if isUsers(err) { // where the clone lies is nobody's business
		return pulls.Cannot("%s", strings.ReplaceAll(err.Error(), dir, name))
	}
	return err
}

// Series implements pulls.Tree.
func (t *pullTree) Series(ctx context.Context, r pulls.Repo, p github.Pull) (pulls.Series, error) {
	dir := t.dirs[r.Name]
	repo, err := gitrepo.Open(ctx, t.data, dir)
	if err != nil {
		return pulls.Series{}, err
	}
	from, err := t.remote(ctx, r.Name, p.CloneURL)
	if err != nil {
		return pulls.Series{}, err
	}
	head, err := repo.FetchRef(ctx, from, fmt.Sprintf("refs/pull/%d/head", p.Number))
	if err != nil {
		return pulls.Series{}, userError(dir, r.Name, err)
	}
	if head != p.Head { // pushed in between: that is told of, too
		if has, err := repo.Has(ctx, p.Head); err != nil || !has {
			return pulls.Series{}, errors.Join(fmt.Errorf("%s#%d: GitHub has not handed out %.12s yet", r.Name, p.Number, p.Head), err)
		}
	}
	if has, err := repo.Has(ctx, p.Base); err != nil {
		return pulls.Series{}, err
	} else if !has {
		if _, err := repo.FetchRef(ctx, from, "refs/heads/"+p.BaseRef); err != nil {
			return pulls.Series{}, userError(dir, r.Name, err)
		}
	}
	base, err := repo.MergeBase(ctx, p.Base, p.Head)
	if err != nil {
		return pulls.Series{}, err
	}
	if base == "" && repo.Shallow() {
		return pulls.Series{}, pulls.Cannot("the clone of %s here is shallow and lacks the commit on which this stands: fetch more history (fetch-depth: 0)", r.Name)
	}
	if base == "" {
		return pulls.Series{}, pulls.Cannot("these commits have no history in common with %s", p.BaseRef)
	}
	s, err := seriesOf(ctx, repo, base, p.Head, r.MaxCommits)
	s.Tip, s.Trusted = p.Base, base
	return s, err
}

// seriesOf are the newest commits of base..head, at most so many.
func seriesOf(ctx context.Context, repo *gitrepo.Repo, base, head string, most int) (pulls.Series, error) {
	commits, err := repo.Range(ctx, base, head)
	if err != nil {
		return pulls.Series{}, err
	}
	s := pulls.Series{Base: base, Head: head}
	if len(commits) == 0 {
		return s, pulls.Cannot("there are no commits to test")
	}
	if over := len(commits) - most; over > 0 {
		s.Base = commits[over-1].SHA
		if commits, err = repo.Range(ctx, s.Base, head); err != nil {
			return s, err
		}
		s.LeftOut = over
		if len(commits) > maxSeries { // of branches that were merged
			return s, pulls.Cannot("%d commits are no series", len(commits))
		}
	}
	for _, c := range commits {
		id, err := repo.PatchID(ctx, c)
		if err != nil {
			return s, err
		}
		s.Commits = append(s.Commits, pulls.Commit{SHA: c.SHA, Tree: c.Tree, PatchID: id})
	}
	return s, nil
}

// Pushed implements pulls.Tree. Of a branch that is new, or was rewritten, the
// newest commits are tested.
func (t *pullTree) Pushed(ctx context.Context, r pulls.Repo, branch, before, after string) (pulls.Series, string, error) {
	dir := t.dirs[r.Name]
	repo, err := gitrepo.Open(ctx, t.data, dir)
	if err != nil {
		return pulls.Series{}, "", err
	}
	cloneURL, page := t.client.URLs(r.Name)
	from, err := t.remote(ctx, r.Name, cloneURL)
	if err != nil {
		return pulls.Series{}, "", err
	}
	if _, err := repo.FetchRef(ctx, from, "refs/heads/"+branch); err != nil {
		return pulls.Series{}, "", userError(dir, r.Name, err)
	}
	head, err := repo.Commit(ctx, after)
	if err != nil {
		return pulls.Series{}, "", pulls.Cannot("%s of %s is not there any more: pushed over", kernel.Abbrev(after), branch)
	}
	base := ""
	if before != "" {
		if has, err := repo.Has(ctx, before); err != nil {
			return pulls.Series{}, "", err
		} else if has {
			if base, err = repo.MergeBase(ctx, before, after); err != nil {
				return pulls.Series{}, "", err
			}
		}
	}
	if base == "" && len(head.Parents) > 0 {
		base = head.Parents[0]
	}
	if base == "" || base == after {
		return pulls.Series{}, "", pulls.Cannot("%s: nothing new in %s", kernel.Abbrev(after), branch)
	}
	s, err := seriesOf(ctx, repo, base, after, r.MaxCommits)
	return s, page, err
}

// maxPatch bounds what is read of a commit's diff, and maxPatches how many are
// remembered: remarks are worked out at each step of a job.
const (
	maxPatch   = 4 << 20
	maxPatches = 1000
)

// Patch implements pulls.Tree.
func (t *pullTree) Patch(ctx context.Context, name, sha string) (posting.Patch, error) {
	t.mu.Lock()
	p, ok := t.patches[sha]
	t.mu.Unlock()
	if ok {
		return p, nil
	}
	repo, err := gitrepo.Open(ctx, t.data, t.dirs[name])
	if err != nil {
		return p, err
	}
	c, err := repo.Commit(ctx, sha)
	if err != nil {
		return p, err
	}
	diff, err := repo.Diff(ctx, c, maxPatch)
	if err != nil {
		return p, err
	}
	// What cannot be read has no lines to remark on: that is all that is lost.
	p, _ = posting.ParsePatch(diff)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.patches == nil || len(t.patches) >= maxPatches {
		t.patches = map[string]posting.Patch{}
	}
	t.patches[sha] = p
	return p, nil
}
