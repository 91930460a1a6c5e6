package console

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// samples are first lines of complaints as printk writes them, made from the
// format strings of 5.10, 6.1, 6.12 and 7.3, and the name each one gets without
// the lines that follow. An empty name: no complaint.
var samples = []struct{ line, title string }{
	// mm/kasan, mm/kfence, kernel/kcsan, mm/kmsan, lib/ubsan.c, kernel/cfi.c
	{"BUG: KASAN: null-ptr-deref in do_wp_page+0x1/0x2", "KASAN: null-ptr-deref in do_wp_page"},
	{"BUG: KASAN: double-free or invalid-free in kfree+0x1/0x2", "KASAN: invalid-free in kfree"},
	{"BUG: KASAN: invalid-free in kfree+0x1/0x2", "KASAN: invalid-free in kfree"},
	{"BUG: KASAN: use-after-free in put_anon_vma+0x1/0x2", "KASAN: use-after-free in put_anon_vma"},
	{"BUG: KASAN: slab-use-after-free in put_anon_vma+0x1/0x2", "KASAN: use-after-free in put_anon_vma"},
	{"BUG: KASAN: slab-out-of-bounds in put_anon_vma.cold+0x1/0x2", "KASAN: slab-out-of-bounds in put_anon_vma"},
	{"BUG: KASAN: vmalloc-out-of-bounds in lkdtm_X+0x1/0x2 [lkdtm]", "KASAN: vmalloc-out-of-bounds in lkdtm_X"},
	{"BUG: KASAN: invalid-access", "BUG: KASAN: invalid-access"},
	{"BUG: KFENCE: memory corruption in do_wp_page+0x1/0x2", "KFENCE: memory corruption in do_wp_page"},
	{"BUG: KFENCE: out-of-bounds write in do_wp_page+0x1/0x2", "KFENCE: out-of-bounds write in do_wp_page"},
	{"BUG: KFENCE: invalid free in kfree+0x1/0x2", "KFENCE: invalid free in kfree"},
	{"BUG: KCSAN: data-race in do_wp_page / try_to_unmap_one", "KCSAN: data-race in do_wp_page / try_to_unmap_one"},
	{"BUG: KCSAN: data-race in do_wp_page+0x1/0x2", "KCSAN: data-race in do_wp_page"},
	{"BUG: KMSAN: uninit-value in copy_page_range+0x1/0x2", "KMSAN: uninit-value in copy_page_range"},
	{"UBSAN: shift-out-of-bounds in mm/swapfile.c:1202:14", "UBSAN: shift-out-of-bounds in mm/swapfile.c"},
	{"UBSAN: divide/remainder overflow at shrink_lruvec+0x1/0x2", "UBSAN: divide/remainder overflow in shrink_lruvec"},
	{"Internal error: UBSAN: array index out of bounds: 00000000f2005512 [#1] SMP", "UBSAN: array index out of bounds"},
	{"CFI failure at do_wp_page+0x1/0x2 (target: foo+0x0/0x10; expected type: 0xabcdef01)", "CFI failure in do_wp_page"},

	// arch/*/mm/fault.c, traps.c, dumpstack.c, lib/bug.c
	{"BUG: kernel NULL pointer dereference, address: 0000000000000010", "BUG: unable to handle kernel NULL pointer dereference"},
	{"BUG: unable to handle page fault for address: ffffea0000104a00", "BUG: unable to handle kernel paging request"},
	{"BUG: unable to handle kernel paging request at ffffea0000104a00", "BUG: unable to handle kernel paging request"},
	{"Unable to handle kernel NULL pointer dereference at virtual address 0000000000000010", "BUG: unable to handle kernel NULL pointer dereference"},
	{"Unable to handle kernel paging request at virtual address dead000000000100", "BUG: unable to handle kernel paging request"},
	{"general protection fault, maybe for address 0xdead000000000100: 0000 [#1] SMP", "general protection fault"},
	{"Oops: general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1] SMP NOPTI", "general protection fault"},
	{"BUG: TASK stack guard page was hit at 00000000deadbeef (stack is 00000000aaaaaaaa..00000000bbbbbbbb)", "BUG: stack guard page was hit"},
	{"stack guard page: 0000 [#1] SMP", "stack guard page"},
	{"kernel BUG at mm/huge_memory.c:2468!", "kernel BUG at mm/huge_memory.c"},
	{"kernel BUG at mm/huge_mem", "kernel BUG at mm/huge_mem"},
	{"traps: PANIC: double fault, error_code: 0x0", "PANIC: double fault"},
	{"divide error: 0000 [#1] PREEMPT SMP", "divide error"},
	{"Oops: divide error: 0000 [#1] SMP", "divide error"},
	{"Bad pagetable: 000d [#1] SMP", "Bad pagetable"},
	{"Oops: 0002 [#1] PREEMPT SMP", "Oops"},
	{"Internal error: Oops - BUG: 00000000f2000800 [#1] SMP", "Oops"},

	// kernel/watchdog*.c, kernel/rcu, kernel/hung_task.c, kernel/smp.c
	{"watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [cow:47]", "BUG: soft lockup"},
	{"NMI watchdog: Watchdog detected hard LOCKUP on cpu 1", "BUG: hard lockup"},
	{"watchdog: CPU0: Watchdog detected hard LOCKUP on cpu 1", "BUG: hard lockup"},
	{"BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 34s!", "BUG: workqueue lockup"},
	{"rcu: INFO: rcu_sched self-detected stall on CPU", "INFO: rcu detected stall"},
	{"rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", "INFO: rcu detected stall"},
	{"rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: {", "INFO: rcu detected stall"},
	{"INFO: rcu_tasks detected stalls on tasks:", "INFO: rcu detected stall"},
	{"rcu: INFO: Stall ended before state dump start", ""},
	{"INFO: task kworker/u4:2:47 blocked for more than 122 seconds.", "INFO: task hung"},
	{"INFO: task cow:47 blocked in I/O wait for more than 122 seconds.", "INFO: task hung"},
	{"INFO: task cow:47 is blocked on a mutex likely owned by task cow:46.", ""},
	{"smp: csd: Detected non-responsive CSD lock (#1) on CPU#0, waiting 5000000000 ns for CPU#01 do_nothing+0x0/0x10(0x0).", "CSD lock: CPU does not respond"},

	// kernel/locking/lockdep.c, kernel/sched/core.c, lib
	{"WARNING: possible circular locking dependency detected", "possible deadlock"},
	{"WARNING: possible recursive locking detected", "possible deadlock"},
	{"[ INFO: possible recursive locking detected ]", "possible deadlock"},
	{"WARNING: inconsistent lock state", "inconsistent lock state"},
	{"WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected", "inconsistent lock state"},
	{"WARNING: possible irq lock inversion dependency detected", "inconsistent lock state"},
	{"WARNING: suspicious RCU usage", "WARNING: suspicious RCU usage"},
	{"WARNING: bad unlock balance detected!", "WARNING: bad unlock balance"},
	{"WARNING: lock held when returning to user space!", "WARNING: lock held when returning to user space"},
	{"[ BUG: Invalid wait context ]", "BUG: Invalid wait context"},
	{"INFO: trying to register non-static key.", "INFO: trying to register non-static key"},
	{"BUG: MAX_LOCKDEP_ENTRIES too low!", ""},
	{"BUG: sleeping function called from invalid context at mm/memory.c:4000", "BUG: sleeping function called from invalid context"},
	{"BUG: scheduling while atomic: cow/81/0x00000002", "BUG: scheduling while atomic"},
	{"BUG: scheduling in a non-blocking section: cow/81/1", "BUG: scheduling in a non-blocking section: cow"},
	{"BUG: workqueue leaked lock or atomic: kworker/u4:2/0x00000001/47", "BUG: workqueue leaked lock or atomic: kworker"},
	{"BUG: using smp_processor_id() in preemptible [00000000] code: cow/81", "BUG: using smp_processor_id() in preemptible code"},
	{"BUG: spinlock bad magic on CPU#0, cow/81", "BUG: spinlock bad magic"},
	{"BUG: spinlock lockup suspected on CPU#1, cow/81", "BUG: spinlock lockup suspected"},

	// mm
	{"BUG: Bad page state in process cow  pfn:04128", "BUG: Bad page state"},
	{"BUG: Bad page state: 12 messages suppressed", "BUG: Bad page state"},
	{"BUG: Bad page map in process cow  pte:8000000004128867 pmd:04141067", "BUG: Bad page map"},
	{"BUG: Bad rss-counter state mm:00000000deadbeef type:MM_ANONPAGES val:1", "BUG: Bad rss-counter state"},
	{"BUG: Bad rss-counter state mm:00000000deadbeef type:MM_ANONPAGES val:1 Comm:cow Pid:81", "BUG: Bad rss-counter state"},
	{"BUG: non-zero pgtables_bytes on freeing mm: 4096", "BUG: non-zero pgtables_bytes on freeing mm"},
	{"mm/pgtable-generic.c:50: bad pmd 00000000a1b2c3d4(8000000012345867)", "bad pmd"},
	{"/tmp/linux/mm/memory.c:450: bad p4d 00000000a1b2c3d4(0000000012345867)", "bad p4d"},
	{"arch/x86/mm/init.c:9: bad pgd 12345867", "bad pgd"},
	{"mm/pgtable-generic.c:43: bad pud ffff0000.", "bad pud"},
	{"get_swap_device: Bad swap file entry 3ffffffffffff", "Bad swap file entry"},
	{"_swap_info_get: Unused swap offset entry 00000042", "Unused swap offset entry"},
	{"swap_free: Unused swap file entry 00000042", "Unused swap file entry"},
	{"Bad swap offset entry 00000042", "Bad swap offset entry"},
	{"mm: bad pmd handling is off", ""},
	{"BUG kmalloc-64 (Tainted: G    B   W        ): Poison overwritten", "BUG: Poison overwritten in slab kmalloc-64"},
	{"pagealloc: memory corruption", "pagealloc: memory corruption"},
	{"kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)", "kmemleak: new suspected memory leaks"},
	{"BUG: memory leak", "memory leak"},

	// kernel/panic.c
	{"WARNING: CPU: 0 PID: 1 at mm/memory.c:1", "WARNING at mm/memory.c"},
	{"WARNING: CPU: 0 PID: 1 at mm/memory.c:3414 do_wp_page+0x1/0x2", "WARNING in do_wp_page"},
	{"WARNING: CPU: 0 PID: 1 at do_wp_page+0x1/0x2", "WARNING in do_wp_page"},
	{"WARNING: mm/memory.c:3414 at do_wp_page+0x1/0x2, CPU#1: cow/81", "WARNING in do_wp_page"},
	{"WARNING: at do_wp_page+0x1/0x2, CPU#1: cow/81", "WARNING in do_wp_page"},
	{"WARNING: CPU: 1 PID: 81 Comm: cow Not tainted", ""},
	{"WARNING: a driver has advice", ""},
	{"WARNING: can't access registers at asm_exc_page_fault+0x1/0x2", ""},
	{"WARNING: WARNING: Corrupt .orc_unwind table.  Disabling unwinder.", ""},
	{"BUG: arch topology borken", ""},
	{"BUG: page 3 of 0xffffea0000104a00 is lost", "BUG: page N of ADDR is lost"},
	{"Kernel panic - not syncing: Fatal exception in interrupt", "Kernel panic: Fatal exception in interrupt"},
	{"Kernel panic - not syncing: scheduling while atomic: panic_on_warn set ...", "Kernel panic: scheduling while atomic: panic_on_warn set"},
	{"Kernel panic - not syncing: softlockup: hung tasks", "Kernel panic: softlockup: hung tasks"},
	{"Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009", "Kernel panic: Attempted to kill init!"},
	{"Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)", "Kernel panic: VFS: Unable to mount root fs"},
	{"Kernel panic - not syncing: No working init found.  Try passing init= option to kernel.", "Kernel panic: No working init found"},
	{"Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: do_wp_page+0x1/0x2", "Kernel panic: stack-protector: kernel stack is corrupted in do_wp_page"},
	{"Kernel panic - not syncing: Out of memory: compulsory panic_on_oom is enabled", "Kernel panic: Out of memory: compulsory panic_on_oom is enabled"},

	// What a healthy guest says too.
	{"cow[81]: segfault at 0 ip 0000000000401234 sp 00007ffd1e7a1c60 error 6 in cow[401000+1000]", ""},
	{"traps: cow[81] general protection fault ip:401234 sp:7ffd1e7a1c60 error:0 in cow[401000+1000]", ""},
	{"cow invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0", ""},
	{"Out of memory: Killed process 81 (cow) total-vm:1024kB, anon-rss:0kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:36kB oom_score_adj:0", ""},
	{"..MP-BIOS bug: 8254 timer not connected to IO-APIC", ""},
	{"clocksource: timekeeping watchdog on CPU1: Marking clocksource 'tsc' as unstable", ""},
	{"INFO: lockdep is turned off.", ""},
	{"workqueue: lru_add_drain_per_cpu hogged CPU for >10000us 4 times", ""},
	{"WARNING: Spectre-v2 mitigation is off, disabling ITS", ""},
}

