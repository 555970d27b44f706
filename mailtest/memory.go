package mailtest

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// Memory is a mail host in memory: IMAP and submission in clear on loopback. Mail submitted to one of its users lands
// in his INBOX.
type Memory struct {
	Name       string
	IMAP       string // address
	Submission string

	users map[string]*memoryUser
	imap  *imapserver.Server
	smtp  *smtp.Server
	wg    sync.WaitGroup
	ls    []net.Listener

	mu    sync.Mutex
	sent  []Sent
	limit int64
}

// Sent is a message that was submitted.
type Sent struct {
	By, From string
	To       []string
	Data     []byte
}

type memoryUser struct {
	*imapmemserver.User
	password string
}

// StartMemory starts a host with users, by name to password.
func StartMemory(name string, users map[string]string) (*Memory, error) {
	return StartMemoryAfter(name, users, 0)
}

// StartMemoryAfter starts one on which each user had so many folders before, which are gone: UIDVALIDITY of those that he has now is higher
// by that.
func StartMemoryAfter(name string, users map[string]string, gone int) (*Memory, error) {
	m := &Memory{Name: name, users: map[string]*memoryUser{}}
	store := imapmemserver.New()
	for user, password := range users {
		u := &memoryUser{imapmemserver.NewUser(user, password), password}
		for range gone {
			if err := errors.Join(u.Create("gone", nil), u.Delete("gone")); err != nil {
				return nil, err
			}
		}
		for _, box := range []string{"INBOX", "Sent", "Drafts", "Trash"} {
			if err := u.Create(box, nil); err != nil {
				return nil, err
			}
		}
		store.AddUser(u.User)
		m.users[user] = u
	}
	m.imap = imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return &limited{store.NewSession().(imapserver.SessionIMAP4rev2), m}, nil, nil
		},
		Caps:         imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapIMAP4rev2: {}},
		InsecureAuth: true,
	})
	m.smtp = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &memorySession{m: m}, nil }))
	m.smtp.Domain, m.smtp.AllowInsecureAuth, m.smtp.EnableSMTPUTF8 = name, true, true
	m.smtp.MaxMessageBytes = 64 << 20
	for _, s := range []struct {
		addr  *string
		serve func(net.Listener) error
	}{{&m.IMAP, m.imap.Serve}, {&m.Submission, m.smtp.Serve}} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			m.Close()
			return nil, err
		}
		m.ls = append(m.ls, l)
		*s.addr = l.Addr().String()
		m.wg.Go(func() { _ = s.serve(l) }) // it ends with Close
	}
	return m, nil
}

// Close ends the host and waits.
func (m *Memory) Close() {
	_ = m.imap.Close()
	_ = m.smtp.Close()
	for _, l := range m.ls { // a server that had not begun to serve does not know its listener yet
		_ = l.Close()
	}
	m.wg.Wait()
}

// Limit makes APPEND refuse messages of more bytes than that; 0 takes all. Deliveries are not bound by it.
func (m *Memory) Limit(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limit = bytes
}

// limited is an IMAP session that heeds Limit.
type limited struct {
	imapserver.SessionIMAP4rev2
	m *Memory
}

// Append implements imapserver.Session.
func (l *limited) Append(mailbox string, r imap.LiteralReader, options *imap.AppendOptions) (*imap.AppendData, error) {
	l.m.mu.Lock()
	limit := l.m.limit
	l.m.mu.Unlock()
	if limit > 0 && r.Size() > limit {
		if _, err := io.Copy(io.Discard, r); err != nil {
			return nil, err
		}
		return nil, &imap.Error{Type: imap.StatusResponseTypeNo, Code: imap.ResponseCodeTooBig, Text: "message too large"}
	}
	return l.SessionIMAP4rev2.Append(mailbox, r, options)
}

// Sent lists what was submitted here.
func (m *Memory) Sent() []Sent {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Sent(nil), m.sent...)
}

// Deliver puts a message into a user's INBOX.
func (m *Memory) Deliver(user string, message []byte) error {
	u := m.users[user]
	if u == nil {
		return errors.New("no such user: " + user)
	}
	_, err := u.Append("INBOX", &literal{bytes.NewReader(message), int64(len(message))}, &imap.AppendOptions{Time: time.Now()})
	return err
}

type literal struct {
	io.Reader
	size int64
}

func (l *literal) Size() int64 { return l.size }

// memorySession is one submission session.
type memorySession struct {
	m    *Memory
	user string
	mail Sent
}

// AuthMechanisms implements smtp.AuthSession.
func (s *memorySession) AuthMechanisms() []string { return []string{sasl.Plain} }

// Auth implements smtp.AuthSession.
func (s *memorySession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		u := s.m.users[user]
		if u == nil || subtle.ConstantTimeCompare([]byte(u.password), []byte(password)) != 1 {
			return smtp.ErrAuthFailed
		}
		s.user = user
		return nil
	}), nil
}

// Mail implements smtp.Session.
func (s *memorySession) Mail(from string, _ *smtp.MailOptions) error {
	if s.user == "" {
		return smtp.ErrAuthRequired
	}
	s.mail = Sent{By: s.user, From: from}
	return nil
}

// Rcpt implements smtp.Session.
func (s *memorySession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.mail.To = append(s.mail.To, to)
	return nil
}

// Data implements smtp.Session.
func (s *memorySession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.mail.Data = b
	for _, to := range s.mail.To {
		if s.m.users[strings.ToLower(to)] != nil {
			if err := s.m.Deliver(strings.ToLower(to), b); err != nil {
				return err
			}
		}
	}
	s.m.mu.Lock()
	s.m.sent = append(s.m.sent, s.mail)
	s.m.mu.Unlock()
	return nil
}

// Reset implements smtp.Session.
func (s *memorySession) Reset() { s.mail = Sent{} }

// Logout implements smtp.Session.
func (s *memorySession) Logout() error { return nil }
