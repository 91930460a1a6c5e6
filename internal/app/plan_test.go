package app

import (
	"testing"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
	"github.com/kernel-bisect/kbisect/internal/runner"
)

// The catalogue's tests have a limit each; --test-timeout says otherwise.
func TestTimeoutOfTheCatalogue(t *testing.T) {
	for _, said := range []time.Duration{0, 7 * time.Second} {
		programs, err := request{Profile: "cow", Tests: []string{"cow/fork-basic/*"}, TestTimeout: said}.programs()
		if err != nil || len(programs) == 0 {
			t.Fatalf("%d programs, %v", len(programs), err)
		}
		for _, p := range programs {
			if own := p.Limit == time.Minute; own != (said == 0) || !own && p.Limit != said {
				t.Errorf("%s with --test-timeout %s: %s", p.Name, said, p.Limit)
			}
		}
	}
}

// What boots now and then may be down after the boot test.
func TestBootComesLast(t *testing.T) {
	own := runner.Program{Name: "own"}
	programs, err := request{Profile: "cow", Tests: []string{kernel.BootTest, "cow/fork-basic/base"}, Programs: []runner.Program{own}}.programs()
	if err != nil || len(programs) != 3 || programs[1].Name != own.Name || !programs[2].Boot {
		t.Errorf("%+v, %v", programs, err)
	}
}
