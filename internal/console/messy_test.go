package console

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// guestLogs are the logs of guests that really crashed, one complaint each or
// more, by name. They were written with PRINTK_CALLER off unless they say so.
func guestLogs(t *testing.T) map[string][]string {
	t.Helper()
	names, err := filepath.Glob("testdata/guest-*.log")
	if err != nil || len(names) < 8 {
		t.Fatalf("%d logs: %v", len(names), err)
	}
	logs := make(map[string][]string)
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		logs[filepath.Base(name)] = slices.Collect(strings.Lines(string(data)))
	}
	return logs
}

func scanLines(lines []string) []Finding { return Scan([]byte(strings.Join(lines, ""))) }

// A log that ends in the middle of a complaint names it, or the beginning of
// its name: never something else, and never nothing.
func TestTruncated(t *testing.T) {
	for name, lines := range guestLogs(t) {
		full := scanLines(lines)
		if len(full) == 0 {
			continue
		}
		first := full[0]
		for n := first.Head; n <= len(lines); n++ {
			if n > first.Head+3 && n%5 > 0 {
				continue // enough, and it takes long with -race
			}
			for _, cut := range []int{0, 30} { // bytes of the line after
				log := strings.Join(lines[:n], "")
				if n < len(lines) {
					log += lines[n][:min(cut, len(lines[n]))]
				}
				fs := Scan([]byte(log))
				if len(fs) == 0 {
					t.Errorf("%s: nothing in %d lines and %d bytes", name, n, cut)
					continue
				}
				got, want := fs[0].Signature, first.Signature
				base, _, _ := strings.Cut(want.Title, " in ")
				base = strings.TrimSuffix(strings.TrimSuffix(base, " Read"), " Write") // from KASAN's second line
				if got.Kind != want.Kind || got.Title != want.Title && !strings.HasPrefix(got.Title, base) {
					t.Errorf("%s: %d lines and %d bytes give %s\n\tthe whole %s", name, n, cut, got, want)
				}
				if len(fs) > len(full) {
					t.Errorf("%s: %d lines and %d bytes have %d findings, the whole has %d", name, n, cut, len(fs), len(full))
				}
			}
		}
		// What is lost in front of the header is no part of the name.
		if fs := scanLines(lines[first.Head-1:]); len(fs) == 0 || fs[0].Signature.Title != first.Signature.Title {
			t.Errorf("%s: without what is in front: %v", name, titles(fs))
		}
	}
}

var anyStamp = regexp.MustCompile(`(?m)^(\[ *\d+\.\d+\])(\[ *[TC]\d+\])? ?`)

// Two CPUs that crash at once print line by line in any order. With
// PRINTK_CALLER their complaints are told apart.
func TestInterleaved(t *testing.T) {
	logs := guestLogs(t)
	rng := rand.New(rand.NewPCG(1, 2))
	names := slices.Sorted(maps.Keys(logs))
	pairs := 0
	for i, a := range names {
		for _, b := range names[i+1 : min(i+4, len(names))] {
			as, bs := logs[a], logs[b]
			fa, fb := scanLines(as), scanLines(bs)
			if len(fa) != 1 || len(fb) != 1 || fa[0].Signature.Title == fb[0].Signature.Title {
				continue
			}
			pairs++
			mixed := mix(rng, called(piece(as, fa[0]), "T101"), called(piece(bs, fb[0]), "C1"))
			whole := func(f Finding) string { return f.Signature.Title + fmt.Sprint(f.Signature.Frames) }
			got := map[string]bool{}
			for _, f := range scanLines(mixed) {
				got[whole(f)] = true
			}
			for _, f := range []Finding{fa[0], fb[0]} {
				if s := whole(f); !got[s] {
					t.Errorf("%s and %s mixed: %q is lost, got %v\n%s", a, b, s, got, strings.Join(mixed, ""))
				}
			}
			if len(got) != 2 {
				t.Errorf("%s and %s mixed give %d complaints: %v", a, b, len(got), got)
			}
		}
	}
	if pairs < 10 {
		t.Errorf("only %d pairs of logs", pairs)
	}
}

