//go:build bench

package syncbench

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"mailgate/mailtest/lab"
)

// wire is a bare connection.
type wire struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
	w *bufio.Writer
	n int
}

func dial(t testing.TB, port, n int) *wire {
	t.Helper()
	c, err := net.Dial("tcp", lab.Addr(port))
	if err != nil {
		t.Fatal(err)
	}
	x := &wire{t: t, Conn: c, r: bufio.NewReaderSize(c, 64<<10), w: bufio.NewWriterSize(c, 64<<10)}
	x.line()
	x.do("LOGIN %s %s", lab.User(n), lab.Password(n))
	return x
}

func (x *wire) line() []byte {
	b, err := x.r.ReadSlice('\n')
	if err != nil {
		panic(err)
	}
	return b
}

func (x *wire) send(format string, args ...any) string {
	x.n++
	tag := "b" + strconv.Itoa(x.n)
	fmt.Fprintf(x.w, tag+" "+format+"\r\n", args...)
	if err := x.w.Flush(); err != nil {
		panic(err)
	}
	return tag
}

// until reads up to a tagged answer, which has to be OK, and gives what came before to f.
func (x *wire) until(tag string, f func([]byte)) {
	for {
		b := x.line()
		if bytes.HasPrefix(b, []byte(tag+" ")) {
			if !bytes.HasPrefix(b[len(tag)+1:], []byte("OK")) {
				panic(string(b))
			}
			return
		}
		if f != nil {
			f(b)
		}
	}
}

func (x *wire) do(format string, args ...any) { x.until(x.send(format, args...), nil) }

// message is one on its way.
type message struct {
	flags, date string
	body        []byte
}

// rawCopy copies all folders of a user: one connection that fetches, two that append a hundred messages a command.
func rawCopy(t testing.TB, old, new lab.Host, n int) (messages int, size int64) {
	src := dial(t, old.IMAP, n)
	defer src.Close()
	var folders []string
	src.until(src.send(`LIST "" "*"`), func(b []byte) {
		if bytes.Contains(b, []byte("Noselect")) || bytes.Contains(b, []byte("NonExistent")) {
			return
		}
		name := strings.TrimSpace(string(b[bytes.LastIndex(b, []byte(`"." `))+4:]))
		folders = append(folders, strings.Trim(name, `"`))
	})
	type job struct {
		folder string
		in     chan message
	}
	jobs := make(chan job)
	pool := sync.Pool{New: func() any { return &[]byte{} }}
	var wg sync.WaitGroup
	for range 2 {
		dst := dial(t, new.IMAP, n)
		defer dst.Close()
		wg.Go(func() {
			for j := range jobs {
				name := strings.ReplaceAll(strings.TrimPrefix(j.folder, old.Prefix), ".", "/")
				if j.folder != "INBOX" {
					dst.until(dst.send("CREATE \"%s\"", name), nil)
				}
				count, tag := 0, ""
				for m := range j.in {
					if count == 0 {
						dst.n++
						tag = "b" + strconv.Itoa(dst.n)
						fmt.Fprintf(dst.w, "%s APPEND \"%s\"", tag, name)
					}
					fmt.Fprintf(dst.w, " (%s) \"%s\" {%d+}\r\n", m.flags, m.date, len(m.body))
					dst.w.Write(m.body)
					b := m.body[:0]
					pool.Put(&b)
					if count++; count == 100 {
						fmt.Fprint(dst.w, "\r\n")
						dst.w.Flush()
						dst.until(tag, nil)
						count = 0
					}
				}
				if count > 0 {
					fmt.Fprint(dst.w, "\r\n")
					dst.w.Flush()
					dst.until(tag, nil)
				}
			}
		})
	}
	for _, f := range folders {
		src.do("EXAMINE \"%s\"", f)
		j := job{f, make(chan message, 200)}
		jobs <- j
		tag := src.send("UID FETCH 1:* (FLAGS INTERNALDATE BODY.PEEK[])")
		src.until(tag, func(b []byte) {
			i := bytes.LastIndexByte(b, '{')
			if i < 0 || !bytes.Contains(b, []byte("FETCH")) {
				return
			}
			length, err := strconv.Atoi(string(bytes.TrimSuffix(bytes.TrimSpace(b[i+1:]), []byte("}"))))
			if err != nil {
				panic(err)
			}
			var m message
			if k := bytes.Index(b, []byte("FLAGS (")); k >= 0 {
				rest := b[k+7:]
				m.flags = strings.ReplaceAll(string(rest[:bytes.IndexByte(rest, ')')]), `\Recent`, "")
			}
			if k := bytes.Index(b, []byte(`INTERNALDATE "`)); k >= 0 {
				rest := b[k+14:]
				m.date = string(rest[:bytes.IndexByte(rest, '"')])
			}
			m.body = *pool.Get().(*[]byte)
			if cap(m.body) < length {
				m.body = make([]byte, length)
			}
			m.body = m.body[:length]
			if _, err := io.ReadFull(src.r, m.body); err != nil {
				panic(err)
			}
			src.line()
			messages++
			size += int64(length)
			j.in <- m
		})
		close(j.in)
	}
	close(jobs)
	wg.Wait()
	return messages, size
}

// listStatus asks both sides at once what LIST with STATUS says.
func listStatus(x [2]*wire) {
	var wg sync.WaitGroup
	for _, c := range x {
		wg.Go(func() { c.do(`LIST "" "*" RETURN (STATUS (MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ))`) })
	}
	wg.Wait()
}

// scan reads the flags of every message on both sides at once.
func scan(t testing.TB, x [2]*wire) {
	var wg sync.WaitGroup
	for _, c := range x {
		wg.Go(func() {
			var folders []string
			c.until(c.send(`LIST "" "*"`), func(b []byte) {
				if bytes.Contains(b, []byte("Noselect")) || bytes.Contains(b, []byte("NonExistent")) {
					return
				}
				s := strings.TrimSpace(string(b))
				for _, sep := range []string{`"." `, `"/" `} {
					if i := strings.LastIndex(s, sep); i >= 0 {
						folders = append(folders, strings.Trim(s[i+4:], `"`))
						return
					}
				}
			})
			for _, f := range folders {
				c.do("EXAMINE \"%s\"", f)
				c.do("UID FETCH 1:* (FLAGS)")
			}
		})
	}
	wg.Wait()
}
