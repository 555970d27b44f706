package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"mailgate/mailtest"
)

// backendAddrs is what the backend process says when it listens.
type backendAddrs struct{ IMAP, Submission, POP3, AuthHTTP string }

// serveBackend is the mail host behind all proxies: every login is right, mail comes from memory and goes nowhere. It
// also answers nginx's auth_http requests, since nginx has no way to route without.
func serveBackend(out io.Writer) error {
	var l [4]net.Listener
	for i := range l {
		var err error
		if l[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return err
		}
	}
	a := backendAddrs{l[0].Addr().String(), l[1].Addr().String(), l[2].Addr().String(), l[3].Addr().String()}
	keys, err := mailtest.NewScramServer(scramMechanism, password, scramIterations)
	if err != nil {
		return err
	}
	item := append(fmt.Appendf(nil, "(BODY[] {%d}\r\n", messageSize), message(messageSize)...)
	item = append(item, ")\r\n"...)
	ended := make(chan error, 4)
	go func() { ended <- accept(l[0], func(c net.Conn) { fakeIMAP(c, item, keys) }) }()
	go func() { ended <- accept(l[1], fakeSubmission) }()
	go func() { ended <- accept(l[2], fakePOP3) }()
	go func() { ended <- http.Serve(l[3], authHTTP(a)) }()
	if err := json.NewEncoder(out).Encode(a); err != nil {
		return err
	}
	return <-ended
}

func accept(l net.Listener, f func(net.Conn)) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			f(c)
		}()
	}
}

// messageSize is that of each message in the mailbox.
const messageSize = 1 << 20

// message makes text of about n bytes in lines that end in CRLF.
func message(n int) []byte {
	var b bytes.Buffer
	b.WriteString("From: a@example.com\r\nTo: b@example.com\r\nSubject: bench\r\n\r\n")
	line := strings.Repeat("mail gate ", 7) + "\r\n"
	for b.Len()+len(line) <= n-2 {
		b.WriteString(line)
	}
	b.WriteString(strings.Repeat("x", n-2-b.Len()) + "\r\n")
	return b.Bytes()
}

const fakeCaps = "IMAP4rev1 SASL-IR LITERAL+ ID IDLE UIDPLUS AUTH=PLAIN AUTH=" + scramMechanism

// fakeIMAP serves one connection, with just the commands that proxies and the generator send.
func fakeIMAP(c net.Conn, item []byte, keys *mailtest.ScramServer) {
	r := bufio.NewReaderSize(c, 1024)
	fmt.Fprint(c, "* OK [CAPABILITY "+fakeCaps+"] ready\r\n")
	for {
		line, err := readWithLiterals(r, c)
		f := strings.Fields(line)
		if err != nil {
			return
		}
		if len(f) < 2 {
			fmt.Fprint(c, "* BAD what\r\n")
			continue
		}
		before, result := "", "OK done"
		switch strings.ToUpper(f[1]) {
		case "CAPABILITY":
			before = "* CAPABILITY " + fakeCaps + "\r\n"
		case "ID":
			before = "* ID NIL\r\n"
		case "LOGIN":
			result = "OK [CAPABILITY " + fakeCaps + "] in"
		case "AUTHENTICATE":
			result = "OK [CAPABILITY " + fakeCaps + "] in"
			if len(f) == 4 && f[2] == scramMechanism {
				err = fakeScram(r, c, f[3], keys.Fresh())
			} else if len(f) < 4 {
				fmt.Fprint(c, "+ \r\n")
				_, err = r.ReadString('\n')
			}
		case "SELECT":
			before = "* FLAGS (\\Seen)\r\n* 20 EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY 1] ok\r\n* OK [UIDNEXT 21] ok\r\n"
			result = "OK [READ-WRITE] in"
		case "IDLE":
			fmt.Fprint(c, "+ idling\r\n")
			_, err = r.ReadString('\n')
		case "FETCH":
			err = fakeFetch(c, f[2], item)
		case "NOOP":
		case "LOGOUT":
			fmt.Fprint(c, "* BYE\r\n"+f[0]+" OK bye\r\n")
			return
		default:
			result = "BAD what"
		}
		if err == nil {
			_, err = io.WriteString(c, before+f[0]+" "+result+"\r\n")
		}
		if err != nil {
			return
		}
	}
}

