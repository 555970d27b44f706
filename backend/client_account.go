package backend

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"mailgate/imapwire"
)

// Namespace asks for the account's namespaces (RFC 2342). Without the extension Personal holds what LIST "" "" says.
func (c *Client) Namespace(ctx context.Context) (Namespaces, error) {
	if !c.Has("NAMESPACE") && !c.Has("IMAP4REV2") {
		var sep byte
		x := &Command{name: "LIST", list: func(e ListEntry) error {
			sep = e.Separator
			return nil
		}}
		if err := c.start(x, `LIST "" ""`).Wait(ctx); err != nil { // the reader may still be writing what it found
			return Namespaces{}, err
		}
		return Namespaces{Personal: []Namespace{{Separator: sep}}}, nil
	}
	var got Namespaces
	x := &Command{name: "NAMESPACE"}
	x.other = func(kind string) (bool, error) {
		if kind != "NAMESPACE" {
			return false, nil
		}
		for _, to := range []*[]Namespace{&got.Personal, &got.Other, &got.Shared} {
			if err := c.r.Expect(' '); err != nil {
				return true, err
			}
			if err := c.namespaces(to); err != nil {
				return true, err
			}
		}
		return true, c.r.SkipLine()
	}
	if err := c.start(x, "NAMESPACE").Wait(ctx); err != nil {
		return Namespaces{}, err
	}
	return got, nil
}

// namespaces takes NIL, or a list of (prefix separator extensions).
func (c *Client) namespaces(out *[]Namespace) error {
	if ok, err := c.r.Take('('); err != nil {
		return err
	} else if !ok {
		_, err := c.r.Word()
		return err
	}
	for {
		b, err := c.r.Peek()
		if err != nil {
			return err
		}
		if b != ')' && b != ' ' && b != '(' {
			return fmt.Errorf("%w: %q in NAMESPACE", imapwire.ErrGrammar, b)
		}
		_, _ = c.r.Next()
		switch b {
		case ')':
			return nil
		case ' ':
			continue
		}
		if len(*out) == maxList {
			return tooMany("namespaces", maxList)
		}
		var n Namespace
		if n.Prefix, err = c.astring(); err != nil {
			return err
		}
		if err := c.r.Expect(' '); err != nil {
			return err
		}
		sep, err := c.value(8)
		if err != nil {
			return err
		}
		if sep != "" && !strings.EqualFold(sep, "NIL") {
			n.Separator = sep[0]
		}
		*out = append(*out, n)
		for { // extensions
			b, err := c.r.Peek()
			if err != nil {
				return err
			}
			if b == ')' {
				_, _ = c.r.Next()
				break
			}
			if b == ' ' {
				_, _ = c.r.Next()
				continue
			}
			if _, err := c.value(1024); err != nil {
				return err
			}
		}
	}
}

// ID tells the server who we are and gives what it says of itself (RFC 2971); nil where it has no ID.
func (c *Client) ID(ctx context.Context, pairs ...string) (map[string]string, error) {
	if !c.Has("ID") {
		return nil, nil
	}
	var got map[string]string
	x := &Command{name: "ID"}
	x.other = func(kind string) (bool, error) {
		if kind != "ID" {
			return false, nil
		}
		if err := c.r.Expect(' '); err != nil {
			return true, err
		}
		b, err := c.r.Peek()
		if err != nil || b != '(' {
			return false, err
		}
		_, _ = c.r.Next()
		got = map[string]string{}
		var key string
		for n := 0; ; {
			b, err := c.r.Peek()
			if err != nil {
				return true, err
			}
			switch b {
			case ')':
				return true, c.r.SkipLine()
			case ' ':
				_, _ = c.r.Next()
				continue
			}
			v, err := c.value(1024)
			if err != nil {
				return true, err
			}
			if n++; n%2 == 1 {
				key = strings.ToLower(v)
			} else if len(got) < 100 {
				got[key] = printable(v)
			}
		}
	}
	if len(pairs) == 0 {
		if err := c.start(x, "ID NIL").Wait(ctx); err != nil {
			return nil, err
		}
		return got, nil
	}
	args := make([]string, len(pairs))
	for i, p := range pairs {
		q, ok := imapwire.Quote(p)
		if !ok {
			return nil, fmt.Errorf("ID: %q cannot be sent", p)
		}
		args[i] = q
	}
	if err := c.start(x, "ID", "("+strings.Join(args, " ")+")").Wait(ctx); err != nil {
		return nil, err
	}
	return got, nil
}

