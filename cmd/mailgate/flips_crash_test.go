package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// crashSteps are the steps of the machine at which serve is killed, each in turn.
func crashSteps() []string {
	return []string{"PREP", "FENCE", "DRAIN", "DELTA", "VERIFY", "RELEASE"}
}

// crashingServe is serve that kills itself, by SIGKILL, at a step of a flip: "DRAIN:3" when it is seen the third time, by whoever is at it.
// It looks from beside: the machine knows nothing of it. Now and then it waits some milliseconds, so that it dies at any place within the step.
func crashingServe(at string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	step, count, _ := strings.Cut(at, ":")
	left, _ := strconv.Atoi(count)
	p := &program{in: os.Stdin, out: os.Stdout, err: os.Stderr, output: "table"}
	for i, arg := range os.Args {
		if arg == "-c" {
			p.file = os.Args[i+1]
		}
	}
	err := p.serve(ctx, func(g *gateway) {
		seen := map[string]string{}
		for ctx.Err() == nil {
			steps := g.manager().Steps()
			for user, s := range steps {
				if string(s) != step || seen[user] == step {
					continue
				}
				if left--; left > 0 {
					continue
				}
				if rand.IntN(2) == 0 {
					time.Sleep(time.Duration(rand.IntN(20_000)) * time.Microsecond)
				}
				fmt.Fprintf(os.Stderr, "crash at %s of %s\n", step, user)
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
			clear(seen)
			for user, s := range steps {
				seen[user] = string(s)
			}
			time.Sleep(100 * time.Microsecond)
		}
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "mailgate:", err)
		return exitCode(err)
	}
	return exitOK
}
