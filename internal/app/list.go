package app

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kernel-bisect/kbisect/kconfigs"
)

func newList(o *options) *cobra.Command {
	return &cobra.Command{
		Use:       "list (tests | profiles)",
		Short:     "List the tests or the profiles",
		ValidArgs: []string{"tests", "profiles"},
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: func(_ *cobra.Command, args []string) error {
			if args[0] == "profiles" {
				return o.listProfiles()
			}
			return o.listTests()
		},
	}
}

func (o *options) listTests() error {
	tests, err := catalogue()
	if err != nil {
		return err
	}
	if o.format == "json" {
		return o.printJSON(map[string]any{"schema": "kbisect/tests/v1", "tests": tests})
	}
	table := [][]string{{"TEST", "CLASS", "NEEDS", "WHAT"}}
	for _, t := range tests {
		table = append(table, []string{t.Name, t.Class, strings.Join(t.Needs, ","), t.Description})
	}
	return o.printTable(table)
}

func (o *options) listProfiles() error {
	profiles := kconfigs.Profiles()
	if o.format == "json" {
		return o.printJSON(map[string]any{"schema": "kbisect/profiles/v1", "profiles": profiles})
	}
	table := [][]string{{"PROFILE", "MACHINE", "WHAT"}}
	for _, p := range profiles {
		m := p.Machine
		machine := fmt.Sprintf("%s %s, %d CPUs, %d MiB", m.Arch, m.Type, m.CPUs, m.MemoryMiB)
		table = append(table, []string{p.Name, machine, p.Description})
	}
	return o.printTable(table)
}