func fakeFetch(c net.Conn, set string, item []byte) error {
	first, last, ok := strings.Cut(set, ":")
	if !ok {
		last = first
	}
	from, err1 := strconv.Atoi(first)
	to, err2 := strconv.Atoi(last)
	if err1 != nil || err2 != nil {
		return fmt.Errorf("FETCH %s", set)
	}
	for n := from; n <= to; n++ {
		b := net.Buffers{fmt.Appendf(nil, "* %d FETCH ", n), item}
		if _, err := b.WriteTo(c); err != nil {
			return err
		}
	}
	return nil
}

// readWithLiterals reads a command with its literals joined in.
func readWithLiterals(r *bufio.Reader, w io.Writer) (string, error) {
	full := ""
	for {
		line, err := r.ReadString('\n')
		full += line
		n, ok := literal(line)
		if err != nil || !ok {
			return full, err
		}
		if !strings.HasSuffix(line, "+}\r\n") {
			if _, err := io.WriteString(w, "+ go\r\n"); err != nil {
				return full, err
			}
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return full, err
		}
		full += string(b)
	}
}

// literal is the size of the literal that a line ends with.
func literal(line string) (int, bool) {
	line = strings.TrimSuffix(line, "\r\n")
	i := strings.LastIndexByte(line, '{')
	if i < 0 || !strings.HasSuffix(line, "}") {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSuffix(line[i+1:len(line)-1], "+"))
	return n, err == nil && n >= 0
}

// fakeSubmission serves one connection: it takes any AUTH, and throws messages away.
func fakeSubmission(c net.Conn) {
	r := bufio.NewReaderSize(c, 16<<10)
	say := func(s string) { fmt.Fprint(c, s+"\r\n") }
	say("220 sink.example.com ESMTP")
	for {
		line, err := r.ReadString('\n')
		f := strings.Fields(line)
		if err != nil {
			return
		}
		if len(f) == 0 {
			say("500 5.5.2 what")
			continue
		}
		switch strings.ToUpper(f[0]) {
		case "EHLO":
			say("250-sink.example.com\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 104857600\r\n250-ENHANCEDSTATUSCODES\r\n250 AUTH PLAIN LOGIN")
		case "HELO":
			say("250 sink.example.com")
		case "AUTH":
			if len(f) < 3 {
				say("334 ")
				if _, err := r.ReadString('\n'); err != nil {
					return
				}
			}
			say("235 2.7.0 in")
		case "MAIL", "RCPT", "RSET", "NOOP":
			say("250 2.0.0 ok")
		case "DATA":
			say("354 go")
			if !fakeData(r) {
				return
			}
			say("250 2.0.0 taken")
		case "QUIT":
			say("221 2.0.0 bye")
			return
		default:
			say("502 5.5.1 no")
		}
	}
}

// fakeData reads to the end of a message.
func fakeData(r *bufio.Reader) bool {
	lineStart := true
	for {
		b, err := r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return false
		}
		if lineStart && string(b) == ".\r\n" {
			return true
		}
		lineStart = err == nil
	}
}

// authHTTP sends everybody to the backend, as nginx's auth_http protocol has it.
func authHTTP(a backendAddrs) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := a.IMAP
		switch r.Header.Get("Auth-Protocol") {
		case "smtp":
			to = a.Submission
		case "pop3":
			to = a.POP3
		}
		host, port, _ := net.SplitHostPort(to)
		h := w.Header()
		h.Set("Auth-Status", "OK")
		h.Set("Auth-Server", host)
		h.Set("Auth-Port", port)
	})
}
