package store

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailgate/op"
	"mailgate/syncer"
)

// postgresLateCommit: the connection is lost with COMMIT under way to the server, which gets it late. What is read back at
// once is what is there for good.
func postgresLateCommit(t *testing.T, c *cluster) {
	dir, err := os.MkdirTemp("", "px")
	must(t, err)
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	must(t, err)
	var late atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", filepath.Join(c.dir, ".s.PGSQL.5432"))
			if err != nil {
				client.Close()
				continue
			}
			wg.Go(func() { _, _ = io.Copy(client, server); client.Close(); server.Close() })
			wg.Go(func() {
				defer server.Close()
				buf := make([]byte, 64<<10)
				for {
					n, err := client.Read(buf)
					if err != nil {
						return
					}
					if bytes.Contains(bytes.ToLower(buf[:n]), []byte("commit")) && late.CompareAndSwap(true, false) {
						client.Close()
						time.Sleep(300 * time.Millisecond)
					}
					if _, err := server.Write(buf[:n]); err != nil {
						return
					}
				}
			})
		}
	})
	c.fresh(t)
	s := openPG(t, "postgres://mailgate@/"+c.last()+"?host="+dir)
	token := acquire(t, s, anna, "p1")
	late.Store(true)
	_, err = s.Apply(t.Context(), syncer.Change{User: anna, Token: token, Mailboxes: []syncer.Mailbox{{User: anna}}})
	is(t, err, op.ErrUnavailable)
	if late.Load() {
		t.Error("no COMMIT came by")
	}
	first, err := s.Mailboxes(t.Context(), anna)
	must(t, err)
	time.Sleep(600 * time.Millisecond)
	second, err := s.Mailboxes(t.Context(), anna)
	must(t, err)
	same(t, len(second), len(first))
	must(t, s.Close())
	must(t, l.Close())
	wg.Wait()
}
