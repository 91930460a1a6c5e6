package app

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/kernel-bisect/kbisect/internal/bisect"
	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/history"
	"github.com/kernel-bisect/kbisect/internal/kbuild"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// searchRequest is how a bisection is to search.
type searchRequest struct {
	Confidence    float64       `json:"confidence,omitempty"`
	FindFix       bool          `json:"find_fix,omitempty"`
	Paths         []string      `json:"paths,omitempty"`
	FirstParent   bool          `json:"first_parent,omitempty"`
	Suspects      []string      `json:"suspects,omitempty"` // paths, or names in messages
	AnyFailure    bool          `json:"any_failure,omitempty"`
	MaxRuns       int           `json:"max_runs,omitempty"`
	MaxBuilds     int           `json:"max_builds,omitempty"`
	MaxTime       time.Duration `json:"max_time,omitempty"`
	MaxIterations int           `json:"max_iterations,omitempty"`
	NoConfirm     bool          `json:"no_confirm,omitempty"`
	// Built are the commits of the range whose kernels were kept when the job
	// began. They are recorded so that a resumed search takes the same way,
	// whatever it has built by then.
	Built []string `json:"built,omitempty"`
	// Read are the commits of the range that change a file which builds read, as
	// far as one knew when the job began; nil where the range is long. The others
	// are less likely, and cost nothing if they are tried.
	Read []string `json:"read,omitempty"`
	// Nearer is a commit to try before the newer end: see nearer.
	Nearer string `json:"nearer,omitempty"`
	// Price of a build in runs, as the builds of the range and the latest runs
	// have it; 0 where there were too few.
	Price float64 `json:"price,omitempty"`
	// Forecast has the price of each build, where one can tell.
	Forecast *forecast `json:"forecast,omitempty"`
}

// defaultSearch is what the flags are by default.
func defaultSearch() searchRequest { return searchRequest{Confidence: 0.99, MaxIterations: 32} }

func (r *searchRequest) register(f *pflag.FlagSet) {
	f.Float64Var(&r.Confidence, "confidence", defaultSearch().Confidence, "probability with which the named commit must be the culprit")
	f.BoolVar(&r.FindFix, "find-fix", false, "search for the commit that repaired: --bad is the older end, --good the newer one")
	f.StringArrayVar(&r.Paths, "path", nil, "only commits that touch this `path` are candidates; repeatable")
	f.BoolVar(&r.FirstParent, "first-parent", false, "follow first parents only: a merge stands for all that it brought")
	f.StringArrayVar(&r.Suspects, "suspect", nil, "commits that touch this `path`, or name this function in their message, are 20 times as likely beforehand; repeatable")
	f.BoolVar(&r.AnyFailure, "any-failure", false, "count every failure, whatever its signature")
	f.IntVar(&r.MaxIterations, "max-iterations", defaultSearch().MaxIterations, "repeat a rare failure's test up to so often within each run; 1 is never")
	f.IntVar(&r.MaxRuns, "max-runs", 0, "stop after so many runs with the commits that are left (default grows with the range)")
	f.IntVar(&r.MaxBuilds, "max-builds", 0, "test at most so many commits besides the ends (default grows with the range)")
	f.DurationVar(&r.MaxTime, "max-time", 0, "end the search after so long with the commits that are left, before what was found is confirmed; --resume goes on for as long again")
	f.BoolVar(&r.NoConfirm, "no-confirm", false, "leave out what follows a found commit: building it and its parent from nothing, and reverting it")
}

// check returns what is wrong with the values.
func (r *searchRequest) check() error {
	switch {
	case r.Confidence < 0.5 || r.Confidence > 0.9999:
		return usagef("--confidence %g: 0.5 to 0.9999", r.Confidence)
	case r.MaxRuns < 0:
		return usagef("--max-runs %d: 1 or more", r.MaxRuns)
	case r.MaxBuilds < 0:
		return usagef("--max-builds %d: 1 or more", r.MaxBuilds)
	case r.MaxTime < 0:
		return usagef("--max-time %s: not negative", r.MaxTime)
	case r.MaxIterations < 1 || r.MaxIterations > 1000:
		return usagef("--max-iterations %d: 1 to 1000", r.MaxIterations)
	}
	return nil
}

// rangeOptions say which commits of the range are candidates.
func (r *searchRequest) rangeOptions() gitrepo.RangeOptions {
	return gitrepo.RangeOptions{Paths: r.Paths, FirstParent: r.FirstParent, AncestryPath: r.FindFix}
}

// prior weighs the candidates by what is suspected and by what builds read, nil
// if nothing is known of either.
func (r *searchRequest) prior(ctx context.Context, repo *gitrepo.Repo, all request, commits []kernel.Commit) ([]float64, error) {
	if len(r.Suspects) == 0 && len(r.Read) == 0 {
		return nil, nil
	}
	weight, err := r.suspected(ctx, repo, all)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(commits))
	for i, c := range commits {
		ids[i] = c.SHA
	}
	if len(r.Read) > 0 {
		read := map[string]bool{}
		for _, sha := range r.Read {
			read[sha] = true
		}
		for _, sha := range ids {
			if !read[sha] && weight[sha] <= 1 {
				weight[sha] = history.InertWeight
			}
		}
	}
	return history.Prior(ids, weight), nil
}

