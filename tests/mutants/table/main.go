// Command table says which tests notice which mutant.
//
//	table DIR PATCHES     prints the tables, in Markdown
//	table -tsv < JSON     turns what `orchestrator check --format json` said
//	                      into a file of DIR
//
// DIR holds a file NAME.tsv for each kernel, with lines "TEST<tab>OUTCOME": the
// mutants, the kernel they are made from as sound.tsv, and older kernels as
// ladder-VERSION.tsv. DIR/upstream has the same of the kernel's own mm/cow.
// PATCHES holds NAME.patch for each mutant.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

type outcomes map[string]string // by test

// The sizes of huge pages below that of a PMD, of which there are too many.
var anySize = regexp.MustCompile(`^mthp-[^-]+`)

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == "-tsv":
		err = toTSV(os.Stdin, os.Stdout)
	case len(os.Args) == 3:
		err = tables(os.Stdout, os.Args[1], os.Args[2])
	default:
		err = fmt.Errorf("usage: table DIR PATCHES, or table -tsv < JSON")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "table:", err)
		os.Exit(1)
	}
}

func toTSV(r io.Reader, w io.Writer) error {
	var result struct {
		Tests []struct {
			Name      string
			Verdict   string
			Fails     int
			Signature struct{ Kind string }
		}
	}
	if err := json.NewDecoder(r).Decode(&result); err != nil {
		return err
	}
	for _, t := range result.Tests {
		outcome := "error"
		switch {
		case t.Fails > 0: // one run is not enough for a verdict
			outcome = t.Signature.Kind
		case t.Verdict == "good":
			outcome = "pass"
		case t.Verdict == "skipped":
			outcome = "skip"
		case t.Verdict == "untestable":
			outcome = "untestable"
		}
		if _, err := fmt.Fprintf(w, "%s\t%s\n", t.Name, outcome); err != nil {
			return err
		}
	}
	return nil
}

func read(file string) (outcomes, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := outcomes{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		test, outcome, _ := strings.Cut(lines.Text(), "\t")
		out[test] = outcome
	}
	return out, lines.Err()
}

func bad(outcome string) bool  { return outcome == "fail" || outcome == "crash" || outcome == "hang" }
func good(outcome string) bool { return outcome == "pass" || outcome == "xfail" }

// split of cow/CASE/MEMORY
func split(test string) (name, memory string) {
	parts := strings.Split(test, "/")
	return parts[1], parts[2]
}

type kernels struct {
	order    []string // of tests
	sound    outcomes
	mutant   map[string]outcomes
	ladder   map[string]outcomes
	upstream map[string]outcomes // of mm/cow; with the sound kernel
}

// selftest is the name of mm/cow itself. It is told to fail when one of its
// tests does, and when it ends early.
const selftest = "program/cow"

func load(dir string) (*kernels, error) {
	k := &kernels{mutant: map[string]outcomes{}, ladder: map[string]outcomes{}}
	files, err := filepath.Glob(filepath.Join(dir, "*.tsv"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		out, err := read(file)
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(filepath.Base(file), ".tsv")
		if version, is := strings.CutPrefix(name, "ladder-"); is {
			k.ladder[version] = out
		} else if name == "sound" {
			k.sound = out
		} else {
			k.mutant[name] = out
		}
	}
	if k.sound == nil {
		return nil, fmt.Errorf("%s: no sound.tsv", dir)
	}
	k.upstream = map[string]outcomes{}
	files, err = filepath.Glob(filepath.Join(dir, "upstream", "*.tsv"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		out, err := read(file)
		if err != nil {
			return nil, err
		}
		k.upstream[strings.TrimSuffix(filepath.Base(file), ".tsv")] = out
	}
	for test, outcome := range k.sound {
		if good(outcome) || bad(outcome) {
			k.order = append(k.order, test)
		}
	}
	slices.Sort(k.order)
	return k, nil
}

// kills says whether a mutant fails a test that the kernel it is made from passes.
func (k *kernels) kills(mutant, test string) bool {
	return good(k.sound[test]) && bad(k.mutant[mutant][test])
}

func (k *kernels) mutants() []string {
	return slices.Sorted(maps.Keys(k.mutant))
}

// rule is the subject of a patch: what the mutant does wrong.
func rule(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "?"
	}
	_, text2, _ := strings.Cut(string(text), "Subject: [PATCH] mutant: ")
	subject, _, _ := strings.Cut(text2, "\n\n")
	return strings.ReplaceAll(subject, "\n ", " ")
}

func tables(w io.Writer, dir, patches string) error {
	k, err := load(dir)
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(patches, "*.patch"))
	if err != nil {
		return err
	}
	fmt.Fprint(w, "| mutant | rule it breaks | killed by | by mm/cow | cases, and on how many kinds of memory |\n|---|---|--:|--:|---|\n")
	var left, survivors, both, ours, theirs, neither []string
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".patch")
		if k.mutant[name] == nil {
			fmt.Fprintf(w, "| `%s` | %s | not run | | |\n", name, rule(file))
			left = append(left, name)
			continue
		}
		if k.dead(name) {
			fmt.Fprintf(w, "| `%s` | %s | does not boot | | |\n", name, rule(file))
			continue
		}
		count, cases := k.killers(name)
		if count == 0 {
			survivors = append(survivors, name)
		}
		upstream, seen := k.selftestKills(name)
		fmt.Fprintf(w, "| `%s` | %s | %d%s | %s | %s |\n", name, rule(file), count, k.unknown(name), upstream, cases)
		switch {
		case upstream == "":
		case count > 0 && seen:
			both = append(both, name)
		case count > 0:
			ours = append(ours, name)
		case seen:
			theirs = append(theirs, name)
		default:
			neither = append(neither, name)
		}
	}
	k.printCases(w)
	fmt.Fprintf(w, "\nNot run: %s. Survivors: %s.\n", list(left), list(survivors))
	fmt.Fprintf(w, "\nBeside mm/cow: both kill %d, these tests alone %d (%s), mm/cow alone %d (%s), neither %d (%s).\n",
		len(both), len(ours), list(ours), len(theirs), list(theirs), len(neither), list(neither))
	return nil
}

