// Package kconfig reads kernel configuration fragments and checks a final
// .config against them. Pure: composing is the kernel's own business
// (merge_config.sh and olddefconfig), which kbuild runs.
//
// merge_config.sh only warns when a requested symbol does not survive, and a
// test on a kernel without it would skip or pass for nothing. So every request
// is asserted. What a version lacks is declared in the fragment, on the line
// above the symbol:
//
//	# kbisect: since 5.11
//	CONFIG_GUP_TEST=y
package kconfig

import (
	"bufio"
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Version is a kernel's VERSION.PATCHLEVEL.
type Version struct{ Major, Minor int }

func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Less orders versions.
func (v Version) Less(w Version) bool {
	return v.Major < w.Major || v.Major == w.Major && v.Minor < w.Minor
}

// Request is one symbol that a fragment asks for.
type Request struct {
	Symbol string // without CONFIG_
	Value  string // as in .config; "n" for "is not set"
	Where  string // fragment:line
	Since  Version
	Until  Version // inclusive; zero: no end
}

// Line is the request as a fragment and a .config have it.
func (r Request) Line() string {
	if r.Value == "n" {
		return "# CONFIG_" + r.Symbol + " is not set\n"
	}
	return "CONFIG_" + r.Symbol + "=" + r.Value + "\n"
}

// Applies says whether the request must hold on v.
func (r Request) Applies(v Version) bool {
	return !v.Less(r.Since) && (r.Until == Version{} || !r.Until.Less(v))
}

var (
	assignment = regexp.MustCompile(`^CONFIG_([A-Za-z0-9_]+)=(.+)$`)
	notSet     = regexp.MustCompile(`^# CONFIG_([A-Za-z0-9_]+) is not set$`)
	directive  = regexp.MustCompile(`^# kbisect:(?: since (\d+)\.(\d+))?(?: until (\d+)\.(\d+))?(?:;.*)?$`)
)

// ParseFragment reads the requests of a fragment. name is used in messages.
func ParseFragment(name string, text []byte) ([]Request, error) {
	var reqs []Request
	var since, until Version
	pending := 0 // line of a directive that waits for its symbol
	for i, line := range lines(text) {
		where := fmt.Sprintf("%s:%d", name, i+1)
		if strings.HasPrefix(line, "# kbisect:") {
			m := directive.FindStringSubmatch(line)
			if m == nil || m[1] == "" && m[3] == "" {
				return nil, fmt.Errorf("%s: unknown directive %q (write `# kbisect: since X.Y until X.Y; reason`)", where, line)
			}
			since, until, pending = version(m[1], m[2]), version(m[3], m[4]), i+1
			continue
		}
		symbol, value, ok := symbolLine(line)
		if !ok {
			if s := strings.TrimSpace(line); s != "" && !strings.HasPrefix(s, "#") {
				return nil, fmt.Errorf("%s: neither a symbol nor a comment: %q", where, line)
			}
			if pending != 0 {
				return nil, fmt.Errorf("%s: the directive on line %d belongs directly above a symbol", where, pending)
			}
			continue
		}
		reqs = append(reqs, Request{symbol, value, where, since, until})
		since, until, pending = Version{}, Version{}, 0
	}
	if pending != 0 {
		return nil, fmt.Errorf("%s:%d: the directive belongs directly above a symbol", name, pending)
	}
	return reqs, nil
}

// ParseWhole reads a whole .config of an x86_64 kernel, in its order.
func ParseWhole(text []byte) ([]Request, error) {
	reqs, err := ParseFragment("line", text)
	if err != nil {
		return nil, fmt.Errorf("not a .config: %w", err)
	}
	if !slices.ContainsFunc(reqs, func(r Request) bool { return r.Symbol == "X86_64" && r.Value == "y" }) {
		return nil, fmt.Errorf("not a whole .config of an x86_64 kernel: it has no CONFIG_X86_64=y (`make olddefconfig` completes one)")
	}
	return reqs, nil
}

func symbolLine(line string) (symbol, value string, ok bool) {
	if m := assignment.FindStringSubmatch(line); m != nil {
		return m[1], m[2], true
	}
	if m := notSet.FindStringSubmatch(line); m != nil {
		return m[1], "n", true
	}
	return "", "", false
}

func version(major, minor string) Version {
	a, _ := strconv.Atoi(major)
	b, _ := strconv.Atoi(minor)
	return Version{a, b}
}

// ParseConfig reads a .config into symbol -> value; symbols that are not set
// are absent.
func ParseConfig(text []byte) map[string]string {
	c := map[string]string{}
	for _, line := range lines(text) {
		if m := assignment.FindStringSubmatch(line); m != nil {
			c[m[1]] = m[2]
		}
	}
	return c
}

// Refusal is a request that the final .config does not honour.
type Refusal struct {
	Request
	Got string
}

func (r Refusal) String() string {
	return fmt.Sprintf("CONFIG_%s=%s (%s) became %s", r.Symbol, r.Value, r.Where, r.Got)
}

// Refused returns the requests that config does not honour on version v. Of
// several requests for one symbol the last counts, as for merge_config.sh.
func Refused(reqs []Request, config map[string]string, v Version) []Refusal {
	last := map[string]int{} // symbol -> index of its last request that applies
	for i, r := range reqs {
		if r.Applies(v) {
			last[r.Symbol] = i
		}
	}
	var out []Refusal
	for _, i := range last {
		r := reqs[i]
		got, ok := config[r.Symbol]
		if !ok {
			got = "n"
		}
		if got != r.Value {
			out = append(out, Refusal{r, got})
		}
	}
	slices.SortFunc(out, func(a, b Refusal) int { return last[a.Symbol] - last[b.Symbol] })
	return out
}

var makefileVersion = regexp.MustCompile(`(?m)^(VERSION|PATCHLEVEL)\s*=\s*(\d+)\s*$`)

// TreeVersion reads the version from a kernel's top Makefile.
func TreeVersion(makefile []byte) (Version, error) {
	var v Version
	found := 0
	for _, m := range makefileVersion.FindAllSubmatch(makefile, 2) {
		n, err := strconv.Atoi(string(m[2]))
		if err != nil {
			return v, fmt.Errorf("kernel Makefile: %s: %w", m[1], err)
		}
		found++
		if string(m[1]) == "VERSION" {
			v.Major = n
		} else {
			v.Minor = n
		}
	}
	if found != 2 {
		return v, fmt.Errorf("kernel Makefile: no VERSION and PATCHLEVEL")
	}
	return v, nil
}

func lines(text []byte) []string {
	var out []string
	s := bufio.NewScanner(bytes.NewReader(text))
	s.Buffer(nil, len(text)+1) // a line cannot be longer than the text
	for s.Scan() {
		out = append(out, strings.TrimRight(s.Text(), " \t\r"))
	}
	return out
}
