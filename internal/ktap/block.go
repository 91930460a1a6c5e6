package ktap

import "fmt"

// block is one level of nesting that is still open.
type block struct {
	prefix  string // what its lines start with: "# ", or some spaces; "" at the root
	name    string // from "# Subtest:"
	tests   []Test
	plan    int // of the current version line, -1 for none yet
	seen    int // results since the version line
	bailed  bool
	skipped bool   // planned no tests
	reason  string // of a plan of no tests
	done    *block // nested block that ended and waits for its result line

	run         string         // of the last RUN line
	reported    bool           // the run has had a result
	said        []string       // diagnostics since the last result
	names       map[string]int // name -> how often it was used
	skippedRest bool           // the last of tests stands for results missing after a skip
}

// started notes what runs now. A RUN line without a result before the next one
// was a headline.
func (b *block) started(name string) {
	b.run, b.reported, b.said = clip(name), false, nil
}

// say keeps the last diagnostics: the nearest to a result say most about it.
func (b *block) say(s string) {
	if len(b.said) == maxSaid {
		b.said = append(b.said[:0:0], b.said[1:]...)
	}
	b.said = append(b.said, clip(s))
}

// claim gives a test the name of its run and the diagnostics before it.
func (b *block) claim(t Test) Test {
	t.Said, b.said = b.said, nil
	switch {
	case b.run != "" && t.Name == b.run:
		// The program names its results itself: the next may be of a
		// test without a RUN line.
		b.run = ""
	case b.run != "":
		b.reported = true
		if t.Name != "" {
			t.Reason = joinReason(t.Name, t.Reason)
		}
		t.Name = b.run
	case t.Name == "":
		t.Name = fmt.Sprintf("test %d", t.Number)
	}
	return t
}

// unique tells siblings of one name apart by their order.
func (b *block) unique(name string) string {
	if b.names == nil {
		b.names = make(map[string]int)
	}
	for {
		b.names[name]++
		n := b.names[name]
		if n == 1 {
			return name
		}
		again := fmt.Sprintf("%s (%d)", name, n)
		if b.names[again] == 0 {
			b.names[again] = 1
			return again
		}
	}
}

// adopt gives a result line the block nested before it. The parent fails if a
// child fails, even when its own line says ok: a runner's exit status hides
// more than it shows.
func (b *block) adopt(t Test) Test {
	kids := b.done
	if kids == nil {
		return t
	}
	b.done = nil
	t.Children = kids.tests
	if t.Status == Skip && kids.skippedRest {
		// The program exited with 4: that is why results are missing.
		kids.tests[len(kids.tests)-1].Status = Skip
	}
	status := worst(kids.tests)
	if len(kids.tests) == 0 && kids.skipped {
		status = Skip
	}
	switch {
	case len(kids.tests) == 0 && !kids.skipped && kids.prefix != "# " && t.Status == Pass:
		// KUnit's own parser calls this an error too. Where a program's
		// exit status made the line, the line does mean something.
		t.Status, t.Reason = Error, "says ok, but its subtests reported nothing"
	case t.Status == XFail:
		// The line expects the failure of its children.
	case status == Fail:
		t.Status = Fail
	case status == Error && t.Status != Fail:
		t.Status = Error
	case status == Skip && t.Status == Pass:
		t.Status = Skip
		if t.Reason == "" {
			t.Reason = kids.reason
		}
	}
	return t
}

// closeTo ends the blocks nested deeper than level.
func (p *parser) closeTo(level int) {
	for len(p.stack)-1 > level {
		kid := p.stack[len(p.stack)-1]
		p.stack = p.stack[:len(p.stack)-1]
		p.finish(kid)
		parent := p.stack[len(p.stack)-1]
		p.orphan(parent)
		parent.done = kid
	}
}

// orphan keeps a nested block that never got its result line: whatever ran it
// died before it could say so.
func (p *parser) orphan(b *block) {
	kid := b.done
	if kid == nil {
		return
	}
	b.done = nil
	if len(kid.tests) == 0 && kid.name == "" {
		return
	}
	name := kid.name
	if name == "" {
		name = "unnamed subtest"
	}
	t := b.claim(Test{Name: name, Status: Error, Reason: "no result line after its subtests", Children: kid.tests})
	if worst(kid.tests) == Fail {
		t.Status = Fail
	}
	p.add(b, t)
}

// finish compares a block that ended with its plan.
func (p *parser) finish(b *block) {
	p.orphan(b)
	missing := b.plan - b.seen
	if b.run != "" && !b.reported && (b.plan < 0 || missing > 0) {
		// The one that was running when everything ended.
		p.add(b, b.claim(Test{Name: b.run, Status: Error, Reason: "started but not reported" + b.afterBail(), Started: true}))
		missing--
	}
	if b.plan < 0 {
		return
	}
	if missing > 0 {
		skip := len(b.tests) > 0 && b.tests[len(b.tests)-1].Status == Skip
		b.skippedRest = p.add(b, Test{
			Name:   "missing results", // no number in it: a name is for good
			Status: Error,
			Reason: fmt.Sprintf("%d of %d planned%s", missing, b.plan, b.afterBail()),
			Said:   b.said,

			Missing: missing,
		}) && skip
	}
	if b.seen > b.plan {
		p.problem("%d results for a plan of %d", b.seen, b.plan)
	}
	if len(p.stack) == 1 && b == p.stack[0] {
		p.res.Planned = max(p.res.Planned, 0) + b.plan
		p.res.skippedRest = b.skippedRest
		if b.skipped && len(b.tests) == 0 {
			p.res.skipped, p.res.SkipAll = true, b.reason
		}
	}
}

func (b *block) afterBail() string {
	if b.bailed {
		return " after the bail out"
	}
	return ""
}