// dead says whether a mutant did not come to run anything.
func (k *kernels) dead(mutant string) bool {
	for _, outcome := range k.mutant[mutant] {
		if outcome != "untestable" {
			return false
		}
	}
	return true
}

// selftestKills tells how many tests of mm/cow notice a mutant, and how it ended
// if not by itself. It is empty where that was not run.
func (k *kernels) selftestKills(mutant string) (text string, seen bool) {
	sound, got := k.upstream["sound"], k.upstream[mutant]
	if sound == nil || got == nil {
		return "", false
	}
	count := 0
	for test := range sound {
		if test != selftest && good(sound[test]) && bad(got[test]) {
			count++
		}
	}
	text = fmt.Sprint(count)
	if end := got[selftest]; end == "crash" || end == "hang" {
		return text + ", " + end, true
	}
	return text, count > 0
}

// unknown tells of tests that pass on the sound kernel and say nothing on the mutant.
func (k *kernels) unknown(mutant string) string {
	skipped, untold, notRun := 0, 0, 0
	for _, test := range k.order {
		switch {
		case !good(k.sound[test]):
		case k.mutant[mutant][test] == "skip" || k.mutant[mutant][test] == "untestable": // must not skip, but did
			skipped++
		case k.mutant[mutant][test] == "error":
			untold++
		case k.mutant[mutant][test] == "notrun" || k.mutant[mutant][test] == "":
			notRun++
		}
	}
	text := ""
	for _, n := range []struct {
		count int
		what  string
	}{{skipped, "skip"}, {untold, "cannot tell"}, {notRun, "not run"}} {
		if n.count > 0 {
			text += fmt.Sprintf(", %d %s", n.count, n.what)
		}
	}
	return text
}

// killers are the tests that notice a mutant, by case.
func (k *kernels) killers(mutant string) (int, string) {
	count := 0
	var cases []string
	memories := map[string]int{}
	for _, test := range k.order {
		if k.kills(mutant, test) {
			name, _ := split(test)
			if memories[name] == 0 {
				cases = append(cases, name)
			}
			memories[name]++
			count++
		}
	}
	for i, name := range cases {
		cases[i] = fmt.Sprintf("`%s` %d", name, memories[name])
	}
	return count, strings.Join(cases, ", ")
}

func (k *kernels) printCases(w io.Writer) {
	type row struct {
		tests, killed int
		by, left      []string
	}
	rows := map[string]*row{}
	var names []string
	add := func(to []string, what string) []string {
		if slices.Contains(to, what) {
			return to
		}
		return append(to, what)
	}
	all, allKilled := 0, 0
	for _, test := range k.order {
		name, memory := split(test)
		r := rows[name]
		if r == nil {
			r = &row{}
			rows[name] = r
			names = append(names, name)
		}
		var by []string
		for _, mutant := range k.mutants() {
			if k.kills(mutant, test) {
				by = append(by, "`"+mutant+"`")
			}
		}
		for _, version := range slices.Sorted(maps.Keys(k.ladder)) {
			if bad(k.ladder[version][test]) {
				by = append(by, "Linux "+version)
			}
		}
		r.tests++
		all++
		for _, b := range by {
			r.by = add(r.by, b)
		}
		if len(by) == 0 {
			r.left = add(r.left, "`"+anySize.ReplaceAllString(memory, "mthp-*")+"`")
			continue
		}
		r.killed++
		allKilled++
	}
	fmt.Fprint(w, "\n| case | tests | seen to fail | on | never on |\n|---|--:|--:|---|---|\n")
	var never []string
	for _, name := range names {
		r := rows[name]
		if r.killed == 0 {
			never = append(never, name)
		}
		fmt.Fprintf(w, "| `%s` | %d | %d | %s | %s |\n", name, r.tests, r.killed,
			strings.Join(r.by, ", "), strings.Join(r.left, ", "))
	}
	fmt.Fprintf(w, "\n%d of %d tests that the guest can run were seen to fail; %d of %d cases. Never: %s.\n",
		allKilled, all, len(names)-len(never), len(names), list(never))
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return "`" + strings.Join(names, "`, `") + "`"
}
