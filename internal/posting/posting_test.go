package posting

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s:\n%s", name, diff)
	}
}

func sha(c string) string { return strings.Repeat(c, 40) }

const (
	vmsplice = "cow/vmsplice-child-unmap/thp-pmd"
	fork     = "cow/fork-basic/base"
	flaky    = "cow/race-fork/base"
)

func test(name string, v kernel.Verdict, fails int) kernel.TestResult {
	return kernel.TestResult{Name: name, Verdict: v, Confidence: 0.99, Runs: 4, Fails: fails}
}

// example is a series of six commits: good, one that does not compile, good, the
// one that breaks a test, two behind it. Another test is flaky on the base.
func example() *kernel.SeriesResult {
	ok := kernel.Build{Status: kernel.BuildOK, Seconds: 16}
	up := kernel.Boot{Status: kernel.BootOK}
	shaky := test(flaky, kernel.Inconclusive, 2)
	shaky.Change, shaky.Since = kernel.Flaky, sha("b")
	crash := test(vmsplice, kernel.Bad, 4)
	crash.Change, crash.Since = kernel.Introduced, sha("4")
	crash.Signature = kernel.Signature{Kind: "crash", Title: "WARNING in do_huge_pmd_wp_page", Frames: []string{"folio_put+0x1/0x20", "do_huge_pmd_wp_page.isra.0+0x1a/0x30", "handle_mm_fault+0x5/0x9"}}
	crash.Console = "[    1.0] WARNING: CPU: 0 PID: 1 at mm/huge_memory.c:1300\n"
	behind := crash
	behind.Change = kernel.NotIntroduced
	row := func(c, subject string, ts ...kernel.TestResult) kernel.CommitResult {
		return kernel.CommitResult{SHA: sha(c), Subject: subject, Build: ok, Boot: up, Tests: ts}
	}
	good := test(vmsplice, kernel.Good, 0)
	base := row("b", "Linux 6.1", good, test(fork, kernel.Good, 0), shaky)
	base.Base = true
	broken := row("2", "mm/swap_state: let the caller choose the level")
	broken.Build = kernel.Build{Status: kernel.BuildFailed, Error: "mm/page_alloc.c:6406:9: error: too few arguments to function 'show_swap_cache_info'"}
	broken.Boot = kernel.Boot{Status: kernel.BootNone}
	broken.Tests = []kernel.TestResult{{Name: vmsplice, Verdict: kernel.Untestable}, {Name: fork, Verdict: kernel.Untestable}}
	return &kernel.SeriesResult{
		ID: "series-1a2b3c4d", Status: "done", Total: 6, Profile: "cow", Base: kernel.Commit{SHA: sha("b"), Subject: "Linux 6.1"}, BaseRow: &base, Seconds: 90,
		Commits: []kernel.CommitResult{
			row("1", "mm/mprotect: move the checks into a function", good, test(fork, kernel.Good, 0), shaky),
			broken,
			row("3", "mm/page_alloc: pass a level", good, test(fork, kernel.Good, 0), shaky),
			row("4", "mm/huge_memory: reuse an anonymous THP that is mapped once", crash, test(fork, kernel.Good, 0), shaky),
			row("5", "mm/rmap: make an argument a bool", behind, test(fork, kernel.Good, 0), shaky),
			row("6", "mm/memory: make page_copied a bool", behind, test(fork, kernel.Good, 0), shaky),
		},
		FirstBad: map[string]string{vmsplice: sha("4")}, OneOf: map[string][]string{vmsplice: {sha("4")}},
	}
}

func reports(state string, r *kernel.SeriesResult) []Report {
	return []Report{{
		State: state, Result: r, Page: "https://kbisect.example.org/jobs/series-1a2b3c4d",
		Commits: []string{sha("1"), sha("2"), sha("3"), sha("4"), sha("5"), sha("6")},
		Patches: map[string]Patch{
			sha("2"): {[]Hunk{{"mm/swap.h", 60, 2, ""}, {"mm/swap_state.c", 70, 5, "show_swap_cache_info"}}},
			sha("4"): {[]Hunk{{"Documentation/mm/x.rst", 3, 1, ""}, {"mm/huge_memory.c", 90, 2, "prep_thp"}, {"mm/huge_memory.c", 1300, 7, "do_huge_pmd_wp_page"}}},
			sha("6"): {[]Hunk{{"mm/memory.c", 3100, 2, "wp_page_copy"}}},
		},
		Logs: map[string]string{
			sha("2"): "  CC      mm/page_alloc.o\n../src/mm/page_alloc.c: In function 'show_free_areas':\n../src/mm/page_alloc.c:6406:9: error: too few arguments to function 'show_swap_cache_info'\n",
			sha("6"): "mm/memory.c:3101:5: warning: unused variable 'x' [-Wunused-variable]\nmm/memory.c:9:5: warning: an old one\n",
		},
	}}
}

