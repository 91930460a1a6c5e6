// Guest-agent is PID 1 of the guest image.
package main

import "github.com/kernel-bisect/kbisect/internal/agent"

func main() { agent.Main() }
