package app

import (
	"context"

	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/history"
	"github.com/kernel-bisect/kbisect/internal/kbuild"
)

// A range in which some commit changes a header that everything includes has two
// halves: on one side of it builds take seconds, on the other minutes. A search
// begins with the newer end, which is on the other side of the tree that is warm.
// If the failure shows on this side already, nobody need go there.

const (
	// farObjects is what the newer end must cost for it to matter: a fifth of the
	// slim kernel, some 20 s on two cores.
	farObjects = 120
	// nearShare is how much cheaper the nearer commit must be.
	nearShare = 8
	// nearMass is how likely the culprit must be among the commits up to it. Trying
	// one in vain costs an eighth at most.
	nearMass = 0.2
)

// nearer finds the newest commit that is still cheap to build, to be tried before
// the newer end; "" if there is none. Commits are in order, the oldest first; files
// and weight are of each, and count adds a file to what must be compiled.
func nearer(commits []string, files map[string][]string, weight func(sha string) float64, count func(path string) int) string {
	cost := make([]int, len(commits))
	mass := make([]float64, len(commits))
	all, objects := 0.0, 0
	for i, sha := range commits {
		for _, f := range files[sha] {
			objects = count(f)
		}
		all += weight(sha)
		cost[i], mass[i] = objects, all
	}
	if objects < farObjects {
		return ""
	}
	for i := len(commits) - 1; i >= 0; i-- {
		if cost[i]*nearShare <= objects {
			if mass[i] < nearMass*all {
				return ""
			}
			return commits[i]
		}
	}
	return ""
}

// nearEnd is the commit of a request's range to try before its newer end, where
// the older end is what was built last and the range has no merges.
func nearEnd(ctx context.Context, repo *gitrepo.Repo, builder *kbuild.Builder, deps *kbuild.Dependents, req *request, trees map[string]string, files map[string][]string) (string, error) {
	if s := req.Search; builder.Warm() != trees[req.Base] || s.FindFix || s.FirstParent || len(s.Paths) > 0 {
		return "", nil
	}
	commits, _, err := repo.Candidates(ctx, req.Base, req.Head, gitrepo.RangeOptions{})
	if err != nil {
		return "", err
	}
	graph, err := history.New(commits)
	if err != nil || !graph.Line() {
		return "", err
	}
	read := map[string]bool{}
	for _, sha := range req.Search.Read {
		read[sha] = true
	}
	weight := func(sha string) float64 {
		if read[sha] {
			return 1
		}
		return history.InertWeight
	}
	return nearer(shas(commits), files, weight, deps.Counter()), nil
}