var pull = Pull{Repo: "torvalds/linux", Number: 5, Head: sha("6"), Page: "https://github.com/torvalds/linux"}

func dump(t *testing.T, v any) string {
	t.Helper()
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	done := reports("done", example())
	golden(t, "statuses.json", dump(t, Statuses(pull, done)))
	golden(t, "checks.json", dump(t, Checks(pull, done)))
	golden(t, "comment.md", Comment(pull, done))

	half := example()
	half.Commits = half.Commits[:1]
	half.FirstBad = nil
	running := reports("running", half)
	golden(t, "running.json", dump(t, Statuses(pull, running)))
	golden(t, "running.md", Comment(pull, running))

	second := reports("done", example())[0]
	second.Result.Profile, second.Result.Commits, second.Result.FirstBad = "cow-debug", second.Result.Commits[:1], nil
	second.Commits = second.Commits[:1]
	several := pull
	several.LeftOut, several.Unchanged = 13, 1
	golden(t, "several.md", Comment(several, append(done, second)))

	b := &kernel.BisectResult{ID: "bisect-1", Status: kernel.Found, Test: vmsplice, Profile: "cow", Confidence: 0.995,
		Culprit: &kernel.Commit{SHA: sha("4"), Subject: "mm/huge_memory: reuse", Author: "Ada <a@b.c>"}, Runs: 9,
		Steps: []kernel.BisectStep{{SHA: sha("6"), Subject: "head", Runs: 2, Fails: 2, Outcome: "bad"}, {SHA: sha("4"), Subject: "mm/huge_memory: reuse", Runs: 4, Fails: 4, Outcome: "bad"}}}
	golden(t, "bisect.md", BisectComment(pull, b, "https://kbisect.example.org/jobs/bisect-1", "done", ""))
}

