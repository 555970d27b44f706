package syncer_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// gaps looks, and gives each row in a line: what was said of its kind, then its things.
func (r *rig) gaps(t testing.TB) map[syncer.GapKind]string {
	t.Helper()
	user := lab.User(r.n)
	rep, err := r.Gaps(t.Context(), user, syncer.GapOptions{Names: [2]string{user, user}})
	if err != nil {
		t.Fatal(err)
	}
	out := map[syncer.GapKind]string{}
	for _, g := range rep.Gaps {
		line := fmt.Sprintf("%s %d", g.Answer, g.Count)
		for _, x := range g.Things {
			line += fmt.Sprintf("; %s: %s", x.Folder, x.What)
		}
		if g.Why != "" {
			line += "; why: " + g.Why
		}
		out[g.Kind] = line
	}
	kept, err := r.KeptGaps(t.Context(), user)
	if err != nil || kept == nil || len(kept.Gaps) != len(rep.Gaps) || kept.Found() != rep.Found() || kept.Open() != rep.Open() {
		t.Errorf("kept is %+v, %v", kept, err)
	}
	var b strings.Builder
	if err := rep.WriteTable(&b, time.Now()); err != nil || testing.Verbose() {
		t.Log(b.String(), err)
	}
	return out
}

// wantGaps compares some rows.
func wantGaps(t testing.TB, got map[syncer.GapKind]string, want map[syncer.GapKind]string) {
	t.Helper()
	for kind, line := range want {
		if got[kind] != line {
			t.Errorf("%s:\n got %s\nwant %s", kind, got[kind], line)
		}
	}
}

// gapHosts are hosts that have what does not travel.
type gapHosts struct {
	dovecot        [2]lab.Host
	cyrus, courier lab.Host
}

func startGapHosts(t *testing.T) gapHosts {
	l := lab.Start(t, lab.Sharing(), lab.MailboxesOnly())
	return gapHosts{[2]lab.Host{l.Old, l.New}, lab.StartCyrus(t, lab.CyrusSetting("munge8bit: no"), lab.CyrusSetting("annotation_allow_undefined: yes")).Host, lab.StartCourier(t).Host}
}

// TestGaps counts what people have on real hosts and passes do not carry, and sees when it was done by hand on NEW.
func TestGaps(t *testing.T) {
	t.Parallel()
	h := startGapHosts(t)
	t.Run("Dovecot to Cyrus", func(t *testing.T) { gapsDovecotCyrus(t, h) })
	t.Run("Cyrus to Dovecot", func(t *testing.T) { gapsCyrusDovecot(t, h) })
	t.Run("Courier to Dovecot", func(t *testing.T) { gapsCourierDovecot(t, h) })
	t.Run("Courier to Cyrus", func(t *testing.T) { gapsCourierCyrus(t, h) })
	t.Run("Dovecot to Courier", func(t *testing.T) { gapsDovecotCourier(t, h) })
}

