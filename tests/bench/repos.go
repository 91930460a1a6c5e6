package main

import (
	"bufio"
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed range.txt
var rangeList string

// mutant is the planted culprit, and test what it breaks.
const (
	mutant = "tests/mutants/6.1/thp-wp-mapcount.patch"
	test   = "cow/vmsplice-child-unmap/thp-pmd"
)

// series is a branch of the benchmark's repository.
type series struct {
	name    string
	repo    string
	base    string // commit
	head    string
	culprit string // "" where there is none
}

func lines(text string) []string {
	var out []string
	for l := range strings.Lines(text) {
		if l = strings.TrimSpace(l); l != "" && l[0] != '#' {
			out = append(out, l)
		}
	}
	return out
}

// output runs a command and returns what it says.
func output(dir string, env []string, argv ...string) (string, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", strings.Join(argv, " "), err, out, errs.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}

var author = []string{"GIT_AUTHOR_NAME=kbisect", "GIT_AUTHOR_EMAIL=kbisect@example.org", "GIT_AUTHOR_DATE=@1577836800 +0000",
	"GIT_COMMITTER_NAME=kbisect", "GIT_COMMITTER_EMAIL=kbisect@example.org", "GIT_COMMITTER_DATE=@1577836800 +0000",
	"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1"}

// checkout is a worktree of a kernel repository, in which commits are made.
type checkout struct{ dir string }

func (c checkout) git(args ...string) (string, error) {
	return output(c.dir, author, append([]string{"git"}, args...)...)
}

// edit changes a file so that what is made of it changes: the objects of a C
// file. A header gets a macro that nobody uses, as those of registers do.
func (c checkout) edit(path string, n int) error {
	text := fmt.Sprintf("# benchmark %d\n", n)
	switch filepath.Ext(path) {
	case ".c":
		text = fmt.Sprintf("static const char benchmark_%d[] __attribute__((used)) = \"%d\";\n", n, n)
	case ".h":
		text = fmt.Sprintf("#define KBISECT_BENCHMARK_%d %d\n", n, n)
	case ".S":
		text = fmt.Sprintf("/* benchmark %d */\n", n)
	}
	f, err := os.OpenFile(filepath.Join(c.dir, path), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	_, _ = w.WriteString(text)
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// commit makes a commit of an edit.
func (c checkout) commit(path string, n int) error {
	if err := c.edit(path, n); err != nil {
		return err
	}
	if _, err := c.git("add", "-f", "--", path); err != nil {
		return err
	}
	_, err := c.git("commit", "-q", "--no-verify", "-m", fmt.Sprintf("%s: benchmark commit %d", path, n))
	return err
}

// plant makes a line of commits, one for each path, with the culprit behind as
// many of them.
func (c checkout) plant(name, base string, paths []string, behind int) (series, error) {
	s := series{name: name, repo: c.dir, base: base}
	if _, err := c.git("checkout", "-q", "-f", "-B", name, base); err != nil {
		return s, err
	}
	for i := range len(paths) + 1 {
		if i == behind {
			patch, err := filepath.Abs(mutant)
			if err != nil {
				return s, err
			}
			if _, err := c.git("apply", "--index", patch); err != nil {
				return s, err
			}
			if _, err := c.git("commit", "-q", "--no-verify", "-m", "mm: the culprit"); err != nil {
				return s, err
			}
			if s.culprit, err = c.git("rev-parse", "HEAD"); err != nil {
				return s, err
			}
		}
		if i < len(paths) {
			if err := c.commit(paths[i], i); err != nil {
				return s, err
			}
		}
	}
	var err error
	s.head, err = c.git("rev-parse", "HEAD")
	return s, err
}
