package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"os/user"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"mailgate/admin"
	"mailgate/config"
	"mailgate/cutover"
	"mailgate/op"
)

// version is set at build time.
var version = "dev" //nolint:gochecknoglobals // the linker writes it

// Exit codes of design.md, section 9.
const (
	exitOK         = 0
	exitFailed     = 1
	exitDifference = 2
	exitRefused    = 3
	exitPartly     = 4
	exitTimeout    = 5
	exitUnknown    = 6
	exitUsage      = 64
)

// exitError is an error with its exit code.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string { return e.err.Error() }
func (e exitError) Unwrap() error { return e.err }

// Exit tells the API which code fits.
func (e exitError) Exit() int { return e.code }

// program is one run of the command line.
type program struct {
	in        io.Reader
	out, err  io.Writer
	file      string
	set       map[string]string
	output    string
	opening   sync.Mutex
	record    func(cutover.Recorder) cutover.Recorder // what is told of flips besides the metrics; nil: nothing is. The demo's
	local     *gateway                                // opened by a verb because nothing runs
	follows   bool                                    // an operation of the gateway that runs: when that ends, so does the verb
	works     bool                                    // and also to work off what is asked for
	takesOver bool                                    // serve --take-over
	outlast   time.Duration                           // serve --old-sessions
	pace      func()                                  // ends what a verb that syncs has asked of the collector
}

// recorder is what is told of flips.
func (p *program) recorder(r cutover.Recorder) cutover.Recorder {
	if p.record == nil {
		return r
	}
	return p.record(r)
}

// run runs one command line and returns its exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	p := &program{in: in, out: out, err: errOut}
	root := p.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if lerr := p.closeLocal(ctx, err == nil); err == nil && lerr != nil {
		err = exitError{exitTimeout, lerr}
	}
	if err == nil {
		return exitOK
	}
	var silent exitError
	if !errors.As(err, &silent) || silent.err != nil && silent.Error() != "" {
		fmt.Fprintln(errOut, "mailgate:", err)
	}
	return exitCode(err)
}

func exitCode(err error) int {
	var e exitError
	var c admin.CallError
	switch {
	case errors.As(err, &e):
		return e.code
	case errors.As(err, &c):
		return c.Exit
	case errors.Is(err, op.ErrNotFound):
		return exitDifference
	case config.IsErrors(err), errors.Is(err, admin.ErrNotAllowed):
		return exitRefused
	}
	return exitFailed
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "mailgate",
		Short: "Move a company's mail from an OLD host to a NEW one without its people noticing",
		Long: "mailgate stands behind the stable name of a company's mail host and takes each user's sessions to the\n" +
			"OLD or the NEW host, as the routes file says. Begin with: mailgate demo, or mailgate init.",
		SilenceUsage: true, SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.PersistentFlags().StringVarP(&p.file, "config", "c", envOr("MAILGATE_CONFIG", "/etc/mailgate/mailgate.yaml"), "configuration file")
	root.PersistentFlags().StringToStringVar(&p.set, "set", nil, "override a key of the configuration, KEY=VALUE")
	root.PersistentFlags().StringVarP(&p.output, "output", "o", "table", "table or json")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if p.output != "table" && p.output != "json" { // before anything is done
			return exitError{exitUsage, fmt.Errorf("unknown output %q; table or json", p.output)}
		}
		return nil
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return exitError{exitUsage, err} })
	root.AddCommand(p.serveCommand(), p.demoCommand(), p.initCommand(), p.configCommand(), p.doctorCommand(),
		p.statusCommand(), p.sessionsCommand(), p.kickCommand(), p.nodesCommand(), p.reloadCommand(), p.flipCommand(), p.rollbackCommand(),
		p.unpinCommand(), p.holdCommand(), p.unholdCommand(), p.waveCommand(), p.syncCommand(), p.verifyCommand(), p.quarantineCommand(), p.gapsCommand(), p.probeCommand(), p.secretsCommand(), p.opCommand(), p.historyCommand(), p.storeCommand(), p.versionCommand())
	for _, c := range append(root.Commands(), root) {
		if c.HasSubCommands() {
			c.Args = noVerb
			if c.RunE == nil {
				c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
			}
		}
	}
	return root
}

// noVerb is for a command that has verbs below it and was given something else.
func noVerb(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := c.CommandPath() + " --help lists them"
	c.SuggestionsMinimumDistance = 2
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean " + strings.Join(near, " or ") + "? " + hint
	}
	return exitError{exitUsage, fmt.Errorf("unknown verb %q; %s", args[0], hint)}
}

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: none, RunE: func(*cobra.Command, []string) error {
		v := map[string]string{"version": version, "revision": revision(), "go": runtime.Version()}
		return p.print(v, func(w io.Writer) { fmt.Fprintln(w, "mailgate", version) })
	}}
}

// revision is the commit that the program was built from, "" when it was built outside of a repository.
func revision() string {
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}

func envOr(key, def string) string {
	if v := os.Getenv(key); v != "" {
		return v
	}
	return def
}

// none, exactly and upTo check the number of arguments, as a usage error.
func none(c *cobra.Command, args []string) error { return exactly(0)(c, args) }

func exactly(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return exitError{exitUsage, fmt.Errorf("usage: %s", c.UseLine())}
		}
		return nil
	}
}

func upTo(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > n {
			return exitError{exitUsage, fmt.Errorf("usage: %s", c.UseLine())}
		}
		return nil
	}
}

// load reads the configuration.
func (p *program) load() (*config.Config, error) { return config.Load(p.file, p.set) }

// loadAnyway reads the configuration, and gives what could be read of it beside the error.
func (p *program) loadAnyway() (*config.Config, error) {
	conf, err := p.load()
	if conf == nil {
		c := config.Default()
		conf = &c
	}
	return conf, err
}

// by names the person for the history.
func by() string {
	name := strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if s := os.Getenv("SUDO_USER"); s != "" {
		name = s + " as " + name
	}
	return "cli: " + strings.TrimSpace(name)
}
