package backend

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"mailgate/mailtest/lab"
)

// share asks for rights and annotations of INBOX and of a mailbox.
func (s *scenario) share(box string) {
	for _, name := range []string{"INBOX", box, box + "-none"} {
		list, err := s.c.ACL(s.ctx, name)
		s.did("rights", err)
		for _, r := range list {
			s.say("%s: %q may %q, negative %v", name, r.Identifier, r.Rights, r.Negative)
		}
		rights, err := s.c.MyRights(s.ctx, name)
		s.did("my rights", err)
		s.say("%s: I may %q", name, rights)
	}
	if !s.c.Has("METADATA") {
		return
	}
	for _, name := range []string{"", "INBOX", box, box + "-none"} {
		list, long, err := s.c.Metadata(s.ctx, name, MetadataOptions{Deep: true, MaxSize: 20}, "/shared", "/private", "/private/vendor", "/private/comment")
		s.did("metadata", err)
		for _, m := range list {
			s.say("%q: %s is %q (%d)", m.Mailbox, m.Name, m.Value, m.Size)
		}
		s.say("longer ones: %v", long)
	}
}

// shared prepares the account of user 1 for that, and gives the mailbox.
func shared(t *testing.T, h lab.Host) string {
	box := h.Prefix + "Work"
	x := lab.Dial(t, h, 1)
	defer x.Close()
	x.Do(`CREATE "%s"`, box)
	other := lab.User(2)
	if h.Name == "cyrus" {
		lab.Dial(t, h, 2).Close()
		other = "user2"
	}
	x.Do(`SETACL "%s" %s lrs`, box, other)
	x.Do(`SETACL "%s" -%s w`, box, other)
	if h.Name != "courier" {
		x.Do(`SETMETADATA "%s" (/private/comment "mine" /shared/vendor/kolab/folder-type "event.default")`, box)
		x.Do(`SETMETADATA "%s" (/shared/comment "longer than twenty bytes")`, box)
		x.Do(`SETMETADATA "" (/private/comment "of all")`)
	}
	return box
}

// fleeting takes out of a dialogue what Cyrus says of itself, beside what volatile takes.
func fleeting(b []byte) []byte {
	b = regexp.MustCompile(`(uniqueid"? (?:is )?)"[a-z0-9]+"( \(\d+\))?`).ReplaceAll(b, []byte(`$1"id"`))
	b = regexp.MustCompile(`(freespace[a-z/]*"? (?:is )?)"[0-9;]+"( \(\d+\))?`).ReplaceAll(b, []byte(`$1"1"`))
	b = regexp.MustCompile(`\d\d-[A-Z][a-z]{2}-20\d\d \d\d:\d\d:\d\d [+-]\d{4}`).ReplaceAll(b, []byte("26-Nov-2026 01:02:03 +0000"))
	b = regexp.MustCompile(`((?:id|1)" ?)\(\d+\)`).ReplaceAll(b, []byte(`$1`))
	return volatile(b)
}

// TestReplaySharing is TestReplay for rights and annotations.
func TestReplaySharing(t *testing.T) {
	for _, name := range []string{"dovecot", "cyrus", "courier"} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", "dialogues", "sharing-"+name+".txt")
			all, want := readDialogue(t, file)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				defer l.Close()
				conn, err := l.Accept()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				play(t, conn, all)
			}()
			s := &scenario{t: t, ctx: ctx(t), c: dialed(t, l.Addr().String(), lab.User(1), lab.Password(1))}
			s.share(map[string]string{"dovecot": "Work", "cyrus": "INBOX.Work", "courier": "INBOX.Work"}[name])
			_ = s.c.Logout(s.ctx)
			<-ended
			got := string(fleeting([]byte(strings.Join(s.out, "\n"))))
			differ(t, "the report", got, strings.Join(want, "\n"))
			b, err := os.ReadFile(file)
			if x := fleeting(bytes.Clone(b)); err != nil || !bytes.Equal(x, b) {
				differ(t, "something of a machine is left", string(b), string(x))
			}
		})
	}
}

// TestRecordSharing is TestRecord for them: MAILGATE_RECORD=1 makes the files anew.
func TestRecordSharing(t *testing.T) {
	if os.Getenv("MAILGATE_RECORD") == "" {
		return
	}
	for name, start := range map[string]func() lab.Host{
		"dovecot": func() lab.Host { return lab.Start(t, lab.Sharing()).New },
		"cyrus": func() lab.Host {
			return lab.StartCyrus(t, lab.Classic(), lab.CyrusSetting("annotation_allow_undefined: yes")).Host
		},
		"courier": func() lab.Host { return lab.StartCourier(t).Host },
	} {
		h := start()
		box := shared(t, h)
		r := record(t, lab.Addr(h.IMAP))
		s := &scenario{t: t, ctx: ctx(t), c: dialed(t, r.l.Addr().String(), lab.User(1), lab.Password(1))}
		s.share(box)
		_ = s.c.Logout(s.ctx)
		r.wg.Wait()
		title := "Rights and annotations of a mailbox with " + strings.ToUpper(name[:1]) + name[1:] + "."
		b := fleeting(writeDialogue(title, r.all, s.out))
		if err := os.WriteFile(filepath.Join("testdata", "dialogues", "sharing-"+name+".txt"), b, 0o644); err != nil {
			t.Error(err)
		}
	}
}
