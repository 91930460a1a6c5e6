package outbox

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/store"
)

// Text is a letter as people read it: exactly what would be posted.
func Text(l store.Letter) (string, error) {
	var e envelope
	if err := json.Unmarshal(l.Content, &e); err != nil {
		return "", err
	}
	var b strings.Builder
	switch {
	case e.Status != nil:
		s := e.Status
		fmt.Fprintf(&b, "status of %.12s: %s %s: %s\n", s.SHA, s.Context, s.State, s.Description)
	case e.Check != nil:
		c := e.Check
		state := c.Status
		if c.Conclusion != "" {
			state = c.Conclusion
		}
		fmt.Fprintf(&b, "check run of %.12s: %s %s: %s\n%s", c.SHA, c.Name, state, c.Title, indent(c.Summary))
		for _, a := range c.Annotations {
			fmt.Fprintf(&b, "  at %s:%d-%d (%s) %s\n%s", a.Path, a.Start, a.End, a.Level, a.Title, indent(a.Message))
		}
	case e.Comment != nil:
		fmt.Fprintf(&b, "comment on %s#%d:\n%s", e.Repo, e.Comment.Number, indent(e.Comment.Body))
	case e.Reaction != nil:
		fmt.Fprintf(&b, "reaction to comment %d of %s: %s\n", e.Reaction.Comment, e.Repo, e.Reaction.Content)
	}
	return b.String(), nil
}

func indent(s string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n    ") + "\n"
}
