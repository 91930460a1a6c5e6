package console

import (
	"os"
	"strings"
	"testing"
	"time"
)

// BenchmarkScan shows that a log of a megabyte costs a fraction of a run.
func BenchmarkScan(b *testing.B) {
	one, err := os.ReadFile("testdata/warning-do-wp-page.log")
	if err != nil {
		b.Fatal(err)
	}
	log := []byte(strings.Repeat(string(one), 1<<20/len(one)))
	b.SetBytes(int64(len(log)))
	for b.Loop() {
		Scan(log)
	}
}

// BenchmarkScanHostile is a log in which every line is a header.
func BenchmarkScanHostile(b *testing.B) {
	log := []byte(strings.Repeat("WARNING: \nBUG: Bad page state in process x\n", 1<<20/44))
	b.SetBytes(int64(len(log)))
	for b.Loop() {
		Scan(log)
	}
}

// BenchmarkScanVague is a log in which every line may be a header.
func BenchmarkScanVague(b *testing.B) {
	log := []byte(strings.Repeat("WARNING: x\nOops: y\n", 1<<20/19))
	b.SetBytes(int64(len(log)))
	for b.Loop() {
		Scan(log)
	}
}

// TestHostile holds that a log made to cost time does not: the limit is that of
// a scan gone quadratic, a hundred times what is measured.
func TestHostile(t *testing.T) {
	const lines = 1_500
	for name, line := range map[string]string{
		"headers":   "BUG: Bad page state in process x\n",
		"vague":     "WARNING: x\n",
		"within":    "Oops: y\n",
		"aftermath": "Kernel panic - not syncing: Fatal exception\n",
		"frames":    " foo+0x1/0x2\n",
		"stamps":    strings.Repeat("[    1.000000] ", 20) + "\n",
		"brackets":  strings.Repeat("[", 500) + "\n",
		"escapes":   strings.Repeat("\x1b]", 100) + "\n",
		"titles":    "BUG: " + strings.Repeat("a/1 0x1 ", 60) + "\n",
		"slab":      "BUG " + strings.Repeat("a", 500) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			fs := Scan([]byte("[    1.000000] BUG: \n" + strings.Repeat(line, lines)))
			if d := time.Since(start); d > time.Minute {
				t.Errorf("%s for %d lines", d, lines)
			}
			if len(fs) > maxFindings {
				t.Errorf("%d findings", len(fs))
			}
		})
	}
	if fs := Scan([]byte(strings.Repeat("x\n", maxLines+10) + "BUG: last\n")); len(fs) != 1 || fs[0].Line != maxLines+11 {
		t.Errorf("the end of a long log: %+v", fs)
	}
}
