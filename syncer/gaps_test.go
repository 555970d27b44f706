package syncer

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailgate/backend"
)

// told is a side that has told of some folders, and offers these capabilities.
func told(title, login string, capabilities string, folders ...string) *gapSide {
	g := &gapSide{title: title, user: "anna@example.com", login: login, there: map[string]bool{}, rights: map[string][]backend.Right{}, mine: map[string]string{},
		metadata: map[string][]backend.Metadata{}, errs: map[string]error{}, has: func(c string) bool { return strings.Contains(" "+capabilities+" ", " "+c+" ") },
		naming: newNaming(SideFolders{Namespaces: backend.Namespaces{Personal: []backend.Namespace{{Separator: '/'}}}})}
	for _, name := range append([]string{"INBOX"}, folders...) {
		g.own = append(g.own, backend.ListEntry{Name: name, Separator: '/'})
		g.there[name] = true
	}
	return g
}

// known is what the store knows when passes have brought these folders together, under the same name.
func known(folders ...string) *gapKnown {
	k := &gapKnown{partner: map[string]string{"INBOX": "INBOX"}}
	for i, name := range append([]string{"INBOX"}, folders...) {
		k.partner[name] = name
		k.boxes = append(k.boxes, Mailbox{ID: int64(i + 1), Name: [2]string{name, name}, Cursor: [2]Cursor{{UIDNext: 1}, {UIDNext: 1}}})
	}
	return k
}

func gapLine(g Gap) string {
	s := fmt.Sprintf("%s %d", g.Answer, g.Count)
	for _, x := range g.Things {
		s += "; " + strings.TrimPrefix(x.Folder+": ", ": ") + x.What
	}
	if g.Why != "" {
		s += "; why: " + g.Why
	}
	return s
}

// TestGapsOwner: the owner's rights are no gap, however the host writes his name; a name of another domain is somebody else's.
func TestGapsOwner(t *testing.T) {
	for _, x := range []struct {
		login, product string
		rights         []backend.Right
		want           string
	}{
		{"anna@example.com", "Dovecot", []backend.Right{{Identifier: "Anna@example.com", Rights: "lrs"}}, "none 0"},
		{"anna", "Cyrus", []backend.Right{{Identifier: "anna", Rights: "lrs"}}, "none 0"},
		{"anna@example.com", "Cyrus", []backend.Right{{Identifier: "anna", Rights: "lrs"}}, "none 0"},
		{"anna@example.com", "Cyrus", []backend.Right{{Identifier: "anna@example.com", Rights: "lrs"}, {Identifier: "anna", Rights: "lr"}}, "counted 1; Work: anna may lr"},
		{"anna@example.com", "Cyrus", []backend.Right{{Identifier: "anna@elsewhere.example", Rights: "lr"}}, "counted 1; Work: anna@elsewhere.example may lr"},
		{"x17", "", []backend.Right{{Identifier: "x17", Rights: "lr"}, {Identifier: "owner", Rights: "lr"}, {Identifier: "x18", Rights: "srl"}}, "counted 1; Work: x18 may lrs"},
		{"anna@example.com", "Courier", []backend.Right{{Identifier: "owner", Rights: "lr"}, {Identifier: "administrators", Rights: "lr"}}, "none 0"},
		{"anna@example.com", "", []backend.Right{{Identifier: "administrators", Rights: "lr"}}, "counted 1; Work: administrators may lr"},
		{"anna@example.com", "", []backend.Right{{Identifier: "anyone", Rights: "", Negative: true}}, "counted 1; Work: anyone may not "},
	} {
		old := told("OLD", x.login, "ACL", "Work")
		old.product, old.rights["Work"] = x.product, x.rights
		if got := gapLine(aclGap(old, told("NEW", x.login, "ACL", "Work"), known("Work"))); got != x.want {
			t.Errorf("%v: %s, want %s", x.rights, got, x.want)
		}
	}
}

