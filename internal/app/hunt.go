package app

import (
	"context"
	"slices"
	"time"

	"github.com/kernel-bisect/kbisect/internal/bisect"
	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/history"
	"github.com/kernel-bisect/kbisect/internal/job"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
)

// hunt is a search of one range.
type hunt struct {
	how     searchRequest
	over    job.Range
	engine  *bisect.Search
	newer   kernel.Commit
	outside bool // the newer end touches none of the paths
}

// newHunt prepares the search of a request between two commits.
func newHunt(ctx context.Context, repo *gitrepo.Repo, req request, older, newer kernel.Commit) (*hunt, error) {
	how := req.Search
	commits, outside, err := repo.Candidates(ctx, older.SHA, newer.SHA, how.rangeOptions())
	if err != nil {
		return nil, err
	}
	graph, err := history.New(commits)
	if err != nil {
		return nil, err
	}
	prior, err := how.prior(ctx, repo, req, commits)
	if err != nil {
		return nil, err
	}
	h := &hunt{how: how, newer: newer, outside: outside}
	h.engine = bisect.New(&graph.Shape, bisect.Options{
		Confidence: how.Confidence, Fix: how.FindFix, Prior: prior, Free: how.free(commits),
		Price: how.Price, PriceFrom: how.Forecast.over(len(commits)), // of a part that begins where the range does
		MaxIterations: how.MaxIterations, MaxRuns: how.MaxRuns, MaxBuilds: how.MaxBuilds,
	})
	h.over = job.Range{Good: older, Graph: graph, AnyFailure: how.AnyFailure,
		Details: func(ctx context.Context, c kernel.Commit) (kernel.Commit, error) {
			full, err := repo.Commit(ctx, c.SHA)
			full.Parents = c.Parents // of the candidates
			return full, err
		}}
	if how.MaxTime > 0 {
		h.over.Until = time.Now().Add(how.MaxTime)
	}
	return h, nil
}

// search carries it out.
func (h *hunt) search(ctx context.Context, b *bench, p runner.Program, res *kernel.BisectResult, update func()) error {
	if err := b.lab.Bisect(ctx, h.over, h.engine, p, res, update); err != nil || !h.outside {
		return err
	}
	if res.Culprit != nil && res.Culprit.SHA == h.newer.SHA {
		// It stands for all that was left out above the other candidates.
		res.Status, res.Culprit, res.Candidates = kernel.NoConclusion, nil, nil
		res.Reason = "no commit that touches the paths made the difference: search without --path, or with others"
		update()
	} else if slices.ContainsFunc(res.Candidates, func(c kernel.Candidate) bool { return c.SHA == h.newer.SHA }) {
		res.Reason += "; " + h.newer.Short() + " stands for the commits that do not touch the paths, too"
		update()
	}
	return nil
}

// near searches below the commit that is to be tried before the newer end, if it
// fails as well, and returns it. It returns no commit where the whole range is to
// be searched: what was found out until then is on record.
func (h *hunt) near(ctx context.Context, repo *gitrepo.Repo, req request, b *bench, p runner.Program, res *kernel.BisectResult, update func()) (kernel.Commit, error) {
	none := kernel.Commit{}
	if h.how.Nearer == "" {
		return none, nil
	}
	c, err := repo.Commit(ctx, h.how.Nearer)
	if err != nil {
		return none, err
	}
	fails, err := b.lab.Shows(ctx, c, p)
	if err != nil || !fails {
		return none, err
	}
	before := *res
	below, err := newHunt(ctx, repo, req, h.over.Good, c)
	if err != nil {
		return none, err
	}
	below.over.Until = h.over.Until
	if err := below.search(ctx, b, p, res, update); err != nil {
		return none, err
	}
	if res.Status != kernel.Found {
		*res = before
		return none, nil
	}
	res.Reason += "; " + c.Short() + " fails already, and took less to build than the bad end, which was not run"
	update()
	return c, nil
}
