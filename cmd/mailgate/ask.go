package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/mattn/go-isatty"
)

// agreed asks a person on a terminal, once: nil means yes. Without a terminal nobody can be asked. Ctrl-C is a no.
func (p *program) agreed(ctx context.Context, question string) error {
	if !p.asks() {
		return exitError{exitUsage, errors.New("not on a terminal: add --yes (or --dry-run)")}
	}
	return p.answer(ctx, p.in, question)
}

// asks tells whether there is somebody to ask.
func (p *program) asks() bool {
	f, ok := p.in.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

func (p *program) answer(ctx context.Context, in io.Reader, question string) error {
	fmt.Fprintf(p.err, "%s [y/N] ", question)
	said := make(chan string, 1)
	go func() { // a read from a terminal cannot be taken back: it ends with the process, moments later
		line, _ := bufio.NewReader(in).ReadString('\n')
		said <- line
	}()
	select {
	case line := <-said:
		if a := strings.ToLower(strings.TrimSpace(line)); a == "y" || a == "yes" {
			return nil
		}
	case <-ctx.Done():
		fmt.Fprintln(p.err)
	}
	return exitError{exitRefused, errors.New("not confirmed; nothing was changed")}
}
