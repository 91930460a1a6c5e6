package report

import (
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// The fixtures are what real jobs give, and what only hostile ones do.

func sha(n int) string { return strings.Repeat(fmt.Sprintf("%02x9f4c1d", 16+n*37%200), 5) }

var host = kernel.Host{CPUs: 2, QEMU: "QEMU 7.2.15", Accelerator: "tcg", Compiler: "gcc 12.2.0", Guest: "sha256:5b0f1c…"}
var started = time.Date(2026, 11, 22, 15, 0, 0, 0, time.UTC)

var warning = kernel.Signature{Kind: "crash", Title: "WARNING in do_wp_page", Frames: []string{"do_wp_page", "__handle_mm_fault", "handle_mm_fault"}}
var missed = kernel.Signature{Kind: "fail", Title: "missed-cow: child reads the parent's new data"}

func crashLog() string {
	b, err := os.ReadFile("../console/testdata/warning-do-wp-page.log")
	if err != nil {
		panic(err)
	}
	return string(b)
}

var cases = []string{"fork-write", "vmsplice-child-unmap", "gup-fast-ro", "swap-in-reuse"}
var memories = []string{"base", "thp-pmd", "thp-pte", "hugetlb-2m"}

// tests makes one result per case and memory; change may turn each.
func tests(change func(name string, t *kernel.TestResult)) []kernel.TestResult {
	var out []kernel.TestResult
	for _, c := range cases {
		for _, m := range memories {
			t := kernel.TestResult{Name: "cow/" + c + "/" + m, Verdict: kernel.Good, Confidence: 0.9993, Runs: 3}
			if m == "hugetlb-2m" {
				t = kernel.TestResult{Name: t.Name, Verdict: kernel.Skipped, Reason: "no hugetlb pages of 2 MiB in the guest"}
			}
			if change != nil {
				change(t.Name, &t)
			}
			out = append(out, t)
		}
	}
	return out
}

func bad(t *kernel.TestResult, sig kernel.Signature, reason string) {
	*t = kernel.TestResult{Name: t.Name, Verdict: kernel.Bad, Confidence: 0.998, Runs: 3, Fails: 3, Signature: sig, Reason: reason,
		Output: "TAP version 13\n1..1\nnot ok 1 child reads the parent's new data\n"}
	if sig.Kind == "crash" {
		t.Console = crashLog()
	}
}

func ok(n int, subject string, ts []kernel.TestResult) kernel.CommitResult {
	return kernel.CommitResult{SHA: sha(n), Subject: subject,
		Build: kernel.Build{Status: kernel.BuildOK, Seconds: 16.2, Objects: 4, Log: "/var/lib/kbisect/logs/b" + fmt.Sprint(n) + ".log"},
		Boot:  kernel.Boot{Status: kernel.BootOK, Seconds: 2.1}, Tests: ts}
}

func noBuild(n int, subject string) kernel.CommitResult {
	return kernel.CommitResult{SHA: sha(n), Subject: subject,
		Build: kernel.Build{Status: kernel.BuildFailed, Seconds: 9, Log: "/var/lib/kbisect/logs/b" + fmt.Sprint(n) + ".log",
			Error: "mm/memory.c:3414:17: error: implicit declaration of function 'page_move_anon_rmap_locked'\n 3414 |                 page_move_anon_rmap_locked(vmf->page, vma);\n      |                 ^~~~~~~~~~~~~~~~~~~~~~~~~~"},
		Boot: kernel.Boot{Status: kernel.BootNone}}
}

func breaking(name string, t *kernel.TestResult) {
	switch {
	case strings.HasPrefix(name, "cow/vmsplice-child-unmap/thp"):
		bad(t, missed, "child reads the parent's new data")
	case name == "cow/swap-in-reuse/base":
		bad(t, warning, "")
	}
}

func checkFixture() *kernel.CheckResult {
	c := kernel.Commit{SHA: sha(4), Subject: "mm/huge_memory: reuse pages in do_huge_pmd_wp_page()", Author: "A. Developer <dev@example.org>"}
	b := ok(4, "", nil).Build
	return &kernel.CheckResult{ID: "c-17", Profile: "slim", Commit: &c, Build: &b,
		Kernel: kernel.Kernel{Key: "k1", Digest: "sha256:77aa", Release: "6.1.0-kbisect", Image: "/cache/k1/bzImage"},
		Boot:   kernel.Boot{Status: kernel.BootOK, Seconds: 2.1}, Tests: tests(breaking),
		Seconds: 48.4, Host: host, Started: started, Command: "orchestrator check --repo . --rev 4f2a --profile slim"}
}

// remarkableCheck has tests that do not keep to what is known of them.
func remarkableCheck() *kernel.CheckResult {
	r := checkFixture()
	r.Tests = tests(func(name string, t *kernel.TestResult) {
		switch name {
		case "cow/fork-write/base":
			t.Known, t.Reason = kernel.XFail, "expected failure: not fixed as of 7.3"
		case "cow/fork-write/thp-pmd":
			t.Known, t.Reason = kernel.XPass, "passes, but is known to fail: not fixed as of 7.3"
		case "cow/swap-in-reuse/hugetlb-2m":
			t.Verdict, t.MustRun, t.Reason = kernel.Untestable, true, "must not skip: "+t.Reason
		}
	})
	return r
}

// distributionCheck is a kernel with modules, one of which did not load.
func distributionCheck() *kernel.CheckResult {
	r := checkFixture()
	r.Commit, r.Build = nil, nil
	r.Kernel = kernel.Kernel{Digest: "77aa", Release: "6.1.0-56-cloud-amd64", Image: "/boot/vmlinuz", Modules: &kernel.Modules{
		Digest: "88bb", Load: []string{"virtio", "virtio_pci", "lzo_rle"}, Missing: []string{"module zram is neither there nor built in"}, Initrd: "/cache/images/88bb.cpio"}}
	r.Boot.Problems = []string{"module lzo_rle: exec format error", "swap: open /sys/block/zram0/disksize: no such file or directory"}
	r.Profile, r.Command = "stock", "orchestrator check --kernel /boot/vmlinuz --modules /lib/modules"
	return r
}

// matrixFixture is a ladder: one kernel with bugs, one that lacks something, one
// that does not boot, one that qemu did not start.
func matrixFixture() *kernel.MatrixResult {
	col := func(release string, change func(string, *kernel.TestResult)) kernel.KernelResult {
		return kernel.KernelResult{Kernel: kernel.Kernel{Digest: "77aa" + release, Release: release, Image: "/boot/vmlinuz-" + release,
			Modules: &kernel.Modules{Digest: "88bb", Load: []string{"virtio", "virtio_pci", "zram"}, Initrd: "/cache/images/88bb.cpio"}},
			Boot: kernel.Boot{Status: kernel.BootOK, Seconds: 4.2}, Tests: tests(change)}
	}
	noSwap := col("6.12.117+deb12-cloud-amd64", func(name string, t *kernel.TestResult) {
		if strings.HasPrefix(name, "cow/swap") {
			*t = kernel.TestResult{Name: t.Name, Verdict: kernel.Skipped, Reason: "no swap space"}
		}
		if name == "cow/fork-write/base" {
			t.Verdict, t.Confidence, t.Fails, t.Reason = kernel.Inconclusive, 0.71, 1, "1 of 3 runs failed; more runs needed"
		}
	})
	for i := range noSwap.Tests {
		if t := &noSwap.Tests[i]; t.Name == "cow/gup-fast-ro/base" { // good in spite of it
			t.Runs, t.Fails, t.Confidence = 7, 1, 0.957
			t.Signature, t.Reason = kernel.Signature{Kind: "hang", Title: "no result in time"}, "the guest fell silent for 45s"
		}
	}
	noSwap.Kernel.Modules.Missing = []string{"module zram is neither there nor built in"}
	noSwap.Boot.Problems = []string{"swap: open /sys/block/zram0/disksize: no such file or directory"}
	dead := kernel.KernelResult{Kernel: kernel.Kernel{Digest: "99", Release: "6.16.3-cloud-amd64"}, Boot: untestableSeries().Commits[1].Boot}
	for _, t := range tests(nil) {
		dead.Tests = append(dead.Tests, kernel.TestResult{Name: t.Name, Verdict: kernel.Untestable, Reason: "does not boot: no hello from the agent in 60 s"})
	}
	lost := kernel.KernelResult{Kernel: kernel.Kernel{Digest: "aa", Release: "7.3.4-cloud-amd64"}, Error: "boot: qemu died: out of memory"}
	for _, t := range tests(nil) {
		lost.Tests = append(lost.Tests, kernel.TestResult{Name: t.Name, Verdict: kernel.Inconclusive, Reason: lost.Error})
	}
	return &kernel.MatrixResult{ID: "matrix-7", Status: "done", Profile: "stock", Seconds: 312, Host: host, Started: started,
		Kernels: []kernel.KernelResult{col("5.10.0-46-cloud-amd64", breaking), col("6.1.0-56-cloud-amd64", nil), noSwap, dead, lost},
		Command: "orchestrator check --kernel a --kernel b --kernel c --kernel d --kernel e --modules /mods"}
}

func cleanMatrix() *kernel.MatrixResult {
	r := matrixFixture()
	r.Kernels = []kernel.KernelResult{r.Kernels[1], r.Kernels[1]}
	r.Kernels[1].Kernel.Digest = "0123456789abcdef" // another build of one release
	return r
}

// interruptedMatrix has a kernel half done and one nobody came to.
func interruptedMatrix() *kernel.MatrixResult {
	r := matrixFixture()
	r.Status = "interrupted"
	r.Kernels = r.Kernels[:3]
	r.Kernels[1].Tests = r.Kernels[1].Tests[:5]
	r.Kernels[2].Tests, r.Kernels[2].Boot = nil, kernel.Boot{Status: kernel.BootNone}
	return r
}

func hostileMatrix() *kernel.MatrixResult {
	r := matrixFixture()
	evil := "<script>alert(1)</script>\x1b[31mred\x1b]0;title\x07\u202egnp.exe\n\"><img src=x onerror=alert(2)>\x9b\xff"
	r.Profile, r.Command, r.ID, r.Status = evil, evil, evil, evil
	k := &r.Kernels[0]
	k.Kernel.Release, k.Boot.Problems, k.Error = evil, []string{evil}, evil
	k.Kernel.Modules = &kernel.Modules{Load: []string{evil}, Missing: []string{evil}}
	for i := range k.Tests {
		t := &k.Tests[i]
		t.Reason, t.Console, t.Output, t.Confidence = evil, strings.Repeat(evil+"\n", 3), evil, math.NaN()
		t.Signature.Title, t.Signature.Frames = evil, []string{evil}
	}
	k.Tests = append(k.Tests, kernel.TestResult{Name: evil, Verdict: kernel.Bad, Runs: 1, Fails: 1})
	r.Seconds = math.Inf(1)
	return r
}

func seriesFixture() *kernel.SeriesResult {
	r := &kernel.SeriesResult{ID: "s-3", Status: "done", Profile: "slim", Seconds: 1873, Host: host, Started: started,
		Base:     kernel.Commit{SHA: sha(0), Subject: "Linux 6.1-rc8"},
		FirstBad: map[string]string{}, Command: "orchestrator series --repo . v6.1-rc8..cow-rework --profile slim"}
	onBase := func(name string, t *kernel.TestResult) {
		if name == "cow/gup-fast-ro/thp-pte" {
			bad(t, missed, "child reads the parent's new data")
		}
	}
	base := ok(0, "Linux 6.1-rc8", tests(onBase))
	base.Build.Seconds = 312
	r.BaseRow = &base
	both := func(name string, t *kernel.TestResult) { onBase(name, t); breaking(name, t) }
	flaky := func(name string, t *kernel.TestResult) {
		both(name, t)
		if name == "cow/fork-write/base" {
			t.Verdict, t.Confidence, t.Fails, t.Reason = kernel.Inconclusive, 0.71, 1, "1 of 3 runs failed; more runs needed"
		}
	}
	r.Commits = []kernel.CommitResult{
		ok(1, "mm: factor out page_needs_unsharing() from do_wp_page()", tests(onBase)),
		ok(2, "mm/rmap: convert page_try_dup_anon_rmap() to a folio and document when it may fail with the anon exclusive flag set", tests(onBase)),
		noBuild(3, "mm/memory: lock the folio before moving its anon_vma"),
		ok(4, "mm/huge_memory: reuse pages in do_huge_pmd_wp_page()", tests(both)),
		ok(5, "mm: document who may set PG_anon_exclusive", tests(flaky)),
		ok(6, "selftests/vm: more tests", tests(both)),
	}
	r.Commits[1].Build.Cached = true
	r.Commits[5].Build = kernel.Build{Status: kernel.BuildOK, Cached: true, SameAs: r.Commits[4].SHA}
	for _, n := range []string{"cow/vmsplice-child-unmap/thp-pmd", "cow/vmsplice-child-unmap/thp-pte", "cow/swap-in-reuse/base"} {
		r.FirstBad[n] = sha(4)
	}
	return r
}

// changingSeries has a test that was bad before, a flaky one, one that is
// fixed, one that comes, goes and comes again, and one that gets worse.
func changingSeries() *kernel.SeriesResult {
	r := seriesFixture()
	r.FirstBad = map[string]string{"cow/swap-in-reuse/base": sha(2), "cow/fork-write/thp-pte": sha(4)}
	r.OneOf = map[string][]string{"cow/fork-write/thp-pte": {sha(3), sha(4)}}
	r.FirstFixed = map[string]string{"cow/fork-write/base": sha(2), "cow/swap-in-reuse/base": sha(4)}
	at := func(n int) []kernel.TestResult {
		set := func(t *kernel.TestResult, change kernel.Change, since int) {
			bad(t, missed, "child reads the parent's new data")
			t.Change, t.Since = change, sha(since)
			if n == 0 {
				t.Change, t.Since = "", ""
			}
		}
		return tests(func(name string, t *kernel.TestResult) {
			switch name {
			case "cow/gup-fast-ro/base":
				set(t, kernel.NotIntroduced, 0)
			case "cow/gup-fast-ro/thp-pmd":
				if n == 0 {
					t.Verdict, t.Confidence, t.Runs, t.Fails = kernel.Inconclusive, 0.81, 20, 4
				} else if set(t, kernel.Flaky, 0); n%2 == 0 {
					*t = kernel.TestResult{Name: name, Verdict: kernel.Good, Confidence: 0.98, Runs: 2, Change: kernel.Flaky, Since: sha(0)}
				}
			case "cow/fork-write/base":
				if n < 2 {
					set(t, kernel.NotIntroduced, 0)
				} else if n == 2 {
					t.Change = kernel.Fixed
				}
			case "cow/swap-in-reuse/base":
				switch n {
				case 2, 6:
					set(t, kernel.Introduced, n)
				case 3:
					set(t, kernel.NotIntroduced, 2)
				case 4:
					t.Change = kernel.Fixed
				}
			case "cow/fork-write/thp-pte":
				if n < 4 {
					set(t, kernel.Flaky, 0)
				} else if set(t, kernel.Introduced, 4); n > 4 {
					t.Change = kernel.NotIntroduced
				}
			case "cow/swap-in-reuse/thp-pte":
				if n == 6 {
					set(t, kernel.Unclear, 0)
					t.Since = ""
				}
			}
		})
	}
	r.BaseRow.Tests = at(0)
	for i := range r.Commits {
		if r.Commits[i].Tests != nil {
			r.Commits[i].Tests = at(i + 1)
		}
	}
	return r
}

// harmlessSeries changes nothing on a base that is not sound.
func harmlessSeries() *kernel.SeriesResult {
	r := changingSeries()
	r.FirstBad, r.OneOf, r.FirstFixed = nil, nil, nil
	r.Commits = r.Commits[:2]
	for i := range r.Commits {
		r.Commits[i].Tests = tests(func(name string, t *kernel.TestResult) {
			if name == "cow/gup-fast-ro/base" {
				bad(t, missed, "child reads the parent's new data")
				t.Change, t.Since = kernel.NotIntroduced, sha(0)
			}
		})
	}
	r.BaseRow.Tests = tests(func(name string, t *kernel.TestResult) {
		if name == "cow/gup-fast-ro/base" {
			bad(t, missed, "child reads the parent's new data")
		}
	})
	return r
}

func cleanSeries() *kernel.SeriesResult {
	r := seriesFixture()
	base := ok(0, "Linux 6.1-rc8", tests(nil))
	r.BaseRow, r.FirstBad = &base, nil
	r.Commits = []kernel.CommitResult{ok(1, "mm: one", tests(nil)), ok(2, "mm: two", tests(nil))}
	return r
}

func untestableSeries() *kernel.SeriesResult {
	r := seriesFixture()
	r.BaseRow, r.FirstBad = nil, nil
	noBoot := ok(2, "mm: break the boot", nil)
	noBoot.Boot = kernel.Boot{Status: kernel.BootFailed, Reason: "no hello from the agent in 60 s", Console: crashLog(),
		Signature: kernel.Signature{Kind: "crash", Title: "Kernel panic: VFS: Unable to mount root fs"}}
	r.Commits = []kernel.CommitResult{noBuild(1, "mm: break the build"), noBoot}
	return r
}

// carriedSeries has a patch that is not for its second commit, and was there
// already on others.
func carriedSeries() *kernel.SeriesResult {
	r := cleanSeries()
	conflict := ok(2, "mm: in the way", nil)
	conflict.Build = kernel.Build{Status: kernel.BuildConflict, Error: "carried hot-fix.patch does not apply: mm/memory.c, hunk 2 of 3 (line 47)"}
	conflict.Boot = kernel.Boot{Status: kernel.BootNone}
	conflict.Tests = tests(func(_ string, t *kernel.TestResult) {
		*t = kernel.TestResult{Name: t.Name, Verdict: kernel.Untestable, Reason: conflict.Build.Error}
	})
	r.Commits = []kernel.CommitResult{r.Commits[0], conflict, ok(3, "mm: three", tests(nil)), ok(4, "mm: four", tests(nil))}
	r.Total, r.Earlier = 4, &kernel.Earlier{Job: "series-1a2b3c4d", Base: sha(30), Patches: []kernel.SamePatch{
		{SHA: sha(1), Was: sha(31)}, {SHA: sha(3), Was: sha(33), Differs: map[string]kernel.Verdict{"cow/fork-write/base": kernel.Bad, "cow/fork-write/thp-pmd": kernel.Bad}}}}
	r.Carried = []kernel.Carried{{Name: "gup_test-hook.patch", Digest: strings.Repeat("ab", 32), There: []string{sha(1), sha(3), sha(4)}}, {Name: "hot-fix.patch", Digest: strings.Repeat("cd", 32)}}
	return r
}

// carriedBisect had to pass over a commit that a patch is not for.
func carriedBisect() *kernel.BisectResult {
	r := bisectFixture()
	r.Carried = carriedSeries().Carried
	s := kernel.BisectStep{SHA: sha(3), Subject: "mm: in the way", Why: "search", Outcome: "skip", Build: string(kernel.BuildConflict), Left: 5, Reason: "carried hot-fix.patch does not apply: mm/memory.c, hunk 2 of 3 (line 47)"}
	r.Steps, r.Skipped = append(r.Steps, s), append(r.Skipped, kernel.Candidate{SHA: s.SHA, Subject: s.Subject})
	return r
}

func carriedCheck() *kernel.CheckResult {
	r := checkFixture()
	r.Build = &kernel.Build{Status: kernel.BuildConflict, Error: "carried hot-fix.patch does not apply: mm/memory.c, hunk 2 of 3 (line 47)"}
	r.Boot, r.Carried = kernel.Boot{Status: kernel.BootNone}, carriedSeries().Carried
	for i := range r.Tests {
		r.Tests[i] = kernel.TestResult{Name: r.Tests[i].Name, Verdict: kernel.Untestable, Reason: r.Build.Error}
	}
	return r
}

func interruptedSeries() *kernel.SeriesResult {
	r := seriesFixture()
	r.Status = "interrupted"
	for i := 4; i < 6; i++ {
		r.Commits[i] = kernel.CommitResult{SHA: r.Commits[i].SHA, Subject: r.Commits[i].Subject}
	}
	return r
}

func hostileSeries() *kernel.SeriesResult {
	r := seriesFixture()
	evil := "<script>alert(1)</script>\x1b[31mred\x1b]0;title\x07\u202egnp.exe\n\"><img src=x onerror=alert(2)>\x9b\xff"
	r.Profile, r.Command, r.ID, r.Status = evil, evil, evil, evil
	r.Base.Subject, r.BaseRow.Subject, r.Host.QEMU, r.Host.Guest = evil, evil, evil, evil
	c := &r.Commits[3]
	c.Subject = evil
	for i := range c.Tests {
		t := &c.Tests[i]
		t.Reason, t.Console, t.Output, t.Confidence = evil, strings.Repeat(evil+"\n", 3), evil, math.NaN()
		t.Signature.Title, t.Signature.Frames = evil, []string{evil}
	}
	c.Tests = append(c.Tests, kernel.TestResult{Name: evil, Verdict: kernel.Bad, Runs: 1, Fails: 1})
	r.FirstBad[evil] = c.SHA
	r.Commits[2].Build.Error, r.Commits[2].Build.Log = evil, evil
	r.Seconds = math.Inf(1)
	return r
}

func bisectFixture() *kernel.BisectResult {
	culprit := kernel.Commit{SHA: sha(9), Subject: "mm/huge_memory: reuse pages in do_huge_pmd_wp_page()", Author: "A. Developer <dev@example.org>"}
	step := func(n int, subject, why string, fails, runs int, outcome, build string, left int) kernel.BisectStep {
		return kernel.BisectStep{SHA: sha(n), Subject: subject, Why: why, Fails: fails, Runs: runs, Outcome: outcome, Build: build, Left: left, Seconds: 20}
	}
	r := &kernel.BisectResult{ID: "b-8", Status: kernel.Found, Profile: "slim", Test: "cow/vmsplice-child-unmap/thp-pmd",
		Good: kernel.Commit{SHA: sha(1), Subject: "Linux 6.0"}, Bad: kernel.Commit{SHA: sha(16), Subject: "Linux 6.1"},
		Culprit: &culprit, Confidence: 0.99431, Signature: missed, Runs: 31, Builds: 6, Seconds: 1204,
		Candidates: []kernel.Candidate{{SHA: culprit.SHA, Subject: culprit.Subject, Probability: 0.99431}, {SHA: sha(8), Subject: "mm: document who may set PG_anon_exclusive", Probability: 0.0041}},
		Skipped:    []kernel.Candidate{{SHA: sha(10), Subject: "mm/memory: lock the folio before moving its anon_vma", Probability: 0.0002}},
		Reason:     "the culprit's probability passed 0.99 and both its sides were seen",
		Host:       host, Started: started, Command: "orchestrator bisect --repo . --good v6.0 --bad v6.1 --test cow/vmsplice-child-unmap/thp-pmd"}
	r.Steps = []kernel.BisectStep{
		step(16, "Linux 6.1", "bad end", 4, 5, "bad", "built", 412),
		step(1, "Linux 6.0", "good end", 0, 8, "good", "built", 412),
		step(10, "mm/memory: lock the folio before moving its anon_vma", "halving", 0, 0, "skip", "failed", 412),
		step(11, "mm: convert page_add_anon_rmap() to folios", "next to a skip", 2, 3, "bad", "built", 97),
		step(8, "mm: document who may set PG_anon_exclusive", "halving", 0, 7, "good", "identical", 3),
		step(9, culprit.Subject, "halving", 3, 5, "bad", "built", 1),
		step(8, "mm: document who may set PG_anon_exclusive", "parent of the culprit", 0, 3, "good", "cached", 1),
	}
	r.Steps[2].Reason = "does not build: mm/memory.c:3414:17: error: implicit declaration of function 'page_move_anon_rmap_locked'"
	r.Steps[3].Signature = warning
	r.Steps[5].Signature, r.Steps[5].Console, r.Steps[5].Output = missed, crashLog(), "not ok 1 child reads the parent's new data\n"
	return r
}

func bisectAs(status kernel.BisectStatus, reason string) *kernel.BisectResult {
	r := bisectFixture()
	r.Status, r.Reason, r.Culprit, r.Confidence = status, reason, nil, 0
	r.Candidates, r.Skipped = nil, nil
	r.Steps = r.Steps[:2]
	return r
}

func setBisect() *kernel.BisectResult {
	r := bisectFixture()
	r.Status, r.Culprit, r.Confidence = kernel.Set, nil, 0.9999
	r.Candidates = []kernel.Candidate{{SHA: sha(9), Subject: "mm: nine", Probability: 0.62}, {SHA: sha(10), Subject: "mm: ten does not build", Probability: 0.3799}}
	r.Reason = "what is left cannot be built"
	return r
}

// fixBisect looks for the commit that repaired what the first commit has.
func fixBisect() *kernel.BisectResult {
	r := bisectFixture()
	r.FindFix, r.Confidence = true, 0.99999
	r.Good, r.Bad = r.Bad, r.Good
	for i := range r.Steps {
		s := &r.Steps[i]
		switch s.Outcome {
		case "good":
			s.Outcome, s.Fails, s.Runs = "bad", 3, 4
		case "bad":
			s.Outcome, s.Fails, s.Signature = "good", 0, kernel.Signature{}
		}
		s.Why = map[string]string{"bad end": "good end", "good end": "bad end"}[s.Why] + strings.NewReplacer("good end", "", "bad end", "").Replace(s.Why)
	}
	return r
}

// posterior is a range of which each step leaves a part: from..to of n parts
// hold nearly all of it.
func posterior(n, from, to int) []float64 {
	p := make([]float64, n)
	for i := range p {
		if p[i] = 0.01 / float64(n); i >= from && i < to {
			p[i] += 0.99 / float64(to-from)
		}
	}
	return p
}

// fullBisect has all that a search can tell.
func fullBisect() *kernel.BisectResult {
	r := bisectFixture()
	r.Release = "6.1.0-kbisect"
	r.FailRate, r.FalseFailRate = kernel.Interval{Mean: 0.31, Low: 0.22, High: 0.413}, kernel.Interval{Mean: 0.0121, Low: 0.0004, High: 0.044}
	r.Iterations, r.Paths, r.FirstParent = 8, []string{"mm/", "include/linux/mm.h"}, true
	r.Doubt = "a failure of 709f4c1d709f, which passed 10 of 10 runs, would move it there"
	parts := [][2]int{{0, 60}, {0, 60}, {0, 60}, {0, 38}, {30, 38}, {33, 35}, {34, 35}}
	bins := []int{60, 0, 37, 38, 33, 35, 33}
	for i := range r.Steps {
		r.Steps[i].Posterior, r.Steps[i].Bin = posterior(60, parts[i][0], parts[i][1]), bins[i]
	}
	r.Steps[3].Signature, r.Steps[3].Other = warning, 2
	r.Confirmation = &kernel.Confirmation{
		Culprit: kernel.Rebuilt{SHA: sha(9), Same: true, Verdict: kernel.Bad, Runs: 7, Fails: 3},
		Parent:  kernel.Rebuilt{SHA: sha(8), Same: true, Verdict: kernel.Good, Runs: 14},
		Revert:  &kernel.Revert{Status: kernel.Cures, Runs: 14},
	}
	return r
}

// changesBisect is a range in which the failure came, went and came again.
func changesBisect() *kernel.BisectResult {
	r := bisectAs(kernel.NotSingleChange, "one change explains the runs 40 times worse than several do")
	r.Steps = bisectFixture().Steps
	r.ChangePoints = []kernel.ChangePoint{
		{From: kernel.Candidate{SHA: sha(1), Subject: "Linux 6.0"}, To: kernel.Candidate{SHA: sha(8), Subject: "mm: document who may set PG_anon_exclusive"}, Bad: true, Between: 31},
		{From: kernel.Candidate{SHA: sha(8), Subject: "mm: document who may set PG_anon_exclusive"}, To: kernel.Candidate{SHA: sha(9), Subject: "mm: nine"}},
		{From: kernel.Candidate{SHA: sha(9), Subject: "mm: nine"}, To: kernel.Candidate{SHA: sha(11), Subject: "mm: convert page_add_anon_rmap() to folios"}, Bad: true, Between: 1},
	}
	return r
}

// doubtfulBisect was not confirmed.
func doubtfulBisect() *kernel.BisectResult {
	r := fullBisect()
	r.Confirmation = &kernel.Confirmation{
		Culprit: kernel.Rebuilt{SHA: sha(9), Verdict: kernel.Good, Runs: 14},
		Parent:  kernel.Rebuilt{SHA: sha(8), Same: true, Verdict: kernel.Untestable, Reason: "does not boot: no agent\nmore"},
		Revert:  &kernel.Revert{Status: kernel.DoesNotRevert, Reason: "later commits changed the same lines of mm/huge_memory.c"},
	}
	return r
}

func hostileBisect() *kernel.BisectResult {
	r := bisectFixture()
	evil := "<script>alert(1)</script>\x1b[31mred\x07\u202e\ngit bisect run rm"
	r.Test, r.Reason, r.Command, r.Signature.Title = evil, evil, evil, evil
	r.Doubt, r.Release, r.Paths, r.Signature.Frames = evil, evil, []string{evil, "it's"}, []string{evil}
	r.Confirmation = &kernel.Confirmation{Culprit: kernel.Rebuilt{SHA: evil, Verdict: kernel.Untestable, Reason: evil},
		Parent: kernel.Rebuilt{SHA: evil, Verdict: kernel.Untestable, Reason: evil}, Revert: &kernel.Revert{Status: kernel.DoesNotBuild, Reason: evil}}
	r.ChangePoints = []kernel.ChangePoint{{From: kernel.Candidate{SHA: evil, Subject: evil}, To: kernel.Candidate{SHA: evil, Subject: evil}}}
	r.Culprit.Subject, r.Culprit.Author, r.Skipped[0].Subject = evil, evil, evil
	for i := range r.Steps {
		s := &r.Steps[i]
		s.Subject, s.Why, s.Reason, s.Outcome, s.Build = evil, evil, evil, evil, evil
		s.Posterior, s.Bin, s.Other = []float64{math.NaN(), math.Inf(1), -1, 2}, 9, -1
	}
	r.Confidence, r.Candidates[0].Probability = math.NaN(), math.NaN()
	return r
}

// fixtures are the golden results, by file name.
func fixtures() map[string]any {
	return map[string]any{
		"check":             checkFixture(),
		"check-empty":       &kernel.CheckResult{Kernel: kernel.Kernel{Release: "6.1.0"}, Profile: "slim", Boot: kernel.Boot{Status: kernel.BootOK}},
		"check-carried":     carriedCheck(),
		"check-modules":     distributionCheck(),
		"check-remarks":     remarkableCheck(),
		"check-no-boot":     &kernel.CheckResult{Kernel: kernel.Kernel{Release: "6.1.0"}, Profile: "slim", Boot: untestableSeries().Commits[1].Boot, Host: host},
		"matrix":            matrixFixture(),
		"matrix-clean":      cleanMatrix(),
		"matrix-interrupt":  interruptedMatrix(),
		"matrix-empty":      &kernel.MatrixResult{Status: "done", Profile: "stock"},
		"matrix-hostile":    hostileMatrix(),
		"series":            seriesFixture(),
		"series-changes":    changingSeries(),
		"series-harmless":   harmlessSeries(),
		"series-clean":      cleanSeries(),
		"series-untestable": untestableSeries(),
		"series-carried":    carriedSeries(),
		"series-interrupt":  interruptedSeries(),
		"series-empty":      &kernel.SeriesResult{Status: "done", Profile: "slim"},
		"series-hostile":    hostileSeries(),
		"bisect":            bisectFixture(),
		"bisect-carried":    carriedBisect(),
		"bisect-set":        setBisect(),
		"bisect-fix":        fixBisect(),
		"bisect-not":        bisectAs(kernel.NotReproduced, "0 of 40 runs failed at the bad end"),
		"bisect-older":      bisectAs(kernel.OlderThanGood, "3 of 5 runs failed at the good end"),
		"bisect-none":       bisectAs(kernel.NoConclusion, "the budget of 200 runs is spent"),
		"bisect-full":       fullBisect(),
		"bisect-changes":    changesBisect(),
		"bisect-doubtful":   doubtfulBisect(),
		"bisect-hostile":    hostileBisect(),
		"config":            configFixture(),
		"config-one":        oneConfig(),
		"config-set":        setConfig(),
		"config-not":        configAs(kernel.NotReproduced, "the bad end does not fail in 60 runs"),
		"config-hostile":    hostileConfig(),
	}
}
