package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

func main() {
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		if errors.Is(err, errMissed) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}

// command runs the harness, or one of its helpers: backend, relay, load.
func command(args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "backend":
			return serveBackend(os.Stdout)
		case "relay":
			return serveRelay(os.Stdout, args[1:])
		case "load":
			var j job
			if err := json.NewDecoder(os.Stdin).Decode(&j); err != nil {
				return err
			}
			s, err := j.run()
			if err != nil {
				return err
			}
			return json.NewEncoder(os.Stdout).Encode(s)
		}
	}
	b := &bench{progress: os.Stderr}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.StringVar(&b.mailgate, "mailgate", "bin/mailgate", "the binary to measure")
	fs.IntVar(&b.rounds, "rounds", 5, "rounds; figures are medians over them")
	fs.IntVar(&b.sessions, "sessions", 2000, "idle sessions held for the memory figures")
	fs.StringVar(&b.jsonFile, "json", "", "file that gets every single figure as a JSON line")
	kinds := fs.String("kinds", "", "measure these only, such as 'idle,storm'; all by default")
	with := fs.String("peers", strings.Join(peers, ","), "compare these; mailgate and nginx need three descriptors for a session, the relay seven")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := b.choose(*kinds); err != nil {
		return err
	}
	for _, name := range strings.Split(*with, ",") {
		if !slices.Contains(peers, name) {
			return fmt.Errorf("no peer %q; there are %v", name, peers)
		}
		b.peers = append(b.peers, name)
	}
	if fs.NArg() > 0 || b.rounds < 1 || b.sessions < 1 {
		return errors.New("usage: bench [-rounds N] [-sessions K] [-mailgate FILE] [-json FILE] [-kinds A,B] [-peers A,B]")
	}
	// Children are started with Pdeathsig, which is about the thread that started them: this one, to the end.
	runtime.LockOSThread()
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	return b.run(ctx, os.Stdout)
}