// TestGapsGiven: rights that NEW gives as well are no gap; less than on OLD is one.
func TestGapsGiven(t *testing.T) {
	for _, x := range []struct {
		old, new backend.Right
		given    bool
	}{
		{backend.Right{Identifier: "bob@example.com", Rights: "lrs"}, backend.Right{Identifier: "bob", Rights: "lrswp"}, true},
		{backend.Right{Identifier: "bob", Rights: "lrs"}, backend.Right{Identifier: "bob@example.com", Rights: "srl"}, true},
		{backend.Right{Identifier: "bob@example.com", Rights: "lrs"}, backend.Right{Identifier: "bob@elsewhere.example", Rights: "lrs"}, false},
		{backend.Right{Identifier: "bob", Rights: "lrsw"}, backend.Right{Identifier: "bob", Rights: "lrs"}, false},
		{backend.Right{Identifier: "bob", Rights: "acdilrsw"}, backend.Right{Identifier: "bob", Rights: "lrswikxtea"}, true},
		{backend.Right{Identifier: "bob", Rights: "lrswikxtea"}, backend.Right{Identifier: "user=bob", Rights: "acdilrsw"}, true},
		{backend.Right{Identifier: "bob", Rights: "lrd"}, backend.Right{Identifier: "bob", Rights: "lrt"}, false},
		{backend.Right{Identifier: "bob", Rights: "w", Negative: true}, backend.Right{Identifier: "bob", Rights: "w"}, false},
		{backend.Right{Identifier: "bob", Rights: "w", Negative: true}, backend.Right{Identifier: "bob", Rights: "w", Negative: true}, true},
		{backend.Right{Identifier: "anyone", Rights: "p"}, backend.Right{Identifier: "bob", Rights: "lrs"}, false},
	} {
		if got := given([]backend.Right{{Identifier: "x", Rights: "lrswikxtea"}, x.new}, x.old); got != x.given {
			t.Errorf("%+v by %+v: %v", x.old, x.new, got)
		}
	}
}

// TestGapsPartly: what was counted stands, and a folder that was not told of is said beside it; with nothing counted it is unknown.
func TestGapsPartly(t *testing.T) {
	refused := &backend.StatusError{Command: "GETACL", Status: "NO", Text: "Permission denied"}
	old := told("OLD", "anna", "ACL METADATA", "Theirs", "Work")
	old.errs[askRights+"Theirs"], old.errs[askMetadata+"Theirs"], old.errs[askMetadata] = refused, refused, errors.New("odd")
	k, newer := known("Theirs", "Work"), told("NEW", "anna", "ACL", "Theirs", "Work")
	why := "why: OLD does not tell of 1 folder (Theirs: GETACL was answered NO Permission denied)"
	check := func(what string, g Gap, want string) {
		t.Helper()
		if got := gapLine(g); got != want {
			t.Errorf("%s:\n got %s\nwant %s", what, got, want)
		}
	}
	check("no rights", aclGap(old, newer, k), "unknown 0; "+why)
	check("no annotations", metadataGap(old, newer, k), "unknown 0; "+why+"; OLD does not tell of the account's: odd")
	check("no calendars", groupwareGaps(old, newer, k)[0], "unknown 0; "+why)
	old.rights["Work"] = []backend.Right{{Identifier: "bob", Rights: "lr"}}
	check("rights", aclGap(old, newer, k), "counted 1; Work: bob may lr; "+why)
	old.left = 7
	check("too many", aclGap(old, newer, k), "counted 1; Work: bob may lr; "+why+"; only the first 1000 folders were asked about")
	r := GapReport{Gaps: []Gap{aclGap(old, newer, k), {Answer: GapNone}}}
	if r.Open() != 1 || r.Found() != 1 {
		t.Errorf("%d open, %d found", r.Open(), r.Found())
	}

	old.errs[askSubscribed], old.errs[askOthers] = refused, refused
	check("subscriptions", subscriptionsGap(old), "unknown 0; why: GETACL was answered NO Permission denied")
	old.has = func(c string) bool { return c == "NAMESPACE" }
	check("others", namespacesGap(old), "unknown 0; why: GETACL was answered NO Permission denied")
	old.errs[askSpaces] = errors.New("no word")
	check("namespaces", namespacesGap(old), "unknown 0; why: no word")
	old.has = func(c string) bool { return c == "ANNOTATEMORE" }
	check("the forerunner", metadataGap(old, newer, k), "unknown 0; why: OLD has the forerunner of METADATA only (ANNOTATEMORE), which mailgate does not ask")
	old.product = "Cyrus IMAPD 3.6"
	old.has, old.errs = func(c string) bool { return c == "METADATA" }, map[string]error{askHidden: errors.New("odd")}
	old.left = 0
	check("hidden", groupwareGaps(old, newer, k)[1], "unknown 0; why: OLD does not tell of folders that it keeps beside the mail: odd")
}

