package kbuild

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/kernel-bisect/kbisect/internal/console"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/leash"
)

// makeRun is the make commands of one build, with their common log.
type makeRun struct {
	b       *Builder
	start   time.Time
	objects int
	log     *os.File
	logged  int64
	printed int64                   // by the command under way
	stop    context.CancelCauseFunc // of that
	torn    bool                    // one of them was killed
	errors  []string                // lines that look like errors, the first few
	judged  int                     // such lines of the command under way
	signs   signs                   // whose fault a failure is
	image   string                  // that was made, a file of the object tree
	twin    *kernel.Build           // whose .config is equal, so that nothing was made
	equal   *kernel.Build           // whose objects are equal, so that nothing was linked
}

// maxLog bounds the log of one build: a hostile Makefile can print for ever.
// maxErrors lines are kept to find the first real error in, of each its start.
const (
	maxLog    = 32 << 20
	maxErrors = 20
	maxLine   = 64 << 10
	maxJudged = 1 << 10 // of a line: what is looked at, and told

	// maxSuspects is how many lines of a command are looked at for whose fault they
	// are. A header that breaks every file gives some 1000, and the first of them say
	// it; at 4 µs a line, what prints them without end would keep us busy for as long.
	maxSuspects = 10_000
)

func (b *Builder) newMake(start time.Time) (*makeRun, error) {
	if err := b.makeSlot(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(b.Objects, 0o755); err != nil {
		return nil, fmt.Errorf("object tree: %w", err)
	}
	log, err := os.CreateTemp(filepath.Dir(b.Objects), ".log-")
	if err != nil {
		return nil, fmt.Errorf("build log: %w", err)
	}
	_ = os.Remove(log.Name()) // lives as long as it is open
	return &makeRun{b: b, start: start, log: log}, nil
}

func (m *makeRun) close() { _ = m.log.Close() }

func (m *makeRun) logText() ([]byte, error) {
	if _, err := m.log.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(m.log)
}

// make runs make with a target on the object tree. It returns false when make
// gave up, and an error when it could not do its work: no tools, space, memory,
// time or sandbox.
func (m *makeRun) make(ctx context.Context, args ...string) (bool, error) {
	return m.makeIn(ctx, nil, nil, args...)
}

// makeIn is make that goes into some directories only, and is ended before the link
// where a comparison says so.
func (m *makeRun) makeIn(ctx context.Context, d dirs, before *comparison, args ...string) (bool, error) {
	src, obj := m.b.paths()
	more, env, err := m.b.into(d)
	if err != nil {
		return false, err
	}
	return m.run(ctx, append(env, before.env(m.b)...), slices.Concat([]string{"make", "-C", src, "O=" + obj}, reproducible, more, args))
}

// mergeConfig composes the .config of fragments in the object tree. The script
// only merges (-m), next to the .config, so that an equal .config can keep its
// time; base, such as allnoconfig, then answers what the requests do not.
func (m *makeRun) mergeConfig(ctx context.Context, base string, fragments []string) (bool, error) {
	src, obj := m.b.paths()
	merged := filepath.Join(obj, "kbisect-merged.config")
	argv := []string{"sh", filepath.Join(src, "scripts/kconfig/merge_config.sh"), "-m", "-O", obj}
	for _, f := range fragments {
		argv = append(argv, filepath.Join(obj, f))
	}
	if ok, err := m.run(ctx, []string{"KCONFIG_CONFIG=" + merged}, argv); !ok || err != nil {
		return ok, err
	}
	ok, err := m.make(ctx, "KCONFIG_ALLCONFIG="+merged, base)
	if !ok || err != nil {
		return ok, err
	}
	return m.make(ctx, "olddefconfig")
}

func (m *makeRun) run(ctx context.Context, env, argv []string) (bool, error) {
	name, args, environ := m.b.wrap(env, argv)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	cmd := leash.Nice(leash.Command(ctx, m.b.Owner, environ, name, args...))
	src, obj := m.b.paths()
	if !m.b.Sandbox {
		cmd.Dir = obj
	}
	r, w, err := os.Pipe()
	if err != nil {
		return false, err
	}
	defer r.Close()
	cmd.Stdout, cmd.Stderr = w, w
	var end interruption
	cmd.Cancel = func() error { return end.cancel(ctx, cmd) }
	cmd.WaitDelay = 2 * grace
	fmt.Fprintf(m.log, "+ %s\n", strings.Join(argv, " "))
	m.errors, m.judged, m.signs, m.printed, m.stop = nil, 0, signs{src: src, obj: obj}, 0, stop
	var g *guard
	if m.b.Sandbox {
		g, err = m.b.begin(cmd, stop)
	} else {
		err = cmd.Start()
	}
	_ = w.Close()
	if err != nil {
		return false, fmt.Errorf("start %s: %w", name, err)
	}
	switch {
	case g != nil:
		end.group.Store(int64(g.init)) // by --new-session
	case !m.b.Sandbox:
		end.group.Store(int64(cmd.Process.Pid))
	}
	read := make(chan error, 1)
	go func() { read <- m.consume(r) }()
	err = cmd.Wait()
	end.ended.Store(true)
	m.torn = m.torn || end.torn(cmd.ProcessState)
	// What a build leaves behind would write into the next commit's objects.
	// In the sandbox nothing is left; outside, not all may die, so do not wait
	// for ever until the pipe is closed.
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	patience := cmd.WaitDelay
	if ctx.Err() != nil {
		patience = 0
	}
	_ = r.SetReadDeadline(time.Now().Add(patience))
	rerr := <-read
	if g != nil {
		if err := g.end(cmd.WaitDelay); err != nil {
			m.torn = true
			return false, err
		}
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if rerr != nil {
		return false, rerr
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return true, nil
	case !errors.As(err, &exit):
		return false, fmt.Errorf("%s: %w", argv[0], err)
	}
	if exit.ExitCode() < 0 {
		return false, fmt.Errorf("make was killed from outside: %w", exit)
	}
	err = m.hostTrouble(exit.ExitCode())
	// It may have been a make below this one, which then deletes nothing.
	m.torn = m.torn || err != nil && strings.Contains(err.Error(), allKilled)
	return false, err
}

var (
	// "  CC      mm/memory.o": kbuild's short form; host programs are HOSTCC.
	objectLine = regexp.MustCompile(`^  (CC|AS)(\s|\s+\[M\]\s)`)
	errorLine  = regexp.MustCompile(`(?i)(\berror\b|undefined reference|\*\*\*|No space left|quota exceeded|Killed|memory exhausted|Cannot allocate|temporarily unavailable|: (command )?not found$|cannot find -l|^bwrap: |out of memory|: No such file or directory$|: Permission denied$)`)
	// Said of missing files that are no errors: only an exit code makes it one.
	mereHint = regexp.MustCompile(`^[^\s:]+: (\d+: )?\S+: (No such file or directory|Permission denied)$`)
	// What make says in passing; directories and objects may be called "error".
	quietLine = regexp.MustCompile(`^(  [A-Z]|make(\[\d+\])?: (Entering|Leaving) directory)`)
)

// consume reads a command's output to its end, whatever it is.
func (m *makeRun) consume(r io.Reader) error {
	br := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := br.ReadSlice('\n')
		if len(line) > 0 {
			if lerr := m.keep(line); lerr != nil {
				_, _ = io.Copy(io.Discard, r) // or make would wait for a reader
				return lerr
			}
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil // the end, or a pipe held by a process that outlived make
		}
	}
}

func (m *makeRun) keep(line []byte) error {
	if m.printed += int64(len(line)); m.printed > m.b.limits().Output && m.stop != nil {
		m.stop(&stopped{why: fmt.Sprintf("it printed more than %s", bytesOf(m.b.limits().Output)), own: true})
	}
	if m.logged < maxLog {
		n, err := m.log.Write(line)
		if err != nil {
			return fmt.Errorf("build log: %w", err)
		}
		if m.logged += int64(n); m.logged >= maxLog {
			_, _ = m.log.WriteString("\n… the rest of the log was dropped …\n")
		}
	}
	line = bytes.TrimRight(line, "\r\n")
	line = line[:min(len(line), maxJudged)]
	if objectLine.Match(line) {
		m.objects++
		m.b.report(Progress{Phase: "compile", Objects: m.objects, Elapsed: time.Since(m.start)})
	}
	if m.judged >= maxSuspects || quietLine.Match(line) || quotedLine.Match(line) || !errorLine.Match(line) {
		return nil
	}
	m.judged++
	m.signs.note(string(line))
	if mereHint.Match(line) {
		return nil
	}
	if len(m.errors) < maxErrors {
		m.errors = append(m.errors, string(line))
	}
	return nil
}

// firstError is the first error of the last command: the compiler's if there
// is one, with the path as in the tree, and fit to be shown.
func (m *makeRun) firstError() string {
	if len(m.errors) == 0 {
		return "make failed without an error message; see the log"
	}
	src, obj := m.b.paths()
	l := m.errors[0]
	if i := slices.IndexFunc(m.errors, compilerError.MatchString); i >= 0 {
		l = m.errors[i]
	} else if i := slices.IndexFunc(m.errors, func(l string) bool {
		return strings.Contains(l, "undefined reference") || strings.Contains(l, "error:")
	}); i >= 0 {
		l = m.errors[i]
	}
	return console.Clean([]byte(strings.NewReplacer(src+"/", "", obj+"/", "", "../src/", "").Replace(l)), 0)
}
