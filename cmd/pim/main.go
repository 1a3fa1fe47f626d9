// Command pim is the server and everything to try it with: start it, issue
// tokens, chat, read logs, play real conversations through it, measure it.
// This package holds flags, configuration and wiring, and nothing else.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	keepPrivate()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks the command to end. It also restores the default behaviour,
	// so the second signal kills the process.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}))
}