func gapsDovecotCyrus(t *testing.T, h gapHosts) {
	old, new := h.dovecot[0], h.cyrus
	r := newRig(t, old, new, 1, nil)
	two := lab.Dial(t, old, 2)
	two.Do(`CREATE "INBOX.Team"`)
	two.Do(`SETACL "INBOX.Team" %s lrs`, lab.User(1))
	two.Close()
	x := lab.Dial(t, old, 1)
	for _, name := range []string{"Work", "Kal", "Notizen", "Gone"} {
		x.Do(`CREATE "INBOX.%s"`, name)
		x.Do(`SUBSCRIBE "INBOX.%s"`, name)
	}
	x.Do(`DELETE "INBOX.Gone"`)
	x.Do(`SETACL "INBOX.Work" %s lrsw`, lab.User(2))
	x.Do(`SETACL "INBOX.Work" -%s w`, lab.User(3))
	x.Do(`SETMETADATA "INBOX.Work" (/private/comment "my work" /shared/vendor/kolab/folder-type "mail")`)
	x.Do(`SETMETADATA "INBOX.Kal" (/shared/vendor/kolab/folder-type "event.default")`)
	x.Do(`SETMETADATA "" (/private/vendor/x/colour "%s")`, strings.Repeat("b", 5000))
	for i := range 110 { // Cyrus has room for a hundred
		x.Append("INBOX.Work", fmt.Sprintf("Keyword%03d", i), letter(i))
	}

	got := r.gaps(t) // before the first pass nothing is known of what passes find out
	none := "unknown 0; why: no whole pass has been over his mailboxes yet"
	wantGaps(t, got, map[syncer.GapKind]string{syncer.GapKeywords: none, syncer.GapSizes: none, syncer.GapRights: none, syncer.GapSpecialUse: none})

	r.pass(t)
	// Cyrus has refused keywords of the copies, and the next pass tries again: till then nobody can say that it has kept them all.
	if got := r.gaps(t)[syncer.GapKeywords]; got != "unknown 0; why: the passes are not through with 1 folder yet" {
		t.Errorf("keywords: %s", got)
	}
	r.pass(t)
	got = r.gaps(t)
	wantGaps(t, got, map[syncer.GapKind]string{
		syncer.GapACL:           "counted 2; INBOX.Work: user2@example.com may lrsw; INBOX.Work: user3@example.com may not w",
		syncer.GapMetadata:      "counted 3; : /private/vendor/x/colour, 5000 bytes: " + strings.Repeat("b", 60) + "...; INBOX.Work: /private/comment, 7 bytes: my work; INBOX.Work: /shared/vendor/kolab/folder-type, 4 bytes: mail",
		syncer.GapCalendars:     "counted 1; INBOX.Kal: a folder of type event.default",
		syncer.GapContacts:      "none 0",
		syncer.GapGroupware:     "unknown 0; INBOX.Notizen: perhaps: it has such a name; why: perhaps 1 folder: look what is in it",
		syncer.GapNamespaces:    "counted 1; shared.user2.Team: a mailbox of others",
		syncer.GapSubscriptions: "counted 1; INBOX.Gone: he is subscribed to it, and it does not exist",
		syncer.GapSpecialUse:    "none 0",
		syncer.GapQuota:         "unknown 0; why: OLD does not tell (no QUOTA)",
		syncer.GapRights:        "none 0",
		syncer.GapSizes:         "none 0",
	})
	if got := got[syncer.GapKeywords]; !strings.HasPrefix(got, "counted 10; INBOX.Work: Keyword") {
		t.Errorf("keywords: %s", got)
	}

	// What somebody does on NEW is no gap any more.
	y := lab.Dial(t, new, 1)
	y.Do(`SETACL "Work" user2 lrswite`)
	y.Do(`SETMETADATA "Work" (/private/comment "my work" /shared/vendor/kolab/folder-type "mail")`)
	y.Do(`SETMETADATA "Kal" (/shared/vendor/kolab/folder-type "event.default")`)
	y.Do(`SETACL "Notizen" user1 lra`)
	got = r.gaps(t)
	wantGaps(t, got, map[syncer.GapKind]string{
		syncer.GapACL:       "counted 1; INBOX.Work: user3@example.com may not w",
		syncer.GapCalendars: "none 0",
		syncer.GapRights:    "counted 1; INBOX.Notizen: NEW does not give the rights swite",
	})
	if !strings.HasPrefix(got[syncer.GapMetadata], "counted 1; : /private/vendor/x/colour") {
		t.Errorf("metadata: %s", got[syncer.GapMetadata])
	}
	y.Do(`SETACL "Work" -user3 w`)
	y.Do(`SETACL "Work" user2 lr`) // less than on OLD
	if got := r.gaps(t)[syncer.GapACL]; !strings.HasPrefix(got, "counted 1; INBOX.Work: user2@example.com may ") {
		t.Errorf("acl: %s", got)
	}
}

// event is an entry of a calendar as Cyrus keeps it.
const event = "From: x@example.com\r\nSubject: meeting\r\nDate: Mon, 2 Nov 2026 10:00:00 +0000\r\nMessage-ID: <one@example.com>\r\n" +
	"Content-Type: text/calendar; charset=utf-8; component=VEVENT\r\nContent-Disposition: attachment; filename=\"one.ics\"\r\nMIME-Version: 1.0\r\n\r\n" +
	"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//x//EN\r\nBEGIN:VEVENT\r\nUID:one\r\nDTSTAMP:20261102T100000Z\r\nDTSTART:20261103T100000Z\r\n" +
	"DTEND:20261103T110000Z\r\nSUMMARY:meeting\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"

