package kconfig

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kernel-bisect/kbisect/kconfigs"
)

const fragment = `# a comment
CONFIG_A=y

# kbisect: since 5.11; the older name is GUP_BENCHMARK
CONFIG_GUP_TEST=y
# kbisect: until 5.10
CONFIG_GUP_BENCHMARK=y
# kbisect: since 5.19 until 6.12
CONFIG_MIDDLE=y
# CONFIG_OFF is not set
CONFIG_NAME="x y"
`

func TestRefused(t *testing.T) {
	reqs, err := ParseFragment("f", []byte(fragment))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		v      Version
		config string
		want   []string
	}{
		{"all there on 6.1", Version{6, 1}, "CONFIG_A=y\nCONFIG_GUP_TEST=y\nCONFIG_MIDDLE=y\nCONFIG_NAME=\"x y\"\n", nil},
		{"5.10 has the old name", Version{5, 10}, "CONFIG_A=y\nCONFIG_GUP_BENCHMARK=y\nCONFIG_NAME=\"x y\"\n", nil},
		{"ranges are inclusive", Version{6, 12}, "CONFIG_A=y\nCONFIG_GUP_TEST=y\nCONFIG_NAME=\"x y\"\n",
			[]string{"CONFIG_MIDDLE=y (f:9) became n"}},
		{"beyond the range", Version{7, 0}, "CONFIG_A=y\nCONFIG_GUP_TEST=y\nCONFIG_NAME=\"x y\"\n", nil},
		{"dropped, changed, on although off was asked", Version{5, 11}, "CONFIG_A=m\nCONFIG_OFF=y\nCONFIG_NAME=\"x y\"\n",
			[]string{"CONFIG_A=y (f:2) became m", "CONFIG_GUP_TEST=y (f:5) became n", "CONFIG_OFF=n (f:10) became y"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, r := range Refused(reqs, ParseConfig([]byte(c.config)), c.v) {
				got = append(got, r.String())
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestLaterFragmentWins(t *testing.T) {
	a, _ := ParseFragment("a", []byte("# CONFIG_X is not set\n"))
	b, _ := ParseFragment("b", []byte("CONFIG_X=y\n"))
	if r := Refused(append(a, b...), map[string]string{"X": "y"}, Version{6, 1}); len(r) != 0 {
		t.Error(r)
	}
	if r := Refused(append(b, a...), map[string]string{"X": "y"}, Version{6, 1}); len(r) != 1 {
		t.Error("the earlier request won")
	}
}

func TestParseFragmentRejects(t *testing.T) {
	for text, want := range map[string]string{
		"CONFIG_A=y\nbogus\n":                     "f:2",
		"# kbisect: sinec 5.1\nCONFIG_A=y\n":      "unknown directive",
		"# kbisect: ; reason\nCONFIG_A=y\n":       "unknown directive",
		"# kbisect: since 5.1\n\nCONFIG_A=y\n":    "directly above",
		"CONFIG_A=y\n# kbisect: until 5.1\n":      "directly above",
		"CONFIG_A=y # trailing is Kconfig's bane": "", // taken as a value, and refused later
	} {
		_, err := ParseFragment("f", []byte(text))
		if want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestParseWhole(t *testing.T) {
	const whole = "#\n# Automatically generated file; DO NOT EDIT.\n#\nCONFIG_X86_64=y\nCONFIG_A=m\n# CONFIG_B is not set\nCONFIG_NAME=\"x y\"\n"
	reqs, err := ParseWhole([]byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	again := ""
	for _, r := range reqs {
		again += r.Line()
	}
	if want := whole[strings.Index(whole, "CONFIG_X"):]; again != want {
		t.Errorf("%s, want %s", again, want)
	}
	for text, want := range map[string]string{
		"":                                "no CONFIG_X86_64=y",
		"CONFIG_ARM64=y\n":                "no CONFIG_X86_64=y",
		"# CONFIG_X86_64 is not set\n":    "no CONFIG_X86_64=y",
		"CONFIG_X86_64=y\n#!/bin/sh\ny\n": "line:3",
	} {
		if _, err := ParseWhole([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// What every guest needs, the profiles' kernels have: what is set on top of a user's
// configuration is theirs.
func TestGuestFragment(t *testing.T) {
	values := func(name string) map[string]string {
		text, err := kconfigs.Fragment(name)
		if err != nil {
			t.Fatal(err)
		}
		reqs, err := ParseFragment(name, text)
		if err != nil {
			t.Fatal(err)
		}
		v := map[string]string{}
		for _, r := range reqs {
			v[r.Symbol] = r.Value
		}
		return v
	}
	slim := values("cow.x86_64.config")
	for symbol, value := range values(kconfigs.Guest) {
		if slim[symbol] != value {
			t.Errorf("CONFIG_%s=%s is %q in the slim kernel", symbol, value, slim[symbol])
		}
	}
}

func TestEmbeddedFragmentsParse(t *testing.T) {
	for _, p := range kconfigs.Profiles() {
		for _, name := range p.Fragments {
			text, err := kconfigs.Fragment(name)
			if err != nil {
				t.Fatal(err)
			}
			if reqs, err := ParseFragment(name, text); err != nil || len(reqs) == 0 {
				t.Errorf("%s: %d requests, %v", name, len(reqs), err)
			}
		}
	}
}

func TestTreeVersion(t *testing.T) {
	v, err := TreeVersion([]byte("# SPDX\nVERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 3\n"))
	if err != nil || v != (Version{6, 12}) {
		t.Errorf("got %v, %v", v, err)
	}
	if _, err := TreeVersion([]byte("all:\n\techo\n")); err == nil {
		t.Error("a Makefile that is no kernel's was accepted")
	}
}

func FuzzParseFragment(f *testing.F) {
	f.Add([]byte(fragment))
	f.Fuzz(func(t *testing.T, text []byte) {
		reqs, err := ParseFragment("f", text)
		if err == nil {
			Refused(reqs, ParseConfig(text), Version{6, 1})
		}
	})
}
