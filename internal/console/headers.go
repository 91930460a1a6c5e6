package console

import "regexp"

// header is a first line of a complaint and how to name it.
type header struct {
	re    *regexp.Regexp
	title string // $1 and such are groups; {access} is KASAN's Read or Write
	in    bool   // the title ends in " in <function>"
	fn    int    // group with the function; 0: the innermost telling frame
	alone string // appended instead when there is no function to name
	kind  string // "" means crash

	within     bool // part of a report when close under its header
	aftermath  bool // only carries out the policy for an earlier complaint
	needsTrace bool // too vague to count without a call trace
	why        string
}

const hang = "hang"

func re(s string) *regexp.Regexp { return regexp.MustCompile(s) }

// benign lines look like complaints and are none. They are looked at first.
var benign = []struct {
	re  *regexp.Regexp
	why string
}{
	{re(`^BUG: MAX_(LOCKDEP_\w+|STACK_TRACE_ENTRIES|LOCK_DEPTH) too low`), "lockdep ran out of its own tables: says nothing about the locks"},
	{re(`^BUG: arch topology borken`), "the scheduler dislikes the CPU topology that QEMU invents"},
	{re(`^WARNING: CPU: \d+ PID: \d+ Comm:`), "second line of newer WARN reports, not a header"},
	{re(`^WARNING: (?:WARNING: bad lookup|can't access (?:iret )?registers|missing \w+ value|stack going in the wrong direction|unknown (?:SP|BP) base reg|kernel stack (?:regs|frame pointer) at)`), "the unwinder lost its way: the complaint is what it unwinds for"},
	{re(`^WARNING: (?:WARNING: )?(?:Corrupt|Bad or missing) \.orc_unwind table`), "the unwinder's table is damaged: traces get worse, nothing else"},
}

