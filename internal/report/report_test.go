package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var formats = map[string]func(io.Writer, any) error{
	"txt":   func(w io.Writer, v any) error { return Text(w, v, TextOptions{Width: 120}) },
	"json":  JSON,
	"html":  HTML,
	"mail":  Mail,
	"xml":   JUnit,
	"md":    Markdown,
	"kcidb": KCIDB,
}

func TestGolden(t *testing.T) {
	for name, v := range fixtures() {
		for ext, render := range formats {
			if _, ok := v.(*kernel.BisectResult); ext == "mail" && !ok {
				continue // there is none
			}
			t.Run(name+"."+ext, func(t *testing.T) {
				var b bytes.Buffer
				if err := render(&b, v); err != nil {
					t.Fatal(err)
				}
				golden := filepath.Join("testdata", name+"."+ext)
				if *update {
					if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(string(want), b.String()); d != "" {
					t.Errorf("output differs (-want +got):\n%s", d)
				}
			})
		}
	}
}

// TestHostile looks for anything that acts in what strangers can write.
func TestHostile(t *testing.T) {
	for _, name := range []string{"series-hostile", "bisect-hostile", "matrix-hostile", "config-hostile"} {
		v := fixtures()[name]
		for ext, render := range formats {
			var b bytes.Buffer
			if err := render(&b, v); err != nil {
				if ext == "mail" {
					continue
				}
				t.Fatalf("%s.%s: %v", name, ext, err)
			}
			out := b.String()
			if !utf8.ValidString(out) {
				t.Errorf("%s.%s: invalid UTF-8", name, ext)
			}
			for _, r := range out {
				if r != '\n' && acts(r) && ext != "json" && ext != "kcidb" && (ext != "md" || r != '\u2060') {
					t.Errorf("%s.%s: character %U", name, ext, r)
					break
				}
			}
			if ext == "html" && (strings.Contains(out, "<script") || strings.Contains(out, "<img")) {
				t.Errorf("%s.%s: markup of a stranger", name, ext)
			}
			for _, l := range strings.Split(out, "\n") {
				if ext != "html" && strings.HasPrefix(strings.TrimSpace(l), "git bisect run") {
					t.Errorf("%s.%s: a subject became a command: %s", name, ext, l)
				}
			}
		}
	}
}

func TestJSON(t *testing.T) {
	for name, v := range fixtures() {
		var b bytes.Buffer
		if err := JSON(&b, v); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var m map[string]any
		if err := json.Unmarshal(b.Bytes(), &m); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		kind, _, _ := strings.Cut(name, "-")
		if kind == "config" {
			kind = "bisect-config"
		}
		if m["schema"] != "kbisect/"+kind+"/v1" {
			t.Errorf("%s: schema %v", name, m["schema"])
		}
		for _, list := range []string{"tests", "kernels", "commits", "steps", "candidates", "first_bad"} {
			if x, there := m[list]; there && x == nil {
				t.Errorf("%s: %s is null", name, list)
			}
		}
	}
}

// TestInputUntouched guards the copy JSON makes.
func TestInputUntouched(t *testing.T) {
	v := hostileSeries()
	for ext, render := range formats {
		if err := render(io.Discard, v); err != nil && ext != "mail" {
			t.Fatal(err)
		}
	}
	if v.Schema != "" || v.BaseRow.Base || v.Seconds == 0 {
		t.Error("rendering changed the result")
	}
}

func TestUnknown(t *testing.T) {
	for ext, render := range formats {
		if err := render(io.Discard, kernel.CheckResult{}); err == nil {
			t.Errorf("%s took a value for a pointer", ext)
		}
	}
}

func TestPercent(t *testing.T) {
	for _, tt := range []struct {
		p    float64
		want string
	}{
		{0, "0 %"}, {0.00001, "<0.1 %"}, {0.29, "29.0 %"}, {0.994, "99.4 %"}, {0.99949, ">99.9 %"},
		{0.999, "99.9 %"}, {0.99999999999999, ">99.9 %"}, {1, "100 %"}, {-1, "0 %"}, {7, "100 %"},
	} {
		if got := percent(tt.p); got != tt.want {
			t.Errorf("percent(%v) = %q, want %q", tt.p, got, tt.want)
		}
	}
}

func TestPlain(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"  mm: äöü  ", "mm: äöü"},
		{"a\x1b[31mb", `a\x1b[31mb`},
		{"a\nb\tc", "a b c"},
		{"a\u202eb", `a\u202eb`},
		{"a\xffb", "a\uFFFDb"},
	} {
		if got := plain(tt.in); got != tt.want {
			t.Errorf("plain(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestTextWidth(t *testing.T) {
	for _, width := range []int{60, 80, 100} {
		var b bytes.Buffer
		if err := Text(&b, seriesFixture(), TextOptions{Width: width}); err != nil {
			t.Fatal(err)
		}
		// Sentences and commands are never cut: they are read and copied.
		for i, l := range strings.Split(b.String(), "\n") {
			if n := utf8.RuneCountInString(l); i > 1 && n > width+12 && strings.Contains(l, "  ") && !strings.HasPrefix(l, "    ") {
				t.Errorf("width %d: line of %d: %s", width, n, l)
			}
		}
	}
}

func TestTextColor(t *testing.T) {
	var color, bare bytes.Buffer
	for b, c := range map[*bytes.Buffer]bool{&color: true, &bare: false} {
		if err := Text(b, seriesFixture(), TextOptions{Width: 120, Color: c}); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Contains(bare.String(), "\x1b") {
		t.Error("escape sequences without colour")
	}
	out := color.String()
	for _, s := range []style{bold, dim, red, green, yellow} {
		out = strings.ReplaceAll(out, "\x1b["+string(s)+"m", "")
	}
	out = strings.ReplaceAll(out, "\x1b[0m", "")
	if d := cmp.Diff(bare.String(), out); d != "" {
		t.Errorf("colour changes more than the colour:\n%s", d)
	}
}

// TestSentences holds the first lines, which people quote, in one place.
func TestSentences(t *testing.T) {
	var b strings.Builder
	for _, name := range []string{"check", "check-empty", "check-no-boot", "matrix", "matrix-clean", "matrix-interrupt", "matrix-empty", "series", "series-clean", "series-harmless", "series-changes", "series-untestable",
		"series-interrupt", "series-empty", "bisect", "bisect-set", "bisect-fix", "bisect-not", "bisect-older", "bisect-none", "bisect-changes", "config", "config-one", "config-set", "config-not"} {
		var out bytes.Buffer
		if err := Text(&out, fixtures()[name], TextOptions{}); err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(out.String(), "\n")
		b.WriteString(first + "\n")
	}
	golden := filepath.Join("testdata", "sentences.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Error(d)
	}
}

// TestGitBisectLogStart pins what "git bisect replay" was seen to need: it
// ignores terms that are not quoted, and then knows no "broken".
func TestGitBisectLogStart(t *testing.T) {
	for want, r := range map[string]*kernel.BisectResult{
		"git bisect start\n": bisectFixture(),
		"git bisect start '--term-old=broken' '--term-new=fixed'\n": fixBisect(),
	} {
		if got := gitBisectLog(r); !strings.HasPrefix(got, want) {
			t.Errorf("log starts with %.60q, want %q", got, want)
		}
	}
}

// What is under way is not called interrupted or without conclusion.
func TestUnderWay(t *testing.T) {
	good := kernel.CommitResult{SHA: sha(1), Build: kernel.Build{Status: kernel.BuildOK}, Boot: kernel.Boot{Status: kernel.BootOK},
		Tests: []kernel.TestResult{{Name: "cow/a/base", Verdict: kernel.Good, Runs: 2}}}
	for want, v := range map[string]any{
		"searching": &kernel.BisectResult{Status: kernel.Searching},
		"searching: 7 candidates left after 12 runs": &kernel.BisectResult{Status: kernel.Searching, Runs: 12, Steps: []kernel.BisectStep{{Left: 14}, {Left: 7}}},
		"running, none of 6 commits so far":          &kernel.SeriesResult{Status: "running", Total: 6},
		"running, 1 of 6 commits so far: ":           &kernel.SeriesResult{Status: "running", Total: 6, Commits: []kernel.CommitResult{good}},
		"interrupted, none of 6 commits so far":      &kernel.SeriesResult{Status: "interrupted", Total: 6},
	} {
		got, err := Verdict(v)
		if err != nil || !strings.HasPrefix(got, want) {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
}
