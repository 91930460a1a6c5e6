package pulls

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseCommands(t *testing.T) {
	for _, tt := range []struct {
		body    string
		want    []Command
		problem string
	}{
		{"thanks!", nil, ""},
		{"/kbisect", []Command{{Verb: "help"}}, ""},
		{"please\n/kbisect test\r\n", []Command{{Verb: "test"}}, ""},
		{"  /kbisect test cow cow-debug", []Command{{Verb: "test", Profiles: []string{"cow", "cow-debug"}}}, ""},
		{"/kbisect bisect good=v6.1~3 test=cow/fork-basic/base", []Command{{Verb: "bisect", Good: "v6.1~3", Test: "cow/fork-basic/base"}}, ""},
		{"/kbisect retest\n/kbisect cancel", []Command{{Verb: "retest"}, {Verb: "cancel"}}, ""},
		{strings.Repeat("/kbisect cancel\n", 9), []Command{{Verb: "cancel"}, {Verb: "cancel"}, {Verb: "cancel"}, {Verb: "cancel"}, {Verb: "cancel"}}, ""},
		// Somebody else's words, and code.
		{"> /kbisect test\n\nwhat does this do?", nil, ""},
		{"    /kbisect test", nil, ""},
		{"```\n/kbisect test\n```\n/kbisect cancel", []Command{{Verb: "cancel"}}, ""},
		{"~~~~\n~~~\n/kbisect test\n~~~~", nil, ""},
		{"use `/kbisect test`", nil, ""},
		{"/kbisecter test", nil, ""},
		{"/kbisect bisect", nil, "bisect needs good=REV: a commit, tag or branch on which the test passes"},
		{"/kbisect bisect good=a good=b", nil, "`good=b`: bisect takes good=REV, bad=REV and test=NAME, each once"},
		{"/kbisect bisect good=--upload-pack=x", nil, "`good=--upload-pack=x`: this is no name"},
		{"/kbisect bisect good=a..b", nil, "`good=a..b`: this is no name"},
		{"/kbisect test $(reboot)", nil, "`$(reboot)`: this is no name"},
		{"/kbisect test `@all`", nil, "`?@all?`: this is no name"},
		{"/kbisect cancel everything", nil, "cancel takes nothing more, and there is `everything`"},
		{"/kbisect ok", []Command{{Verb: "ok"}}, ""},
		{"/kbisect ok 0123456789ab", []Command{{Verb: "ok", SHA: "0123456789ab"}}, ""},
		{"/kbisect ok then", nil, "ok takes the head that was looked at, seven digits of it at least, or nothing"},
		{"/kbisect dance", nil, "`dance`: no such command"},
	} {
		got, problem := ParseCommands(tt.body)
		if diff := cmp.Diff(tt.want, got); diff != "" || problem != tt.problem {
			t.Errorf("%q: %q %s", tt.body, problem, diff)
		}
	}
}

func FuzzParseCommands(f *testing.F) {
	f.Add("/kbisect bisect good=v6.1 test=cow/x/base\n```\n/kbisect\n```")
	f.Fuzz(func(t *testing.T, body string) {
		commands, problem := ParseCommands(body)
		if len(commands) > maxCommands || strings.Count(problem, "`")%2 != 0 || strings.ContainsAny(problem, "\n\r") {
			t.Errorf("%q: %+v, %q", body, commands, problem)
		}
		for _, c := range commands {
			for _, rev := range []string{c.Good, c.Bad} {
				if strings.HasPrefix(rev, "-") || strings.Contains(rev, "..") {
					t.Errorf("%q: revision %q", body, rev)
				}
			}
		}
	})
}