// suspected weighs the commits of a range by what the user suspects.
func (r *searchRequest) suspected(ctx context.Context, repo *gitrepo.Repo, all request) (map[string]float64, error) {
	weight := map[string]float64{}
	if len(r.Suspects) == 0 {
		return weight, nil
	}
	var h history.Hints
	for _, s := range r.Suspects {
		if words := history.Words(s); len(words) > 0 && !isPath(s) {
			h.Words = append(h.Words, words...)
		} else {
			h.Paths = append(h.Paths, s)
		}
	}
	suspected := false
	err := repo.Changes(ctx, all.Base, all.Head, func(c history.Change) {
		weight[c.SHA] = h.Weight(c)
		suspected = suspected || weight[c.SHA] > 1
	})
	if err != nil {
		return nil, err
	}
	if !suspected {
		return nil, usagef("--suspect: no commit of the range touches or names %s", strings.Join(r.Suspects, ", "))
	}
	return weight, nil
}

// isPath tells a path from the name of a function: names have no slash or dot.
func isPath(s string) bool { return strings.ContainsAny(s, "/.") }

// maxToRead is how long a range may be for its commits to be read: git takes
// some 20 s for the changes of as many.
const maxToRead = 20_000

// predict finds the commits of a request's range whose kernels are kept, what the
// build of another may cost, and which of them builds take notice of.
func (o *options) predict(ctx context.Context, ws *workspace, repo *gitrepo.Repo, req *request) error {
	if o.simulate != nil || o.noBuilds {
		return nil
	}
	b := &bench{ws: ws, req: *req, repo: repo, log: o.logger()}
	var err error
	if b.profile, err = profileOf(req.Profile); err != nil {
		return err
	}
	both, err := b.builders(ctx, o)
	if err != nil {
		return err
	}
	base, err := repo.Commit(ctx, req.Base)
	if err != nil {
		return err
	}
	treeOf, err := req.treeOf(ctx, repo)
	if err != nil {
		return err
	}
	builder := both.his
	var builds []kernel.Build
	var failed error
	trees := map[string]string{base.SHA: treeOf(base)}
	var commits []string
	err = repo.Trees(ctx, req.Base, req.Head, func(sha, tree string) {
		tree = treeOf(kernel.Commit{SHA: sha, Tree: tree})
		commits, trees[sha] = append(commits, sha), tree
		k, ok, err := both.kept(ctx, kernel.Commit{SHA: sha, Tree: tree})
		if ok {
			req.Search.Built = append(req.Search.Built, sha)
			if k.SameAs == "" {
				builds = append(builds, k)
			}
		}
		failed = errors.Join(failed, err)
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	runs, err := ws.store.RunTimes(ctx, 100)
	if err != nil {
		return err
	}
	req.Search.Price = price(builds, runs)
	if len(commits) > maxToRead {
		return nil
	}
	deps, err := foresee(ctx, repo, builder, req, commits, trees)
	if err != nil || req.Search.Forecast == nil {
		return err
	}
	past, err := builder.Past()
	req.Search.Forecast.learn(together(builds, past), runs, deps.Objects())
	return err
}

// together are builds without those that are among others again.
func together(builds, others []kernel.Build) []kernel.Build {
	known := map[string]bool{}
	var out []kernel.Build
	for _, b := range slices.Concat(builds, others) {
		if !known[b.Kernel.Key] {
			out = append(out, b)
		}
		known[b.Kernel.Key] = true
	}
	return out
}

// foresee finds out which commits change what builds read, what each will cost,
// and what can be had for little. It returns what it knows of the object tree.
func foresee(ctx context.Context, repo *gitrepo.Repo, builder *kbuild.Builder, req *request, commits []string, trees map[string]string) (*kbuild.Dependents, error) {
	opened, err := builder.Opens(ctx)
	if err != nil {
		return nil, err
	}
	unread, files := map[string]bool{}, map[string][]string{}
	err = repo.Changes(ctx, req.Base, req.Head, func(c history.Change) {
		unread[c.SHA] = !c.Touches(opened)
		files[c.SHA] = c.Files
	})
	if err != nil {
		return nil, err
	}
	req.Search.Read = slices.DeleteFunc(commits, func(sha string) bool { return unread[sha] })
	deps := builder.Dependents()
	if req.Search.Forecast, err = forecastOf(ctx, repo, deps, req, trees, builder.Warm(), files); err != nil {
		return nil, err
	}
	if f := req.Search.Forecast; f != nil {
		if _, f.Kept, err = builder.Kept(ctx, kernel.Commit{Tree: trees[req.Base]}); err != nil {
			return nil, err
		}
	}
	if !slices.Contains(req.Search.Built, req.Head) {
		req.Search.Nearer, err = nearEnd(ctx, repo, builder, deps, req, trees, files)
	}
	return deps, err
}

// enough builds or runs have a median that one of them cannot move far.
const enough = 3

// maxPrice of a build, in runs, which a clock gone wrong cannot pass.
const maxPrice = 10_000

// price is the median of builds in medians of runs. The median keeps the first
// build of a tree, which compiles everything, out of it.
func price(builds []kernel.Build, runs []time.Duration) float64 {
	if len(builds) < enough || len(runs) < enough {
		return 0
	}
	seconds := make([]float64, len(builds))
	for i, b := range builds {
		seconds[i] = b.Seconds
	}
	run := median(runs).Seconds()
	if run <= 0 {
		return 0
	}
	return bounded(median(seconds) / run)
}

func bounded(price float64) float64 { return min(max(price, 1), maxPrice) }

// median of values, the upper one of two; zero of none.
func median[T cmp.Ordered](values []T) (m T) {
	if len(values) > 0 {
		m = slices.Sorted(slices.Values(values))[len(values)/2]
	}
	return m
}

// free are the positions of the commits that were built.
func (r *searchRequest) free(commits []kernel.Commit) []int {
	built := map[string]bool{}
	for _, sha := range r.Built {
		built[sha] = true
	}
	var out []int
	if r.Forecast != nil && r.Forecast.Kept {
		out = append(out, bisect.GoodEnd)
	}
	for i, c := range commits {
		if built[c.SHA] {
			out = append(out, i)
		}
	}
	return out
}
