// Orchestrator is kbisect's command line.
package main

import (
	"os"

	"github.com/kernel-bisect/kbisect/internal/app"
)

func main() { os.Exit(app.Main(os.Args[1:], os.Stdout, os.Stderr)) }
