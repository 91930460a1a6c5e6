package app

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Series and bisections take commits that come with the command, and the command
// that their reports end with gives the same once more.
func TestBroughtCommits(t *testing.T) {
	repo, shas := smallKernel(t, 12)
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", repo}, args...)...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("git %q: %v", args, err)
		}
		return string(out)
	}
	dir := t.TempDir()
	box, one, two := filepath.Join(dir, "box"), filepath.Join(dir, "one"), filepath.Join(dir, "two")
	if err := os.WriteFile(box, []byte(git("format-patch", "--stdout", "main~3..main")), 0o600); err != nil {
		t.Fatal(err)
	}
	git("bundle", "create", "-q", one, "main~3..main")
	git("tag", "v7", "main~1")
	git("bundle", "create", "-q", two, "main~3..main", "v7")
	git("tag", "-d", "v7")
	// The user has only what was before.
	git("reset", "--hard", "-q", "main~3")
	git("reflog", "expire", "--expire=now", "--all")
	git("prune", "--expire=now")
	base := shas[8]
	for _, c := range []struct {
		name, args string
		status     int
		says       string   // on standard error
		again      string   // what the command is, where it is not what was typed
		subjects   []string // of the series, or the culprit
	}{
		{"mail", "series --mbox " + box, 0, "base: main (", "series --mbox " + box + " --base " + base, []string{"9", "10", "11"}},
		{"mail on a base", "series --mbox " + box + " --base main", 0, "mail: 3 of 3", "", []string{"9", "10", "11"}},
		{"mail from a pipe", "series --mbox - --base main", 0, "mail: 3 of 3", "series " + base + "..HEAD", []string{"9", "10", "11"}},
		{"mail from a pipe, in one word", "series --base=main --mbox=-", 0, "mail: 3 of 3", "series " + base + "..HEAD", []string{"9", "10", "11"}},
		{"a bundle", "series --bundle " + one, 0, "bundle: " + kernel.Abbrev(base) + ".." + kernel.Abbrev(shas[11]), "", []string{"9", "10", "11"}},
		{"a bundle on another base", "series --bundle " + one + " --base " + shas[7], 0, "bundle: ", "", []string{"8", "9", "10", "11"}},
		{"a ref of a bundle", "series main..v7 --bundle " + two, 0, "bundle: ", "", []string{"9", "10"}},
		{"a bundle of two", "series --bundle " + two, 2, two + ": it has several refs, say which with BASE..HEAD: refs/heads/main, refs/tags/v7", "", nil},
		{"no ref of a bundle", "series main..v8 --bundle " + two, 2, two + ": it has no v8; there are refs/heads/main, refs/tags/v7", "", nil},
		{"no bundle", "series --bundle " + box, 2, box + ": no git bundle", "", nil},
		{"bisected mail", "bisect --no-confirm --mbox " + box, 0, "base: main (", "bisect --no-confirm --mbox " + box + " --base " + base, []string{"10"}},
		{"bisected mail from a pipe", "bisect --no-confirm --mbox - --base main", 0, "mail: 3 of 3", "bisect --no-confirm --good " + base + " --bad HEAD", []string{"10"}},
		{"a fix in mail from a pipe", "bisect --no-confirm --find-fix --mbox -", 0, "mail: 3 of 3", "bisect --no-confirm --find-fix --good HEAD --bad " + base, []string{"10"}},
		{"a bisected bundle", "bisect --no-confirm --bundle " + one, 0, "bundle: ", "", []string{"10"}},
		{"both", "series --mbox x --bundle y", 2, "--mbox and --bundle exclude each other", "", nil},
		{"both, bisected", "bisect --mbox x --bundle y", 2, "--mbox and --bundle exclude each other", "", nil},
		{"ends of mail", "bisect --good main --mbox x", 2, "leave --good and --bad out", "", nil},
		{"a base of nothing", "bisect --good main --bad main --base x", 2, "--base is for --mbox and --bundle", "", nil},
		{"a base twice", "series a..b --bundle x --base c", 2, "BASE..HEAD and --base exclude each other", "", nil},
		{"ends of mail for a service", "bisect --good main --mbox x --server http://127.0.0.1:1", 2, "leave --good and --bad out", "", nil},
		{"a bundle for a service", "series --bundle x --server http://127.0.0.1:1", 2, "--bundle is not for a service", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			home := t.TempDir()
			t.Setenv("KBISECT_HOME", home)
			in, err := os.Open(box)
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			old := os.Stdin
			os.Stdin = in
			defer func() { os.Stdin = old }()
			// Change 10 breaks it, or repairs it.
			bad := func(sha string) bool {
				mirror, _ := filepath.Glob(filepath.Join(home, "mirrors", "*.git"))
				subject, err := exec.Command("git", "--git-dir", mirror[0], "show", "-s", "--format=%s", sha).Output()
				if err != nil {
					t.Error(sha, err)
				}
				n := strings.TrimPrefix(strings.TrimSpace(string(subject)), "mm: change ")
				return strings.HasPrefix(c.args, "bisect") && (n == "10" || n == "11") != strings.Contains(c.args, "--find-fix")
			}
			common := []string{"--repo", repo, "--test", "cow/fork-basic/base", "--format", "json"}
			run := func(args []string) (kernel.SeriesResult, kernel.BisectResult, string) {
				t.Helper()
				var out, errs bytes.Buffer
				o := &options{args: args, stdout: &out, stderr: &errs, simulate: newSimulation(bad, true, 0)}
				if status := o.main(); status != c.status || !strings.Contains(errs.String(), c.says) {
					t.Fatalf("%q: status %d:\n%s", args, status, errs.String())
				}
				var s kernel.SeriesResult
				var b kernel.BisectResult
				if c.status == 0 {
					if err := json.Unmarshal(out.Bytes(), map[bool]any{true: &s, false: &b}[args[0] == "series"]); err != nil {
						t.Fatal(err)
					}
				}
				return s, b, errs.String()
			}
			named := func(s kernel.SeriesResult, b kernel.BisectResult) (names []string, head string) {
				for _, row := range s.Commits {
					names, head = append(names, strings.TrimPrefix(row.Subject, "mm: change ")), row.SHA
				}
				if b.Culprit != nil {
					names, head = []string{strings.TrimPrefix(b.Culprit.Subject, "mm: change ")}, b.Bad.SHA
					if b.FindFix {
						head = b.Good.SHA
					}
				}
				return names, head
			}
			words := strings.Fields(c.args)
			s, b, said := run(append(words[:1:1], append(common, words[1:]...)...))
			if c.status != 0 {
				if strings.Count(said, "\n") != 1 {
					t.Errorf("not one line: %s", said)
				}
				return
			}
			names, head := named(s, b)
			if !slices.Equal(names, c.subjects) {
				t.Errorf("%q, want %q", names, c.subjects)
			}
			command := s.Command + b.Command
			want := strings.ReplaceAll(c.again, "HEAD", head)
			if want == "" {
				want = c.args
			}
			kind, rest, _ := strings.Cut(want, " ")
			if want = "orchestrator " + kind + " " + strings.Join(common, " ") + " " + rest; command != want {
				t.Errorf("command %s\nwant    %s", command, want)
			}
			os.Stdin = nil
			c.says = ""
			s, b, _ = run(strings.Fields(command)[1:])
			if got, at := named(s, b); !slices.Equal(got, names) || at != head {
				t.Errorf("once more: %q at %s, want %q at %s", got, at, names, head)
			}
		})
	}
}