func TestSamples(t *testing.T) {
	for _, tt := range samples {
		got := ""
		if fs := Scan([]byte("[    1.000000] " + tt.line + "\n")); len(fs) > 0 {
			got = fs[0].Signature.Title
		}
		if got != tt.title {
			t.Errorf("%s\n\tgot  %q\n\twant %q", tt.line, got, tt.title)
		}
	}
}

// An entry nothing matches, or that one before it always takes, is dead; one
// without a reason cannot be judged.
func TestTablesAreAlive(t *testing.T) {
	lines := make([]string, 0, 1000)
	for _, s := range samples {
		lines = append(lines, s.line)
	}
	logs, _ := filepath.Glob("testdata/*.log")
	for _, name := range logs {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Split(string(data), "\n")...)
	}
	used := map[*header]bool{}
	isBenign := make([]bool, len(benign))
	for _, s := range lines {
		l := parseLine("[    1.000000] " + strings.TrimRight(s, "\r"))
		l.text = parseLine(l.text).text // what a log already stamps
		if h := match(l, true); h != nil {
			used[h.header] = true
		}
		for i, b := range benign {
			isBenign[i] = isBenign[i] || b.re.MatchString(l.text)
		}
	}
	for i := range headers {
		h := &headers[i]
		if !used[h] || h.why == "" {
			t.Errorf("header %d, %s: used %v, why %q", i, h.re, used[h], h.why)
		}
	}
	for i, b := range benign {
		if !isBenign[i] || b.why == "" {
			t.Errorf("benign %d, %s: used %v, why %q", i, b.re, isBenign[i], b.why)
		}
	}
	seen := map[string]bool{}
	for _, m := range machinery {
		if m.why == "" || seen[m.name] {
			t.Errorf("machinery %q: why %q, twice %v", m.name, m.why, seen[m.name])
		}
		seen[m.name] = true
	}
	for _, s := range scrubs {
		if s.why == "" {
			t.Errorf("scrub %s has no reason", s.re)
		}
	}
}
