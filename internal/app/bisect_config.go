package app

import (
	"context"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/job"
	"github.com/kernel-bisect/kbisect/internal/kbuild"
	"github.com/kernel-bisect/kbisect/internal/kconfig"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/kconfigs"
)

// configEnds are the two configurations of a bisect-config, as they were given.
type configEnds struct {
	Good kbuild.Fragment `json:"good"` // named by its path
	Bad  kbuild.Fragment `json:"bad"`
}

func newBisectConfig(o *options) *cobra.Command {
	var p planFlags
	var chased chaseFlags
	var repo, rev, good, bad, resume string
	cmd := &cobra.Command{
		Use:   "bisect-config --repo DIR --good CONFIG --bad CONFIG (--test NAME | --script FILE | --program FILE)",
		Short: "Find the config options that break a test",
		Long: `Finds a smallest set of the options in which two .configs differ that makes a test fail on
one commit. Both ends are tried first. Each candidate is the good .config with the bad one's
values of some options, completed by the kernel's olddefconfig and judged by what came out;
equal kernels are built and run once. The search is ddmin (Zeller and Hildebrandt, 2002).

On top of both ends is set what the guest needs to start (kconfigs/guest.x86_64.config) and
what --kconfig says. Modules are left out, since no guest loads one. The report says which of
the differing options that leaves out.`,
		Example: `  orchestrator bisect-config --repo ~/linux --rev v6.1 --good mine.config --bad /boot/config-6.1 --script repro.sh
  orchestrator bisect-config --resume bisect-config-1a2b3c4d`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if resume != "" {
				return o.resume(cmd, "bisect-config", resume, args)
			}
			given, err := chased.into(&p)
			if err != nil {
				return err
			}
			p.runs = 1 // the search itself says how many
			switch {
			case repo == "":
				return usagef("--repo is missing: the kernel's git repository")
			case good == "" || bad == "":
				return usagef("both ends are needed: --good CONFIG and --bad CONFIG")
			case !given:
				return errNothingChased
			}
			ends := configEnds{}
			if ends.Good, err = readConfig("--good", good); err != nil {
				return err
			}
			if ends.Bad, err = readConfig("--bad", bad); err != nil {
				return err
			}
			req, err := p.request(cmd.Context(), o, "bisect-config")
			if err != nil {
				return err
			}
			req.Configs = &ends
			if req.Repo, err = filepath.Abs(repo); err != nil {
				return err
			}
			return o.startBisectConfig(cmd.Context(), req, rev)
		},
	}
	p.register(cmd)
	f := cmd.Flags()
	f.StringVar(&repo, "repo", "", "the kernel's git repository `directory`; only read, never changed")
	f.StringVar(&rev, "rev", "HEAD", "commit of the repository")
	f.StringVar(&good, "good", "", "a whole .config `file` with which the test passes")
	f.StringVar(&bad, "bad", "", "a whole .config `file` with which the test fails")
	chased.register(f)
	f.StringVar(&resume, "resume", "", "go on with an interrupted search by its `id`")
	return cmd
}

// readConfig reads a .config, and sees whether it is one.
func readConfig(flag, file string) (kbuild.Fragment, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return kbuild.Fragment{}, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return kbuild.Fragment{}, usagef("%s %v", flag, err)
	}
	if _, err := kconfig.ParseWhole(text); err != nil {
		return kbuild.Fragment{}, usagef("%s %s: %v", flag, file, err)
	}
	return kbuild.Fragment{Name: path, Text: text}, nil
}

// search is what of the request a job needs.
func (e *configEnds) search(more []kbuild.Fragment) (s job.ConfigSearch, err error) {
	if s.Good, err = kconfig.ParseWhole(e.Good.Text); err != nil {
		return s, err
	}
	if s.Bad, err = kconfig.ParseWhole(e.Bad.Text); err != nil {
		return s, err
	}
	top, err := guestFragments(more)
	if err != nil {
		return s, err
	}
	s.Forced = map[string]bool{}
	for _, f := range top {
		reqs, err := kconfig.ParseFragment(f.Name, f.Text)
		if err != nil {
			return s, err
		}
		for _, r := range reqs {
			s.Forced[r.Symbol] = true
		}
	}
	return s, nil
}

// guestFragments are what is set on top of a whole .config.
func guestFragments(more []kbuild.Fragment) ([]kbuild.Fragment, error) {
	return fragments(kernel.Profile{Fragments: []string{kconfigs.Guest}}, more)
}

