package lore

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func packed(text string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return b.Bytes()
}

const thread = "From mboxrd@z Thu Jan  1 00:00:00 1970\nSubject: [PATCH] x\n\n"

func TestThread(t *testing.T) {
	for word, want := range map[string]string{
		"20230101.1234-1-a@example.org":                                      DefaultArchive + "/20230101.1234-1-a@example.org/t.mbox.gz",
		"<20230101.1234-1-a@example.org>":                                    DefaultArchive + "/20230101.1234-1-a@example.org/t.mbox.gz",
		"CAHk-=wgjOsHAXttQa=csLG10Cp2hh8Dk8CnNC3_WDpBpTzBESQ@mail.gmail.com": DefaultArchive + "/CAHk-=wgjOsHAXttQa=csLG10Cp2hh8Dk8CnNC3_WDpBpTzBESQ@mail.gmail.com/t.mbox.gz",
		"a/b@example.org":                                                    DefaultArchive + "/a%2Fb@example.org/t.mbox.gz",
		"https://lore.kernel.org/linux-mm/x@example.org/":                    "https://lore.kernel.org/linux-mm/x@example.org/t.mbox.gz",
		"https://lore.kernel.org/linux-mm/x@example.org":                     "https://lore.kernel.org/linux-mm/x@example.org/t.mbox.gz",
		"https://lore.kernel.org/r/x@example.org":                            "https://lore.kernel.org/all/x@example.org/t.mbox.gz",
		"https://lore.kernel.org/all/x@example.org/T/#u":                     "https://lore.kernel.org/all/x@example.org/t.mbox.gz",
		"https://lore.kernel.org/all/a%2Fb@example.org/":                     "https://lore.kernel.org/all/a%2Fb@example.org/t.mbox.gz",
		"http://inbox.example.org:8080/l/x@y/raw?q=1":                        "http://inbox.example.org:8080/l/x@y/t.mbox.gz",
		"https://lore.kernel.org/all/x@example.org/t.mbox.gz":                "https://lore.kernel.org/all/x@example.org/t.mbox.gz",
	} {
		if !Names(word) {
			t.Errorf("%s names no thread", word)
		}
		if got, err := (Archive{}).thread(word); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", word, got, err, want)
		}
	}
	for _, word := range []string{"https://lore.kernel.org/", "https://lore.kernel.org/linux-mm/", "https:///x@y/z", "https://x/%zz@"} {
		var e *Error
		if got, err := (Archive{}).thread(word); !errors.As(err, &e) {
			t.Errorf("%s: %s, %v", word, got, err)
		}
	}
	for _, word := range []string{"cow.mbox", "./v2@home/cow.mbox x", "-", "", "a b@c", "@", "x@"} {
		if Names(word) {
			t.Errorf("%q names a thread", word)
		}
	}
}

// archive answers as public-inbox does. Its answer can be changed.
type archive struct {
	*httptest.Server
	asked  int
	answer http.HandlerFunc
}

func newArchive(t *testing.T) (*archive, Archive) {
	a := &archive{}
	a.answer = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.EscapedPath() != "/all/x@example.org/t.mbox.gz" || r.Header.Get("User-Agent") != "kbisect test" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/gzip")
		_, _ = w.Write(packed(thread))
	}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.asked++
		a.answer(w, r)
	}))
	t.Cleanup(a.Close)
	return a, Archive{URL: a.URL + "/all", Dir: filepath.Join(t.TempDir(), "threads"), Agent: "kbisect test"}
}

