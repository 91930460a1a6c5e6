package app

import (
	"fmt"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/store"
)

// isSHA is an object id or a beginning of one that can be told from others.
var isSHA = regexp.MustCompile(`^[0-9a-f]{7,64}$`)

func newUndo(o *options) *cobra.Command {
	var commit string
	var last int
	cmd := &cobra.Command{
		Use:   "undo ID (--last N | --commit SHA)",
		Short: "Take back runs of a job that should not count, such as those of a broken host",
		Long: `Take back runs that a job made: they count for no job any more. The log keeps them.
The job's result is dropped with them; it goes on from the runs that are left.`,
		Example: `  orchestrator undo bisect-1a2b3c4d --last 3
  orchestrator undo bisect-1a2b3c4d --commit 8cee38e0e5c2
  orchestrator bisect --resume bisect-1a2b3c4d`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			byCount := cmd.Flags().Changed("last")
			switch {
			case byCount == (commit != ""):
				return usagef("which runs? --last N or --commit SHA")
			case byCount && last < 1:
				return usagef("--last %d: at least 1", last)
			case !byCount && !isSHA.MatchString(commit):
				return usagef("--commit %s: seven or more digits of its id, as the report has it", commit)
			}
			ws, err := o.openWorkspace(cmd.Context())
			if err != nil {
				return err
			}
			defer ws.close()
			j, err := ws.store.Job(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			runs, err := ws.store.Withdraw(cmd.Context(), j.ID, store.Selection{Commit: commit, Last: last})
			if err != nil {
				return err
			}
			if len(runs) == 0 {
				return usagef("%s has made no such runs: nothing is undone (what it took from other jobs is theirs)", j.ID)
			}
			return o.printUndone(j, runs)
		},
	}
	cmd.Flags().StringVar(&commit, "commit", "", "take back the runs on this commit, by its `id`")
	cmd.Flags().IntVar(&last, "last", 0, "take back the newest `runs`")
	return cmd
}

func (o *options) printUndone(j store.Job, runs []store.Withdrawn) error {
	if o.format == "json" {
		type row struct {
			Commit  string         `json:"commit"`
			Test    string         `json:"test"`
			Outcome kernel.Outcome `json:"outcome"`
			At      string         `json:"at"`
		}
		rows := make([]row, 0, len(runs))
		for _, w := range runs {
			rows = append(rows, row{w.Run.Commit, w.Run.Test, w.Run.Outcome, w.At})
		}
		return o.printJSON(map[string]any{"schema": "kbisect/undo/v1", "job": j.ID, "runs": rows})
	}
	table := [][]string{{"TAKEN BACK", "TEST", "OUTCOME", "MADE"}}
	for _, w := range runs {
		table = append(table, []string{kernel.Abbrev(w.Run.Commit), w.Run.Test, string(w.Run.Outcome), w.At})
	}
	if err := o.printTable(table); err != nil {
		return err
	}
	fmt.Fprintf(o.stderr, "No longer counted of %s: %d; %s\n", j.ID, len(runs), goOn(j.Kind, j.ID))
	return nil
}
