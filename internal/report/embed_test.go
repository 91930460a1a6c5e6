package report

import (
	"bytes"
	"net/url"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// TestBody holds the fragment to what a page with a strict policy allows, and
// to say what the file says.
func TestBody(t *testing.T) {
	links := Links{Runs: func(commit, digest, test string) string {
		return "/runs?" + url.Values{"commit": {commit}, "kernel": {digest}, "test": {test}}.Encode()
	}}
	for name, v := range fixtures() {
		var b, bare, page bytes.Buffer
		verdict, err := Body(&b, v, links)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Body(&bare, v, Links{}); err != nil {
			t.Fatal(err)
		}
		if err := HTML(&page, v); err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{"<style", "<script", " style=", "<html", "<main", "<img"} {
			if strings.Contains(b.String(), s) {
				t.Errorf("%s: the body has %s", name, s)
			}
		}
		if verdict == "" || verdict != plain(verdict) {
			t.Errorf("%s: verdict %q", name, verdict)
		}
		if strings.Contains(bare.String(), "/runs?") || strings.Contains(page.String(), "/runs?") {
			t.Errorf("%s: links to runs that nobody serves", name)
		}
		if strings.Contains(page.String(), `class="cell bad`) && !strings.Contains(b.String(), `href="/runs?commit=`) {
			t.Errorf("%s: no cell leads to its runs", name)
		}
		// But for the links, titles and the style of the chart it is the file's.
		for l := range strings.Lines(bare.String()) {
			if !strings.Contains(page.String(), strings.TrimSpace(l)) {
				t.Errorf("%s: only in the body: %s", name, l)
				break
			}
		}
	}
	if _, err := Body(&bytes.Buffer{}, 7, links); err == nil {
		t.Error("a number has a body")
	}
}

func TestStyle(t *testing.T) {
	s := Style()
	for _, want := range []string{"prefers-color-scheme:dark", ".heat .at{", ".l8{"} {
		if !strings.Contains(s, want) {
			t.Errorf("no %s in the style", want)
		}
	}
	if strings.Contains(s, "{{") || strings.Contains(s, "&#") {
		t.Error("the style is not as it was written")
	}
}

func TestLogLinks(t *testing.T) {
	ok, failed := kernel.Build{Status: kernel.BuildOK, LogDigest: "d1"}, kernel.Build{Status: kernel.BuildFailed, Log: "/srv/x/build.log", LogDigest: "d2"}
	boot := kernel.Boot{Status: kernel.BootOK}
	v := &kernel.SeriesResult{Schema: "kbisect/series/v1", Status: "done", Commits: []kernel.CommitResult{
		{SHA: "a", Build: ok, Boot: boot}, {SHA: "b", Build: failed, Boot: kernel.Boot{Status: kernel.BootNone}},
	}}
	var with, without bytes.Buffer
	if _, err := Body(&with, v, Links{Log: func(d string) string { return "/log/" + d }}); err != nil {
		t.Fatal(err)
	}
	if _, err := Body(&without, v, Links{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`href="/log/d1" title="log of the build"`, `<a href="/log/d2">Full log</a>`} {
		if !strings.Contains(with.String(), want) {
			t.Errorf("no %s in\n%s", want, &with)
		}
	}
	if strings.Contains(with.String(), "/srv/x") || strings.Contains(without.String(), "/log/") || !strings.Contains(without.String(), "<code>/srv/x/build.log</code>") {
		t.Errorf("%s\n%s", &with, &without)
	}
}
