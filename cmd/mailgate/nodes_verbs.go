package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailgate/admin"
)

const removeText = `%[1]s is taken out: flips do not wait for it any more, and if it leads, another node does.
Make sure first that it is DOWN, or that no client reaches it. If it still serves people, nobody tells it who is moved from now on:
they would go on on the old side. It ends all its sessions as soon as it reaches the database again and learns that it was taken out;
until then, also when it was only stopped (SIGSTOP, a frozen machine) and goes on, it serves by what it last knew.
`

func (p *program) nodesCommand() *cobra.Command {
	c := &cobra.Command{Use: "nodes", Short: "List the gateways on this store: who leads, who is silent", Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			var list []admin.NodeInfo
			if err := p.call(c, http.MethodGet, "/nodes", url.Values{}, &list); err != nil {
				return err
			}
			if p.local != nil && p.output != "json" {
				fmt.Fprintln(p.err, "mailgate serve does not run here")
			}
			return p.print(list, func(w io.Writer) {
				fmt.Fprintln(w, "NODE\tLEADS\tSINCE\tLAST SEEN\tSESSIONS\tVERSION\tROUTES\tWAITING")
				for _, n := range list {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%d\n", n.Name+mark(n.Here, " (here)"), mark(n.Leads, "yes"), stamp(n.Since), seen(n),
						n.Sessions, n.Version, n.Serial[:min(12, len(n.Serial))]+mark(n.Differs, " differs"), n.Waiting)
				}
			})
		}}
	remove := &cobra.Command{Use: "remove NAME", Short: "Take out a node that is down for good, so that flips do not wait for it", Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			fmt.Fprintf(p.err, removeText, args[0])
			if yes, _ := c.Flags().GetBool("yes"); !yes {
				if err := p.agreed(c.Context(), "Is "+args[0]+" down?"); err != nil {
					return err
				}
			}
			if err := p.call(c, http.MethodPost, "/nodes/remove", url.Values{"name": {args[0]}}, nil); err != nil {
				return err
			}
			return p.print(map[string]string{"removed": args[0]}, func(w io.Writer) { fmt.Fprintln(w, args[0]+" is taken out") })
		}}
	remove.Flags().Bool("yes", false, "do not ask")
	c.AddCommand(remove)
	return c
}

func mark(on bool, text string) string {
	if on {
		return text
	}
	return ""
}

func seen(n admin.NodeInfo) string {
	if n.SilentSeconds > 0 {
		return stamp(n.Seen) + " (silent)"
	}
	return stamp(n.Seen)
}

// printNodes says who leads, and what is wrong with others.
func printNodes(w io.Writer, list []admin.NodeInfo) {
	if len(list) == 0 {
		return
	}
	leads := "none leads at the moment; one will in a moment, if one reaches the store"
	var names []string
	for _, n := range list {
		names = append(names, n.Name)
		if n.Leads {
			leads = n.Name + " leads"
		}
	}
	fmt.Fprintf(w, "nodes\t%s; %s\n", strings.Join(names, ", "), leads)
	for _, n := range list {
		if n.SilentSeconds > 0 {
			fmt.Fprintf(w, "node %s\tnot heard of for %s: nobody can be moved until it answers, or is removed when it is down (mailgate nodes remove %s)\n",
				n.Name, time.Duration(n.SilentSeconds*float64(time.Second)).Round(time.Second), n.Name)
		}
		if n.Differs {
			fmt.Fprintf(w, "node %s\tits routes file (%s) is not the one that was last taken over\n", n.Name, n.Serial[:min(12, len(n.Serial))])
		}
	}
}
