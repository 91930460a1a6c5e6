package app

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kernel-bisect/kbisect/internal/api"
	"github.com/kernel-bisect/kbisect/internal/config"
	"github.com/kernel-bisect/kbisect/internal/queue"
)

// hashPrefix says in a configuration how a token was hashed.
const hashPrefix = "sha256:"

func newToken(o *options) *cobra.Command {
	var scopes []string
	var expires string
	var worker bool
	cmd := &cobra.Command{
		Use:   "token NAME",
		Short: "Make a token for the API of a service, or a worker's secret",
		Long: `Makes a token for somebody to use the API of a service with. The token is printed once and
kept nowhere; the lines for the configuration have its hash only.`,
		Example: `  orchestrator token ci --scope submit --expires 2027-12-31
  orchestrator token --worker builder1`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if worker {
				return o.workerToken(args[0])
			}
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
	cmd.Flags().BoolVar(&worker, "worker", false, "make the secret of the worker of that name instead")
	cmd.Flags().StringSliceVar(&scopes, "scope", []string{"submit"}, "read, submit (and read) or admin; repeatable")
	cmd.Flags().StringVar(&expires, "expires", "", "`day` from which on it is not valid, YYYY-MM-DD (default: never)")
	cmd.MarkFlagsMutuallyExclusive("worker", "scope")
	cmd.MarkFlagsMutuallyExclusive("worker", "expires")
	return cmd
}

// workerToken makes the secret of a worker.
func (o *options) workerToken(name string) error {
	if !config.WorkerName(name) {
		return usagef("%q: a worker's name has letters, digits, _ and - only, and is not %s", name, config.LocalWorker)
	}
	secret := rand.Text()
	fmt.Fprintf(o.stdout, "%s\n", secret)
	fmt.Fprintf(o.stderr, "The line above is the secret of worker %s, shown this once: it goes into the file that secret_file names in the\n"+
		"worker's configuration. For the configuration of the service:\n\nworkers:\n  secrets:\n    %s: %s%s\n", name, name, hashPrefix, queue.Hash(secret))
	return nil
}
