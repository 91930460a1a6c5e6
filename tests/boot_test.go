//go:build e2e

package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

const warnAtBoot = `--- a/mm/gup_test.c
+++ b/mm/gup_test.c
@@ -397,5 +397,7 @@ static const struct file_operations gup_test_fops = {

 static int __init gup_test_init(void)
 {
+	WARN_ON(1);
+
 	debugfs_create_file_unsafe("gup_test", 0600, NULL, NULL,
 				   &gup_test_fops);
`

// What the kernel complains of while it boots stands in the report, and is a verdict
// if it is asked for; so is that it does not boot, which a bisection can chase.
func TestBootIsATest(t *testing.T) {
	warn := filepath.Join(t.TempDir(), "warn.patch")
	if err := os.WriteFile(warn, []byte(strings.ReplaceAll(warnAtBoot, "\n\n", "\n \n")), 0o644); err != nil {
		t.Fatal(err)
	}
	const title = "WARNING in gup_test_init"
	args := []string{"check", "--repo", seriesRepo, "--rev", "longterm", "--carry", warn, "--test", "cow/fork-basic/base"}
	if got := run(t, args...); got.status != 0 || !strings.Contains(got.stdout, "complains while it boots") || !strings.Contains(got.stdout, title) {
		t.Errorf("not asked for: status %d\n%s", got.status, got.stdout)
	}
	res := decode[kernel.CheckResult](t, 1, append(args, "--test", "boot")...)
	if v := verdicts(res.Tests); v["cow/fork-basic/base"] != kernel.Good || v[kernel.BootTest] != kernel.Good || v[kernel.QuietTest] != kernel.Bad {
		t.Errorf("%v", v)
	}
	for _, tr := range res.Tests {
		if tr.Name == kernel.QuietTest && (tr.Signature.Title != title || tr.Fails != 2 || !strings.Contains(tr.Output, title[:7])) {
			t.Errorf("%+v", tr)
		}
	}
	if sound := decode[kernel.CheckResult](t, 0, "check", "--repo", seriesRepo, "--rev", "longterm", "--test", "boot"); len(sound.Tests) != 2 || sound.Tests[0].Verdict != kernel.Good || sound.Tests[1].Verdict != kernel.Good {
		t.Errorf("the sound kernel: %+v", sound.Tests)
	}
	found := decode[kernel.BisectResult](t, 0, "bisect", "--repo", seriesRepo, "--good", "base", "--bad", "mutant/boot-panic", "--test", "boot", "--no-confirm")
	if found.Status != kernel.Found || found.Culprit == nil || found.Culprit.Subject != "mutant: the kernel does not boot" || !strings.HasPrefix(found.Signature.Title, "Kernel panic: mutant") {
		t.Errorf("%s: %+v, %+v (%s)", found.Status, found.Culprit, found.Signature, found.Reason)
	}
}
