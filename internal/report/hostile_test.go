package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/html"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// payloads are what strangers may call a commit, a test, themselves.
var payloads = map[string]string{
	"terminal": "\x1b[31mred\x1b]0;title\x07\x1b]8;;http://evil.example\x07\u009b31m\r\x00\x7f\u202egnp.exe\u2066\u200b\u2028\ufeff\U000e0041\xff\xfe",
	"markup": "</p></td></table></pre></style></title><script>alert(1)</script><img src=x onerror=alert(1)>\"'><a href=\"javascript:alert(1)\" style=\"x\">x</a>&amp;{{.}}" +
		"--> ]]> <!-- <![CDATA[ <?xml ?> &#0; &x; \ufffe",
	"markdown": "@all #1 GH-1 a/b#5 [x](javascript:alert(1)) ![i](http://evil.example) **b** `c` | x\n\n```\n# head\n~~~\n</details><img src=x> https://evil.example www.evil.example <b>",
	"fences":   strings.Repeat("`", 40) + "\n" + strings.Repeat("`", 7) + "\n@all",
	"mail":     "x\nBcc: y@evil.example\r\n\r\nFrom z\n.\n-- \n---\ndiff --git a/x b/x\n" + strings.Repeat("Signed-off-by: L <l@evil.example> From diff --- -- ", 9),
	"long":     strings.Repeat("längst ", 300),
	"blank":    " \t\n",
}

// fill puts a payload in the place of every string of a value. Sparing leaves those
// by which a report chooses what to say.
func fill(v reflect.Value, with string, sparing bool) {
	switch v.Kind() {
	case reflect.String:
		if sparing && (v.Type() != reflect.TypeFor[string]() || isObjectID(v.String()) || chosen[v.String()]) {
			return
		}
		v.SetString(with)
	case reflect.Pointer:
		if !v.IsNil() {
			fill(v.Elem(), with, sparing)
		}
	case reflect.Slice:
		v.Set(reflect.AppendSlice(reflect.Zero(v.Type()), v)) // fixtures share some
		for i := range v.Len() {
			fill(v.Index(i), with, sparing)
		}
	case reflect.Map:
		if v.IsNil() {
			return
		}
		out := reflect.MakeMap(v.Type())
		for it := v.MapRange(); it.Next(); {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			key.Set(it.Key())
			value.Set(it.Value())
			fill(key, with, sparing)
			fill(value, with, sparing)
			out.SetMapIndex(key, value)
		}
		v.Set(out)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i), with, sparing)
			}
		}
	}
}

var chosen = map[string]bool{"": true, "done": true, "interrupted": true, "good": true, "bad": true, "skip": true, "built": true, "failed": true, "cached": true, "identical": true,
	"fail": true, "crash": true, "hang": true, "bad end": true, "good end": true, "halving": true}

// parts are the elements of a page, with the names of their attributes and where
// links lead to.
func parts(t *testing.T, page []byte) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for z := html.NewTokenizer(bytes.NewReader(page)); ; {
		switch z.Next() {
		case html.ErrorToken:
			if !errors.Is(z.Err(), io.EOF) {
				t.Error(z.Err())
			}
			return out
		case html.CommentToken:
			out["<!--"] = true
		case html.StartTagToken, html.SelfClosingTagToken:
			tok := z.Token()
			out[tok.Data] = true
			for _, a := range tok.Attr {
				name := tok.Data + " " + a.Key
				if a.Key == "href" && !strings.HasPrefix(a.Val, "#") || a.Key == "src" {
					name += "=" + a.Val
				}
				out[name] = true
			}
		}
	}
}

var (
	// mdOurs is the markup of our own.
	mdOurs = regexp.MustCompile(`</?(details|summary|code)>|&#\d+;|(?m)^\| # \|`)
	// ownLine is a line that a mail program or git would take for its own.
	ownLine = regexp.MustCompile(`(?m)^(Bcc:|Signed-off-by:|From |diff |---|-- |\.$)`)
)

