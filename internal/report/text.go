package report

import (
	"io"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// TextOptions say what the reader's terminal can show.
type TextOptions struct {
	Color bool
	Width int // columns; 0 means 100
}

// Text writes a result, as JSON does, for a terminal: the verdict first, then
// what it rests on, then how to get it again.
func Text(w io.Writer, v any, o TextOptions) error {
	p := newPrinter(w, o)
	switch r := v.(type) {
	case *kernel.CheckResult:
		p.check(r)
	case *kernel.MatrixResult:
		p.checkMatrix(arrangeMatrix(r))
	case *kernel.SeriesResult:
		p.series(arrange(r))
	case *kernel.BisectResult:
		p.bisect(r)
	case *kernel.ConfigResult:
		p.config(r)
	default:
		return unknown(v)
	}
	return p.flush()
}

// check writes the tests of one kernel.
func (p *printer) check(r *kernel.CheckResult) {
	p.line(cell{checkSentence(r), bold})
	if s := remarks(&r.Boot, r.Tests); s != "" {
		p.text(s)
	}
	p.carried(r.Carried)
	if len(r.Tests) > 0 {
		p.text("")
		p.print(testTable(r.Tests))
	}
	if r.Build != nil {
		p.buildTrouble("", r.Build)
	}
	p.bootTrouble("", &r.Boot)
	if ls := lacks(&r.Kernel, &r.Boot); len(ls) > 0 {
		p.text("")
		for _, l := range ls {
			p.text("the guest lacks something: " + l)
		}
	}
	p.text("")
	facts := []string{"profile " + plain(r.Profile)}
	if r.Build != nil && r.Build.Status == kernel.BuildOK {
		facts = append(facts, "build "+buildWord(r.Build))
	}
	if r.Boot.Status == kernel.BootOK {
		facts = append(facts, "boot "+seconds(r.Boot.Seconds))
	}
	p.foot(facts, r.Seconds, r.Host, r.Command)
}

func testTable(tests []kernel.TestResult) *table {
	t := &table{
		head:  []string{"test", "verdict", "fails", "confidence", "reason"},
		right: map[int]bool{2: true, 3: true},
		flex:  []flexible{{4, 24}, {0, 32}, {4, 16}, {0, 16}},
	}
	for i := range tests {
		x := &tests[i]
		conf := ""
		if x.Confidence > 0 {
			conf = percent(x.Confidence)
		}
		t.add(
			cell{text: plain(x.Name)},
			cell{sign(x.Verdict) + " " + word(x.Verdict), verdictStyle(x.Verdict)},
			cell{text: fails(x.Fails, x.Runs)},
			cell{text: conf},
			cell{text: why(x)},
		)
	}
	return t
}

// fails is "1/3": one of three runs failed.
func fails(fails, runs int) string {
	if runs == 0 {
		return ""
	}
	return itoa(fails) + "/" + itoa(runs)
}

func buildWord(b *kernel.Build) string {
	switch {
	case b.Status == kernel.BuildFailed:
		return "failed"
	case b.Status == kernel.BuildConflict:
		return "conflict"
	case b.Status == "":
		return ""
	case b.SameAs != "":
		return "not needed"
	case b.Cached:
		return "cached"
	}
	return seconds(b.Seconds)
}

func bootWord(b *kernel.Boot) string {
	switch b.Status {
	case kernel.BootOK:
		return "ok"
	case kernel.BootFailed:
		return "failed"
	}
	return ""
}

// buildTrouble says why a build failed, and where the rest of its log is.
func (p *printer) buildTrouble(who string, b *kernel.Build) {
	if !unbuilt(b) {
		return
	}
	p.text("")
	p.line(cell{strings.TrimLeft(who+" "+unbuiltWhy(b), " "), bold})
	for _, l := range firstLines(b.Error, 8) {
		p.text("    " + oneLine(l))
	}
	if b.Log != "" {
		p.text("    log: " + plain(b.Log))
	}
}

// carried says what the commits were given.
func (p *printer) carried(list []kernel.Carried) {
	if s := carried(list); s != "" {
		p.text("carried: " + s)
	}
}

// firstLines are the first lines that say something.
func firstLines(s string, n int) []string {
	var out []string
	for l := range strings.SplitSeq(s, "\n") {
		if strings.TrimSpace(l) != "" && len(out) < n {
			out = append(out, l)
		}
	}
	return out
}

func (p *printer) bootTrouble(who string, b *kernel.Boot) {
	if b.Status != kernel.BootFailed {
		return
	}
	p.text("")
	p.line(cell{strings.TrimLeft(who+" does not boot", " "), bold})
	if s := failure(b.Signature); s != "" {
		p.text("    " + s)
	}
	if s := plain(b.Reason); s != "" {
		p.text("    " + s)
	}
}

// lacks is what a guest could not be given; tests that need it skip.
func lacks(k *kernel.Kernel, b *kernel.Boot) []string {
	var out []string
	if k.Modules != nil {
		for _, m := range k.Modules.Missing {
			out = append(out, plain(m))
		}
	}
	for _, p := range b.Problems {
		out = append(out, plain(p))
	}
	return out
}

// foot ends every text: what was spent, on what, and how to repeat it.
func (p *printer) foot(facts []string, spent float64, h kernel.Host, command string) {
	facts = append(facts, seconds(spent)+" in all")
	if m := machine(h); m != "" {
		facts = append(facts, m)
	}
	p.line(cell{strings.Join(facts, ", "), dim})
	if command != "" {
		p.line(cell{"reproduce: ", dim}, cell{text: plain(command)})
	}
}

// machine is the host in a few words.
func machine(h kernel.Host) string {
	var parts []string
	for _, s := range []string{h.QEMU, h.Accelerator} {
		if s != "" {
			parts = append(parts, plain(s))
		}
	}
	return strings.Join(parts, " ")
}
