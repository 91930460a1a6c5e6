// Command refute shows that the tests of SECURITY.md can fail: it takes out one
// defence after the other and runs the tests that hold it. `make refute` runs it,
// for 15 minutes. The sources stay as they are (go test -overlay).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// defence is one, and what it is replaced with.
type defence struct {
	what     string // that is taken out
	file     string
	old, new string // new takes the place of old, which is there once; several with and between them
	pkg      string
	tests    string // regular expression, as of go test -run
}

// and joins what is replaced together: defences that hold without each other.
const and = "\x00"

// patience with a test that may wait for ever without its defence.
const patience = 2 * time.Minute

func main() {
	only := flag.String("only", "", "those `defences` whose name has this")
	flag.Parse()
	root, err := moduleRoot()
	if err != nil {
		fmt.Fprintln(os.Stderr, "refute:", err)
		os.Exit(2)
	}
	survived := 0
	whole := map[string]bool{} // tests that pass with all defences
	for _, d := range defences {
		if !strings.Contains(d.what, *only) {
			continue
		}
		start := time.Now()
		verdict, err := d.refute(context.Background(), root, whole)
		if err != nil {
			fmt.Fprintf(os.Stderr, "refute: %s: %v\n", d.what, err)
			os.Exit(2)
		}
		if verdict == "" {
			verdict = "SURVIVED: no test fails"
			survived++
		}
		fmt.Printf("%-60s %s (%.0f s)\n", d.what, verdict, time.Since(start).Seconds())
	}
	if survived > 0 {
		fmt.Printf("%d of the defences can be taken out, and no test fails\n", survived)
		os.Exit(1)
	}
}

// without is the file as it is without the defence.
func (d defence) without(root string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, d.file))
	if err != nil {
		return "", err
	}
	changed, news := string(text), strings.Split(d.new, and)
	for i, old := range strings.Split(d.old, and) {
		if n := strings.Count(changed, old); n != 1 || i >= len(news) {
			return "", fmt.Errorf("%s has %d times %q, once is wanted", d.file, n, old)
		}
		changed = strings.Replace(changed, old, news[i], 1)
	}
	return changed, nil
}

var failed = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)|^panic: test timed out|^fatal error: (.*)$|^(signal: killed)`)

// refute returns which test failed, "" for none.
func (d defence) refute(ctx context.Context, root string, whole map[string]bool) (string, error) {
	if key := d.pkg + " " + d.tests; !whole[key] {
		cmd := exec.CommandContext(ctx, "go", "test", "-vet=off", "-run", d.tests, d.pkg)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("they fail as it is:\n%s", out)
		}
		whole[key] = true
	}
	text, err := d.without(root)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "kbisect-refute-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	changed, overlay := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, d.file): changed}})
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.WriteFile(changed, []byte(text), 0o600), os.WriteFile(overlay, replace, 0o600)); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-vet=off", "-overlay", overlay, "-timeout", patience.String(), "-run", d.tests, d.pkg)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	m := failed.FindAllStringSubmatch(string(out), -1)
	switch {
	case err == nil && strings.Contains(string(out), "no tests to run"):
		return "", fmt.Errorf("no test is called %s in %s", d.tests, d.pkg)
	case err == nil:
		return "", nil
	case len(m) == 0:
		return "", fmt.Errorf("%s", out)
	}
	// The last one named is the innermost.
	for i := len(m) - 1; i >= 0; i-- {
		if m[i][1] != "" {
			return m[i][1] + " fails", nil
		}
	}
	return strings.TrimSpace(m[0][0]), nil
}

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	return filepath.Dir(strings.TrimSpace(string(out))), err
}