// startBisectConfig checks what was asked for, records the job and carries it out.
func (o *options) startBisectConfig(ctx context.Context, req request, rev string) error {
	if err := chasesOne(req); err != nil {
		return err
	}
	profile, err := profileOf(req.Profile)
	if err != nil {
		return err
	}
	if profile.Machine.Type != "microvm" {
		return usagef("--profile %s: bisect-config starts kernels on a microvm, and this one's machine is a %s", profile.Name, profile.Machine.Type)
	}
	s, err := req.Configs.search(req.Kconfig)
	if err != nil {
		return err
	}
	if !s.Differ() {
		return usagef("--good %s and --bad %s have the same options", req.Configs.Good.Name, req.Configs.Bad.Name)
	}
	ws, err := o.openWorkspace(ctx)
	if err != nil {
		return err
	}
	defer ws.close()
	repo, c, err := (&subjectFlags{repo: req.Repo, rev: rev}).source(ctx, ws.data)
	if err != nil {
		return err
	}
	req.Head = c.SHA
	if err := req.prepareCarry(ctx, repo, c); err != nil {
		return err
	}
	id, err := ws.newJob(ctx, req)
	if err != nil {
		return err
	}
	return o.runBisectConfig(ctx, ws, id, req)
}

// runBisectConfig carries out a recorded search.
func (o *options) runBisectConfig(ctx context.Context, ws *workspace, id string, req request) error {
	programs, err := req.programs()
	if err != nil {
		return err
	}
	s, err := req.Configs.search(req.Kconfig)
	if err != nil {
		return err
	}
	s.Program = programs[0]
	repo, err := gitrepo.Open(ctx, ws.data, req.Repo)
	if err != nil {
		return err
	}
	if s.Commit, err = repo.Commit(ctx, req.Head); err != nil {
		return err
	}
	defer o.abandon(ctx, ws, id)
	b, err := o.newBench(ctx, ws, id, req, repo)
	if err != nil {
		return err
	}
	defer b.close()
	if err := b.addConfigBuilder(ctx, o); err != nil {
		return err
	}
	res := &kernel.ConfigResult{
		Schema: "kbisect/bisect-config/v1", ID: id, Status: kernel.Searching, Profile: b.profile.Name, Test: s.Program.Name, Commit: s.Commit,
		Good: req.Configs.Good.Name, Bad: req.Configs.Bad.Name, Host: b.host, Allowed: req.Allowed, Command: req.Command, Started: b.started,
	}
	ended := func(string) bool { return false } // half a search has no answer to show
	err = o.carryOut(ctx, b, growing{res, &res.Seconds, &res.Carried, ended}, func(update func()) error {
		return b.lab.BisectConfig(ctx, s, res, update)
	})
	if err != nil {
		return err
	}
	if res.Status != kernel.Found {
		return statusError(exitNoConclusion)
	}
	return nil
}

// addConfigBuilder wires the build of a commit with whole .configs. They have an
// object tree of their own: those of the profile would be compiled anew.
func (b *bench) addConfigBuilder(ctx context.Context, o *options) error {
	builder, err := b.builder(ctx, o)
	if err != nil {
		return err
	}
	if builder.Fragments, err = guestFragments(b.req.Kconfig); err != nil {
		return err
	}
	made := map[string]kernel.Build{} // by digest of the .config
	if builder.Sandbox {              // else the paths in it may be those of another tree
		builder.Seed = builder.Objects
	}
	builder.Objects += "-config"
	builder.Progress = b.bar.building
	builder.Twin = func(config string) (kernel.Build, bool) {
		build, ok := made[config]
		return build, ok
	}
	one := b.carried.with(func(ctx context.Context, c kernel.Commit) (kernel.Build, error) {
		if build, ok, err := builder.Kept(ctx, c); ok || err != nil {
			return build, err
		}
		return b.inSlot(ctx, c, builder, builder.Build)
	})
	b.lab.BuildConfig = func(ctx context.Context, c kernel.Commit, whole []byte) (kernel.Build, []byte, error) {
		builder.Whole = whole
		build, err := one(ctx, c)
		if err != nil || build.Status != kernel.BuildOK {
			return build, nil, err
		}
		if _, twin := made[build.Kernel.ConfigDigest]; twin {
			build.Cached = true // nothing was made
		}
		made[build.Kernel.ConfigDigest] = build
		config, err := os.ReadFile(build.Kernel.Config)
		return build, config, err
	}
	return nil
}
