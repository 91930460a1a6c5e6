// Package app is the command line and the wiring: it joins the adapters to
// jobs, shows progress, prints reports and turns errors into exit statuses.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/kernel-bisect/kbisect/internal/gitrepo"
	"github.com/kernel-bisect/kbisect/internal/job"
	"github.com/kernel-bisect/kbisect/internal/store"
)

// Exit statuses. Scripts rely on them.
const (
	exitOK           = 0
	exitBad          = 1 // at least one bad verdict (check, series)
	exitUsage        = 2 // usage or configuration
	exitNoConclusion = 3 // not reproduced, a set instead of one commit, interrupted
	exitInfra        = 4
)

// Exit statuses of step, for `git bisect run`: 1-124 are bad, 125 is skip, and
// 128 and above stop the bisection.
const (
	stepGood  = 0
	stepBad   = 1
	stepSkip  = 125
	stepAbort = 128
)

// statusError is how a command ends with another status than 0 after it has
// printed its report.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// usageError is a mistake in the command line.
type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

func usagef(format string, a ...any) error { return &usageError{fmt.Sprintf(format, a...)} }

// Main runs the command line and returns the exit status.
func Main(args []string, stdout, stderr io.Writer) int {
	return (&options{args: args, stdout: stdout, stderr: stderr, pace: time.Second}).main()
}

func (o *options) main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second ^C must not wait for an orderly end.
	context.AfterFunc(ctx, stop)
	root := newRoot(o)
	root.SetArgs(o.args)
	root.SetOut(o.stdout)
	root.SetErr(o.stderr)
	cmd, err := root.ExecuteContextC(ctx)
	return status(cmd, err, o.stderr)
}

// status prints an error as one line and gives its exit status.
func status(cmd *cobra.Command, err error, stderr io.Writer) int {
	isStep := cmd != nil && cmd.Name() == "step"
	var code statusError
	if err == nil {
		return exitOK
	}
	if errors.As(err, &code) {
		return int(code)
	}
	var config *configError
	if errors.As(err, &config) { // it shows the place on lines of its own
		fmt.Fprintf(stderr, "orchestrator: %s\n", config.text)
		return exitUsage
	}
	fmt.Fprintf(stderr, "orchestrator: %s\n", oneLine(err.Error()))
	switch {
	case isStep:
		return stepAbort // 2 would tell git bisect that the commit is bad
	case errors.Is(err, context.Canceled):
		return exitNoConclusion
	case isUsers(err), errors.Is(err, store.ErrNoJob):
		return exitUsage
	}
	return exitInfra
}

// isUsers says whether an error is the mistake of who asked.
func isUsers(err error) bool {
	var (
		usage   *usageError
		user    *gitrepo.UserError
		apply   *gitrepo.ApplyError
		refused *job.RefusedError
	)
	return errors.As(err, &usage) || errors.As(err, &user) || errors.As(err, &apply) || errors.As(err, &refused)
}

// oneLine keeps an error to one line and a terminal's control sequences out of it.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r): // C1 and bidi controls too
			return '?'
		}
		return r
	}, strings.TrimSpace(s))
}

func newRoot(o *options) *cobra.Command {
	root := &cobra.Command{
		Use:   "orchestrator",
		Short: "Build kernel commits, boot them in QEMU, run copy-on-write reproducers, name the culprit",
		Long: `kbisect builds each commit of a Linux series, boots it in QEMU, runs memory-management
reproducers in the guest, and says per commit what passes, what fails and how sure it is.
Given a good and a bad end, it names the commit.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%v (see %s --help)", err, cmd.CommandPath())
	})
	f := root.PersistentFlags()
	f.StringVar(&o.format, "format", "text", formatNames())
	if err := root.RegisterFlagCompletionFunc("format", completeFormat); err != nil {
		panic(err) // there is no such flag
	}
	f.StringVar(&o.output, "output", "", "write the report to this `file` instead of standard output")
	f.StringVar(&o.dataDir, "data-dir", "", "keep everything in this `directory` (default: the XDG directories, or $KBISECT_HOME)")
	f.IntVar(&o.jobs, "jobs", defaultJobs(), "parallel compilers of one build")
	f.DurationVar(&o.timeout, "timeout", 0, "stop after this time and keep the runs (default: no limit)")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "log what is done to standard error")
	root.AddCommand(newDoctor(o), newList(o), newCheck(o), newSeries(o), newBisect(o), newBisectConfig(o), newStep(o), newUndo(o), newReport(o), newSimulate(o), newServe(o), newWorker(o), newBackup(o), newToken(o), newGitHub(o), newClean(o))
	for _, c := range append(root.Commands(), root) {
		run := c.RunE
		c.RunE = func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			ctx, cancel := o.limit(cmd.Context())
			defer cancel()
			cmd.SetContext(ctx)
			return whyEnded(ctx, run(cmd, args))
		}
		if args := c.Args; args != nil {
			c.Args = func(cmd *cobra.Command, a []string) error {
				if err := args(cmd, a); err != nil {
					return usagef("%v (see %s --help)", err, cmd.CommandPath())
				}
				return nil
			}
		}
	}
	return root
}