// Without PRINTK_CALLER nothing tells two CPUs apart. What each complains about
// is still named, from its header and its own trace.
func TestNoCallers(t *testing.T) {
	for name, lines := range guestLogs(t) {
		var plain []string
		for _, l := range lines {
			plain = append(plain, anyStamp.ReplaceAllString(l, "$1 "))
		}
		var want, got []string
		for _, f := range scanLines(lines) {
			want = append(want, f.Signature.Title)
		}
		for _, f := range scanLines(plain) {
			got = append(got, f.Signature.Title)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s without callers:\n\tgot  %q\n\twant %q", name, got, want)
		}
	}
	// KASAN's report ends before the other CPU has come to its trace.
	fs := Scan([]byte("BUG: KASAN: use-after-free in a+0x1/0x2\nCall Trace:\n a+0x1/0x2\n" +
		"WARNING: suspicious RCU usage\n" + strings.Repeat("=", 66) + "\nstack backtrace:\nCall Trace:\n b+0x1/0x2\n"))
	if len(fs) != 2 || fs[1].Signature.Title != "WARNING: suspicious RCU usage in b" {
		t.Errorf("a report closed by another: %q", titles(fs))
	}
}

// A report may wait for a long one of another CPU, at any of its lines.
func TestOneInsideTheOther(t *testing.T) {
	logs := guestLogs(t)
	for _, pair := range [][2]string{
		{"guest-oops.log", "guest-vm-bug-on-page.log"},
		{"guest-kasan-overflow.log", "guest-oops.log"},
	} {
		outer, inner := logs[pair[0]], logs[pair[1]]
		a, b := scanLines(outer)[0], scanLines(inner)[0]
		as, bs := called(piece(outer, a), "T101"), called(piece(inner, b), "T102")
		for at := 1; at < a.Lines; at++ {
			mixed := slices.Concat(as[:at], bs, as[at:])
			fs := scanLines(mixed)
			if len(fs) != 2 || fs[0].Signature.Title != a.Signature.Title || !slices.Equal(fs[0].Signature.Frames, a.Signature.Frames) {
				t.Fatalf("%s, line %d: %q", pair, at, titles(fs))
			}
			if last := mixed[fs[0].Line+fs[0].Lines-2]; last != as[a.Lines-1] {
				t.Fatalf("%s, line %d: the report ends with %q", pair, at, last)
			}
		}
	}
}

// piece is the lines of a finding and those of the panic that follows.
func piece(lines []string, f Finding) []string { return lines[f.Line-1:] }

// called puts a caller into every line.
func called(lines []string, caller string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = anyStamp.ReplaceAllString(l, fmt.Sprintf("$1[%5s] ", caller))
	}
	return out
}

// mix keeps the order of each.
func mix(rng *rand.Rand, a, b []string) []string {
	var out []string
	for len(a) > 0 || len(b) > 0 {
		if len(b) == 0 || len(a) > 0 && rng.IntN(2) == 0 {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return out
}

// What a program prints between, in front of and behind the kernel's lines is
// no part of a name either.
func TestProgramTalks(t *testing.T) {
	talk := []string{"ok 1 No leak from parent into child\n", "# [RUN] something: else\n", "BUG? no\n", "\n", "Call Trace of my own\n"}
	rng := rand.New(rand.NewPCG(3, 4))
	for name, lines := range guestLogs(t) {
		want := titles(scanLines(lines))
		var noisy, glued []string
		for i, l := range lines {
			noisy = append(noisy, l)
			if rng.IntN(4) == 0 {
				noisy = append(noisy, talk[rng.IntN(len(talk))])
			}
			if i%3 == 0 && anyStamp.MatchString(l) {
				l = strings.TrimSuffix(talk[rng.IntN(2)], "\n") + l
			}
			glued = append(glued, l)
		}
		for how, log := range map[string][]string{"between": noisy, "in front": glued} {
			if got := titles(scanLines(log)); strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("%s, talk %s:\n\tgot  %q\n\twant %q", name, how, got, want)
			}
		}
	}
}
