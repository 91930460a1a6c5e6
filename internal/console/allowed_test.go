package console

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

func TestParseAllowed(t *testing.T) {
	got, err := ParseAllowed([]byte(`# Every kernel here says so.
# Nobody knows why.
WARNING in (foo|bar)
INFO: task hung in .*

# of the emulator
  BUG: x
# of another
WARNING at mm/x\.c
`))
	want := []kernel.Allowed{
		{Title: "WARNING in (foo|bar)", Why: "Every kernel here says so. Nobody knows why."},
		{Title: "INFO: task hung in .*", Why: "Every kernel here says so. Nobody knows why."},
		{Title: "BUG: x", Why: "of the emulator"},
		{Title: `WARNING at mm/x\.c`, Why: "of another"},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	for _, c := range []struct{ text, want string }{
		{"", "nothing in it"},
		{"# only a comment\n", "nothing in it"},
		{"WARNING in foo\n", "line 1: no reason"},
		{"# why\nWARNING in foo\n\nWARNING in bar\n", "line 4: no reason"},
		{"#\nWARNING in foo\n", "line 2: no reason"},
		{"# why\nWARNING in (foo\n", "line 2: error parsing regexp: missing closing )"},
		{"# why\n.*\n", "line 2: .* allows everything"},
		{"# why\nfoo|\n", "line 2: foo| allows everything"},
		{"# why\n" + strings.Repeat("a\n", 501), "line 502: more than 500"},
		{strings.Repeat("#", 1<<17), "more than 65536 bytes"},
	} {
		if _, err := ParseAllowed([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.30q: %v, want %q", c.text, err, c.want)
		}
	}
}

// Only the complaint that is named is allowed, by its whole title.
func TestAllow(t *testing.T) {
	found := Scan([]byte(`[    1.0] WARNING: CPU: 0 PID: 7 at mm/a.c:5 known_one+0x1/0x2
[    2.0] WARNING: CPU: 0 PID: 7 at mm/a.c:9 known_one_more+0x1/0x2
[    3.0] BUG: Bad page state in process x  pfn:12345
`))
	left, allowed := Allow(found, []kernel.Allowed{{Title: "WARNING in known_one"}, {Title: "BUG"}})
	title := func(fs []Finding) (s []string) {
		for _, f := range fs {
			s = append(s, f.Signature.Title)
		}
		return s
	}
	if diff := cmp.Diff([]string{"WARNING in known_one_more", "BUG: Bad page state"}, title(left)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"WARNING in known_one"}, title(allowed)); diff != "" {
		t.Error(diff)
	}
	if left, allowed = Allow(found, nil); len(left) != 3 || allowed != nil {
		t.Errorf("%q", title(allowed))
	}
}
