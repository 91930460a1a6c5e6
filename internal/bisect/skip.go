package bisect

import "math"

// zone is a stretch of untestable commits. Its reach, in commits, is how far
// around it others are likely untestable too; it doubles with every one found.
type zone struct {
	low, high int
	reach     float64
}

// zones remember where commits could not be tested. A commit that cannot be
// tested is evidence of nothing; it only makes its neighbours unattractive.
type zones struct {
	skipped map[int]bool
	all     []zone
}

func (z *zones) add(commit int) {
	z.skipped[commit] = true
	for i := range z.all {
		a := &z.all[i]
		const near = 8 // of its reaches: still the same trouble
		if float64(commit) >= float64(a.low)-near*a.reach && float64(commit) <= float64(a.high)+near*a.reach {
			a.low, a.high, a.reach = min(a.low, commit), max(a.high, commit), a.reach*2
			return
		}
	}
	z.all = append(z.all, zone{commit, commit, 1})
}

// testable is the chance that a commit builds and boots: 1-2^(-d/reach) at the
// distance d of a zone (A3.8).
func (z *zones) testable(commit int) float64 {
	p := 1.0
	for _, a := range z.all {
		d := max(a.low-commit, commit-a.high, 0)
		if d == 0 {
			p = min(p, 0.02)
			continue
		}
		p = min(p, 1-math.Exp2(-float64(d)/a.reach))
	}
	return p
}

// exits are positions on the ways out of the zones, in doubling strides.
func (z *zones) exits() []int {
	var out []int
	for _, a := range z.all {
		for d := 1; float64(d) <= 4*a.reach; d *= 2 {
			out = append(out, a.low-d, a.high+d)
		}
	}
	return out
}
