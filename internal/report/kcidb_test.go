package report

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// TestKCIDB holds what is made to the rules of the schema.
func TestKCIDB(t *testing.T) {
	id := regexp.MustCompile(`^kbisect:[^\x00]+$`)
	path := regexp.MustCompile(`^([a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)*)?$`)
	for name, v := range fixtures() {
		var b bytes.Buffer
		if err := KCIDB(&b, v); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if bytes.Contains(b.Bytes(), []byte("null")) || bytes.Contains(b.Bytes(), []byte(`\u0000`)) {
			t.Errorf("%s: a null or a NUL", name)
		}
		var k kcidb
		d := json.NewDecoder(&b)
		d.DisallowUnknownFields()
		if err := d.Decode(&k); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if k.Version != (kcidbVersion{5, 3}) {
			t.Errorf("%s: version %v", name, k.Version)
		}
		known := map[string]string{} // id -> kind
		object := func(kind, objectID, objectOrigin string) {
			if known[objectID] != "" || !id.MatchString(objectID) || objectOrigin != "kbisect" {
				t.Errorf("%s: %s %q of %q, or twice", name, kind, objectID, objectOrigin)
			}
			known[objectID] = kind
		}
		refer := func(from, kind, to string) {
			if known[to] != kind {
				t.Errorf("%s: %s refers to no %s: %q", name, from, kind, to)
			}
		}
		for _, c := range k.Checkouts {
			object("checkout", c.ID, c.Origin)
			if _, err := time.Parse(time.RFC3339, c.StartTime); c.StartTime != "" && err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, x := range k.Builds {
			object("build", x.ID, x.Origin)
			refer(x.ID, "checkout", x.CheckoutID)
		}
		for _, x := range k.Tests {
			object("test", x.ID, x.Origin)
			refer(x.ID, "build", x.BuildID)
			if !path.MatchString(x.Path) || !strings.Contains(" FAIL ERROR MISS PASS DONE SKIP ", " "+x.Status+" ") || len(x.LogExcerpt) > 16384 {
				t.Errorf("%s: path %q, status %q, %d bytes of log", name, x.Path, x.Status, len(x.LogExcerpt))
			}
		}
		for _, x := range k.Issues {
			object("issue", x.ID, x.Origin)
		}
		for _, x := range k.Incidents {
			object("incident", x.ID, x.Origin)
			refer(x.ID, "issue", x.IssueID)
			refer(x.ID, "test", x.TestID)
		}
		if want := map[string]int{"series": 3, "bisect": 1, "bisect-set": 0, "bisect-fix": 0, "check": 0}; want[name] != len(k.Issues) && (want[name] > 0 || name == "check") {
			t.Errorf("%s: %d issues, want %d", name, len(k.Issues), want[name])
		}
	}
}

func TestKCIDBExcerpt(t *testing.T) {
	if s := excerpt(strings.Repeat("ä\x00\xff€", 20000) + "end"); len(s) > 16384 || strings.Contains(s, "\x00") || !strings.HasSuffix(s, "end") {
		t.Errorf("%d bytes: ...%.20q", len(s), s[max(0, len(s)-20):])
	}
}

func TestKCIDBStatus(t *testing.T) {
	for _, c := range []struct {
		test kernel.TestResult
		want string
	}{
		{kernel.TestResult{Verdict: kernel.Good}, "PASS"}, {kernel.TestResult{Verdict: kernel.Bad}, "FAIL"}, {kernel.TestResult{Verdict: kernel.Skipped}, "SKIP"},
		{kernel.TestResult{Verdict: kernel.Inconclusive, Runs: 3}, "ERROR"}, {kernel.TestResult{Verdict: kernel.Inconclusive}, "MISS"}, {kernel.TestResult{Verdict: kernel.Untestable}, "MISS"},
	} {
		if got := kcidbStatus(&c.test); got != c.want {
			t.Errorf("%+v: %s, want %s", c.test, got, c.want)
		}
	}
}