// TestGapsMetadata: what is the host's own is nobody's loss, and what NEW has as well is none.
func TestGapsMetadata(t *testing.T) {
	entry := func(name, value string) backend.Metadata {
		return backend.Metadata{Name: name, Value: value, Size: int64(len(value))}
	}
	old, newer, k := told("OLD", "anna", "METADATA", "Kal", "Work"), told("NEW", "anna", "METADATA", "Kal", "Work"), known("Work")
	old.metadata["Work"] = []backend.Metadata{entry("/shared/vendor/cmu/cyrus-imapd/uniqueid", "x"), entry("/private/specialuse", `\Sent`),
		entry("/shared/vendor/cmu/cyrus-imapd/freespace/total", "7"), entry("/shared/vendor/cmu/cyrus-imapd/sharedseen", "false"), entry("/private/vendor/vendor.dovecot/pvt/x", "1"),
		entry("/shared/vendor/cmu/cyrus-imapd/sharedseen", "true"), entry("/private/comment", "mine"), entry("/shared/comment", "a\x1bb")}
	old.metadata["Kal"] = []backend.Metadata{entry("/shared/vendor/kolab/folder-type", "event")}
	newer.metadata["Work"] = []backend.Metadata{entry("/private/comment", "mine"), entry("/shared/comment", "other")}
	newer.metadata[""] = []backend.Metadata{entry("/private/comment", "of all")} // of no folder: Kal has no partner
	old.metadata[""] = []backend.Metadata{entry("/private/comment", "of all")}
	if got, want := gapLine(metadataGap(old, newer, k)), "counted 2; Work: /shared/comment, 3 bytes: a\ufffdb; Work: /shared/vendor/cmu/cyrus-imapd/sharedseen, 4 bytes: true"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	old.hidden = []hiddenFolder{{"#calendars/Default", 3}, {"#calendars", 0}, {"#addressbooks/Default", -1}, {"#sieve", 2}, {"Odd", 1}}
	rows := groupwareGaps(old, newer, k)
	for i, want := range []string{"counted 2; #calendars/Default: a calendar, 3 entries; Kal: a folder of type event", "counted 1; #addressbooks/Default: an address book, it does not tell how much is in it",
		"counted 1; Odd: a folder that holds no mail, 1 entries"} {
		if got := gapLine(rows[i]); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
	wants := old.asked(k)
	if !wants.metadata["Work"] || !wants.metadata[""] || wants.metadata["Kal"] || len(wants.rights) != 0 {
		t.Errorf("%+v", wants)
	}
	delete(old.metadata, "")
	if wants := old.asked(k); wants.metadata[""] {
		t.Error("an annotation of a folder that NEW has not is taken for the account's")
	}
}

// TestGapsLimits: a limit that differs is a gap, one that NEW's account does not hold most of all; what one side does not tell is unknown.
func TestGapsLimits(t *testing.T) {
	mb := int64(1_000_000)
	for _, x := range []struct {
		caps     [2]string
		old, new backend.Quota
		want     string
	}{
		{[2]string{"QUOTA", "QUOTA"}, backend.Quota{}, backend.Quota{}, "none 0"},
		{[2]string{"QUOTA", "QUOTA"}, backend.Quota{Storage: 5 * mb, StorageLimit: 90 * mb}, backend.Quota{Storage: 4 * mb, StorageLimit: 90 * mb}, "none 0"},
		{[2]string{"QUOTA", "QUOTA"}, backend.Quota{Storage: 50 * mb, StorageLimit: 90 * mb}, backend.Quota{StorageLimit: 40 * mb}, "counted 1; OLD holds 50 MB, and NEW allows 40 MB: the mail does not fit"},
		{[2]string{"QUOTA", "QUOTA"}, backend.Quota{Storage: 50 * mb, StorageLimit: 90 * mb}, backend.Quota{}, "counted 1; OLD allows 90 MB, and NEW any amount"},
		{[2]string{"QUOTA", "QUOTA"}, backend.Quota{Messages: 9, MessageLimit: 10}, backend.Quota{MessageLimit: 8}, "counted 1; OLD holds 9 messages, and NEW allows 8: the mail does not fit"},
		{[2]string{"QUOTA", "QUOTA"}, backend.Quota{Messages: 9}, backend.Quota{MessageLimit: 20}, "counted 1; OLD allows any number of messages, and NEW 20 messages"},
		{[2]string{"", "QUOTA"}, backend.Quota{}, backend.Quota{}, "unknown 0; why: OLD does not tell (no QUOTA)"},
		{[2]string{"QUOTA", ""}, backend.Quota{}, backend.Quota{}, "unknown 0; why: NEW does not tell (no QUOTA)"},
	} {
		old, newer := told("OLD", "anna", x.caps[0]), told("NEW", "anna", x.caps[1])
		old.quota, newer.quota = x.old, x.new
		if got := gapLine(quotaGap(old, newer)); got != x.want {
			t.Errorf("%+v %+v: %s, want %s", x.old, x.new, got, x.want)
		}
	}
	old, newer, k := told("OLD", "anna", ""), told("NEW", "anna", ""), known()
	old.limit, newer.limit = appendLimit([]string{"IDLE", "APPENDLIMIT=50000000"}), appendLimit([]string{"APPENDLIMIT=20000000"})
	k.waiting = []Quarantined{{Mailbox: 1, Reason: "too-big"}, {Mailbox: 1, Reason: "nul"}, {Mailbox: 1, Reason: "permission"}}
	if got, want := gapLine(sizesGap(old, newer, k)), "counted 2; OLD takes messages of 50 MB, NEW of 20 MB; INBOX: larger than NEW takes: 1 message"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := gapLine(rightsGap(newer, k)), "counted 1; INBOX: NEW let no mail be written into it: 1 message waits"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	newer.mine["INBOX"] = "lr"
	if got, want := gapLine(rightsGap(newer, k)), "counted 1; INBOX: NEW does not give the rights swite"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if appendLimit([]string{"APPENDLIMIT"}) != 0 || appendLimit([]string{"APPENDLIMIT=x"}) != 0 {
		t.Error("a limit that is not told")
	}
}

// TestGapsFolders: marks and subscriptions, as several hosts tell of them.
func TestGapsFolders(t *testing.T) {
	old, newer, k := told("OLD", "anna", "", "Sent", "Trash", "Bin"), told("NEW", "anna", "", "Sent", "Trash", "Bin"), known("Sent", "Trash")
	old.own[1].Attributes, old.own[2].Attributes, old.own[3].Attributes = []string{`\Sent`}, []string{`\Trash`}, []string{`\Junk`}
	newer.own[1].Attributes = []string{`\sent`}
	if got, want := gapLine(specialUseGap(old, newer, k)), `counted 2; Bin: \Junk on OLD, and not on NEW; Trash: \Trash on OLD, and not on NEW`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := gapLine(specialUseGap(old, newer, &gapKnown{})); got != "unknown 0; why: "+errNoPass.Error() {
		t.Error(got)
	}
	sub := func(name string, attributes ...string) {
		old.subscribed = append(old.subscribed, backend.ListEntry{Name: name, Separator: '/', Attributes: attributes})
	}
	sub("inbox")
	sub("Sent", `\Subscribed`)
	sub("Trash", `\Subscribed`, `\NonExistent`)
	sub("Gone/deep")
	sub("Gone", `\Noselect`)
	sub("Never", `\Noselect`)
	if got, want := gapLine(subscriptionsGap(old)), "counted 3; Gone/deep: he is subscribed to it, and it does not exist; Never: he is subscribed to it, and it does not exist; "+
		"Trash: he is subscribed to it, and it does not exist"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestGapsMany: of many things the first are listed, and all counted.
func TestGapsMany(t *testing.T) {
	old := told("OLD", "anna", "NAMESPACE")
	for i := range 3 * mostGapThings {
		old.others = append(old.others, backend.ListEntry{Name: fmt.Sprintf("shared/%04d", i), Separator: '/'})
	}
	g := namespacesGap(old)
	if g.Count != 3*mostGapThings || len(g.Things) != mostGapThings || g.More != 2*mostGapThings {
		t.Errorf("%d, %d listed, %d more", g.Count, len(g.Things), g.More)
	}
}

// TestGapsText: how old a look is, and what it says in a line.
func TestGapsText(t *testing.T) {
	at := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
	for after, want := range map[time.Duration]string{0: "just now (2026-11-26 10:00 UTC)", 5 * time.Minute: "5 minutes ago", 30 * time.Hour: "30 hours ago", 100 * time.Hour: "4 days ago"} {
		if got := age(at, at.Add(after)); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", after, got)
		}
	}
	r := GapReport{Gaps: []Gap{{Answer: GapCounted, Count: 2}, {Answer: GapCounted, Count: 1, Why: "x"}, {Answer: GapUnknown, Why: "y"}}}
	if got := r.Summary(); got != "3 things of 2 kinds do not travel; of 2 kinds not all is known" {
		t.Error(got)
	}
}