// Quota asks for the tightest limits of a mailbox (RFC 9208); false where the server has none.
func (c *Client) Quota(ctx context.Context, name string) (Quota, bool, error) {
	if !c.Has("QUOTA") {
		return Quota{}, false, nil
	}
	var q Quota
	found := false
	x := &Command{name: "GETQUOTAROOT"}
	x.other = func(kind string) (bool, error) {
		if kind != "QUOTA" {
			return false, nil
		}
		if err := c.r.Expect(' '); err != nil {
			return true, err
		}
		if _, err := c.astring(); err != nil {
			return true, err
		}
		if more, err := c.another(); err != nil || !more { // Courier without limits says nothing behind the root
			return true, err
		}
		v, err := c.value(4096)
		if err != nil {
			return true, err
		}
		f := strings.Fields(strings.Trim(v, "()"))
		for i := 0; i+2 < len(f); i += 3 {
			used, _ := strconv.ParseInt(f[i+1], 10, 64)
			limit, _ := strconv.ParseInt(f[i+2], 10, 64)
			switch strings.ToUpper(f[i]) {
			case "STORAGE":
				if used, limit := used*1024, limit*1024; q.StorageLimit == 0 || limit-used < q.StorageLimit-q.Storage {
					q.Storage, q.StorageLimit = used, limit
				}
				found = true
			case "MESSAGE":
				if q.MessageLimit == 0 || limit-used < q.MessageLimit-q.Messages {
					q.Messages, q.MessageLimit = used, limit
				}
				found = true
			}
		}
		return true, c.r.SkipLine()
	}
	if err := c.start(x, "GETQUOTAROOT", str(name)).Wait(ctx); err != nil {
		return Quota{}, false, err
	}
	return q, found, nil
}

// ErrNoNotify means that the server has no NOTIFY.
var ErrNoNotify = errors.New("the server has no NOTIFY")

// Notify asks the server to tell of changes without IDLE (RFC 5465); spec as in the protocol, "NONE" ends it.
func (c *Client) Notify(ctx context.Context, spec string) error {
	if !c.Has("NOTIFY") {
		return ErrNoNotify
	}
	c.mu.Lock()
	c.notify = true // after "NONE" too: what it has said before may still come
	c.mu.Unlock()
	return c.send("NOTIFY", "NOTIFY", spec).Wait(ctx)
}

// ErrNoCompress means that the server has no COMPRESS=DEFLATE.
var ErrNoCompress = errors.New("the server has no COMPRESS=DEFLATE")

// Compress turns compression on (RFC 4978), both ways. Nothing else may be outstanding.
func (c *Client) Compress(ctx context.Context) error {
	if !c.Has("COMPRESS=DEFLATE") {
		return ErrNoCompress
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	x := &Command{name: "COMPRESS"}
	x.compress = func() {
		c.r.Swap(func(ahead []byte) io.Reader {
			return flate.NewReader(io.MultiReader(bytes.NewReader(ahead), progressReader{c}))
		})
	}
	if !c.begin(x) {
		return x.err
	}
	_, _ = c.w.WriteString(x.tag + " COMPRESS DEFLATE\r\n")
	c.flush()
	if err := x.Wait(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	z, err := flate.NewWriter(progressWriter{c}, flate.DefaultCompression)
	if err != nil {
		return err
	}
	c.z = z
	c.w.reset(z)
	return nil
}