// What nobody controls is harmless in every form: whatever a result says, a
// terminal gets no control characters, pages no elements and no links, Markdown no
// markup and nobody is told, XML and JSON can be read, and a mail has the lines
// that we wrote.
func TestEveryStringHostile(t *testing.T) {
	clean, elements := map[string]bool{"<!--": false}, map[string]bool{}
	for _, v := range fixtures() {
		for part := range parts(t, rendered(t, HTML, v)) {
			clean[part] = true
		}
		for _, e := range xmlElements(t, rendered(t, JUnit, v)) {
			elements[e] = true
		}
	}
	for _, fixture := range []string{"check-remarks", "check-no-boot", "matrix-interrupt", "series-changes", "series-untestable", "bisect-set", "bisect-full", "bisect-doubtful", "bisect-changes"} {
		for name, payload := range payloads {
			for _, sparing := range []bool{true, false} {
				v := fixtures()[fixture]
				fill(reflect.ValueOf(v), payload, sparing)
				for ext, render := range formats {
					if _, ok := v.(*kernel.BisectResult); ext == "mail" && !ok {
						continue
					}
					out := rendered(t, render, v)
					wrong := func(format string, args ...any) {
						t.Errorf("%s.%s with %s, sparing %v: "+format, append([]any{fixture, ext, name, sparing}, args...)...)
					}
					if !utf8.Valid(out) {
						wrong("invalid UTF-8")
					}
					for _, r := range string(out) {
						if acts(r) && r != '\n' && (r != '\u2060' || ext != "md") && (ext != "html" || r != '\t' && !unicode.Is(unicode.Cf, r)) {
							wrong("character %U", r)
							break
						}
					}
					switch ext {
					case "html":
						if strings.ContainsAny(string(out), "\u202e\u2066") { // others of their class do nothing on a page
							wrong("text runs the other way")
						}
						for part := range parts(t, out) {
							if !clean[part] {
								wrong("%s", part)
							}
						}
					case "xml":
						for _, e := range xmlElements(t, out) {
							if !elements[e] {
								wrong("element %s", e)
							}
						}
					case "md":
						if utf8.RuneCount(out) > maxMarkdown {
							wrong("%d characters", utf8.RuneCount(out))
						}
						text := string(out)
						text = mdOurs.ReplaceAllString(strings.ReplaceAll(outside(text), "**", ""), "")
						text = strings.ReplaceAll(text, strings.TrimSpace(cutNote), "")
						if at := acting.FindString(strings.ReplaceAll(text, "|", "")); at != "" {
							wrong("%q acts", at)
						}
					case "json", "kcidb":
						if !json.Valid(out) {
							wrong("no JSON")
						}
					case "mail":
						body, tag, _ := strings.Cut(string(out), "\nFixes: ")
						if at := ownLine.FindString(body); at != "" || strings.Count(tag, "\n") > 1 {
							wrong("a line starts with %q, or the tag has more than one: %q", at, tag)
						}
					}
				}
			}
		}
	}
}

// outside is Markdown without what stands in fences, as CommonMark closes them.
func outside(s string) string {
	var out strings.Builder
	fence := ""
	for l := range strings.Lines(s) {
		text := strings.TrimSpace(l)
		ticks := text[:len(text)-len(strings.TrimLeft(text, "`"))]
		switch {
		case fence != "" && text == ticks && len(ticks) >= len(fence):
			fence = ""
		case fence != "":
		case len(ticks) >= 3:
			fence = ticks
		default:
			out.WriteString(l)
		}
	}
	return out.String()
}

func rendered(t *testing.T, render func(io.Writer, any) error, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := render(&b, v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// xmlElements reads a whole document.
func xmlElements(t *testing.T, text []byte) (names []string) {
	t.Helper()
	for d := xml.NewDecoder(bytes.NewReader(text)); ; {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		switch e := tok.(type) {
		case xml.StartElement:
			names = append(names, e.Name.Local)
		case xml.Comment, xml.ProcInst, xml.Directive:
			names = append(names, reflect.TypeOf(e).Name())
		}
	}
}
