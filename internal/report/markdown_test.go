package report

import (
	"bytes"
	"html"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// acting is what GitHub or Markdown would make something of.
var acting = regexp.MustCompile("[@`*_\\[\\]<>|\\\\!]|#\\d*[0-9a-zA-Z/]+[^;0-9]|https?://|(?i)www\\.|(?i)GH-\\d")

func TestMarkdownText(t *testing.T) {
	for _, s := range []string{"@torvalds", "a#1 fixes #123", "torvalds/linux#5", "GH-12", "gh-12", "[x](http://a.b)", "![i](u)", "<img src=x>", "a|b", "`c`", "**b** __b__ ~~x~~",
		"www.example.org", "https://example.org", "a@b.org", "&lt;b&gt;", "\\@x", "x\n\n# head"} {
		if got := mdText(s); acting.MatchString(got) {
			t.Errorf("%q became %q: %q acts", s, got, acting.FindString(got))
		}
	}
}

func FuzzMarkdownText(f *testing.F) {
	f.Add("@a #1 |x| `y` <b> GH-1 http://x www.y \\ \n")
	f.Fuzz(func(t *testing.T, s string) {
		got := mdText(s)
		if acting.MatchString(got) || strings.ContainsAny(got, "\n\r") || !utf8.ValidString(got) {
			t.Fatalf("%q became %q", s, got)
		}
		if back := strings.ReplaceAll(html.UnescapeString(got), "\u2060", ""); back != plain(s) {
			t.Fatalf("%q reads %q", s, back)
		}
	})
}

func TestMarkdownIsCut(t *testing.T) {
	r := seriesFixture()
	r.Commits[0] = noBuild(1, "mm: one")
	r.Command = strings.Repeat("```\n<details>@everybody ä ", 9000)
	var b bytes.Buffer
	if err := Markdown(&b, r); err != nil {
		t.Fatal(err)
	}
	s := b.String()
	if n := utf8.RuneCountInString(s); n > 65535 || !strings.HasSuffix(s, cutNote) {
		t.Errorf("%d characters, end: %.200q", n, s[max(0, len(s)-200):])
	}
	for _, most := range []int{600, 1200, 2000} {
		b.Reset()
		long := "**x**\n\n<details><summary>log</summary>\n\n" + mdFence(strings.Repeat("a line of it\n", 300)) + "\n</details>\n"
		s := mdCut(long, most)
		if utf8.RuneCountInString(s) > most || strings.Count(s, "```") != 2 || strings.Count(s, "<details>") != strings.Count(s, "</details>") {
			t.Errorf("%d: not closed:\n%s", most, s)
		}
	}
}

func TestMarkdownOrder(t *testing.T) {
	var b bytes.Buffer
	if err := Markdown(&b, seriesFixture()); err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, part := range []string{"**1 of 6 commits", "| # | commit | build | boot | tests |", "The first failure", "<details>", "To reproduce", "orchestrator series"} {
		i := strings.Index(b.String()[at:], part)
		if i < 0 {
			t.Fatalf("no %q after byte %d:\n%s", part, at, &b)
		}
		at += i
	}
	b.Reset()
	if err := Markdown(&b, harmlessSeries()); err != nil || strings.Contains(b.String(), "The first failure") {
		t.Errorf("a series is blamed for its base: %v\n%s", err, &b)
	}
	b.Reset()
	if err := Markdown(&b, &kernel.SeriesResult{}); err != nil || !strings.HasPrefix(b.String(), "**") {
		t.Errorf("an empty series: %v\n%s", err, &b)
	}
}
