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
	status := worst(kids.tests)
	if len(kids.tests) == 0 && kids.skipped {
		status = Skip
	}
	switch {
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
	t := Test{Name: name, Status: Error, Reason: "no result line after its subtests", Children: kid.tests}
	if worst(kid.tests) == Fail {
		t.Status = Fail
	}
	p.add(b, t)
}

// finish compares a block that ended with its plan.
func (p *parser) finish(b *block) {
	p.orphan(b)
	if b.plan < 0 {
		return
	}
	switch {
	case b.seen < b.plan:
		why := "planned but not reported"
		if b.bailed {
			why += " after the bail out"
		}
		p.add(b, Test{
			Name:   fmt.Sprintf("%d of %d tests", b.plan-b.seen, b.plan),
			Status: Error,
			Reason: why,
		})
	case b.seen > b.plan:
		p.problem("%d results for a plan of %d", b.seen, b.plan)
	}
	if len(p.stack) == 1 && b == p.stack[0] {
		p.res.Planned = max(p.res.Planned, 0) + b.plan
		if b.skipped && len(b.tests) == 0 {
			p.res.skipped, p.res.SkipAll = true, b.reason
		}
	}
}
