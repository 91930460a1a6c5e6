package app

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/kernel-bisect/kbisect/internal/store"
)

func newBackup(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the record of jobs and runs into a file, also while a service or a job uses it",
		Long: `Copies the record into a new file, as it is at one moment, while others go on writing.
To restore it, stop kbisect and put the file in the place of kbisect.db in the data directory.
Kernels and sources are not in it: they can be made again.`,
		Example: `  orchestrator backup kbisect-$(date +%F).db`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, _, err := o.dirs()
			if err != nil {
				return err
			}
			if _, err := os.Stat(filepath.Join(data, "kbisect.db")); err != nil {
				return usagef("%s holds no record (see --data-dir)", data)
			}
			s, err := store.Open(cmd.Context(), data)
			if err != nil {
				return err
			}
			defer s.Close()
			if err := s.Backup(cmd.Context(), args[0]); err != nil {
				return err
			}
			fmt.Fprintf(o.stderr, "The record of %s is in %s\n", data, args[0])
			return nil
		},
	}
}
