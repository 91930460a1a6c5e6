package app

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kernel-bisect/kbisect/internal/api"
)

// hashPrefix says in a configuration how a token was hashed.
const hashPrefix = "sha256:"

func newToken(o *options) *cobra.Command {
	var scopes []string
	var expires string
	cmd := &cobra.Command{
		Use:   "token NAME",
		Short: "Make a token for the API of a service",
		Long: `Makes a token for somebody to use the API of a service with. The token is printed once and
kept nowhere; the lines for the configuration have its hash only.`,
		Example: `  orchestrator token ci --scope submit --expires 2027-12-31`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var list []api.Scope
			for _, s := range scopes {
				list = append(list, api.Scope(s))
			}
			var end time.Time
			if expires != "" {
				var err error
				if end, err = time.Parse(time.DateOnly, expires); err != nil {
					return usagef("--expires %s: no date such as 2027-12-31", expires)
				}
			}
			name := args[0]
			if oneLine(name) != name || strings.ContainsAny(name, `"\`) {
				return usagef("%q: a name has no quotes and no control characters", name)
			}
			text, t, err := api.Mint(name, list, end)
			if err != nil {
				return usagef("%v", err)
			}
			fmt.Fprintf(o.stdout, "%s\n", text)
			entry := fmt.Sprintf("tokens:\n  - id: %s\n    name: \"%s\"\n    scopes: [%s]\n    hash: %s%s\n", t.ID, t.Name, strings.Join(scopes, ", "), hashPrefix, hex.EncodeToString(t.Hash[:]))
			if expires != "" {
				entry += "    expires: " + expires + "\n"
			}
			fmt.Fprintf(o.stderr, "The line above is the token, shown this once. For the configuration of the service:\n\n%s", entry)
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&scopes, "scope", []string{"submit"}, "read, submit (and read) or admin; repeatable")
	cmd.Flags().StringVar(&expires, "expires", "", "`day` from which on it is not valid, YYYY-MM-DD (default: never)")
	return cmd
}
