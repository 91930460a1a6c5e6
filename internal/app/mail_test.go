package app

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

var (
	prerequisite = regexp.MustCompile(`(prerequisite-patch-id: )[0-9a-f]+`)
	index        = regexp.MustCompile(`(?m)^index \S+`)
)

// The newest version in a thread is tested, on the commit that it names.
func TestSeriesFromMail(t *testing.T) {
	repo, shas := smallKernel(t, 12)
	mails := func(args ...string) string {
		out, err := exec.Command("git", append([]string{"-C", repo, "format-patch", "--stdout", "--cover-letter"}, args...)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if out, err := exec.Command("git", "-C", repo, "tag", "v0.9", "main~3").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	needy := mails("--base=main~5", "main~3..main")
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	based := file("based", mails("-v2", "--base=main~3", "main~3..main")+mails("main~5..main~3"))
	threads := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/all/v2@example.org/t.mbox.gz" {
			http.NotFound(w, r)
			return
		}
		z := gzip.NewWriter(w)
		_, _ = z.Write([]byte(mails("-v2", "--base=main~3", "main~3..main")))
		_ = z.Close()
	}))
	defer threads.Close()
	t.Setenv("KBISECT_LORE", threads.URL+"/all")
	half := mails("main~3..main")
	half = half[:strings.LastIndex(half, "\nFrom ")+1]
	for _, c := range []struct {
		name    string
		args    []string
		status  int
		commits int
		says    string // on standard error
	}{
		{"the base of the mail", []string{"--mbox", based}, 0, 3, "mail: version 2, 3 of 3 patches (*** SUBJECT HERE ***) on " + kernel.Abbrev(shas[8])},
		{"another base", []string{"--mbox", file("plain", mails("main~3..main")), "--base", "main~3"}, 0, 3, "mail: 3 of 3 patches"},
		{"some are there", []string{"--mbox", file("some", mails("main~3..main")), "--base", "main~1"}, 0, 1, "; there already: mm: change 9, mm: change 10"},
		{"all are there", []string{"--mbox", file("all", mails("main~3..main")), "--base", "main"}, 2, 0, "has all of its patches (3) already"},
		{"no base", []string{"--mbox", file("none", mails("main~3..main"))}, 0, 3,
			"base: v0.9 (" + kernel.Abbrev(shas[8]) + "), on which its one file is as the patches have it; of 2 branches and tags, others: main 0\nmail: 3 of 3 patches"},
		{"a base that is not here", []string{"--mbox", file("gone", strings.ReplaceAll(mails("--base=main~3", "main~3..main"), shas[8], strings.Repeat("ab", 20)))}, 0, 3,
			"base: v0.9 (" + kernel.Abbrev(shas[8]) + "), on which"},
		{"no base that fits", []string{"--mbox", file("elsewhere", index.ReplaceAllString(strings.ReplaceAll(mails("main~3..main"), "/change", "/nowhere"), "index 1234567..89abcde"))}, 2, 0,
			"/elsewhere names no base-commit, and none of 2 branches and tags fits; closest is main, on which 0 of 1 files are as the patches have them: " +
				`patch 1 of 3 ("mm: change 9") does not apply at nowhere: does not exist in index; three-way merge: impossible, the repository lacks the version of nowhere that the patch was made from; name a commit that it applies to with --base`},
		{"on top of others", []string{"--mbox", file("needy", needy)}, 0, 3, "base: v0.9 (" + kernel.Abbrev(shas[8]) + "), on which"},
		{"on top of others that are not here", []string{"--mbox", file("lost", prerequisite.ReplaceAllString(needy, "${1}"+strings.Repeat("ff", 20)))}, 2, 0,
			"/lost needs prerequisite-patch-id " + strings.Repeat("ff", 20) + ", " + strings.Repeat("ff", 20) + " on top of " + kernel.Abbrev(shas[6]) + ", and none of 2 branches and tags fits; " +
				"closest is v0.9, on which its one file is as the patches have it: it lacks prerequisite-patch-id ffff"},
		{"on top of others that look different, as the user knows", []string{"--mbox", file("warned", prerequisite.ReplaceAllString(needy, "${1}"+strings.Repeat("ff", 20))), "--base", "v0.9"}, 0, 3,
			"needs prerequisite-patch-id " + strings.Repeat("ff", 20) + ", " + strings.Repeat("ff", 20) + ", which " + kernel.Abbrev(shas[8]) + " lacks\nmail: 3 of 3 patches"},
		{"a message id", []string{"--mbox", "<v2@example.org>"}, 0, 3, "mail: version 2, 3 of 3 patches"},
		{"an address", []string{"--mbox", threads.URL + "/all/v2@example.org/T/#u"}, 0, 3, "mail: version 2, 3 of 3 patches"},
		{"a message that nobody knows", []string{"--mbox", "v3@example.org"}, 2, 0, "the archive has no such message"},
		{"nobody there", []string{"--mbox", "http://127.0.0.1:1/all/v2@example.org/"}, 4, 0, "connection refused"},
		{"half of it", []string{"--mbox", file("half", half)}, 2, 0, "fetch the whole thread"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("KBISECT_HOME", t.TempDir())
			var out, errs bytes.Buffer
			o := &options{args: append([]string{"series", "--format", "json", "--repo", repo, "--test", "cow/fork-basic/base"}, c.args...),
				stdout: &out, stderr: &errs, simulate: newSimulation(func(string) bool { return false }, true, 0)}
			if status := o.main(); status != c.status || !strings.Contains(errs.String(), c.says) {
				t.Fatalf("status %d:\n%s", status, errs.String())
			}
			if c.commits == 0 {
				if n := strings.Count(errs.String(), "\n"); n != 1 {
					t.Errorf("%d lines: %s", n, errs.String())
				}
				return
			}
			var res kernel.SeriesResult
			if err := json.Unmarshal(out.Bytes(), &res); err != nil || len(res.Commits) != c.commits {
				t.Errorf("%d commits: %v", len(res.Commits), err)
			}
			for _, r := range requestsOf(t, os.Getenv("KBISECT_HOME")) {
				if r.Stranger == "" || r.Trusted != r.Base || r.Base != res.Base.SHA {
					t.Errorf("mail is a stranger's, its base is not: %+v", r)
				}
			}
		})
	}
}
