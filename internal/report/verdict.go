package report

// Verdict is what a result comes to, in one sentence: the first line of its
// report.
func Verdict(v any) (string, error) {
	p, err := newPage(v, Links{})
	if err != nil {
		return "", err
	}
	return p.Verdict, nil
}
