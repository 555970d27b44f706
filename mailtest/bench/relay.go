package main

import (
	"crypto/tls"
	"encoding/json"
	"flag"
	"io"
	"net"
)

// frontAddrs are the listeners of a proxy.
type frontAddrs struct{ IMAP, IMAPS, Submission, Submissions, POP3, POP3S string }

// serveRelay is the limit that a gateway in Go can come near to: accept, dial, io.Copy both ways; it knows no protocol and
// logs nobody in.
func serveRelay(out io.Writer, args []string) error {
	fs := flag.NewFlagSet("relay", flag.ContinueOnError)
	cert := fs.String("cert", "", "")
	key := fs.String("key", "", "")
	imap := fs.String("imap", "", "")
	submission := fs.String("submission", "", "")
	pop3 := fs.String("pop3", "", "")
	if err := fs.Parse(args); err != nil {
		return err
	}
	crt, err := tls.LoadX509KeyPair(*cert, *key)
	if err != nil {
		return err
	}
	conf := &tls.Config{Certificates: []tls.Certificate{crt}}
	var a frontAddrs
	ended := make(chan error, 6)
	for _, l := range []struct {
		at   *string
		to   string
		conf *tls.Config
	}{{&a.IMAP, *imap, nil}, {&a.IMAPS, *imap, conf}, {&a.Submission, *submission, nil}, {&a.Submissions, *submission, conf},
		{&a.POP3, *pop3, nil}, {&a.POP3S, *pop3, conf}} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		*l.at = ln.Addr().String()
		go func() { ended <- accept(ln, func(c net.Conn) { relay(c, l.to, l.conf) }) }()
	}
	if err := json.NewEncoder(out).Encode(a); err != nil {
		return err
	}
	return <-ended
}

// relay copies one connection; the caller closes front.
func relay(front net.Conn, to string, conf *tls.Config) {
	if conf != nil {
		t := tls.Server(front, conf)
		if t.Handshake() != nil {
			return
		}
		front = t
	}
	back, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer back.Close()
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(back, front)
		_ = back.(*net.TCPConn).CloseWrite()
		close(done)
	}()
	_, _ = io.Copy(front, back)
	_ = front.(interface{ CloseWrite() error }).CloseWrite()
	<-done
}
