package posting

import (
	"fmt"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/console"
	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// Limits of GitHub. Source: docs.github.com/rest/checks/runs.
const (
	maxAnnotations = 50
	maxTitle       = 255
	maxMessage     = 8 << 10 // GitHub takes 64 KB; who reads that in a margin?
)

// annotations are the remarks on a commit at lines of its patch, at most so many
// as one request takes. more counts those left out.
func annotations(rep Report, r *row) (out []Annotation, more int) {
	p := rep.Patches[r.SHA]
	out = append(out, builds(p, rep.Logs[r.SHA], r)...)
	if r.testable() {
		for _, t := range r.here {
			if h, ok := place(p, t.Signature); ok {
				out = append(out, remark(h, "failure", t.Name+": "+what(t), said(t)))
			}
		}
	}
	if len(out) > maxAnnotations {
		return out[:maxAnnotations], len(out) - maxAnnotations
	}
	return out, 0
}

// builds are the compiler's remarks: errors wherever they are, warnings where
// the patch has put the line. One elsewhere is not this patch's.
func builds(p Patch, log string, r *row) []Annotation {
	var out []Annotation
	if r.Build.Status == kernel.BuildFailed && !r.ours() {
		return nil
	}
	failed := r.Build.Status == kernel.BuildFailed
	for _, d := range diagnostics(log) {
		h := Hunk{Path: d.path, Start: d.line, Lines: 1}
		ok := d.path != "" && d.line > 0
		switch {
		case d.warning && !p.has(d.path, d.line):
			continue
		case !d.warning && !failed:
			continue // make went on, and so do we
		case !ok:
			if h, ok = p.in(d.symbol); !ok {
				h, ok = p.first()
			}
		}
		if !ok {
			continue
		}
		level := "failure"
		if d.warning {
			level = "warning"
		}
		out = append(out, remark(h, level, d.message, d.message))
	}
	if failed && len(out) == 0 {
		if h, ok := p.first(); ok {
			out = append(out, remark(h, "failure", "does not build", orNone(r.Build.Error)))
		}
	}
	return out
}

// place is where the cause of a failure may be: in the function of one of its
// frames, else where the patch begins.
func place(p Patch, s kernel.Signature) (Hunk, bool) {
	for _, f := range s.Frames {
		if h, ok := p.in(frame(f)); ok {
			return h, true
		}
	}
	return p.first()
}

// frame is the function of a frame, do_wp_page of do_wp_page+0x1a/0x30, without
// what compilers add to names.
func frame(f string) string {
	f, _, _ = strings.Cut(strings.TrimSpace(f), "+")
	f, _, _ = strings.Cut(f, ".")
	return f
}

func remark(h Hunk, level, title, message string) Annotation {
	return Annotation{Path: h.Path, Start: h.Start, End: h.Start + max(h.Lines, 1) - 1, Level: level,
		Title: short(title, maxTitle), Message: orNone(console.Clean([]byte(message), maxMessage))}
}

func orNone(s string) string {
	if strings.TrimSpace(s) == "" {
		return "(it says nothing)"
	}
	return s
}

// what is a failure in a few words.
func what(t kernel.TestResult) string {
	if s := t.Signature.Title; s != "" {
		return s
	}
	return t.Reason
}

// said is what is known of a failure: how often, and the frames of a crash.
func said(t kernel.TestResult) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s fails %d of %d runs: %s\n", t.Name, t.Fails, t.Runs, what(t))
	for i, f := range t.Signature.Frames {
		if i == 5 { // what others take as the fingerprint of a crash
			break
		}
		b.WriteString("  " + f + "\n")
	}
	return strings.TrimRight(b.String(), "\n")
}
