package report

import (
	"math"
	"slices"
	"strings"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

// configFixture is a search that finds an option and what that depends on.
func configFixture() *kernel.ConfigResult {
	option := func(symbol, good, bad string) kernel.ConfigOption {
		return kernel.ConfigOption{Symbol: symbol, Good: good, Bad: bad}
	}
	gone := kernel.Signature{Kind: "fail", Title: "exit status 1"}
	return &kernel.ConfigResult{
		ID: "bisect-config-1", Status: kernel.Found, Profile: "slim", Test: "script/cramfs.sh", Seconds: 214, Runs: 36, Builds: 7, Host: host, Started: started,
		Commit: kernel.Commit{SHA: sha(1), Subject: "Linux 6.1"}, Good: "/home/u/good.config", Bad: "/boot/config-6.1",
		Options:  []kernel.ConfigOption{option("DEVMEM", "n", "y"), option("PROC_KCORE", "n", "y"), option("MISC_FILESYSTEMS", "n", "y"), option("CRAMFS", "n", "y"), option("SECRETMEM", "y", "n")},
		LeftOut:  []kernel.ConfigOption{{Symbol: "PVH", Good: "y", Bad: "n", Why: "set to y on both: the guest needs that, or --kconfig says so"}, {Symbol: "EXT4_FS", Good: "y", Bad: "m", Why: "no guest loads a module"}, {Symbol: "XFS_FS", Good: "y", Bad: "m", Why: "no guest loads a module"}},
		Culprits: []kernel.ConfigCulprit{{ConfigOption: option("MISC_FILESYSTEMS", "n", "y"), Without: kernel.Good, NeededBy: []string{"CRAMFS"}}, {ConfigOption: option("CRAMFS", "n", "y"), Without: kernel.Good}},
		Brings:   []string{"ZLIB_INFLATE"}, Signature: gone, FailRate: kernel.Interval{Mean: 1, Low: 0.57, High: 1}, Reason: "each of them put back makes the test pass",
		Command: "orchestrator bisect-config --repo . --good good.config --bad /boot/config-6.1 --script cramfs.sh",
		Steps: []kernel.ConfigStep{
			{Why: "good end", Outcome: kernel.Good, Build: "built", Runs: 7, Seconds: 201},
			{Why: "bad end", Outcome: kernel.Bad, Build: "cached", Runs: 5, Fails: 5, Signature: gone, Output: "cramfs is there\n"},
			{Why: "search", Asked: []string{"DEVMEM", "PROC_KCORE"}, Outcome: kernel.Good, Build: "built", Runs: 8, Fails: 1, Other: 1, Seconds: 12},
			{Why: "search", Asked: []string{"MISC_FILESYSTEMS", "CRAMFS", "SECRETMEM", "DEVMEM"}, Outcome: kernel.Bad, Build: "built", Runs: 2, Fails: 2, Brings: []string{"ZLIB_INFLATE"}, Seconds: 15},
			{Why: "search", Asked: []string{"CRAMFS"}, Missed: []string{"CRAMFS"}, Outcome: kernel.Good, Build: "built", Reason: "the same kernel as in step 1", Seconds: 8},
			{Why: "search", Asked: []string{"SECRETMEM"}, Outcome: kernel.Untestable, Build: "failed", Reason: "does not build: mm/secretmem.c:1:1: error: x", Seconds: 8},
		},
	}
}

func oneConfig() *kernel.ConfigResult {
	r := configFixture()
	r.Culprits, r.Brings, r.LeftOut, r.Reason = r.Culprits[1:], nil, nil, "the good end with this option fails"
	return r
}

func setConfig() *kernel.ConfigResult {
	r := configFixture()
	r.Status, r.Reason = kernel.Set, "it could not be seen that these are needed: CONFIG_SECRETMEM"
	r.Culprits[0] = kernel.ConfigCulprit{ConfigOption: r.Options[4], Without: kernel.Untestable, Reason: "does not boot: no agent"}
	return r
}

func configAs(status kernel.BisectStatus, reason string) *kernel.ConfigResult {
	r := configFixture()
	r.Status, r.Reason, r.Culprits, r.Brings, r.Steps = status, reason, nil, nil, r.Steps[:2]
	return r
}

func hostileConfig() *kernel.ConfigResult {
	r := configFixture()
	evil := "<script>alert(1)</script>\x1b[31mred\x1b]0;title\x07\u202egnp.exe\n\"><img src=x onerror=alert(2)>\x9b\xff"
	r.ID, r.Profile, r.Test, r.Good, r.Bad, r.Reason, r.Command = evil, evil, evil, evil, evil, evil, evil
	r.Commit.Subject, r.Signature.Title, r.FailRate.Low, r.Seconds = evil, evil, math.NaN(), math.Inf(1)
	r.LeftOut = append(r.LeftOut, kernel.ConfigOption{Symbol: evil, Why: evil})
	r.Brings = []string{evil}
	c := kernel.ConfigCulprit{ConfigOption: kernel.ConfigOption{Symbol: evil, Good: evil, Bad: evil}, Without: kernel.Verdict(evil), Reason: evil}
	r.Culprits = append(slices.Clone(r.Culprits), c)
	r.Culprits[0].NeededBy = []string{evil}
	for i := range r.Steps {
		s := &r.Steps[i]
		s.Why, s.Asked, s.Missed, s.Brings, s.Reason, s.Output, s.Console, s.Build = evil, []string{evil}, []string{evil}, []string{evil}, evil, evil, strings.Repeat(evil+"\n", 3), evil
	}
	return r
}
