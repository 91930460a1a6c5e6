package app

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/store"
)

// listedJobs is how many jobs `report` without an id shows.
const listedJobs = 20

func newReport(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "report [ID]",
		Short: "Print the report of a past job; without an id, list the newest jobs",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, _, err := o.dirs()
			if err != nil {
				return err
			}
			if _, err := os.Stat(filepath.Join(data, "kbisect.db")); err != nil {
				return usagef("%s holds no jobs yet (see --data-dir)", data)
			}
			s, err := store.Open(cmd.Context(), data)
			if err != nil {
				return err
			}
			defer s.Close()
			if len(args) == 0 {
				jobs, err := s.Jobs(cmd.Context(), listedJobs)
				if err != nil {
					return err
				}
				return o.listJobs(jobs, inUse(data))
			}
			j, err := s.Job(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			v, err := resultOf(j)
			if err != nil {
				return err
			}
			return o.emit(v)
		},
	}
}

// resultOf decodes a job's result.
func resultOf(j store.Job) (any, error) {
	if len(j.Result) == 0 {
		return nil, usagef("job %s has no result yet (%s)", j.ID, j.Status)
	}
	v, ok := map[string]any{"check": &kernel.CheckResult{}, "matrix": &kernel.MatrixResult{}, "series": &kernel.SeriesResult{}, "bisect": &kernel.BisectResult{}, "bisect-config": &kernel.ConfigResult{}}[j.Kind]
	if !ok {
		return nil, fmt.Errorf("job %s is of an unknown kind %q", j.ID, j.Kind)
	}
	if err := json.Unmarshal(j.Result, v); err != nil {
		return nil, fmt.Errorf("job %s: %w", j.ID, err)
	}
	return v, nil
}

// listJobs prints jobs. One that counts as running while nobody works in the
// data directory was killed.
func (o *options) listJobs(jobs []store.Job, inUse bool) error {
	type row struct {
		ID      string `json:"id"`
		Kind    string `json:"kind"`
		Status  string `json:"status"`
		Created string `json:"created"`
		Command string `json:"command"`
	}
	rows := make([]row, 0, len(jobs))
	for _, j := range jobs {
		req, err := decodeRequest(j.Request)
		if err != nil { // one job that cannot go on here must not hide the others
			req.Command = "(asked of another version of kbisect)"
		}
		if j.Status == store.Running && !inUse {
			j.Status = "killed"
		}
		rows = append(rows, row{j.ID, j.Kind, j.Status, j.Created.Local().Format("2006-01-02 15:04:05"), req.Command})
	}
	if o.format == "json" {
		return o.printJSON(map[string]any{"schema": "kbisect/jobs/v1", "jobs": rows})
	}
	table := [][]string{{"JOB", "STATUS", "STARTED", "COMMAND"}}
	for _, r := range rows {
		table = append(table, []string{r.ID, r.Status, r.Created, oneLine(r.Command)})
	}
	return o.printTable(table)
}
