package ktap

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

type parser struct {
	res    Result
	stack  []*block // root first
	prefix string   // text in front of every line before the console prefix
	count  int      // tests kept, over all blocks
}

// Parse reads one output. It never fails: what is missing or broken is an Error
// among the results or a line in Problems.
//
// Text in front of the first version line is ignored. Two ways of nesting are
// understood, also mixed: indentation (KUnit, TAP 14) and lines that start with
// "# " (the kselftest runner). Text that is no result does not end a nested
// block, because the kernel prints into the middle of it.
func Parse(data []byte) Result {
	p := &parser{stack: []*block{{plan: -1}}}
	p.res.Planned = -1
	for len(data) > 0 {
		var raw []byte
		raw, data = nextLine(data)
		line := strings.TrimRight(string(raw), "\r\n")
		if p.res.Version == "" && !p.start(line) {
			continue
		}
		line = p.strip(line)
		cut, rest, isCut := cutAtStamp(line)
		if !p.line(cut) || isCut && !p.line(rest) {
			break
		}
	}
	if p.res.Version == "" {
		return p.res
	}
	p.hoist()
	p.closeTo(0)
	root := p.stack[0]
	p.finish(root)
	p.res.Tests = root.tests
	return p.res
}

// nextLine cuts one line off, bounding what is looked at of a very long one.
func nextLine(data []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(data, []byte{'\n'})
	if len(line) > maxLine {
		line = line[:maxLine]
	}
	return line, rest
}

// start looks for the first version line and learns what stands in front.
func (p *parser) start(line string) bool {
	m := startRE.FindStringSubmatchIndex(line)
	if m == nil {
		return false
	}
	p.res.Version = line[m[2]:m[3]]
	// Nesting in front is not a prefix: the head of the output is missing.
	front := consoleRE.ReplaceAllString(line[:m[0]], "")
	if strings.Trim(front, "# \t") != "" {
		p.prefix = lastRE.ReplaceAllString(line[:m[0]], "")
	}
	return true
}

// hoist takes an output that is indented as a whole for what it is: no line of
// it was at the margin, and no subtest was announced.
func (p *parser) hoist() {
	root := p.stack[0]
	if len(p.stack) < 2 || root.plan >= 0 || root.seen > 0 || len(root.tests) > 0 || root.done != nil {
		return
	}
	if b := p.stack[1]; strings.TrimLeft(b.prefix, " \t") == "" && b.name == "" {
		p.stack = p.stack[1:]
	}
}

// line handles one line without its console prefix; false ends the output.
func (p *parser) line(s string) bool {
	for _, e := range ends {
		if strings.HasPrefix(strings.TrimLeft(s, " \t"), e) {
			return false
		}
	}
	level, rest := p.level(s)
	k, m := classify(rest)
	if k == other || k == subtest {
		inner, innerKind, innerMatch := opening(rest)
		stray := p.stray(level, rest)
		switch {
		case innerKind != other:
			p.closeTo(level)
			if len(p.stack) > maxDepth {
				p.res.truncated = true
				p.problem("nested deeper than %d levels", maxDepth)
				return true
			}
			p.stack = append(p.stack, &block{prefix: inner, plan: -1})
			k, m = innerKind, innerMatch
			level++
		case k == subtest && level > 0:
			// Names the block only; older KUnit has no version line.
			p.stack[level].name = clip(m[1])
			return true
		case stray != nil:
			k, m = result, stray
		default:
			p.diagnostic(p.stack[level], rest)
			return true
		}
	}
	p.closeTo(level)
	p.structural(p.stack[level], k, m)
	return true
}

// stray finds a result that is indented deeper than its block. KUnit's own
// parser accepts it. Outside of nested blocks nothing would vouch for it: there,
// it is the rest of a block whose head got lost, and with the plan met by it a
// death would go unseen.
func (p *parser) stray(level int, s string) []string {
	b := p.stack[level]
	if level == 0 || b.prefix == "# " || b.plan >= 0 && b.seen >= b.plan {
		return nil
	}
	t := strings.TrimLeft(s, " \t")
	if len(t) == len(s) {
		return nil
	}
	if k, m := classify(t); k == result && m[2] == strconv.Itoa(b.seen+1) {
		return m
	}
	return nil
}

