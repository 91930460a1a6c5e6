package console

import (
	"os"
	"strings"
	"testing"
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
