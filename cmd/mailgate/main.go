// Command mailgate is the gateway and all its verbs. It alone knows flags, environment, signals and exit codes, and
// wires the packages; begin at serve.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
