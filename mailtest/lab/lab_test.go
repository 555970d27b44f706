package lab

import (
	"bytes"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

func TestLab(t *testing.T) {
	l := Start(t)
	for _, h := range []Host{l.Old, l.New} {
		c, err := imapclient.DialInsecure(Addr(h.IMAP), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Login("user1@example.com", "pass1").Wait(); err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
		if _, err := c.Select("INBOX", nil).Wait(); err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
		s, err := smtp.Dial(Addr(h.Submission))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Auth(sasl.NewPlainClient("", "user1@example.com", "pass1")); err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
		text := "From: user1@example.com\r\nSubject: by " + h.Name + "\r\n\r\nx\r\n"
		if err := s.SendMail("user1@example.com", []string{"user2@example.com"}, bytes.NewReader([]byte(text))); err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
	}
	end := time.Now().Add(15 * time.Second)
	for {
		c, err := imapclient.DialInsecure(Addr(l.Old.IMAP), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Login("user2@example.com", "pass2").Wait(); err != nil {
			t.Fatal(err)
		}
		box, err := c.Select("INBOX", nil).Wait()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if box.NumMessages == 2 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d messages arrived, want 2", box.NumMessages)
		}
		time.Sleep(50 * time.Millisecond) // delivery is Postfix's own business
	}
}
