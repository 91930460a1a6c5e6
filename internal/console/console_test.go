package console

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// describe is the golden form: everything but the excerpt, of which the ends
// show that it is the right piece.
func describe(fs []Finding) string {
	var b strings.Builder
	for _, f := range fs {
		fmt.Fprintf(&b, "%d+%d %s: %s\n", f.Line, f.Lines, f.Signature.Kind, f.Signature.Title)
		if f.Head != f.Line {
			fmt.Fprintf(&b, "\t:%d\n", f.Head)
		}
		for _, fr := range f.Signature.Frames {
			fmt.Fprintf(&b, "\t%s\n", fr)
		}
		lines := strings.Split(strings.TrimSpace(f.Excerpt), "\n")
		fmt.Fprintf(&b, "\t<< %s\n", lines[len(lines)-1])
	}
	if len(fs) == 0 {
		b.WriteString("nothing\n")
	}
	return b.String()
}

func TestScanGolden(t *testing.T) {
	logs, err := filepath.Glob("testdata/*.log")
	if err != nil || len(logs) == 0 {
		t.Fatalf("no logs: %v", err)
	}
	for _, name := range logs {
		t.Run(filepath.Base(name), func(t *testing.T) {
			log, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			got := describe(Scan(log))
			golden := strings.TrimSuffix(name, ".log") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("findings differ (-want +got):\n%s", d)
			}
			// Carriage returns and lost timestamps must not change names.
			crlf := Scan([]byte(strings.ReplaceAll(string(log), "\n", "\r\n")))
			if d := cmp.Diff(titles(Scan(log)), titles(crlf)); d != "" {
				t.Errorf("carriage returns change the findings:\n%s", d)
			}
		})
	}
}

func titles(fs []Finding) []string {
	var out []string
	for _, f := range fs {
		out = append(out, f.Signature.String())
	}
	return out
}

func TestClean(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"plain\n", "plain\n"},
		{"\x1b[31mred\x1b[0m", "red"},
		{"\x1b]0;title\x07rest", "rest"},
		{"\x1b]0;never ends\nnext", "0;never ends\nnext"},
		{"a\r\nb\rc\r\r\n", "a\nb\nc\n"},
		{"bell\x07 null\x00 del\x7f c1\u009b31m", "bell null del c131m"},
		{"bad \xff utf8 \xc3", "bad \uFFFD utf8 \uFFFD"},
		{"left \u202eright", "left right"},
		{"\ttab", "\ttab"},
	} {
		if got := Clean([]byte(tt.in), 0); !sameText(got, tt.want) {
			t.Errorf("Clean(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

// sameText ignores what is left of an unterminated escape.
func sameText(got, want string) bool {
	return got == want || strings.TrimPrefix(got, "]") == want
}

func TestCleanCap(t *testing.T) {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, "line %d äöü\n", i)
	}
	got := Clean([]byte(b.String()), 500)
	if len(got) > 500 || !utf8.ValidString(got) {
		t.Errorf("%d bytes, valid %v", len(got), utf8.ValidString(got))
	}
	if !strings.HasPrefix(got, "line 0 ") || !strings.HasSuffix(got, "line 999 äöü\n") {
		t.Errorf("head or tail lost:\n%s", got)
	}
	if !strings.Contains(got, " bytes cut …\n") {
		t.Errorf("no cut line:\n%s", got)
	}
}

func FuzzScan(f *testing.F) {
	logs, _ := filepath.Glob("testdata/*.log")
	for _, name := range logs {
		if log, err := os.ReadFile(name); err == nil {
			f.Add(log)
		}
	}
	f.Add([]byte("BUG: \xff\nWARNING: \nCall Trace:\n foo+0x1/0x2\n"))
	f.Fuzz(func(t *testing.T, log []byte) {
		n := strings.Count(string(log), "\n") + 1
		start := time.Now()
		fs := Scan(log)
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%s for %d bytes", d, len(log))
		}
		if len(fs) > maxFindings {
			t.Fatalf("%d findings", len(fs))
		}
		crlf := Scan([]byte(strings.ReplaceAll(string(log), "\n", "\r\n")))
		if a, b := titles(fs), titles(crlf); strings.Join(a, "\n") != strings.Join(b, "\n") {
			t.Errorf("carriage returns make %q of %q", b, a)
		}
		// Whatever came before, a panic is not overlooked.
		end := "\n[    9.000000] Kernel panic - not syncing: at last\n"
		if len(fs) == 0 && len(Scan([]byte(string(log)+end))) == 0 {
			t.Error("a panic at the end is lost")
		}
		for _, x := range fs {
			s := x.Signature
			if s.Title == "" || len(s.Title) > maxTitle+1 || len(s.Frames) > maxFrames || s.Kind != "crash" && s.Kind != "hang" {
				t.Errorf("bad signature %+v", s)
			}
			if x.Line < 1 || x.Lines < 1 || x.Head < x.Line || x.Head >= x.Line+x.Lines || x.Line+x.Lines-1 > n || len(x.Excerpt) > maxExcerpt {
				t.Errorf("bad place %d+%d of %d, excerpt %d bytes", x.Line, x.Lines, n, len(x.Excerpt))
			}
		}
	})
}

func FuzzClean(f *testing.F) {
	f.Add([]byte("\x1b[31mred\r\n"), 100)
	f.Add([]byte("\x1b]0;t\x07äöü\xff"), 3)
	f.Fuzz(func(t *testing.T, log []byte, max int) {
		got := Clean(log, max)
		if max > 0 && len(got) > max {
			t.Errorf("%d bytes, at most %d wanted", len(got), max)
		}
		if !utf8.ValidString(got) {
			t.Errorf("invalid UTF-8: %q", got)
		}
		for _, r := range got {
			if r != '\n' && r != '\t' && hidden(r) {
				t.Errorf("control character %U in %q", r, got)
			}
		}
	})
}
