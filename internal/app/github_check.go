package app

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kernel-bisect/kbisect/internal/config"
	"github.com/kernel-bisect/kbisect/internal/github"
)

func newGitHub(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "github", Short: "What GitHub needs to know, and what it lets kbisect do", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usagef("github what? check-setup, or manifest")
		}}
	cmd.AddCommand(newGitHubCheck(o), newGitHubManifest(o))
	return cmd
}

func newGitHubManifest(o *options) *cobra.Command {
	var url string
	cmd := &cobra.Command{
		Use:   "manifest --url URL",
		Short: "Print the manifest that creates the GitHub App",
		Long: `Prints the manifest of a GitHub App that has just the permissions and events that kbisect needs.
GitHub creates the App from it: paste it into the form of
docs.github.com/apps/sharing-github-apps/registering-a-github-app-from-a-manifest.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if url == "" {
				return usagef("--url is missing: where GitHub reaches the service")
			}
			return o.manifest(url)
		},
	}
	cmd.Flags().StringVar(&url, "url", "", "where GitHub reaches the service, `https://HOST`")
	return cmd
}

func (o *options) manifest(url string) error {
	enc := json.NewEncoder(o.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(github.Manifest(url))
}

func newGitHubCheck(o *options) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "check-setup --config FILE",
		Short: "Say which permissions at GitHub are missing",
		Long: `Logs in at GitHub as the service would and looks at what it may do in each configured
repository. Without an App it ends with the manifest that creates one.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef("--config is missing: the service's configuration")
			}
			cfg, err := serveConfig(file, "", nil)
			if err != nil {
				return err
			}
			if cfg.GitHub == nil {
				return usagef("%s has no github: (deploy/serve.yaml shows one)", file)
			}
			return o.checkSetup(cmd, cfg)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration `file` of the service, YAML")
	return cmd
}

func (o *options) checkSetup(cmd *cobra.Command, cfg *config.Config) error {
	known, err := readSecrets(cfg.GitHub)
	if err != nil {
		return err
	}
	client, err := github.New(github.Options{URL: cfg.GitHub.URL, Credentials: known.cred})
	if err != nil {
		return usagef("github: %v", err)
	}
	var repos []string
	checks := false
	for _, r := range cfg.GitHub.Repos {
		p, err := followed(r, client.App())
		if err != nil {
			return err
		}
		repos, checks = append(repos, r.Name), checks || p.Checks
	}
	findings, err := client.CheckSetup(cmd.Context(), repos, checks)
	if err != nil {
		return err
	}
	if len(known.webhook) > 0 {
		findings = append(findings, github.Finding{OK: true, What: "webhooks are taken at " + cfg.URL + webhookPath})
	} else {
		findings = append(findings, github.Finding{OK: true, What: fmt.Sprintf("no webhook secret: repositories are asked every %s", cfg.GitHub.PollEvery(false))})
	}
	bad := 0
	for _, f := range findings {
		sign := "ok  "
		if !f.OK {
			sign = "MISS"
			bad++
		}
		fmt.Fprintf(o.stdout, "%s  %s\n", sign, oneLine(f.What))
	}
	if cfg.GitHub.App.ID == 0 {
		fmt.Fprintln(o.stdout, "\nA GitHub App may also post check runs with remarks at lines. This manifest creates it:")
		if err := o.manifest(cfg.URL); err != nil {
			return err
		}
	}
	if bad > 0 {
		return statusError(exitInfra)
	}
	return nil
}
