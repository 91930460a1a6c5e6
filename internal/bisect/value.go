package bisect

import "math"

// firstRuns are the numbers of runs after which a newly built commit may be left
// alone; the value of building it is that of the best of them.
var firstRuns = []int{1, 2, 3, 4, 6, 8, 12, 16, 24, 32}

// binomials[m][k][i] is the probability that k of firstRuns[m] runs of a bad
// commit fail under model i.
var binomials = func() [][][]float64 {
	var out [][][]float64
	for _, m := range firstRuns {
		rows := make([][]float64, m+1)
		for k := range rows {
			rows[k] = make([]float64, len(models))
			f, p := float64(k), float64(m-k)
			choose := -math.Log(float64(m)+1) - logBeta(f+1, p+1)
			stray := math.Exp(choose + logBeta(strayA+f, strayB+p) - logBeta(strayA, strayB))
			for i, x := range models {
				a, b := x.mu*x.kappa, (1-x.mu)*x.kappa
				rows[k][i] = (1-x.stray)*math.Exp(choose+logBeta(a+f, b+p)-logBeta(a, b)) + x.stray*stray
			}
		}
		out = append(out, rows)
	}
	return out
}()

// gridSteps is how finely upto is divided where the value of a new commit is
// tabulated; it is smooth, and in between a straight line is good enough.
const gridSteps = 40

// table is what building and first testing a commit tells, by how probable it
// is that the commit is bad.
type table struct {
	bits [][gridSteps + 1]float64 // for each of firstRuns
}

// improbable is the probability of an outcome that tells too little to be counted: a
// hundred of them less than 1e-8 bits.
const improbable = 1e-12

// newTable computes the information in the first runs of a new commit: the
// number of failures has one distribution if it is bad, another if it is good. It
// is the entropy of their mixture without that of each, which takes the fewest
// logarithms: they are most of what a search costs.
func newTable(model []float64, q float64) *table {
	t := &table{bits: make([][gridSteps + 1]float64, len(firstRuns))}
	for mi, m := range firstRuns {
		bits := &t.bits[mi]
		ofBad, ofGood := 0.0, 0.0
		good := math.Exp(float64(m) * math.Log1p(-q)) // no failure; the next by ratio
		for k, row := range binomials[mi] {
			bad := 0.0
			for i, w := range model {
				bad += w * row[i]
			}
			if bad+good > improbable {
				ofBad, ofGood = ofBad+xLogX(bad), ofGood+xLogX(good)
				for g := 1; g < gridSteps; g++ {
					x := float64(g) / gridSteps
					bits[g] -= xLogX(x*bad + (1-x)*good)
				}
			}
			good *= float64(m-k) / float64(k+1) * q / (1 - q)
		}
		for g := 1; g < gridSteps; g++ {
			x := float64(g) / gridSteps
			bits[g] = max(0, bits[g]+x*ofBad+(1-x)*ofGood) / math.Ln2
		}
	}
	return t
}

func xLogX(x float64) float64 {
	if x <= 0 {
		return 0
	}
	return x * math.Log(x)
}

// worth is the information per cost of a new commit that is bad with the given
// probability and whose build costs price, both in runs.
func (t *table) worth(bad, price float64) float64 {
	x := min(max(bad, 0), 1) * gridSteps
	g := min(int(x), gridSteps-1)
	best := 0.0
	for mi, m := range firstRuns {
		b := t.bits[mi][g] + (t.bits[mi][g+1]-t.bits[mi][g])*(x-float64(g))
		best = max(best, b/(price+float64(m)))
	}
	return best
}

// peak is the probability at which a commit of that price is worth most, and
// what it is worth then.
func (t *table) peak(price float64) (bad, worth float64) {
	for g := range gridSteps + 1 {
		if v := t.worth(float64(g)/gridSteps, price); v > worth {
			bad, worth = float64(g)/gridSteps, v
		}
	}
	return bad, worth
}