func gapsCyrusDovecot(t *testing.T, h gapHosts) {
	old, new := h.cyrus, h.dovecot[1]
	r := newRig(t, old, new, 5, nil)
	lab.Dial(t, old, 6).Close()
	x := lab.Dial(t, old, 5)
	x.Do(`CREATE "Work"`)
	x.Do(`SETACL "Work" user6 lr`)
	x.Do(`SETACL "Work" anyone p`)
	x.Do(`SETMETADATA "Work" (/shared/comment "ours" /shared/vendor/cmu/cyrus-imapd/expire "30")`)
	x.Do(`CREATE "#calendars/Default" (TYPE CALENDAR)`)
	x.Do(`CREATE "#addressbooks/Default" (TYPE ADDRESSBOOK)`)
	x.Do(`CREATE "Odd" (TYPE CALENDAR)`)
	r.pass(t)
	got := r.gaps(t)
	wantGaps(t, got, map[syncer.GapKind]string{
		syncer.GapACL:           "counted 2; Work: anyone may p; Work: user6 may lr",
		syncer.GapMetadata:      "counted 2; Work: /shared/comment, 4 bytes: ours; Work: /shared/vendor/cmu/cyrus-imapd/expire, 2 bytes: 30",
		syncer.GapCalendars:     "none 0", // there is one, and it is empty
		syncer.GapContacts:      "none 0",
		syncer.GapGroupware:     "none 0",
		syncer.GapNamespaces:    "none 0",
		syncer.GapSubscriptions: "none 0",
		syncer.GapQuota:         "unknown 0; why: NEW does not tell (no QUOTA)",
		syncer.GapKeywords:      "none 0",
	})
	x.Append("#calendars/Default", "", event)
	if got := r.gaps(t)[syncer.GapCalendars]; got != "counted 1; #calendars/Default: a calendar, 1 entries" {
		t.Errorf("calendars: %s", got)
	}
}

func gapsCourierDovecot(t *testing.T, h gapHosts) {
	old, new := h.courier, h.dovecot[1]
	r := newRig(t, old, new, 7, nil)
	x := lab.Dial(t, old, 7)
	x.Do(`CREATE "INBOX.Work"`)
	x.Do(`CREATE "INBOX.Kalender"`)
	x.Do(`SETACL "INBOX.Work" %s lrs`, lab.User(8))
	x.Do(`SUBSCRIBE "INBOX.Nothing.deep"`)
	x.Do(`SUBSCRIBE "INBOX.Work"`)
	r.pass(t)
	got := r.gaps(t)
	wantGaps(t, got, map[syncer.GapKind]string{
		syncer.GapACL:           "counted 1; INBOX.Work: user8@example.com may lrs",
		syncer.GapMetadata:      "none 0",
		syncer.GapCalendars:     "unknown 0; INBOX.Kalender: perhaps: it has such a name; why: perhaps 1 folder: look what is in it",
		syncer.GapContacts:      "none 0",
		syncer.GapNamespaces:    "none 0",
		syncer.GapSubscriptions: "counted 1; INBOX.Nothing.deep: he is subscribed to it, and it does not exist",
		syncer.GapSpecialUse:    "none 0",
		syncer.GapSizes:         "none 0",
	})
	y := lab.Dial(t, new, 7)
	y.Do(`SETACL "Work" %s lrs`, lab.User(8))
	wantGaps(t, r.gaps(t), map[syncer.GapKind]string{syncer.GapACL: "none 0"})
}

// asAdministrator talks to Cyrus as its administrator.
func asAdministrator(t testing.TB, h lab.Host, commands ...string) {
	t.Helper()
	conn, err := net.Dial("tcp", lab.Addr(h.IMAP))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	in := bufio.NewReader(conn)
	for _, line := range append([]string{"LOGIN cyrus " + lab.MasterPassword}, commands...) {
		if _, err := fmt.Fprintf(conn, "x %s\r\n", line); err != nil {
			t.Fatal(err)
		}
		for {
			s, err := in.ReadString('\n')
			if err != nil || strings.HasPrefix(s, "x ") && !strings.HasPrefix(s, "x OK") {
				t.Fatalf("%s: %s, %v", line, s, err)
			}
			if strings.HasPrefix(s, "x ") {
				break
			}
		}
	}
}