// What is wanted of a pull request before, beside and after its tests.
func TestSeriesStatus(t *testing.T) {
	none := func() *kernel.SeriesResult { return &kernel.SeriesResult{ID: "series-1", Profile: "cow"} }
	fine := example()
	fine.Commits, fine.FirstBad = []kernel.CommitResult{fine.Commits[0], fine.Commits[2]}, nil
	refused := example()
	refused.Commits, refused.FirstBad = refused.Commits[:2], nil
	unbuildable := example()
	unbuildable.BaseRow.Build, unbuildable.BaseRow.Boot = unbuildable.Commits[1].Build, unbuildable.Commits[1].Boot
	unbuildable.Commits, unbuildable.FirstBad = unbuildable.Commits[1:2], nil
	for _, tt := range []struct {
		name, state, problem, waits string
		result                      *kernel.SeriesResult
		want, why                   string
	}{
		{"waits for a maintainer", "", "", "waits for /kbisect ok", nil, pending, "waits for /kbisect ok"},
		{"has no base", "", "no history in common with main", "", nil, unknown, "cannot be tested: no history in common"},
		{"queued", "queued", "", "", none(), pending, "6 commits to test"},
		{"running", "running", "", "", fine, pending, "testing 6 commits, nothing bad so far"},
		{"bad while it runs", "running", "", "", example(), pending, "testing 6 commits: 1 of 6"},
		{"done", "done", "", "", fine, success, "2 commits introduce no failure"},
		{"bad", "done", "", "", example(), failure, "1 of 6 commits introduces a failure: 444444444444"},
		{"does not build", "done", "", "", refused, failure, `222222222222 "mm/swap_state: let the caller choose the level" does not build`},
		{"nor does the base", "done", "", "", unbuildable, unknown, "nothing could be tested"},
		{"failed", "failed", "no QEMU here", "", none(), unknown, "failed: no QEMU here"},
		{"cancelled", "cancelled", "", "", fine, unknown, "cancelled"},
	} {
		p := pull
		p.Waits, p.Problem = tt.waits, tt.problem
		if tt.result != nil {
			p.Problem = ""
		}
		var rs []Report
		if tt.result != nil {
			rs = reports(tt.state, tt.result)
			rs[0].Problem = tt.problem
		}
		all := Statuses(p, rs)
		got := all[len(all)-1]
		if got.Context != "kbisect/series" || got.SHA != pull.Head || got.State != tt.want || !strings.HasPrefix(got.Description, tt.why) {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

// A commit that is one of several suspects is not said to have introduced it.
func TestOneOfSeveral(t *testing.T) {
	for _, tt := range []struct {
		oneOf []string
		want  string
	}{
		{nil, "1 test bad, introduced here: "},
		{[]string{sha("4")}, "1 test bad, introduced here: "},
		{[]string{sha("3"), sha("4")}, "1 test bad, introduced here or by 333333333333: "},
		{[]string{sha("2"), sha("3"), sha("4")}, "1 test bad, introduced here or by one of 2 commits before: "},
	} {
		res := example()
		for test := range res.OneOf {
			res.OneOf[test] = tt.oneOf
		}
		got := ""
		for _, s := range Statuses(pull, reports("done", res)) {
			if s.SHA == sha("4") && strings.HasPrefix(s.Context, "kbisect/test/") {
				got = s.Description
			}
		}
		if !strings.HasPrefix(got, tt.want) {
			t.Errorf("%v: %q", tt.oneOf, got)
		}
	}
}

// What is said of several tests holds for each of them.
func TestOneOfSeveralTests(t *testing.T) {
	r := row{CommitResult: &kernel.CommitResult{SHA: sha("4")}, here: []kernel.TestResult{{Name: "a"}, {Name: "b"}},
		oneOf: map[string][]string{"b": {sha("3"), sha("4")}}}
	if got := r.whose(); got != ", introduced here or by 333333333333: " {
		t.Error(got)
	}
}

// A status of a commit that is in an earlier push, too, must not change because
// it was found out in another job.
func TestAgainIsTheSame(t *testing.T) {
	again := example()
	again.ID = "series-2"
	for i := range again.Commits {
		if b := &again.Commits[i].Build; b.Status == kernel.BuildOK {
			b.Cached, b.Seconds = true, 0.1
		}
		for j := range again.Commits[i].Tests {
			again.Commits[i].Tests[j].Reused = 4
		}
	}
	a, b := Statuses(pull, reports("done", example())), Statuses(pull, reports("done", again))
	if diff := cmp.Diff(a, b); diff != "" {
		t.Error(diff)
	}
}

// Strangers' words are words, and not too many.
func TestHostile(t *testing.T) {
	evil := "@all <img src=x> \x1b[31m\u202e #1 [x](http://evil) `" + strings.Repeat("é", 70000)
	r := example()
	for i := range r.Commits {
		r.Commits[i].Subject = evil
		if r.Commits[i].Build.Status == kernel.BuildFailed {
			r.Commits[i].Build.Error = evil
		}
		for j := range r.Commits[i].Tests {
			x := &r.Commits[i].Tests[j]
			x.Reason, x.Console = evil, evil
			if x.Signature.Kind != "" {
				x.Signature.Title = evil
			}
		}
	}
	rs := reports("done", r)
	rs[0].Logs[sha("2")] = "mm/a.c:1:1: error: " + evil[:3000] + "\n/etc/passwd:1: error: x\n../../../x.c:1: error: x\n" + strings.Repeat("mm/a.c:7:7: error: again\n", 99) + "mm/a.c:99999999999999999999: error: x\n"
	for _, s := range Statuses(pull, rs) {
		if n := utf8.RuneCountInString(s.Description); n > maxDescription || strings.ContainsAny(s.Description, "\x1b\n\u202e") {
			t.Errorf("%d characters: %q", n, s.Description)
		}
	}
	for _, c := range Checks(pull, rs) {
		if utf8.RuneCountInString(c.Summary) > 65535 || utf8.RuneCountInString(c.Title) > maxTitle || strings.Contains(outside(c.Summary), "<img") {
			t.Errorf("%s: %d characters", c.Name, len(c.Summary))
		}
		for _, a := range c.Annotations {
			if !relative(a.Path) || a.Path == "" || a.Start < 1 || a.End < a.Start || a.Message == "" || utf8.RuneCountInString(a.Title) > maxTitle || len(a.Message) > 64<<10 {
				t.Errorf("%.300v", a)
			}
		}
	}
	if c := outside(Comment(pull, rs)); utf8.RuneCountInString(Comment(pull, rs)) > 65535 || strings.Contains(c, "@all") || strings.Contains(c, "<img") || strings.Contains(c, "(http://evil)") {
		t.Errorf("%.500s", c)
	}
}

var fenced = regexp.MustCompile("(?s)\n(```+)text\n.*?\n```+")

// outside is Markdown without its blocks of code, in which everything is text.
func outside(s string) string { return fenced.ReplaceAllString(s, "") }

// A comment has room for the marker that it is found by.
func TestLongComment(t *testing.T) {
	r := example()
	for i := range 300 {
		row := r.Commits[0]
		row.SHA = fmt.Sprintf("%040x", i)
		row.Subject = strings.Repeat("long ", 20)
		r.Commits = append(r.Commits, row)
	}
	rs := append(reports("done", r), reports("done", r)...)
	got := Comment(pull, append(rs, rs...))
	if n := utf8.RuneCountInString(got); n > 65_400 || n < 60_000 {
		t.Errorf("%d characters", n)
	}
}

// More remarks than a request takes are counted.
func TestManyRemarks(t *testing.T) {
	r := example()
	rs := reports("done", r)
	var log strings.Builder
	for i := range 70 {
		log.WriteString("mm/page_alloc.c:" + string(rune('1'+i%9)) + strings.Repeat("0", i/9) + ":9: error: no " + strings.Repeat("x", i) + "\n")
	}
	rs[0].Logs[sha("2")] = log.String()
	for _, c := range Checks(pull, rs) {
		if c.SHA == sha("2") && (len(c.Annotations) != 50 || !strings.Contains(c.Summary, "20 more remarks")) {
			t.Errorf("%d remarks\n%.200s", len(c.Annotations), c.Summary)
		}
	}
}

func TestDiagnostics(t *testing.T) {
	log := `+ make -C /build/src O=/build/obj bzImage
/build/src/mm/memory.c:12:3: error: 'x' undeclared (first use in this function)
./include/linux/mm.h:7:1: warning: unused [-Wunused]
../src/mm/rmap.c:5: fatal error: nosuch.h: No such file or directory
mm/a.c:0:1: error: no line
ld: mm/memory.o: in function ` + "`do_wp_page':" + `
memory.c:(.text+0x12): undefined reference to ` + "`folio_gone'" + `
make[2]: *** [scripts/Makefile.build:250: mm/memory.o] Error 1
`
	want := []diagnostic{
		{path: "mm/memory.c", line: 12, message: "error: 'x' undeclared (first use in this function)"},
		{path: "include/linux/mm.h", line: 7, warning: true, message: "warning: unused [-Wunused]"},
		{path: "mm/rmap.c", line: 5, message: "fatal error: nosuch.h: No such file or directory"},
		{message: "error: undefined reference to `folio_gone'", symbol: "do_wp_page"},
	}
	if diff := cmp.Diff(want, diagnostics(log), cmp.AllowUnexported(diagnostic{})); diff != "" {
		t.Error(diff)
	}
}

const diff = `diff --git a/mm/memory.c b/mm/memory.c
index 1..2 100644
--- a/mm/memory.c
+++ b/mm/memory.c
@@ -10 +10,2 @@ static vm_fault_t do_wp_page(struct vm_fault *vmf)
-	a
+	b
+	c
@@ -20,2 +21,0 @@ int other(void)
-	x
-	y
diff --git a/gone.c b/gone.c
deleted file mode 100644
index 1..0
--- a/gone.c
+++ /dev/null
@@ -1 +0,0 @@
-x
diff --git a/new.bin b/new.bin
new file mode 100644
index 0..1
Binary files /dev/null and b/new.bin differ
diff --git "a/mm/\303\244.c" "b/mm/\303\244.c"
index 1..2 100644
--- "a/mm/\303\244.c"
+++ "b/mm/\303\244.c"
@@ -1 +1 @@
-x
+y
`

func TestParsePatch(t *testing.T) {
	got, err := ParsePatch([]byte(diff))
	want := Patch{[]Hunk{{"mm/memory.c", 10, 2, "do_wp_page"}, {"mm/memory.c", 21, 0, "other"}, {"mm/ä.c", 1, 1, ""}}}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
	if !got.has("mm/memory.c", 11) || got.has("mm/memory.c", 12) || got.has("mm/memory.c", 21) {
		t.Error("lines that are added")
	}
	if some, err := ParsePatch([]byte(diff[:200])); err == nil && len(some.Hunks) == 0 {
		t.Error("cut off, and nothing is said")
	}
}

func FuzzParsePatch(f *testing.F) {
	f.Add([]byte(diff))
	f.Fuzz(func(t *testing.T, diff []byte) {
		p, _ := ParsePatch(diff)
		for _, h := range p.Hunks {
			if h.Start < 1 || h.Lines < 0 || !relative(h.Path) {
				t.Errorf("%+v", h)
			}
		}
	})
}

func FuzzDiagnostics(f *testing.F) {
	f.Add("mm/memory.c:12:3: error: x\nld: mm/memory.o: in function `f':\nmemory.c:(.text+0x12): undefined reference to `g'\n")
	f.Fuzz(func(t *testing.T, log string) {
		for _, d := range diagnostics(log) {
			if d.path != "" && (!relative(d.path) || d.line < 1) || d.message == "" {
				t.Errorf("%+v", d)
			}
		}
	})
}
