package report

import (
	"fmt"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// earlier tells which commits another series had as the same patches, and what was
// otherwise there; "" for none.
func (s *series) earlier() string {
	e := s.Earlier
	if e == nil {
		return ""
	}
	var other []string
	for _, p := range e.Patches {
		num := plain(kernel.Abbrev(p.SHA))
		if i := s.index(p.SHA); i >= 0 {
			num = "commit " + s.rows[i].num
		}
		for _, test := range sortedKeys(p.Differs) {
			other = append(other, fmt.Sprintf("%s %s on %s, now %s", plain(s.briefly(test)), plain(string(p.Differs[test])), plain(kernel.Abbrev(p.Was)), num))
		}
	}
	text := fmt.Sprintf("%s on base %s had %d of the %s as the same patches", plain(e.Job), plain(kernel.Abbrev(e.Base)), len(e.Patches), count(s.Total, "commit"))
	if len(other) == 0 {
		return text + ", with the same verdicts"
	}
	const most = 5
	more := ""
	if n := len(other) - most; n > 0 {
		other, more = other[:most], fmt.Sprintf(" and %d more", n)
	}
	return text + "; other verdicts there: " + strings.Join(other, "; ") + more
}