// gapsCourierCyrus: both tell of limits.
func gapsCourierCyrus(t *testing.T, h gapHosts) {
	r := newRig(t, h.courier, h.cyrus, 9, nil)
	lab.Dial(t, h.courier, 9).Append("INBOX", "", letter(1))
	r.pass(t)
	wantGaps(t, r.gaps(t), map[syncer.GapKind]string{syncer.GapQuota: "none 0", syncer.GapACL: "none 0", syncer.GapMetadata: "none 0",
		syncer.GapCalendars: "none 0", syncer.GapKeywords: "none 0", syncer.GapRights: "none 0"})
	asAdministrator(t, h.cyrus, "SETQUOTA user/user9 (STORAGE 40000)")
	wantGaps(t, r.gaps(t), map[syncer.GapKind]string{syncer.GapQuota: "counted 1; : OLD allows any amount, and NEW 40 MB"})
}

// gapsDovecotCourier: Courier takes rights, and no annotations and marks.
func gapsDovecotCourier(t *testing.T, h gapHosts) {
	r := newRig(t, h.dovecot[1], h.courier, 11, nil)
	x := lab.Dial(t, h.dovecot[1], 11)
	x.Do(`CREATE "Work"`)
	x.Do(`SETACL "Work" %s lrs`, lab.User(12))
	x.Do(`SETMETADATA "Work" (/private/comment "mine")`)
	x.Append("Sent", "", letter(1))
	x.Append("Work", "", letter(2))
	r.pass(t)
	want := map[syncer.GapKind]string{
		syncer.GapACL:        "counted 1; Work: user12@example.com may lrs",
		syncer.GapMetadata:   "counted 1; Work: /private/comment, 4 bytes: mine",
		syncer.GapSpecialUse: `counted 1; Sent: \Sent on OLD, and not on NEW`,
		syncer.GapQuota:      "unknown 0; why: OLD does not tell (no QUOTA)",
		syncer.GapRights:     "none 0",
	}
	wantGaps(t, r.gaps(t), want)
	lab.Dial(t, h.courier, 11).Do(`SETACL "INBOX.Work" %s lrs`, lab.User(12))
	want[syncer.GapACL] = "none 0"
	wantGaps(t, r.gaps(t), want)
}

// TestGapsUntold: what a host does not tell is unknown, and never none: where it lacks the extension, refuses to answer, or is not there.
func TestGapsUntold(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newRig(t, l.Old, l.New, 1, nil)
	r.pass(t)
	wantGaps(t, r.gaps(t), map[syncer.GapKind]string{
		syncer.GapACL:           "unknown 0; why: OLD does not tell (no ACL)",
		syncer.GapMetadata:      "unknown 0; why: OLD does not tell (no METADATA)",
		syncer.GapCalendars:     "unknown 0; why: OLD does not tell (no METADATA)",
		syncer.GapContacts:      "unknown 0; why: OLD does not tell (no METADATA)",
		syncer.GapGroupware:     "unknown 0; why: OLD does not tell (no METADATA)",
		syncer.GapNamespaces:    "none 0",
		syncer.GapSubscriptions: "none 0",
		syncer.GapSpecialUse:    "none 0",
		syncer.GapKeywords:      "none 0",
		syncer.GapQuota:         "unknown 0; why: OLD does not tell (no QUOTA)",
		syncer.GapSizes:         "none 0",
		syncer.GapRights:        "none 0",
	})
	down := newRig(t, l.Old, l.New, 2, func(o *syncer.Options) {
		open := o.Open
		o.Open = func(ctx context.Context, side config.Side, user string) (*backend.Client, error) {
			if side == config.Old {
				return nil, context.DeadlineExceeded
			}
			return open(ctx, side, user)
		}
	})
	for kind, line := range down.gaps(t) {
		if !strings.HasPrefix(line, "unknown 0; why: ") {
			t.Errorf("%s: %s", kind, line)
		}
	}
}
