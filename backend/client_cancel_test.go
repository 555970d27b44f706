package backend

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// TestCancelledAmidAnswer: a caller who stops waiting gets nothing that the reader may still be writing (shown by the race
// detector), and the connection goes on with the answers of the next.
func TestCancelledAmidAnswer(t *testing.T) {
	item := map[string]string{
		"NAMESPACE":    "* NAMESPACE ((\"\" \"/\")) NIL NIL\n",
		"ID":           "* ID (\"name\" \"played\")\n",
		"GETQUOTAROOT": "* QUOTA \"\" (STORAGE 1 10)\n",
		"LIST":         "* LIST () \"/\" INBOX\n* STATUS INBOX (MESSAGES 1)\n",
		"STATUS":       "* STATUS INBOX (MESSAGES 1)\n",
		"SELECT":       "* 1 EXISTS\n* OK [UIDNEXT 5] .\n",
		"SEARCH":       "* SEARCH 1 2\n",
		"FETCH":        "* 1 FETCH (UID 1 FLAGS ())\n",
		"COPY":         "* OK [COPYUID 1 1 1] .\n",
		"APPEND":       "* OK [APPENDUID 1 1] .\n",
	}
	calls := map[string]func(context.Context, *Client) error{
		"NAMESPACE": func(ctx context.Context, c *Client) error {
			_, err := c.Namespace(ctx)
			return err
		},
		"ID": func(ctx context.Context, c *Client) error {
			_, err := c.ID(ctx)
			return err
		},
		"GETQUOTAROOT": func(ctx context.Context, c *Client) error {
			_, _, err := c.Quota(ctx, "INBOX")
			return err
		},
		"LIST": func(ctx context.Context, c *Client) error {
			return c.List(ctx, ListOptions{Status: []string{"MESSAGES"}}, func(ListEntry) error { return nil })
		},
		"STATUS": func(ctx context.Context, c *Client) error {
			_, err := c.Status("INBOX", "MESSAGES").Result(ctx)
			return err
		},
		"SELECT": func(ctx context.Context, c *Client) error {
			_, err := c.Select("INBOX", SelectOptions{}).Result(ctx)
			return err
		},
		"SEARCH": func(ctx context.Context, c *Client) error {
			return c.Search("ALL", func(Range) {}).Wait(ctx)
		},
		"FETCH": func(ctx context.Context, c *Client) error {
			return c.Fetch("1:*", FetchOptions{Items: []string{"FLAGS"}, Message: func(*Message) error { return nil }}).Wait(ctx)
		},
		"COPY": func(ctx context.Context, c *Client) error {
			_, err := c.Copy("1", "INBOX").Result(ctx)
			return err
		},
		"APPEND": func(ctx context.Context, c *Client) error {
			a := c.Append(ctx, "INBOX")
			w, err := a.Next(ctx, AppendMessage{Size: 1})
			if err == nil {
				_, err = io.WriteString(w, "a")
			}
			if err != nil {
				return err
			}
			_, err = a.Finish().Result(ctx)
			return err
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			amid, over := make(chan struct{}), make(chan struct{})
			c := played(t, "IMAP4rev1 NAMESPACE ID QUOTA LIST-STATUS LIST-EXTENDED LITERAL+ UIDPLUS", func(p *peer) {
				if name == "FETCH" || name == "COPY" || name == "SEARCH" {
					p.say("%s OK [READ-WRITE] .\n", strings.Fields(p.line())[0])
				}
				tag := strings.Fields(p.line())[0]
				if name == "APPEND" {
					_, _ = io.ReadFull(p.r, make([]byte, 3))
				}
				for range 20 {
					p.say("%s", item[name])
				}
				close(amid)
				for done := false; !done; {
					select {
					case <-over:
						done = true
					default:
						p.say("%s", item[name])
						time.Sleep(100 * time.Microsecond) // more than 1,000 of some would be refused
					}
				}
				p.say("%s OK .\n", tag)
				p.say("%s OK .\n", p.want("NOOP"))
			})
			if name == "FETCH" || name == "COPY" || name == "SEARCH" {
				if _, err := c.Select("INBOX", SelectOptions{}).Result(ctx(t)); err != nil {
					t.Fatal(err)
				}
			}
			cancelled, cancel := context.WithCancel(ctx(t))
			go func() {
				<-amid
				cancel()
			}()
			err := call(cancelled, c)
			close(over)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v, want that the caller gave up", err)
			}
			if err := c.Noop().Wait(ctx(t)); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}
