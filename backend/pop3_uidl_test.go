package backend

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
)

// TestUIDLs: the unique-ids in the order of the messages; what does not fit is no list, and a server that sends for ever is let go.
func TestUIDLs(t *testing.T) {
	t.Parallel()
	const hello = "S: +OK hi\nC: CAPA\nS: -ERR no\nC: USER u\nS: +OK\nC: PASS p\nS: +OK in\nC: UIDL\n"
	for _, x := range []struct {
		name, talk string
		want       []string
		err        string
	}{
		{"two", hello + "S: +OK two\nS: 1 abc\nS: 2 d e\nS: .\nC: QUIT\nS: +OK bye", []string{"abc", "d e"}, ""},
		{"none", hello + "S: +OK\nS: .\nC: QUIT\nS: +OK bye", []string{}, ""},
		{"refused", hello + "S: -ERR what?", nil, "UIDL is refused: what?"},
		{"a gap", hello + "S: +OK\nS: 1 abc\nS: 3 def", nil, `message 2 is answered by "3 def"`},
		{"no id", hello + "S: +OK\nS: 1", nil, `message 1 is answered by "1"`},
		{"it ends early", hello + "S: +OK\nS: 1 abc", nil, "EOF"},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) { k.Dialogue(x.talk) }).AllowGone()
			c, err := popDialer(t, "pop3://"+s.Addr, "", false).DialPOP3(t.Context(), config.Old, "", popWho(t, "u", "p"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			got, err := c.UIDLs()
			if x.err == "" && (err != nil || !slices.Equal(got, x.want)) || x.err != "" && (err == nil || !strings.Contains(err.Error(), x.err)) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	t.Run("too many", func(t *testing.T) {
		t.Parallel()
		s := mailtest.StartScript(silentTB{t}, nil, func(k *mailtest.Talk) {
			k.Dialogue(strings.TrimSpace(hello) + "\nS: +OK")
			var b strings.Builder
			for i := range maxUIDLs + 10 {
				fmt.Fprintf(&b, "%d x\r\n", i+1)
			}
			k.Send(b.String())
		}).AllowGone()
		c, err := popDialer(t, "pop3://"+s.Addr, "", false).DialPOP3(t.Context(), config.Old, "", popWho(t, "u", "p"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if got, err := c.UIDLs(); !errors.Is(err, ErrManyUIDLs) || got != nil {
			t.Errorf("%d, %v", len(got), err)
		}
	})
}
