package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// counts of cells.
type counts struct{ same, explained, unexplained, open int }

// table renders the matrix beside the predictions and counts the differences
// that have no explanation.
func table(m kernel.MatrixResult, p predictions) (string, int) {
	var names []string
	for _, k := range m.Kernels {
		for _, t := range k.Tests {
			if !slices.Contains(names, t.Name) {
				names = append(names, t.Name)
			}
		}
	}
	var rows folded
	var differences folded
	var n counts
	for _, name := range names {
		pr := p.of(name)
		said, source := "nothing", ""
		if pr != nil {
			said, source = pr.String(), pr.source
		}
		text := fmt.Sprintf(" %s | %s |", said, source)
		for _, k := range m.Kernels {
			text += " " + n.compare(k, name, pr, p, &differences) + " |"
		}
		rows.add(name, text)
	}

	var b strings.Builder
	fmt.Fprintf(&b, "Measured on %s with profile %s, %s, %s. %s\n\n", m.Started.UTC().Format("2006-01-02"),
		cell(m.Profile), cell(m.Host.QEMU), cell(m.Host.Accelerator), n.sentence())
	b.WriteString("| test | predicted | source |")
	for _, k := range m.Kernels {
		fmt.Fprintf(&b, " %s |", cell(short(k.Kernel.Name())))
	}
	b.WriteString("\n|---|---|---|" + strings.Repeat("---|", len(m.Kernels)) + "\n" + rows.String())
	if len(differences.groups) > 0 {
		b.WriteString("\n## Where they differ\n\n| test | kernel | measured | predicted | explanation |\n|---|---|---|---|---|\n" + differences.String())
	}
	b.WriteString(skipped(m, names))
	b.WriteString(kernels(m))
	return b.String(), n.unexplained
}

func (n counts) sentence() string {
	parts := []string{fmt.Sprintf("%d as predicted", n.same)}
	for _, c := range []struct {
		n    int
		what string
	}{{n.explained, "different and explained below"}, {n.unexplained, "different **without an explanation**"}, {n.open, "without a prediction"}} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	return fmt.Sprintf("Of %d cells: %s.", n.same+n.explained+n.unexplained+n.open, strings.Join(parts, ", "))
}

// compare is the cell of a test on a kernel.
func (n *counts) compare(k kernel.KernelResult, name string, pr *prediction, p predictions, differences *folded) string {
	i := slices.IndexFunc(k.Tests, func(t kernel.TestResult) bool { return t.Name == name })
	seen := "not run"
	if i >= 0 {
		seen = string(k.Tests[i].Verdict)
	}
	shown := seen
	if seen != string(kernel.Good) && seen != string(kernel.Skipped) {
		shown = "**" + seen + "**"
	}
	if i >= 0 && k.Tests[i].Verdict == kernel.Good && k.Tests[i].Fails > 0 {
		shown += fmt.Sprintf(", %d of %d runs failed", k.Tests[i].Fails, k.Tests[i].Runs)
	}
	v, err := parseVersion(k.Kernel.Name())
	want := kernel.Verdict("")
	if pr != nil && err == nil {
		want = pr.on(v)
	}
	switch {
	case want == "":
		n.open++
		return shown + " (?)"
	case string(want) == seen:
		n.same++
		return shown
	}
	text := "**not explained**"
	if j := p.note(name, v); j > 0 {
		n.explained++
		text = p.notes[j-1].text
	} else {
		n.unexplained++
	}
	why := ""
	if i >= 0 && k.Tests[i].Reason != "" {
		why = ": " + k.Tests[i].Reason
	}
	differences.add(name, fmt.Sprintf(" %s | %s | %s | %s |", cell(short(k.Kernel.Name())), cell(seen+why), want, cell(text)))
	return shown + " (≠ " + string(want) + ")"
}

// anySize is a need for huge pages of one of many sizes.
var anySize = regexp.MustCompile(`mthp:\d+`)

// skipped says why tests skip: a row for each reason and the kernels it holds on.
func skipped(m kernel.MatrixResult, names []string) string {
	var f folded // by reason, then by kernels; its memories are tests
	for _, name := range names {
		where := map[string][]string{} // reason -> kernels
		var reasons []string
		for _, k := range m.Kernels {
			for _, t := range k.Tests {
				if t.Name == name && t.Verdict == kernel.Skipped {
					reason := anySize.ReplaceAllString(t.Reason, "mthp")
					if where[reason] == nil {
						reasons = append(reasons, reason)
					}
					where[reason] = append(where[reason], short(k.Kernel.Name()))
				}
			}
		}
		for _, r := range reasons {
			on := strings.Join(where[r], ", ")
			if len(where[r]) == len(m.Kernels) {
				on = "all"
			}
			f.addTo(r, cell(on), name)
		}
	}
	if len(f.groups) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n## Why tests skip\n\n| reason | kernels | tests |\n|---|---|---|\n")
	for _, g := range f.groups {
		for _, r := range g.rows {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", cell(g.name), r.text, cell(cases(r.memories)))
		}
	}
	return b.String()
}

// cases names tests briefly: those of one case by their number.
func cases(tests []string) string {
	var order []string
	of := map[string][]string{} // case -> its tests
	for _, t := range tests {
		c := t[:strings.LastIndexByte(t, '/')+1]
		if of[c] == nil {
			order = append(order, c)
		}
		of[c] = append(of[c], t)
	}
	for i, c := range order {
		order[i] = "`" + of[c][0] + "`"
		if n := len(of[c]); n > 1 {
			order[i] = fmt.Sprintf("`%s*` (%d)", c, n)
		}
	}
	return strings.Join(order, ", ")
}

// kernels says what was booted.
func kernels(m kernel.MatrixResult) string {
	var b strings.Builder
	b.WriteString("\n## Kernels\n\n| release | boot | modules loaded | the guest lacks |\n|---|---|---|---|\n")
	for _, k := range m.Kernels {
		boot := string(k.Boot.Status)
		switch {
		case k.Boot.Status == kernel.BootOK:
			boot = fmt.Sprintf("%.1f s", k.Boot.Seconds)
		case k.Boot.Reason != "":
			boot += ": " + k.Boot.Reason
		}
		load, lacks := "", k.Boot.Problems
		if k.Kernel.Modules != nil {
			load = strings.Join(k.Kernel.Modules.Load, " ")
			lacks = slices.Concat(k.Kernel.Modules.Missing, lacks)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", cell(k.Kernel.Name()), cell(boot), cell(load), cell(strings.Join(lacks, "; ")))
	}
	return b.String()
}

// short drops the flavour of one of Debian's releases.
func short(release string) string { return strings.TrimSuffix(release, "-cloud-amd64") }

// cell keeps a text from ending its cell or its line.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(strings.TrimSpace(s))
}