// headers are tried in order: the special before the general.
var headers = []header{
	// Sanitizers.
	{re: re(`^BUG: KASAN: (?:double-free or )?invalid-free in ([\w.$]+)`), title: "KASAN: invalid-free", in: true, fn: 1, why: "bad free"},
	{re: re(`^BUG: KASAN: (?:slab-)?(use-after-free) in ([\w.$]+)`), title: "KASAN: $1{access}", in: true, fn: 2, why: "bad memory access; slab- since 6.3"},
	{re: re(`^BUG: KASAN: ([\w-]+) in ([\w.$]+)`), title: "KASAN: $1{access}", in: true, fn: 2, why: "bad memory access"},
	{re: re(`^BUG: KFENCE: (use-after-free read|use-after-free write|out-of-bounds read|out-of-bounds write|invalid read|invalid write|invalid free|memory corruption) in ([\w.$]+)`), title: "KFENCE: $1", in: true, fn: 2, why: "bad memory access, sampled"},
	{re: re(`^BUG: KCSAN: ([\w-]+) in ([\w.$]+(?: / [\w.$]+)?)`), title: "KCSAN: $1 in $2", why: "data race"},
	{re: re(`^BUG: KMSAN: ([\w-]+) in ([\w.$]+)`), title: "KMSAN: $1", in: true, fn: 2, why: "use of uninitialised memory"},
	{re: re(`^UBSAN: ([\w -]+?) in (\S+?):\d+`), title: "UBSAN: $1", in: true, alone: " in $2", why: "undefined behaviour"},
	{re: re(`^UBSAN: ([\w /-]+?) at ([\w.$]+)\+0x`), title: "UBSAN: $1", in: true, fn: 2, why: "undefined behaviour, CONFIG_UBSAN_TRAP on x86"},
	{re: re(`^Internal error: UBSAN: ([\w /-]+)`), title: "UBSAN: $1", in: true, why: "undefined behaviour, CONFIG_UBSAN_TRAP on arm64"},
	{re: re(`^CFI failure at ([\w.$]+)`), title: "CFI failure", in: true, fn: 1, why: "indirect call to a function of another type"},

	// Bad accesses. Architectures and releases word one fault in several ways.
	{re: re(`^BUG: (?:unable to handle )?kernel NULL pointer dereference`), title: "BUG: unable to handle kernel NULL pointer dereference", in: true, why: "x86"},
	{re: re(`^BUG: unable to handle (?:kernel paging request|page fault)`), title: "BUG: unable to handle kernel paging request", in: true, why: "x86"},
	{re: re(`^Unable to handle kernel NULL pointer dereference`), title: "BUG: unable to handle kernel NULL pointer dereference", in: true, why: "arm64"},
	{re: re(`^Unable to handle kernel`), title: "BUG: unable to handle kernel paging request", in: true, why: "arm64"},
	{re: re(`^(?:Oops: )?general protection (?:fault|exception)\b`), title: "general protection fault", in: true, why: "non-canonical address"},
	{re: re(`^BUG: (stack guard page|TASK stack guard page|IRQ stack guard page) was hit`), title: "BUG: stack guard page was hit", in: true, why: "kernel stack overflow"},
	{re: re(`^kernel BUG at (\S+?):\d+!`), title: "kernel BUG", in: true, alone: " at $1", why: "BUG_ON"},
	{re: re(`^kernel BUG at ([^:\s]+)`), title: "kernel BUG", in: true, alone: " at $1", why: "BUG_ON whose line was cut"},
	{re: re(`^(?:traps: )?PANIC: double fault`), title: "PANIC: double fault", in: true, why: "x86"},
	{re: re(`^(?:Oops: )?(divide error|invalid opcode|double fault|stack segment|stack guard page|segment not present|alignment check|int3|bounds|Bad pagetable)\b[^:]*: [0-9a-f]{4} \[#\d+\]`), title: "$1", in: true, within: true, why: "x86 trap; under kernel BUG it is the BUG itself"},
	{re: re(`^(?:Oops|Internal error)\b`), title: "Oops", in: true, within: true, why: "second line of most faults, the first when that one got lost"},

	// Stalls. The kernel noticed itself that it makes no progress.
	{re: re(`^(?:watchdog: )?BUG: soft lockup - CPU#\d+ stuck`), title: "BUG: soft lockup", in: true, kind: hang, why: "CPU does not schedule"},
	{re: re(`^(?:NMI )?watchdog: (?:BUG: hard lockup|(?:CPU\d+: )?Watchdog detected hard LOCKUP)`), title: "BUG: hard lockup", in: true, kind: hang, why: "CPU takes no interrupts"},
	{re: re(`^(?:smp: )?csd: \w+ non-responsive CSD lock`), title: "CSD lock: CPU does not respond", kind: hang, why: "CPU takes no function call from another"},
	{re: re(`^BUG: workqueue lockup`), title: "BUG: workqueue lockup", kind: hang, why: "workers starve"},
	{re: re(`^(?:rcu: )?INFO: rcu\w* (?:self-)?detected (?:expedited )?stall`), title: "INFO: rcu detected stall", in: true, kind: hang, why: "CPU passes no quiescent state"},
	{re: re(`^INFO: task .+ blocked (?:in I/O wait )?for more than \d+ seconds`), title: "INFO: task hung", in: true, kind: hang, why: "uninterruptible sleep"},

	// Lockdep and its relatives.
	{re: re(`^(?:WARNING|INFO): possible (?:circular locking dependency|recursive locking) detected`), title: "possible deadlock", in: true, why: "lockdep"},
	{re: re(`^(?:WARNING|INFO): (?:possible irq lock inversion dependency|\S+-safe -> \S+-unsafe lock order|inconsistent lock state)`), title: "inconsistent lock state", in: true, why: "lockdep"},
	{re: re(`^(?:WARNING|INFO): suspicious RCU usage`), title: "WARNING: suspicious RCU usage", in: true, why: "lockdep"},
	{re: re(`^(?:WARNING|BUG): (bad unlock balance|held lock freed|lock held when returning to user space|lock held at task exit|nested lock was not taken|Nested lock was not taken)`), title: "WARNING: $1", in: true, why: "lockdep"},
	{re: re(`^BUG: Invalid wait context`), title: "BUG: Invalid wait context", in: true, why: "lockdep"},
	{re: re(`^INFO: trying to register non-static key`), title: "INFO: trying to register non-static key", in: true, why: "lockdep: lock was never initialised"},
	{re: re(`^BUG: sleeping function called from invalid context`), title: "BUG: sleeping function called from invalid context", in: true, why: "might_sleep"},
	{re: re(`^BUG: scheduling while atomic`), title: "BUG: scheduling while atomic", in: true, why: "schedule"},
	{re: re(`^BUG: using (__this_cpu_\w+|smp_processor_id)\(\) in preemptible`), title: "BUG: using $1() in preemptible code", in: true, why: "preemption"},
	{re: re(`^BUG: (spinlock|rwlock|rt_mutex) (bad magic|lockup suspected|already unlocked|wrong owner|wrong CPU|recursion|cpu recursion|trylock failure on UP)`), title: "BUG: $1 $2", in: true, why: "spinlock debugging"},

	// Memory management's own checks. No function: the finder is not the culprit.
	{re: re(`^BUG: Bad page (state|map|cache)(?: in process|: \d+ messages suppressed)`), title: "BUG: Bad page $1", why: "struct page or page table is inconsistent"},
	{re: re(`^BUG: Bad rss-counter state`), title: "BUG: Bad rss-counter state", why: "mapping counts went out of sync"},
	{re: re(`^BUG: non-zero pgtables_bytes on freeing mm`), title: "BUG: non-zero pgtables_bytes on freeing mm", why: "page tables leaked"},
	{re: re(`^\S+?:\d+: bad (p[gu4m]d) `), title: "bad $1", why: "page table entry that points to nothing: p?d_clear_bad() forgets what it mapped"},
	{re: re(`^(?:\w+: )?((?:Bad|Unused) swap (?:file|offset) entry) `), title: "$1", why: "page table or page with a swap entry that is none, or was freed"},
	{re: re(`^BUG ([\w.-]+)(?:-\d+)? \([^)]*\): (.+)`), title: "BUG: $2 in slab $1", why: "SLUB consistency checks"},
	{re: re(`^pagealloc: (memory corruption|single bit error)`), title: "pagealloc: $1", why: "page poisoning: somebody wrote to a free page"},
	{re: re(`^kmemleak: \d+ new suspected memory leaks`), title: "kmemleak: new suspected memory leaks", why: "leak scan"},
	{re: re(`^BUG: memory leak`), title: "memory leak", in: true, why: "leak scan"},

	// WARN and what is left.
	{re: re(`^WARNING: (?:CPU: \d+ PID: \d+ )?at (\S+?):\d+(?: ([A-Za-z_][\w.$]*))?`), title: "WARNING", in: true, fn: 2, alone: " at $1", why: "WARN_ON up to 6.18"},
	{re: re(`^WARNING: (?:CPU: \d+ PID: \d+ )?at ([A-Za-z_][\w.$]*)\+0x`), title: "WARNING", in: true, fn: 1, why: "WARN_ON without CONFIG_DEBUG_BUGVERBOSE"},
	{re: re(`^WARNING: (\S+?):\d+ at ([A-Za-z_][\w.$]*)`), title: "WARNING", in: true, fn: 2, alone: " at $1", why: "WARN_ON since"},
	{re: re(`^BUG: (.+)`), title: "BUG: $1", why: "unknown: fail closed"},
	{re: re(`^WARNING: (.+)`), title: "WARNING: $1", needsTrace: true, why: "unknown; without a trace it is advice from a driver"},

	// Panics. The policy ones mean nothing by themselves.
	{re: re(`^Kernel panic - not syncing: (Fatal exception in interrupt|Fatal exception|Fatal hardware error|.*panic_on_warn set|kasan\S* set|Oops)\b`), title: "Kernel panic: $1", aftermath: true, why: "oops=panic, panic_on_warn"},
	{re: re(`^Kernel panic - not syncing: (softlockup: hung tasks|hung_task: blocked tasks|RCU Stall|Hard LOCKUP)`), title: "Kernel panic: $1", aftermath: true, kind: hang, why: "stalls set to panic"},
	{re: re(`^Kernel panic - not syncing: (Attempted to kill init!)`), title: "Kernel panic: $1", why: "init died; the exit code varies"},
	{re: re(`^Kernel panic - not syncing: (VFS: Unable to mount root fs)`), title: "Kernel panic: $1", why: "no root: the machine is set up wrongly, or storage is broken"},
	{re: re(`^Kernel panic - not syncing: (No working init found|Requested init \S+ failed)`), title: "Kernel panic: $1", why: "no init"},
	{re: re(`^Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: ([\w.$]+)`), title: "Kernel panic: stack-protector: kernel stack is corrupted", in: true, fn: 1, why: "stack overwritten"},
	{re: re(`^Kernel panic - not syncing: (.*)`), title: "Kernel panic: $1", why: "any other"},
}
