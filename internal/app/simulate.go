package app

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kernel-bisect/kbisect/internal/bisect"
	"github.com/kernel-bisect/kbisect/internal/simulate"
)

func newSimulate(o *options) *cobra.Command {
	var w simulate.World
	var trials int
	var seed uint64
	cmd := &cobra.Command{
		Use:   "simulate --commits N --fail-rate R --false-fail-rate Q",
		Short: "Let the search engine work in a simulated world",
		Example: `  orchestrator simulate --commits 1000 --fail-rate 0.3 --false-fail-rate 0.01
  orchestrator simulate --commits 1000 --world bimodal --trials 1000 --format json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if trials < 1 || trials > 1_000_000 {
				return usagef("--trials %d: 1 to 1000000", trials)
			}
			r, err := simulate.Run(w, trials, seed)
			if err != nil {
				return usagef("%v", err)
			}
			if o.format == "json" {
				return o.printJSON(r)
			}
			_, err = fmt.Fprint(o.stdout, simulationText(r))
			return err
		},
	}
	f := cmd.Flags()
	f.IntVar(&w.Commits, "commits", 1000, "candidates")
	f.Float64Var(&w.FailRate, "fail-rate", 0.5, "share of the runs on bad commits that fail, in the constant world")
	f.Float64Var(&w.FalseFailRate, "false-fail-rate", 0.01, "share of the runs on good commits that fail")
	f.IntVar(&trials, "trials", 200, "searches to simulate")
	f.Uint64Var(&seed, "seed", 1, "equal seeds give equal answers")
	f.StringVar(&w.Name, "world", "constant", "how the failure rate varies along the range: "+strings.Join(simulate.Worlds, ", "))
	f.Float64Var(&w.BuildPrice, "build-price", bisect.DefaultPrice, "price of a build, in runs")
	f.Float64Var(&w.Wide, "wide", 0, "share of the commits that change a header which everything includes")
	f.Float64Var(&w.NarrowPrice, "narrow-price", 3, "with --wide: price of a build with no such commit between it and the one before, in runs")
	f.Float64Var(&w.FlatPrice, "flat-price", 0, "with --wide: what the search is told that any build costs, in runs; 0: the truth")
	f.Float64Var(&w.Iteration, "iteration-price", 0, "price of repeating the test within a run, in runs; 0: it is not repeated")
	f.Float64Var(&w.BadGoodEnd, "bad-good-end", 0, "share of the ranges whose good end is bad")
	f.StringVar(&w.Skips, "skips", "", "commits that cannot be tested: scattered (10 %) or block (30 % in one piece)")
	f.Float64Var(&w.Hot, "hot", 0, "share of the commits that a prior makes 20 times as likely")
	f.BoolVar(&w.HotRight, "hot-right", false, "the culprit is one of them")
	f.Float64Var(&w.Correlation, "correlation", 0, "chance that a run repeats the outcome of the one before on its commit")
	f.BoolVar(&w.TwoChanges, "several-changes", false, "the failure comes, goes and comes again")
	f.BoolVar(&w.Merges, "merges", false, "a history with merges, as the kernel's")
	f.Float64Var(&w.Confidence, "confidence", 0.99, "probability with which the named commit must be the culprit")
	f.IntVar(&w.Workers, "workers", 1, "probes made at once")
	return cmd
}

func simulationText(r simulate.Result) string {
	var b strings.Builder
	percent := func(x float64) string { return fmt.Sprintf("%.1f %%", 100*x) }
	fmt.Fprintf(&b, "%d searches of %d commits, %s world, seed %d\n\n", r.Trials, r.Commits, r.World, r.Seed)
	fmt.Fprintf(&b, "right         %s\nwrong         %s\ninconclusive  %s, of it sets that hold the culprit %s\n", percent(r.Right), percent(r.Wrong), percent(r.Inconclusive), percent(r.Sets))
	fmt.Fprintf(&b, "stated ≥ 95 %%  %s of the answers, of which %s are right\n", percent(r.Stated), percent(r.StatedRight))
	fmt.Fprintf(&b, "runs          %.1f on average, %d at most\nbuilds        %.2f on average\ncost          %.0f runs on average, 95 %% below %.0f\n", r.RunsMean, r.RunsMax, r.BuildsMean, r.CostMean, r.CostP95)
	return b.String()
}
