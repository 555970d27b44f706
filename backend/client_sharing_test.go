package backend

import (
	"bufio"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"mailgate/imapwire"
)

// TestRights asks who may do what, in the spellings of several servers.
func TestRights(t *testing.T) {
	c := played(t, "IMAP4rev1 ACL", func(p *peer) {
		p.say("* ACL \"a b\" $team lrs owner \"lrswite\" \"-user=x y\" w {6}\nanyone \"\"\n%s OK\n", p.want(`GETACL "a b"`))
		p.say("* ACL INBOX(x) \n%s OK\n", p.want(`GETACL "INBOX(x)"`))
		p.say("%s OK\n", p.want(`GETACL "silent"`))
		p.say("* ACL x anna\n%s OK\n", p.want(`GETACL "odd"`))
		p.say("%s NO [NOPERM] not yours\n", p.want(`GETACL "theirs"`))
		p.say("* MYRIGHTS a lrs\n%s OK\n", p.want(`MYRIGHTS "a"`))
		p.say("%s OK\n", p.want(`MYRIGHTS "silent"`))
	})
	list, err := c.ACL(ctx(t), "a b")
	want := []Right{{"$team", "lrs", false}, {"owner", "lrswite", false}, {"user=x y", "w", true}, {"anyone", "", false}}
	if err != nil || !reflect.DeepEqual(list, want) {
		t.Errorf("%+v %v", list, err)
	}
	if list, err := c.ACL(ctx(t), "INBOX(x)"); err != nil || len(list) != 0 {
		t.Errorf("%+v %v", list, err)
	}
	if _, err := c.ACL(ctx(t), "silent"); !errors.Is(err, ErrNoAnswer) { // an empty answer would say that nobody has a right
		t.Error(err)
	}
	if _, err := c.ACL(ctx(t), "odd"); !errors.Is(err, imapwire.ErrGrammar) {
		t.Error(err)
	}
	var no *StatusError
	if _, err := c.ACL(ctx(t), "theirs"); !errors.As(err, &no) || no.Code.Name != "NOPERM" {
		t.Error(err)
	}
	if r, err := c.MyRights(ctx(t), "a"); err != nil || r != "lrs" {
		t.Errorf("%q %v", r, err)
	}
	if _, err := c.MyRights(ctx(t), "silent"); !errors.Is(err, ErrNoAnswer) {
		t.Error(err)
	}
	c.Ignore("ACL")
	if _, err := c.ACL(ctx(t), "a"); !errors.Is(err, ErrNoACL) {
		t.Error(err)
	}
	if _, err := c.MyRights(ctx(t), "a"); !errors.Is(err, ErrNoACL) {
		t.Error(err)
	}
}

// TestMetadata asks for annotations: values of all forms, several lines for one mailbox, and what comes without being asked for.
func TestMetadata(t *testing.T) {
	long := strings.Repeat("x", 3*maxMetadataValue)
	c := played(t, "IMAP4rev1 METADATA", func(p *peer) {
		tag := p.want(`GETMETADATA (DEPTH infinity MAXSIZE 9) "a b" (/shared /private)`)
		p.say("* METADATA other /shared/comment /private/comment\n")
		p.say("* METADATA \"a b\" (/shared/Comment \"it\" /private/none NIL \"/private/NIL\" \"NIL\" /private/long {%d}\n%s /private/b ~{2}\n\x00\" /private/empty \"\")\n", len(long), long)
		p.say("* METADATA \"a b\" (/shared/comment \"twice\")\n%s OK [METADATA LONGENTRIES 70] done\n", tag)
		p.say("%s OK\n", p.want(`GETMETADATA "" (/shared/admin)`))
		p.say("* METADATA \"\" (/shared/admin\n%s OK\n", p.want(`GETMETADATA "" (/shared/admin)`))
		p.say("* METADATA INBOX (/a NIL)\n* METADATA \"INBOX.x\" (/a \"1\")\n%s OK\n", p.want(`GETMETADATA "INBOX*" (/a)`))
	})
	list, more, err := c.Metadata(ctx(t), "a b", MetadataOptions{Deep: true, MaxSize: 9}, "/shared", "/private")
	want := []Metadata{{"a b", "/shared/comment", "it", 2}, {"a b", "/private/nil", "NIL", 3}, {"a b", "/private/long", long[:maxMetadataValue], int64(len(long))},
		{"a b", "/private/b", "\x00\"", 2}, {"a b", "/private/empty", "", 0}}
	if err != nil || !more || !reflect.DeepEqual(list, want) {
		t.Errorf("%.600v %v %v", list, more, err)
	}
	if list, more, err := c.Metadata(ctx(t), "", MetadataOptions{}, "/shared/admin"); err != nil || more || len(list) != 0 {
		t.Errorf("%v %v %v", list, more, err)
	}
	if _, _, err := c.Metadata(ctx(t), "", MetadataOptions{}, "/shared/admin"); !errors.Is(err, imapwire.ErrGrammar) {
		t.Error(err)
	}
	if list, _, err := c.Metadata(ctx(t), "INBOX*", MetadataOptions{}, "/a"); err != nil || !reflect.DeepEqual(list, []Metadata{{"INBOX.x", "/a", "1", 1}}) {
		t.Errorf("%v %v", list, err)
	}
	c.Ignore("METADATA")
	if _, _, err := c.Metadata(ctx(t), "a", MetadataOptions{}, "/shared"); !errors.Is(err, ErrNoMetadata) {
		t.Error(err)
	}
}

// TestHostileSharing: rights and annotations without end are an error that says so, and end the connection.
func TestHostileSharing(t *testing.T) {
	for what, c := range map[string][2]string{
		"rights":   {"* ACL x", " user%d lrs"},
		"metadata": {"* METADATA x (", "/a%d \"" + strings.Repeat("v", 8000) + "\" "},
		"nothings": {"* METADATA x (", "/a%d" + strings.Repeat("v", 8000) + " NIL "},
	} {
		t.Run(what, func(t *testing.T) {
			x := played(t, "IMAP4rev1 ACL METADATA", func(p *peer) {
				p.line()
				w := bufio.NewWriter(p.conn)
				_, err := w.WriteString(c[0])
				for n, sent := 0, 0; sent < 32<<20 && err == nil; n++ {
					piece := strings.Replace(c[1], "%d", strconv.Itoa(n), 1)
					sent += len(piece)
					_, err = w.WriteString(piece)
				}
				_ = w.Flush()
			})
			var err error
			if what == "rights" {
				_, err = x.ACL(ctx(t), "x")
			} else {
				_, _, err = x.Metadata(ctx(t), "x", MetadataOptions{}, "/a")
			}
			var limit *LimitError
			if !errors.As(err, &limit) {
				t.Errorf("it ends with %v", err)
			}
		})
	}
}
