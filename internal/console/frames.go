package console

import (
	"regexp"
	"strings"
)

// report is what the lines after a header say.
type report struct {
	end    int      // index of the first line that no longer belongs to it
	cut    bool     // the log ends within it
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
	traceRE  = regexp.MustCompile(`^\s*(?:Call Trace:|Call trace:|Backtrace:)|^(?:Use-after-free|Out-of-bounds|Invalid|Corrupted memory).* (?:at|of) 0x(?:[0-9a-f]+|\(_+ptrval_+\)) .*:$|^(?:read|write)\b.* to 0x[0-9a-f]+ of \d+ bytes by`)
	accessRE = regexp.MustCompile(`^(Read|Write) of size \d+ at addr`)
	endRE    = regexp.MustCompile(`^\s*---\[ end (?:trace|Kernel panic)`)
	// Stacks that follow the one of the complaint and belong to its history.
	historyRE = regexp.MustCompile(`^\s*(?:(?:Allocated|Freed|Last potentially related work|Second to last|Local variable|Uninit was) |(?:allocated|freed) by task|Showing all locks|the existing dependency chain|-> #\d+ |kfence-#)`)
	// Lockdep tells the history first. dump_stack() begins with the CPU line.
	presentRE = regexp.MustCompile(`^stack backtrace:|^CPU: \d+ (?:UID: \d+ )?PID: \d+ Comm: `)
	// Who ends with a line of "=": it may be another CPU's in other reports.
	closedRE = regexp.MustCompile(`^(?:K[A-Z]+SAN|KFENCE|UBSAN)\b`)
	cutRE    = regexp.MustCompile(`^-+\[ cut here \]-+$`)
	dumpRE   = regexp.MustCompile(`^(?:page: ?|page dumped because: |raw: |head: ?|page_type: |memcg: ?|aops: ?|(?:\w+ )?flags: )`)
	closeRE  = regexp.MustCompile(`^={20,}$`)
	suffixRE = regexp.MustCompile(`\.(?:isra|constprop|part|cold|llvm|lto_priv|cfi_jt|cfi)(?:\.\d+)*`)
)

// A report goes on while lines of these kinds follow within a few others.
var bodyRE = regexp.MustCompile(`^(?:\s|[<>]|CPU: |Hardware name|Modules linked|Code: |Tainted|CR2: |[CDEF]S: |CR0: |DR\d: |R[A-Z0-9]{2}: |PKRU|EFLAGS|#PF: |PGD |Oops|page:|page dumped|raw: |flags: |anon flags|head:|pc : |lr : |sp : |x\d+ ?: |addr:|irq event|hardirqs|softirqs|stack backtrace|other info|rcu: |NMI backtrace|Sending NMI|task:|The buggy|Memory state|Allocated|Freed|kfence-#|Disabling lock|Kernel Offset|=====|-----|invalid opcode|ffff[0-9a-f]{12}: |object |Object |Redzone|Kernel panic|Write of|Read of)`)

// How many lines that say nothing may stand inside a report: many before its
// trace (lockdep tells stories), few after.
const (
	gapBefore = 60
	gapAfter  = 8
)

// How far above its header a report may begin: a message of two lines, and the
// dump of a compound page.
const (
	maxMessage = 3
	maxLead    = 16
)

// report reads the lines of the complaint that starts at line at.
func (l *log) report(at int) report {
	r := report{end: at + 1}
	inTrace, history, done := false, false, false
	idle := 0 // lines since r.end that say nothing; other contexts' do not count
	for i := at + 1; i < min(len(l.lines), at+maxReportLines); i++ {
		if !l.sameCaller(at, i) {
			continue // another CPU's line in between
		}
		c := l.class(i)
		if c.end || c.close && closedRE.MatchString(l.hits[at].title) {
			r.trace, r.end = r.trace || c.end, i+1
			return r
		}
		if h := l.hits[i]; h != nil && !h.within && !h.aftermath && (!h.needsTrace || l.hits[at].needsTrace) {
			return r
		}
		body := c.body
		switch {
		case c.trace:
			r.trace, inTrace, body = true, !done && !history, true
		case c.present:
			history = false
		case c.history:
			history, inTrace = true, false
		case r.access == "" && c.access != "":
			r.access = c.access
		case c.ip != "":
			r.trace = true
			if r.ip == "" && !history {
				r.ip = plainName(c.ip)
			}
		case c.frame != "":
			body = true
			if inTrace && !c.guess && len(r.frames) < 64 {
				r.frames = append(r.frames, plainName(c.frame))
				done = true
			}
		}
		gap := gapBefore
		if done {
			gap = gapAfter
		}
		if body {
			r.end, idle = i+1, 0
		} else if idle++; idle > gap {
			return r
		}
	}
	r.cut = at+maxReportLines > len(l.lines)
	return r
}

// class is what a line can be in a report.
type class struct {
	end, close, trace, present, history, body bool

	access, ip, frame string
	guess             bool // the frame is marked "?": an address found on the stack, not a caller
}

// class looks at a line once, however many reports reach over it: in a hostile
// log every line begins one.
func (l *log) class(i int) *class {
	if l.classes[i] != nil {
		return l.classes[i]
	}
	s := l.lines[i].text
	c := &class{
		end:     endRE.MatchString(s),
		close:   closeRE.MatchString(s),
		trace:   traceRE.MatchString(s),
		present: presentRE.MatchString(s),
		history: historyRE.MatchString(s),
		body:    bodyRE.MatchString(s),
	}
	if m := accessRE.FindStringSubmatch(s); m != nil {
		c.access = m[1]
	}
	if m := ipRE.FindStringSubmatch(s); m != nil {
		c.ip = m[1]
	}
	if m := frameRE.FindStringSubmatch(s); m != nil {
		c.frame, c.guess = m[2], m[1] != ""
	}
	l.classes[i] = c
	return c
}

// lead finds where a report begins: what is wrong may stand above its header,
// between the line to cut at and there ("refcount_t: underflow"), or as the
// dump of a page with the condition that VM_BUG_ON_PAGE found.
func (l *log) lead(at int) int {
	start := at
	above := func(i int) bool { return i >= 0 && l.hits[i] == nil && l.sameCaller(i, at) }
	for i := at - 1; i >= at-maxMessage && above(i); i-- {
		if s := l.lines[i].text; cutRE.MatchString(s) || closeRE.MatchString(s) {
			start = i
			break
		}
	}
	cut := start
	for i := start - 1; i >= at-maxLead && above(i) && dumpRE.MatchString(l.lines[i].text); i-- {
		start = i
	}
	if start == cut && cut == at-1 {
		return at // the line to cut at says nothing by itself
	}
	return start
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