func TestFetch(t *testing.T) {
	server, a := newArchive(t)
	file, remark, err := a.Fetch(t.Context(), "<x@example.org>")
	if text, _ := os.ReadFile(file); err != nil || remark != "" || !bytes.Equal(text, packed(thread)) {
		t.Fatal(remark, err)
	}
	// What was fetched long ago goes.
	ancient := filepath.Join(a.Dir, "0.mbox.gz")
	if err := os.WriteFile(ancient, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-keptFor - time.Hour)
	if err := os.Chtimes(ancient, long, long); err != nil {
		t.Fatal(err)
	}
	// Soon after it is not asked for again, by whatever name.
	if again, _, err := a.Fetch(t.Context(), server.URL+"/all/x@example.org/"); err != nil || again != file || server.asked != 1 {
		t.Errorf("%s, asked %d times, %v", again, server.asked, err)
	}
	// Later it is, and what was there stands in for an archive that is down.
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
	good := server.answer
	server.answer = func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "busy", http.StatusServiceUnavailable) }
	again, remark, err := a.Fetch(t.Context(), "x@example.org")
	if err != nil || again != file || !strings.Contains(remark, "503") || !strings.Contains(remark, "as of "+old.UTC().Format(time.DateTime)) {
		t.Errorf("%q, %v", remark, err)
	}
	server.answer = good
	if _, remark, err = a.Fetch(t.Context(), "x@example.org"); err != nil || remark != "" || server.asked != 3 {
		t.Errorf("%q, asked %d times, %v", remark, server.asked, err)
	}
	if left, _ := filepath.Glob(filepath.Join(a.Dir, "*")); len(left) != 1 || left[0] != file {
		t.Errorf("kept: %s", left)
	}
}

func TestFetchFails(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		word   string
		want   string
	}{
		{"unknown", nil, "y@example.org", "the archive has no such message"},
		{"a page", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>are you human?")) }, "x@example.org", "something else than a mailbox"},
		{"nothing", func(http.ResponseWriter, *http.Request) {}, "x@example.org", "something else than a mailbox"},
		{"forbidden", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) }, "x@example.org", "answers 403"},
		{"busy", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusTooManyRequests) }, "x@example.org", "answers 429"},
		{"cut off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write(packed(thread))
		}, "x@example.org", "unexpected EOF"},
		{"without end", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("From mboxrd@z\n"))
			for block := make([]byte, 1<<20); ; {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}, "x@example.org", "more than 128 MiB"},
		{"in circles", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, "x@example.org", "redirects"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, a := newArchive(t)
			if c.answer != nil {
				server.answer = c.answer
			}
			_, _, err := a.Fetch(t.Context(), c.word)
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), server.URL) {
				t.Errorf("%v, want %s", err, c.want)
			}
			if left, _ := filepath.Glob(filepath.Join(a.Dir, "*")); len(left) > 0 {
				t.Errorf("left behind: %s", left)
			}
		})
	}
	server, a := newArchive(t)
	server.Close()
	var e *Error
	if _, _, err := a.Fetch(t.Context(), "x@example.org"); !errors.As(err, &e) || !e.Network || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := a.Fetch(ctx, "x@example.org"); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

// Whatever is taken for a thread is asked of the host that was named, or of the
// archive, for one mailbox.
func FuzzThread(f *testing.F) {
	for _, s := range []string{"https://lore.kernel.org/linux-mm/20211218184233.1234-1-namit@vmware.com/T/#u", "<a@b>", "a/../../b@c", "https://x/r/a%40b", "http://u:p@x/..%2f/%2e%2e@/", "https://x/\x00/a@b", "http://[::1]:1/l/a@b?x#y", "a@b\r\nX: y", "https://x/#\x00@"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, word string) {
		if !Names(word) {
			return
		}
		address, err := Archive{}.thread(word)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r\x00") {
				t.Errorf("%q: %q", word, err)
			}
			return
		}
		got, err := url.Parse(address)
		asked, aerr := url.Parse(word)
		if err != nil || !strings.HasSuffix(got.EscapedPath(), "/t.mbox.gz") || strings.Count(got.EscapedPath(), "/") != 3 || got.RawQuery != "" ||
			!strings.HasPrefix(address, DefaultArchive+"/") && (aerr != nil || got.Host != asked.Host) {
			t.Errorf("%q is asked for at %q: %v", word, address, err)
		}
	})
}
