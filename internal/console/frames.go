package console

import (
	"regexp"
	"strings"
)

// report is what the lines after a header say.
type report struct {
	end    int      // index of the first line that no longer belongs to it
	ip     string   // function of RIP: (x86) or pc : (arm64), "" if unknown
	frames []string // of the first call trace, as printed, innermost first
	trace  bool     // there was a call trace or a registers dump at all
	access string   // "Read" or "Write", from KASAN's second line
}

var (
	ipRE = regexp.MustCompile(`^\s*(?:RIP: [0-9a-f]{4}:|(?:E?IP|pc|PC is at)\s*:?\s*)(?:\[<[0-9a-f]+>\] *(?:\[<[0-9a-f]+>\] *)?)?(?:0010:)?([A-Za-z_][\w.$]*)(?:\+0x[0-9a-f]+/0x[0-9a-f]+| \([^()]+:\d+)`)
	// With an offset as the kernel prints it, or with a file and line as
	// scripts/decode_stacktrace.sh does.
	frameRE  = regexp.MustCompile(`^\s*(?:\[<[0-9a-f]+>\] *)?(\? +)?([A-Za-z_][\w.$]*)(?:\+0x[0-9a-f]+/0x[0-9a-f]+| \([^()]+:\d+)`)
	traceRE  = regexp.MustCompile(`^\s*(?:Call Trace:|Call trace:|Backtrace:)|^(?:Use-after-free|Out-of-bounds|Invalid|Corrupted memory).* at 0x[0-9a-f]+ .*:$|^(?:read|write)\b.* to 0x[0-9a-f]+ of \d+ bytes by`)
	accessRE = regexp.MustCompile(`^(Read|Write) of size \d+ at addr`)
	endRE    = regexp.MustCompile(`^\s*---\[ end (?:trace|Kernel panic)`)
	// Stacks that follow the one of the complaint and belong to its history.
	historyRE = regexp.MustCompile(`^\s*(?:(?:Allocated|Freed|Last potentially related work|Second to last|Local variable|Uninit was) |(?:allocated|freed) by task|Showing all locks|the existing dependency chain|-> #\d+ |kfence-#)`)
	// Lockdep tells the history first.
	presentRE = regexp.MustCompile(`^stack backtrace:`)
	closeRE   = regexp.MustCompile(`^={20,}$`)
	suffixRE  = regexp.MustCompile(`\.(?:isra|constprop|part|cold|llvm|lto_priv|cfi_jt|cfi)(?:\.\d+)*`)
)

// A report goes on while lines of these kinds follow within a few others.
var bodyRE = regexp.MustCompile(`^(?:\s|[<>]|CPU: |Hardware name|Modules linked|Code: |Tainted|CR2: |[CDEF]S: |CR0: |DR\d: |R[A-Z0-9]{2}: |PKRU|EFLAGS|#PF: |PGD |Oops|page:|page dumped|raw: |flags: |anon flags|head:|pc : |lr : |sp : |x\d+ ?: |addr:|irq event|hardirqs|softirqs|stack backtrace|other info|rcu: |NMI backtrace|Sending NMI|task:|The buggy|Memory state|Allocated|Freed|kfence-#|Disabling lock|Kernel Offset|=====|-----|invalid opcode|ffff[0-9a-f]{12}: |object |Object |Redzone|Kernel panic|Write of|Read of)`)

// How many lines that say nothing may stand inside a report: many before its
// trace (lockdep tells stories), few after.
const (
	gapBefore = 60
	gapAfter  = 8
)

// report reads the lines of the complaint that starts at line at.
func (l *log) report(at int) report {
	r := report{end: at + 1}
	inTrace, history, done := false, false, false
	for i := at + 1; i < min(len(l.lines), at+maxReportLines); i++ {
		if !l.sameCaller(at, i) {
			continue // another CPU's line in between
		}
		s := l.lines[i].text
		if end := endRE.MatchString(s); end || closeRE.MatchString(s) {
			r.trace, r.end = r.trace || end, i+1
			return r
		}
		if h := l.hits[i]; h != nil && !h.within && !h.aftermath && (!h.needsTrace || l.hits[at].needsTrace) {
			return r
		}
		body := bodyRE.MatchString(s)
		switch {
		case traceRE.MatchString(s):
			r.trace, inTrace, body = true, !done && !history, true
		case presentRE.MatchString(s):
			history = false
		case historyRE.MatchString(s):
			history, inTrace = true, false
		case r.access == "" && accessRE.MatchString(s):
			r.access = accessRE.FindStringSubmatch(s)[1]
		case ipRE.MatchString(s):
			r.trace = true
			if r.ip == "" && !history {
				r.ip = plainName(ipRE.FindStringSubmatch(s)[1])
			}
		case frameRE.MatchString(s):
			body = true
			// "?" marks an address found on the stack, not a caller.
			if m := frameRE.FindStringSubmatch(s); inTrace && m[1] == "" && len(r.frames) < 64 {
				r.frames = append(r.frames, plainName(m[2]))
				done = true
			}
		}
		gap := gapBefore
		if done {
			gap = gapAfter
		}
		if body {
			r.end = i + 1
		} else if i-r.end >= gap {
			return r
		}
	}
	return r
}

// plainName is a function's name without what the compiler appended.
func plainName(f string) string { return suffixRE.ReplaceAllString(f, "") }

// top is the innermost frames that say something about the bug.
func (r report) top() []string {
	all := r.frames
	if r.ip != "" && (len(all) == 0 || all[0] != r.ip) {
		all = append([]string{r.ip}, all...)
	}
	var out []string
	for _, f := range all {
		if skipFrame(f) || len(out) > 0 && out[len(out)-1] == f {
			continue
		}
		if out = append(out, f); len(out) == maxFrames {
			break
		}
	}
	return out
}

// guilty is the function a title names: the first that is not machinery.
func (r report) guilty() string {
	if top := r.top(); len(top) > 0 {
		return top[0]
	}
	return ""
}

func skipFrame(f string) bool {
	for _, p := range machinery {
		if p.name == f || strings.HasSuffix(p.name, "*") && strings.HasPrefix(f, p.name[:len(p.name)-1]) {
			return true
		}
	}
	return false
}
