package guest

import "testing"

// Only what follows the first mark of this run is evidence: not the boot's own
// warnings, and not less because a test prints the mark again.
func TestSince(t *testing.T) {
	const mark = "begin 1"
	for _, c := range []struct{ name, log, want string }{
		{"boot before it", "WARNING: boot\n[ 1.0] begin 1\noops\n", "oops\n"},
		{"no mark", "WARNING: something\n", "WARNING: something\n"},
		{"mark printed again by the test", "begin 1\noops\nbegin 1\nend\n", "oops\nbegin 1\nend\n"},
		{"nothing after it", "begin 1", ""},
	} {
		if got := string(since([]byte(c.log), mark)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
