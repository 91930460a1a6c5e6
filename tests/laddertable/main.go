// Laddertable writes the table of `make ladder`: what was measured on a ladder
// of kernels beside what is predicted, in Markdown. It exits 1 when a
// difference has no explanation.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/kernel-bisect/kbisect/internal/kernel"
)

func main() {
	unexplained, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "laddertable:", err)
		os.Exit(2)
	}
	if unexplained > 0 {
		fmt.Fprintf(os.Stderr, "laddertable: %d differences from %s without an explanation there\n", unexplained, os.Args[2])
		os.Exit(1)
	}
}

// run reads the matrix and the predictions and writes the table.
func run(args []string) (unexplained int, err error) {
	if len(args) != 2 {
		return 0, fmt.Errorf("usage: laddertable MATRIX.json PREDICTIONS")
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return 0, err
	}
	var m kernel.MatrixResult
	if err := json.Unmarshal(text, &m); err != nil {
		return 0, fmt.Errorf("%s: %w", args[0], err)
	}
	if m.Schema != "kbisect/matrix/v1" || m.Status != "done" {
		return 0, fmt.Errorf("%s: not a finished check of several kernels", args[0])
	}
	if text, err = os.ReadFile(args[1]); err != nil {
		return 0, err
	}
	p, err := parsePredictions(string(text))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", args[1], err)
	}
	out, unexplained := table(m, p)
	_, err = os.Stdout.WriteString(out)
	return unexplained, err
}
