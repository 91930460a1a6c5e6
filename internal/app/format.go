package app

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/kernel-bisect/kbisect/internal/report"
)

// formatNames lists what --format takes.
func formatNames() string {
	names := []string{"text"}
	for _, f := range report.Formats() {
		names = append(names, f.Name)
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or, of a bisection, " + names[last]
}

// completeFormat completes --format in a shell.
func completeFormat(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	names := []string{"text"}
	for _, f := range report.Formats() {
		names = append(names, f.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
