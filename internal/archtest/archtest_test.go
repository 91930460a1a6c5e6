package archtest

import (
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/kernel-bisect/kbisect/"

// rows are the layers, the lowest first. A package imports packages of lower
// rows only; inside a row only what beside lists.
var rows = [][]string{
	{"internal/kernel", "internal/agentproto", "internal/leash"}, // vocabulary; how processes start
	{"internal/history", "internal/console", "internal/ktap", "internal/patchmail", "internal/kconfig", "internal/kimage", "internal/settings", "internal/config", "kconfigs"}, // pure parsers and data
	{"internal/verdict", "internal/report", "internal/bisect", "internal/ddmin"},                                                                                               // pure decisions
	{"internal/simulate", "internal/posting"}, // the search in worlds of its own; what is shown at GitHub
	{"internal/gitrepo", "internal/imagecache", "internal/kbuild", "internal/qemu", "internal/guest", "internal/agent", "internal/store", "internal/queue", "internal/artifact", "internal/kmod", "internal/lore", "vmimage"},
	{"internal/runner", "internal/depot", "internal/outbox"},
	{"internal/job"},
	{"internal/dispatch"},
	{"internal/web", "internal/api", "internal/client", "internal/github", "internal/github/githubtest"},
	{"internal/pulls"},
	{"internal/app"},
	{"cmd/orchestrator", "cmd/guest-agent", "vmimage/mkimage", "tests", "tests/laddertable", "tests/mutants/table", "tests/simulation", "tests/bench", "tests/refute"},
}

// beside are the imports allowed inside a row, each with its reason.
var beside = map[[2]string]string{
	{"internal/kconfig", "kconfigs"}:                  "its test parses the embedded fragments",
	{"internal/kbuild", "internal/imagecache"}:        "a build that is in the cache is not made",
	{"internal/github", "internal/github/githubtest"}: "its tests talk to one",
	{"internal/client", "internal/api"}:               "it speaks the types of the API, and its tests talk to one",
}

// never are imports that would break what a package is for.
var never = []struct{ pkg, imports, why string }{
	{"internal/bisect", "time", "the search has no clock: it must give the same answer when it is replayed"},
	{"internal/bisect", "context", "the search does no I/O"},
	{"internal/bisect", "os", "the search does no I/O"},
	{"internal/ddmin", "context", "what a test does is the caller's"},
	{"internal/verdict", "os", "verdicts are pure"},
	{"internal/console", "os", "parsers are pure"},
	{"internal/ktap", "os", "parsers are pure"},
	{"internal/kimage", "os", "parsers are pure"},
	{"internal/patchmail", "os", "parsers are pure"},
	{"internal/settings", "os", "parsers are pure"},
	{"internal/config", "os", "parsers are pure"},
	{"internal/report", "os", "reports are pure: bytes from a value"},
	{"internal/report", "net/http", "reports are files, not pages of a server"},
	{"internal/web", "os", "pages are made of what a record says, and of files inside"},
	{"internal/job", "os", "jobs reach the world through their lab"},
	{"internal/job", module + "internal/qemu", "jobs do not know how guests run"},
	{"internal/queue", "database/sql", "the queue is never the record"},
	{"internal/job", module + "internal/kbuild", "jobs do not know how kernels are built"},
}

// agentNever are packages that the guest agent must not even reach: it starts
// at every boot, from a 2.7 MB binary without libraries.
var agentNever = map[string]string{
	"net/http":        "2 MB and nothing to talk to: guests have no network",
	"os/user":         "needs cgo or /etc/passwd, the guest has neither",
	"runtime/cgo":     "the guest has no C library",
	"go.uber.org/zap": "the host logs; the agent only answers",
}

type pkg struct {
	ImportPath  string
	Dir         string
	Imports     []string
	TestImports []string
	Deps        []string
	Standard    bool
}

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json"}, args...)...)
	cmd.Dir = "../.."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var ps []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return ps
		} else if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
}

func TestImports(t *testing.T) {
	row := map[string]int{}
	for i, r := range rows {
		for _, p := range r {
			row[p] = i
		}
	}
	used := map[[2]string]bool{}
	for _, p := range list(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module)
		if name == "internal/archtest" {
			continue
		}
		if _, ok := row[name]; !ok {
			t.Errorf("%s is in no row: put it into rows and into README.md", name)
			continue
		}
		for _, imp := range append(p.Imports, p.TestImports...) {
			to, ours := strings.CutPrefix(imp, module)
			if !ours || row[to] < row[name] {
				continue
			}
			if beside[[2]string{name, to}] == "" {
				t.Errorf("%s imports %s, which is not below it", name, to)
			}
			used[[2]string{name, to}] = true
		}
		for _, n := range never {
			if n.pkg == name && slices.Contains(p.Imports, n.imports) {
				t.Errorf("%s imports %s: %s", name, n.imports, n.why)
			}
		}
	}
	for pair := range beside {
		if !used[pair] {
			t.Errorf("%s no longer imports %s: take it out of beside", pair[0], pair[1])
		}
	}
}

func TestAgentStaysSmall(t *testing.T) {
	for _, p := range list(t, "./cmd/guest-agent") {
		for _, d := range p.Deps {
			if why := agentNever[d]; why != "" {
				t.Errorf("the guest agent reaches %s: %s", d, why)
			}
		}
	}
}

// Every package says once what it is for.
func TestPackageComments(t *testing.T) {
	for _, p := range list(t, "./...") {
		n := 0
		files, _ := filepath.Glob(filepath.Join(p.Dir, "*.go"))
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if parsed.Doc != nil {
				n++
			}
		}
		if n != 1 && !strings.HasSuffix(p.ImportPath, "/tests") {
			t.Errorf("%s has %d package comments, want 1", p.ImportPath, n)
		}
	}
}

// The mains are thin.
func TestMainsAreThin(t *testing.T) {
	for _, f := range []string{"../../cmd/orchestrator/main.go", "../../cmd/guest-agent/main.go"} {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(b), "\n"); n > 80 {
			t.Errorf("%s has %d lines, at most 80: logic belongs in internal/", f, n)
		}
	}
}

// No package may be a drawer for everything.
func TestNames(t *testing.T) {
	_ = filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && slices.Contains([]string{"util", "utils", "common", "helpers", "manager", "misc"}, d.Name()) {
			t.Errorf("%s: a name that says nothing", path)
		}
		return nil
	})
}
