package report

import (
	"embed"
	"html/template"
	"io"
	"strings"
	"time"

	"github.com/kernel-bisect/kbisect/internal/console"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

//go:embed templates
var files embed.FS

var pages = template.Must(template.ParseFS(files, "templates/*"))

// page is what the template shows. Its strings are plain already, as it puts
// them on one line; the template escapes markup.
type page struct {
	Kind    string // check, series, bisect, bisect-config
	Verdict string
	Also    string
	Tone    string // class of the head: good, bad, warn
	Facts   []pair
	Command string
	Foot    []pair

	Check  *htmlCheck
	Matrix *htmlMatrix
	Series *htmlSeries
	Bisect *htmlBisect
	Config *htmlConfig
}

type pair struct{ Name, Value string }

// HTML writes a result, as JSON does, as one page that needs nothing else: no
// script, no other file, no network.
func HTML(w io.Writer, v any) error {
	p, err := newPage(v, Links{})
	if err != nil {
		return err
	}
	return pages.ExecuteTemplate(w, "page.html", p)
}

func newPage(v any, l Links) (*page, error) {
	switch r := v.(type) {
	case *kernel.CheckResult:
		return checkPage(r, l), nil
	case *kernel.MatrixResult:
		return matrixPage(arrangeMatrix(r), l), nil
	case *kernel.SeriesResult:
		return seriesPage(arrange(r), l), nil
	case *kernel.BisectResult:
		return bisectPage(r, l), nil
	case *kernel.ConfigResult:
		return configPage(r), nil
	}
	return nil, unknown(v)
}

// pairs drops what has no value.
func pairs(all ...pair) []pair {
	var out []pair
	for _, f := range all {
		if f.Value = plain(f.Value); f.Value != "" {
			out = append(out, f)
		}
	}
	return out
}

// foot is where and when a result was measured.
func foot(id, schema string, spent float64, at time.Time, h kernel.Host) []pair {
	cpus, when := "", ""
	if h.CPUs > 0 {
		cpus = count(h.CPUs, "CPU")
	}
	if !at.IsZero() {
		when = at.UTC().Format("2006-01-02 15:04 UTC")
	}
	return pairs(
		pair{"Job", id}, pair{"Started", when}, pair{"Took", seconds(spent)},
		pair{"Host", cpus}, pair{"Machine", machine(h)}, pair{"Compiler", h.Compiler}, pair{"Guest image", h.Guest},
		pair{"Schema", schema},
	)
}

// class is the style class of a verdict.
func class(v kernel.Verdict) string {
	switch v {
	case kernel.Good, kernel.Bad:
		return string(v)
	case kernel.Inconclusive, kernel.Untestable:
		return "warn"
	}
	return "dim"
}

// maxExcerpt bounds what one failure adds to a page.
const maxExcerpt = 24 << 10

// Chunk is a piece of a console log; Mark is "hit" for the lines of a crash,
// "head" for the one that names it.
type Chunk struct{ Mark, Text string }

func marked(log string) []Chunk { return Console(log, maxExcerpt) }

// Console is a console log, cleaned and cut to so many bytes, 0 for all of it,
// with the crashes set apart.
func Console(log string, most int) []Chunk {
	log = strings.TrimRight(console.Clean([]byte(log), most), "\n")
	if log == "" {
		return nil
	}
	lines := strings.SplitAfter(log, "\n")
	marks := make([]string, len(lines))
	for _, f := range console.Scan([]byte(log)) {
		for i := f.Line - 1; i < min(f.Line-1+f.Lines, len(lines)); i++ {
			marks[i] = "hit"
		}
		marks[f.Head-1] = "head"
	}
	var out []Chunk
	for i, l := range lines {
		if n := len(out); n > 0 && out[n-1].Mark == marks[i] && marks[i] != "head" {
			out[n-1].Text += l
		} else {
			out = append(out, Chunk{marks[i], l})
		}
	}
	return out
}

// detail is one failure at length.
type detail struct {
	ID, Name            string
	Sign, Word, Class   string
	Fails, Conf         string
	Reason, Sig, Frames string
	Console             []Chunk
	Output              string
	Note                string // path of the log
	Runs                string // where its runs are
}

func testDetail(id string, t *kernel.TestResult) detail {
	d := detail{
		ID: id, Name: plain(t.Name), Sign: sign(t.Verdict), Word: word(t.Verdict), Class: class(t.Verdict),
		Fails: fails(t.Fails, t.Runs), Reason: plain(t.Reason), Sig: failure(t.Signature),
		Frames:  plain(strings.Join(t.Signature.Frames, "\u00a0← ")),
		Console: marked(t.Console), Output: strings.TrimRight(console.Clean([]byte(t.Output), maxExcerpt), "\n"),
	}
	if t.Confidence > 0 {
		d.Conf = percent(t.Confidence)
	}
	if d.Reason != "" && strings.Contains(d.Sig, d.Reason) {
		d.Reason = ""
	}
	return d
}

// trouble is a commit that could not be tested.
type trouble struct {
	What, Log, Reason, Sig string
	Href                   string // of the log
	Error                  string
	Console                []Chunk
}

func troubleOf(b *kernel.Build, boot *kernel.Boot, links Links) *trouble {
	switch {
	case b != nil && unbuilt(b):
		return &trouble{What: unbuiltWhy(b), Log: plain(b.Log), Href: links.log(b.LogDigest), Error: strings.TrimRight(console.Clean([]byte(b.Error), maxExcerpt), "\n")}
	case boot.Status == kernel.BootFailed:
		return &trouble{What: "does not boot", Reason: plain(boot.Reason), Sig: failure(boot.Signature), Console: marked(boot.Console)}
	}
	return nil
}
