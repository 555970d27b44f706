package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"mailgate/config"
	"mailgate/op"
	"mailgate/proxy"
	"mailgate/tlsconf"
)

// What two processes say to each other before the store passes, each as JSON behind its length; then the connection is a cutover.Link.
type (
	// offered comes from the one that leads, with the listening sockets.
	offered struct {
		Sockets []offeredSocket `json:"sockets"`
		Version string          `json:"version"`
		Store   string          `json:"store,omitempty"` // see storeName
	}
	offeredSocket struct {
		Network string `json:"network"`
		Address string `json:"address"` // as in its configuration
	}
	// wanted comes from its successor, which is ready but for the store.
	wanted struct {
		Limit time.Duration `json:"limit_ns"` // for the sessions that stay behind
	}
	// given is the answer: the store is free.
	given struct {
		Node  op.Node `json:"node,omitzero"` // that the one which gave it is from now on
		Error string  `json:"error,omitempty"`
	}
	// serves comes from a successor behind a database when it serves, and heard is the answer: the other one does not listen any more. Where
	// the store passes both go over the Link.
	serves struct{}
	heard  struct{}
)

// storeName tells stores apart, as far as it may be said: two processes with different ones would not know of each other.
func storeName(c *config.Config) string {
	if c.Store.URL != "" {
		return "a database"
	}
	return c.Store.Path
}

// maxOffer bounds an offer, in bytes; maxSockets is what the kernel passes at once.
const (
	maxOffer   = 1 << 20
	maxSockets = 250
)

func say(c *net.UnixConn, v any, rights []byte) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	b := append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
	n, _, err := c.WriteMsgUnix(b, rights, nil)
	if err == nil && n < len(b) {
		_, err = c.Write(b[n:])
	}
	return err
}

// hear reads what was said, and the files that came with it.
func hear(c *net.UnixConn, v any) (files []*os.File, err error) {
	defer func() {
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			files = nil
		}
	}()
	head := make([]byte, 4)
	oob := make([]byte, syscall.CmsgSpace(4*maxSockets))
	n, oobn, _, _, err := c.ReadMsgUnix(head, oob)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return nil, err
	}
	list, err := syscall.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, err
	}
	for i := range list {
		fds, err := syscall.ParseUnixRights(&list[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "listener"))
		}
	}
	if _, err := io.ReadFull(c, head[n:]); err != nil {
		return files, err
	}
	size := binary.BigEndian.Uint32(head)
	if size > maxOffer {
		return files, fmt.Errorf("a message of %d bytes", size)
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(c, text); err != nil {
		return files, err
	}
	return files, json.Unmarshal(text, v)
}

// offer sends listening sockets.
func offer(c *net.UnixConn, store string, sockets []proxy.Socket) error {
	if len(sockets) > maxSockets {
		return fmt.Errorf("there are %d listening sockets, and no more than %d can be handed over", len(sockets), maxSockets)
	}
	o := offered{Version: version, Store: store}
	for _, s := range sockets {
		o.Sockets = append(o.Sockets, offeredSocket{s.Network, s.Address})
	}
	return withFiles(sockets, nil, func(fds []int) error { return say(c, o, syscall.UnixRights(fds...)) })
}

// withFiles calls f with the descriptors of sockets, which stay open and as they are meanwhile.
func withFiles(sockets []proxy.Socket, fds []int, f func(fds []int) error) error {
	if len(sockets) == 0 {
		return f(fds)
	}
	l, ok := sockets[0].Listener.(syscall.Conn)
	if !ok {
		return fmt.Errorf("the socket of %s cannot be handed over", sockets[0].Address)
	}
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = withFiles(sockets[1:], append(fds, int(fd)), f) })
	return errors.Join(err, inner)
}

// inherited makes listeners of what came with an offer.
func inherited(o offered, files []*os.File) (out []proxy.Socket, err error) {
	defer func() {
		for _, f := range files {
			f.Close() // a listener has its own
		}
	}()
	if len(files) != len(o.Sockets) {
		return nil, fmt.Errorf("%d sockets were offered, and %d came", len(o.Sockets), len(files))
	}
	for i, f := range files {
		l, err := net.FileListener(f)
		if err == nil {
			if t, ok := l.(*net.TCPListener); ok {
				l = kept{t}
			}
			out = append(out, proxy.Socket{Network: o.Sockets[i].Network, Address: o.Sockets[i].Address, Listener: l})
			continue
		}
		for _, s := range out {
			s.Close()
		}
		return nil, fmt.Errorf("socket of %s: %w", o.Sockets[i].Address, err)
	}
	return out, nil
}

// kept is a listener that was handed over; what it accepts is kept alive like others.
type kept struct{ *net.TCPListener }

// Accept implements net.Listener.
func (k kept) Accept() (net.Conn, error) {
	c, err := k.AcceptTCP()
	if err != nil {
		return nil, err
	}
	_ = c.SetKeepAliveConfig(tlsconf.KeepAlive())
	return c, nil
}