// level finds how many open blocks the line belongs to, and takes their
// prefixes off.
func (p *parser) level(s string) (int, string) {
	for i, b := range p.stack[1:] {
		switch {
		case strings.HasPrefix(s, b.prefix):
			s = s[len(b.prefix):]
		case b.prefix == "# " && s == "#":
			s = ""
		default:
			return i, s
		}
	}
	return len(p.stack) - 1, s
}

// opening says whether a line starts a deeper block, and with which prefix.
func opening(s string) (prefix string, k kind, m []string) {
	if rest, ok := strings.CutPrefix(s, "# "); ok && versionRE.MatchString(rest) {
		return "# ", version, nil
	}
	rest := strings.TrimLeft(s, " \t")
	if len(rest) == len(s) {
		return "", other, nil
	}
	switch k, m := classify(rest); k {
	case version, plan, subtest:
		return s[:len(s)-len(rest)], k, m
	}
	return "", other, nil
}

// structural handles a line that means something at its level.
func (p *parser) structural(b *block, k kind, m []string) {
	switch k {
	case version:
		// A second version line in one block starts a second output:
		// somebody joined two files.
		if b.plan >= 0 || b.seen > 0 {
			p.finish(b)
			b.plan, b.seen, b.bailed = -1, 0, false
		}
	case subtest:
		b.name = clip(m[1])
	case plan:
		p.plan(b, m)
	case bail:
		b.bailed = true
		if p.res.BailOut == "" {
			p.res.BailOut = clip(strings.TrimSpace("Bail out! " + m[1]))
		}
		if b.plan > 0 && b.seen >= b.plan && worst(b.tests) == Fail {
			return // cow.c ends so when a test failed: nothing is lost
		}
		p.add(b, Test{Name: "Bail out!", Status: Fail, Reason: clip(m[1]), Said: b.said})
		b.said = nil
	case started:
		b.started(m[1] + m[2])
		p.keep(m[0])
	case result:
		t := b.claim(parseResult(m))
		b.seen++
		if t.Number != b.seen {
			p.problem("result %q has number %d, expected %d", t.Name, t.Number, b.seen)
		}
		p.add(b, b.adopt(t))
	}
}

func (p *parser) plan(b *block, m []string) {
	if b.plan >= 0 {
		p.problem("second plan %q ignored", clip(m[0]))
		return
	}
	n := 0
	for _, c := range m[1] {
		n = n*10 + int(c-'0')
	}
	b.plan = n
	if n == 0 {
		b.skipped = true
		_, _, b.reason = splitDirective("# " + m[2])
		b.reason = clip(b.reason)
	}
}

// add appends a test, unless there are too many to keep.
func (p *parser) add(b *block, t Test) bool {
	if p.count >= maxTests {
		if !p.res.truncated {
			p.problem("more than %d results", maxTests)
		}
		p.res.truncated = true
		return false
	}
	p.count++
	t.Name = b.unique(t.Name)
	b.tests = append(b.tests, t)
	return true
}

// diagnostic takes a line that means nothing by itself. With a "#", it is
// about the result that follows it; without, anybody may have printed it.
func (p *parser) diagnostic(b *block, s string) {
	if d, ok := strings.CutPrefix(s, "# "); ok {
		b.say(d)
	}
	p.keep(s)
}

func (p *parser) keep(s string) {
	s = strings.TrimSpace(s)
	if s != "" && len(p.res.Diagnostics) < maxDiagnostics {
		p.res.Diagnostics = append(p.res.Diagnostics, clip(strings.TrimPrefix(s, "# ")))
	}
}

func (p *parser) problem(format string, args ...any) {
	if len(p.res.Problems) < maxProblems {
		p.res.Problems = append(p.res.Problems, fmt.Sprintf(format, args...))
	}
}
