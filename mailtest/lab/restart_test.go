package lab

import (
	"strings"
	"testing"
)

// TestRestart: mail stays where it is while a host is restarted, and sessions end.
func TestRestart(t *testing.T) {
	l, courier, cyrus := Start(t), StartCourier(t), StartCyrus(t)
	for _, x := range []struct {
		h Host
		p *processes
	}{{l.Old, &l.processes}, {l.New, &l.processes}, {courier.Host, &courier.processes}, {cyrus.Host, &cyrus.processes}} {
		t.Run(x.h.Name, func(t *testing.T) {
			c := Dial(t, x.h, Accounts)
			c.Append("INBOX", `\Flagged`, "Subject: before\r\n\r\nhello\r\n")
			x.p.Restart(t, x.h)
			c = Dial(t, x.h, Accounts)
			defer c.Close()
			if lines := strings.Join(c.Do("STATUS INBOX (MESSAGES)"), "\n"); !strings.Contains(lines, "MESSAGES 1") {
				t.Errorf("behind the restart: %s", lines)
			}
		})
	}
}
