package web

import (
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/console"
	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/report"
)

// runsData is a list of runs.
type runsData struct {
	Filter      RunFilter
	Runs        []Run
	Fails, Good int // of those on the page that count
	Next        string
}

// Counting is how many runs of the page are evidence.
func (d runsData) Counting() int { return d.Fails + d.Good }

func (s *server) runs(r *http.Request) (*page, error) {
	q := r.URL.Query()
	f := RunFilter{Job: q.Get("job"), Commit: q.Get("commit"), Kernel: q.Get("kernel"), Test: q.Get("test"), Limit: pageLines + 1}
	if b := q.Get("before"); b != "" {
		n, err := strconv.ParseInt(b, 10, 64)
		if err != nil {
			return nil, &BadInput{"before", "The number of a run is expected after before=."}
		}
		f.Before = n
	}
	runs, err := s.Record.Runs(r.Context(), f)
	if err != nil {
		return nil, err
	}
	d := runsData{Filter: f, Runs: runs}
	if len(runs) > pageLines {
		d.Runs = runs[:pageLines]
		d.Next = next("/runs", q, "before", strconv.FormatInt(d.Runs[pageLines-1].ID, 10))
	}
	for _, x := range d.Runs {
		switch {
		case x.Withdrawn:
		case x.Run.Outcome.Bad():
			d.Fails++
		case x.Run.Outcome.Counts():
			d.Good++
		}
	}
	return &page{name: "runs.html", Title: "Runs", Nav: "runs", Data: d}, nil
}

// piece is a piece of a console that a link may lead to.
type piece struct {
	report.Chunk
	ID string
}

// runData is one run.
type runData struct {
	Run
	Boot    []piece // the console up to the first process
	BootLen int     // lines of it
	Log     []piece // and after
	Hits    int     // lines of crashes
	Output  string
	Command string
	Same    string // address of the runs of the same test on the same kernel
	Image   string // address of the kernel, "" where none is kept
}

func (s *server) run(r *http.Request) (*page, error) {
	x, err := s.findRun(r)
	if err != nil {
		return nil, err
	}
	d := runData{Run: x, Output: strings.TrimRight(console.Clean([]byte(x.Run.Output), 0), "\n"), Command: again(x.Run)}
	d.Same = cell(x.Run.Commit, x.Run.Kernel, x.Run.Test)
	if s.Artifacts != nil && x.Run.Kernel != "" {
		d.Image = "/artifacts/kernel/" + url.PathEscape(x.Run.Kernel)
	}
	log := report.Console(x.Run.Console, 0)
	if boot, rest := fold(log); boot != "" {
		d.Boot, d.BootLen, log = []piece{{Chunk: report.Chunk{Text: boot}}}, strings.Count(boot, "\n"), rest
	}
	for _, c := range log {
		p := piece{Chunk: c}
		if c.Mark != "" {
			if d.Hits == 0 {
				p.ID = "crash"
			}
			d.Hits += strings.Count(strings.TrimSuffix(c.Text, "\n"), "\n") + 1
		}
		d.Log = append(d.Log, p)
	}
	return &page{name: "run.html", Title: "Run " + strconv.FormatInt(x.ID, 10) + " of " + report.Plain(x.Run.Test), Nav: "runs", Data: d}, nil
}

func (s *server) findRun(r *http.Request) (Run, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return Run{}, ErrNotFound
	}
	return s.Record.Run(r.Context(), id)
}

// initRE is the last line of a boot: what comes after is the test's.
var initRE = regexp.MustCompile(`(?m)^.*Run /\S+ as init process$\n?`)

// fold sets the boot apart, if there is one and nothing went wrong in it.
func fold(log []report.Chunk) (boot string, rest []report.Chunk) {
	if len(log) == 0 || log[0].Mark != "" {
		return "", log
	}
	at := initRE.FindStringIndex(log[0].Text)
	if at == nil {
		return "", log
	}
	first := log[0]
	boot, first.Text = first.Text[:at[1]], first.Text[at[1]:]
	if first.Text != "" {
		rest = append(rest, first)
	}
	return boot, append(rest, log[1:]...)
}

// again is how to make such a run on the command line, "" where that takes
// more than its name.
func again(r kernel.Run) string {
	if r.Commit == "" || !strings.HasPrefix(r.Test, "cow/") {
		return ""
	}
	carry := ""
	if r.Carried != "" {
		for name := range strings.SplitSeq(r.Carried, ", ") {
			carry += " --carry " + quote(name)
		}
	}
	return "orchestrator check --repo . --rev " + quote(kernel.Abbrev(r.Commit)) + carry + " --test " + quote(r.Test) + " --fresh"
}

var bareRE = regexp.MustCompile(`^[\w./:@+-]+$`)

// quote makes a word of a shell out of a stranger's text.
func quote(s string) string {
	if s = report.Plain(s); bareRE.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// text is what a run printed, as it is but for control characters.
func (s *server) text(w http.ResponseWriter, r *http.Request) {
	x, err := s.findRun(r)
	t := ""
	switch r.PathValue("text") {
	case "console":
		t = x.Run.Console
	case "output":
		t = x.Run.Output
	default:
		err = ErrNotFound
	}
	if err != nil {
		s.show(w, r, nil, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(console.Clean([]byte(t), 0)))
}

// testsData is a list of tests.
type testsData struct {
	Filter TestFilter
	Tests  []TestStat
	Next   string
}

func (s *server) tests(r *http.Request) (*page, error) {
	q := r.URL.Query()
	f := TestFilter{Text: q.Get("text"), Flaky: q.Get("flaky") != "", After: q.Get("after"), Limit: pageLines + 1}
	tests, err := s.Record.Tests(r.Context(), f)
	if err != nil {
		return nil, err
	}
	d := testsData{Filter: f, Tests: tests}
	if len(tests) > pageLines {
		d.Tests = tests[:pageLines]
		d.Next = next("/tests", q, "after", d.Tests[pageLines-1].Test)
	}
	return &page{name: "tests.html", Title: "Tests", Nav: "tests", Data: d}, nil
}

// testData is a test over the kernels it was run on.
type testData struct {
	TestStat
	On []TestOnKernel
}

func (s *server) test(r *http.Request) (*page, error) {
	t, on, err := s.Record.Test(r.Context(), r.URL.Query().Get("name"))
	if err != nil {
		return nil, err
	}
	return &page{name: "test.html", Title: report.Plain(t.Test), Nav: "tests", Data: testData{t, on}}, nil
}

// kernelsData is a list of kernels.
type kernelsData struct {
	Kernels []Kernel
	Next    string
}

func (s *server) kernels(r *http.Request) (*page, error) {
	ks, err := s.Record.Kernels(r.Context(), r.URL.Query().Get("after"), pageLines+1)
	if err != nil {
		return nil, err
	}
	d := kernelsData{Kernels: ks}
	if len(ks) > pageLines {
		d.Kernels = ks[:pageLines]
		d.Next = next("/kernels", url.Values{}, "after", d.Kernels[pageLines-1].Digest)
	}
	return &page{name: "kernels.html", Title: "Kernels", Nav: "kernels", Data: d}, nil
}
