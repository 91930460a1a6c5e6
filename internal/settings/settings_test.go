package settings

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

func TestParseFile(t *testing.T) {
	got, err := ParseFile([]byte(`# a comment
args: [-v, "two words", 3]
env:
  SIZE: 2M
needs: [swap, "hugetlb:2097152"]
timeout: 3m
cmdline: hugepages=4 nokaslr
memory: 2G
swap: 64M
`))
	want := File{
		Program: Program{Args: []string{"-v", "two words", "3"}, Env: map[string]string{"SIZE": "2M"}, Needs: []string{"swap", "hugetlb:2097152"}, Timeout: Duration(3 * time.Minute)},
		Guest:   Guest{Cmdline: "hugepages=4 nokaslr", Memory: 2048, Swap: 64},
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, empty := range []string{"", "\n", "# nothing\n", "---\n"} {
		if got, err := ParseFile([]byte(empty)); err != nil || !cmp.Equal(got, File{}) {
			t.Errorf("%q: %+v, %v", empty, got, err)
		}
	}
}

// What is not understood is refused on one line that says where.
func TestRefused(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"args: [x]\ntimeuot: 3s\n", `line 2: unknown field "timeuot"`},
		{"\n\nprograms: {a: {}}\n", `line 3: unknown field "programs"`},
		{"timeout: 3s\ntimeout: 4s\n", "line 2: "},
		{"timeout: soon\n", `line 1: timeout: "soon" is no time between`},
		{"env: {}\ntimeout: 0s\n", "line 2: timeout: "},
		{"timeout: 25h\n", "line 1: timeout: "},
		{"timeout: [1s]\n", "line 1: timeout: "},
		{"args: x y\n", "line 1: "},
		{"args: {x: y}\n", "line 1: "},
		{"- a\n- b\n", "line 1: "},
		{"just words\n", "line 1: "},
		{"args: [x\n", "line 1: "},
		{"\targs: [x]\n", "line 1: "},
		{"memory: 512\n", `line 1: "512" is no size`},
		{"memory: 65G\n", "line 1: "},
		{"memory: -1G\n", "line 1: "},
		{"memory: 99999999999999999999M\n", "line 1: "},
		{"memory: 64M\n", "memory: 64 MiB is too little"},
		{"cmdline: \"a\\nb\"\n", "cmdline: "},
		{"cmdline: " + strings.Repeat("x", 2000) + "\n", "cmdline: more than 1024 bytes"},
		{"env: {a-b: x}\n", `env: "a-b" is not a variable's name`},
		{"env: {A: \"x\\0y\"}\n", "env: A has a NUL byte"},
		{"args: [\"x\\0y\"]\n", "has a NUL byte"},
		{strings.Repeat("#", 1<<17), "more than 65536 bytes"},
	} {
		_, err := ParseFile([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.40q: %v, want %q", c.text, err, c.want)
		}
	}
}

func TestParseDirectory(t *testing.T) {
	d, err := ParseDirectory([]byte(`timeout: 2m
needs: [swap]
env: {A: "1", B: "2"}
cmdline: hugepages=4
programs:
  plain:
  special:
    args: [-x]
    needs: []
    env: {B: "3"}
    timeout: 10
`))
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Programs) != 2 || d.Cmdline != "hugepages=4" {
		t.Errorf("%+v", d)
	}
	if diff := cmp.Diff(Program{Env: map[string]string{"A": "1", "B": "2"}, Needs: []string{"swap"}, Timeout: Duration(2 * time.Minute)}, d.Of("plain")); diff != "" {
		t.Error(diff)
	}
	want := Program{Args: []string{"-x"}, Env: map[string]string{"A": "1", "B": "3"}, Needs: []string{}, Timeout: Duration(10 * time.Second)}
	if diff := cmp.Diff(want, d.Of("special")); diff != "" {
		t.Error(diff)
	}
	if d.Env["B"] != "2" {
		t.Error("one program's environment has changed the others'")
	}
	for _, c := range []struct{ text, want string }{
		{"programs:\n  a:\n    memory: 1G\n", `line 3: unknown field "memory"`},
		{"programs: [a, b]\n", "line 1: "},
		{"programs: {a: {env: {1x: y}}}\n", "programs: a: env: "},
	} {
		if _, err := ParseDirectory([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
	}
}

// What a user sets takes the place of the profile's.
func TestOn(t *testing.T) {
	for _, c := range []struct{ profile, user, want string }{
		{"", "", ""},
		{"hugepages=8 secretmem.enable=1", "", "hugepages=8 secretmem.enable=1"},
		{"hugepages=8 secretmem.enable=1", "nokaslr hugepages=3", "secretmem.enable=1 nokaslr hugepages=3"},
		{"quiet hugepages=8", "quiet", "hugepages=8 quiet"},
		{"hugepages=8", "hugepages_x=1", "hugepages=8 hugepages_x=1"},
	} {
		if got := (Guest{Cmdline: c.user}).On(kernel.Machine{Cmdline: c.profile}).Cmdline; got != c.want {
			t.Errorf("%q on %q: %q, want %q", c.user, c.profile, got, c.want)
		}
	}
}

// Two programs in one guest: each finds what it asked for.
func TestAnd(t *testing.T) {
	m := kernel.Machine{MemoryMiB: 512, SwapMiB: 128}
	for _, c := range []struct{ a, b, want Guest }{
		{Guest{}, Guest{}, Guest{Memory: 512, Swap: 128}},
		{Guest{Memory: 256}, Guest{}, Guest{Memory: 512, Swap: 128}}, // the other one counts on the profile's
		{Guest{Memory: 1024}, Guest{Memory: 768, Swap: 256}, Guest{Memory: 1024, Swap: 256}},
		{Guest{Memory: 256}, Guest{Memory: 300}, Guest{Memory: 300, Swap: 128}},
		{Guest{Cmdline: "a=1 b"}, Guest{}, Guest{Cmdline: "a=1 b", Memory: 512, Swap: 128}},
		{Guest{}, Guest{Cmdline: "a=1"}, Guest{Cmdline: "a=1", Memory: 512, Swap: 128}},
		{Guest{Cmdline: "a=1 b"}, Guest{Cmdline: "a=1 b"}, Guest{Cmdline: "a=1 b", Memory: 512, Swap: 128}},
		{Guest{Cmdline: "a=1 b"}, Guest{Cmdline: "c=a"}, Guest{Cmdline: "a=1 b c=a", Memory: 512, Swap: 128}},
	} {
		got, err := c.a.And(c.b, m)
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%+v and %+v: %v\n%s", c.a, c.b, err, diff)
		}
	}
	for _, c := range []struct{ a, b, want string }{
		{"x hugepages=4", "y hugepages=3", "both say hugepages, hugepages=4 and hugepages=3"},
		{"hugepagesz=2M hugepages=4", "hugepages=4", "both say hugepages"}, // another size's perhaps
		{strings.Repeat("x", 1000), strings.Repeat("y", 1000), "more than 1024 bytes"},
	} {
		if _, err := (Guest{Cmdline: c.a}).And(Guest{Cmdline: c.b}, m); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q and %.40q: %v, want %q", c.a, c.b, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("args: [a]\ntimeout: 3s\nprograms: {a: {env: {B: c}}}\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("memory: !!int 3\nenv: {<<: *x}\n"))
	f.Add([]byte("args: !a]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, ferr := ParseFile(text)
		_, derr := ParseDirectory(text)
		for _, err := range []error{ferr, derr} {
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("more than a line: %q", err)
			}
		}
	})
}
