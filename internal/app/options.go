package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"github.com/kernel-bisect/kbisect/internal/job"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/report"
)

// options are the flags common to all commands, and where output goes.
type options struct {
	args           []string // as typed, for reports
	stdout, stderr io.Writer

	format, output, dataDir string
	jobs                    int
	timeout                 time.Duration
	verbose                 bool

	attempt int             // of a service's job, from 1; 0 on the command line
	log     *zap.Logger     // of a service; nil on the command line
	hook    func(job.Event) // takes the progress of a service's job
	tail    func(string)    // takes the last lines of a guest that runs; may be nil
	measure func(*job.Lab)  // counts what a service's job does

	fleet    *fleet                      // of a service: who builds and runs; nil for this process
	priority int                         // of a service's job, the lower the sooner
	turn     func(context.Context) error // of a service's job: waits while others go first
	noBuilds bool                        // this machine has no compilers and no kernels

	pace     time.Duration // between two postings of --post
	simulate *simulation   // of tests: stands for compilers and guests
}

// simulation stands for compilers and guests: lab has those, and record is how
// the job's side reads its runs.
type simulation struct{ lab, record func(*job.Lab) }

func defaultJobs() int { return runtime.NumCPU() }

func (o *options) check(cmd *cobra.Command) error {
	switch o.format {
	case "text", "json":
	case "html", "markdown", "junit", "kcidb":
		if slices.Contains([]string{"list", "doctor", "undo", "simulate"}, cmd.Name()) {
			return usagef("%s has no %s form; text or json", cmd.Name(), o.format)
		}
	case "mail":
		if cmd.Name() != "bisect" && cmd.Name() != "report" {
			return usagef("%s has no mail form; that of a bisection has", cmd.Name())
		}
	default:
		return usagef("--format %s: unknown; %s", o.format, formatNames())
	}
	if o.jobs < 1 {
		return usagef("--jobs %d: at least 1", o.jobs)
	}
	if o.timeout < 0 {
		return usagef("--timeout %s: not a time to wait", o.timeout)
	}
	if o.output != "" { // found out now, not after an hour of building
		return o.checkOutput()
	}
	return nil
}

// dirs returns the data and the cache directory.
func (o *options) dirs() (data, cache string, err error) {
	dir := o.dataDir
	if dir == "" {
		dir = os.Getenv("KBISECT_HOME")
	}
	if dir != "" {
		if dir, err = filepath.Abs(dir); err != nil {
			return "", "", err
		}
		return dir, filepath.Join(dir, "cache"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", "", usagef("no home directory to keep data in: use --data-dir")
	}
	return filepath.Join(xdg("XDG_DATA_HOME", home, ".local/share"), "kbisect"),
		filepath.Join(xdg("XDG_CACHE_HOME", home, ".cache"), "kbisect"), nil
}

func xdg(name, home, fallback string) string {
	if d := os.Getenv(name); filepath.IsAbs(d) {
		return d
	}
	return filepath.Join(home, fallback)
}

func (o *options) logger() *zap.Logger {
	if o.log != nil {
		return o.log
	}
	if !o.verbose {
		return zap.NewNop()
	}
	enc := zap.NewDevelopmentEncoderConfig()
	enc.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
	return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(enc), zapcore.AddSync(o.stderr), zap.DebugLevel))
}

// emit prints a result in the wanted format to the wanted place.
func (o *options) emit(v any) error {
	return o.print(func(w io.Writer) error { return o.render(w, v) })
}

// print writes to standard output or the file of --output, which appears whole
// or not at all.
func (o *options) print(render func(io.Writer) error) error {
	var buf bytes.Buffer
	if err := render(&buf); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if o.output == "" {
		_, err := o.stdout.Write(buf.Bytes())
		return err
	}
	return o.writeOutput(buf.Bytes())
}

func (o *options) printJSON(v any) error {
	return o.print(func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	})
}

// printTable prints rows of cells in aligned columns.
func (o *options) printTable(rows [][]string) error {
	return o.print(func(w io.Writer) error {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, r := range rows {
			if _, err := fmt.Fprintln(t, strings.Join(r, "\t")); err != nil {
				return err
			}
		}
		return t.Flush()
	})
}

// fileWidth is the width of a report that goes to a file or a pipe: nothing is
// cut that somebody may search for.
const fileWidth = 300

func (o *options) render(w io.Writer, v any) error {
	if _, ok := v.(*kernel.BisectResult); !ok && o.format == "mail" {
		return usagef("only a bisection has a mail form")
	}
	if f, ok := report.FormatNamed(o.format); ok {
		return f.Write(w, v)
	}
	to := report.TextOptions{Width: fileWidth}
	if f, ok := o.stdout.(*os.File); ok && o.output == "" && term.IsTerminal(int(f.Fd())) {
		to.Color = os.Getenv("NO_COLOR") == ""
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			to.Width = width
		}
	}
	return report.Text(w, v, to)
}

// commandLine is what the user typed, ready to be pasted.
func (o *options) commandLine() string {
	words := []string{"orchestrator"}
	for _, a := range o.args {
		if a == "" || strings.ContainsAny(a, " \t\n'\"\\$`*?[]{}()<>|&;#~!") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}
