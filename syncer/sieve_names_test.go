package syncer

import (
	"cmp"
	"math/rand/v2"
	"strings"
	"testing"

	"mailgate/backend"
	"mailgate/config"
)

// sieveFolders plans folders of two sides: OLD as Debian's Cyrus or Courier names them, NEW without a prefix.
func sieveFolders(t testing.TB, utf7 [2]bool) *sieveNames {
	t.Helper()
	list := func(sep byte, names ...string) (out []backend.ListEntry) {
		for _, n := range append(names, "INBOX") {
			out = append(out, backend.ListEntry{Name: n, Separator: sep, Status: &backend.Status{Messages: 1}})
		}
		return out
	}
	old := SideFolders{Namespaces: backend.Namespaces{Personal: []backend.Namespace{{Prefix: "INBOX.", Separator: '.'}},
		Shared: []backend.Namespace{{Prefix: "shared.", Separator: '.'}}},
		Folders: list('.', "INBOX.Work", "INBOX.Work.A", "INBOX.Entw&APw-rfe", "INBOX.Gesendet", "INBOX.Out", "INBOX.B&-C")}
	neu := SideFolders{Namespaces: backend.Namespaces{Personal: []backend.Namespace{{Separator: '/'}}},
		Folders: list('/', "Sent", "Work", "a.b")}
	p := planFolders("u", config.Old, [2]SideFolders{old, neu}, nil, Rules{Rename: map[string]string{"Gesendet": "Sent"}, Exclude: []string{"Out"}})
	if r := p.plan.Refused(); len(r) > 0 {
		t.Fatal(r)
	}
	return newSieveNames(p, utf7)
}

// TestSieveNames: mailbox names, and nothing else, become the other side's.
func TestSieveNames(t *testing.T) {
	n := sieveFolders(t, [2]bool{})
	for _, x := range []struct{ old, new string }{
		{`fileinto "INBOX.Work";`, `fileinto "Work";`},
		{`fileinto "inbox.Work.A";`, `fileinto "Work/A";`},
		{`fileinto "Work";`, `fileinto "Work";`},
		{`fileinto "INBOX";`, `fileinto "INBOX";`},
		{`fileinto "Inbox" ;`, `fileinto "Inbox" ;`},
		{`FileInto :copy :flags ["\\Seen", "INBOX.Work"] :create "INBOX.Entwürfe";`, `FileInto :copy :flags ["\\Seen", "INBOX.Work"] :create "Entwürfe";`},
		{`fileinto :specialuse "\\Sent" "INBOX.Gesendet.x";`, `fileinto :specialuse "\\Sent" "Sent/x";`},
		{`fileinto :mailboxid "INBOX.Work" "INBOX.Neu.Zwei";`, `fileinto :mailboxid "INBOX.Work" "Neu/Zwei";`},
		{`fileinto "INBOX.B&C";`, `fileinto "B&C";`},
		{`if mailboxexists ["INBOX.Work", "INBOX.No"] { keep; }`, `if mailboxexists ["Work", "No"] { keep; }`},
		{`if allof (not mailboxexists "INBOX.Work", header :is "x" "INBOX.Work") {}`, `if allof (not mailboxexists "Work", header :is "x" "INBOX.Work") {}`},
		{`if metadataexists "INBOX.Work" ["/private/a", "INBOX.x"] {}`, `if metadataexists "Work" ["/private/a", "INBOX.x"] {}`},
		{`if metadata :comparator "i;octet" :is "INBOX.Work" "/private/comment" ["INBOX.Work"] {}`,
			`if metadata :comparator "i;octet" :is "Work" "/private/comment" ["INBOX.Work"] {}`},
		{`vacation :days 7 :fcc "INBOX.Work.A" :handle "INBOX.Work" "INBOX.Work";`, `vacation :days 7 :fcc "Work/A" :handle "INBOX.Work" "INBOX.Work";`},
		{`if specialuse_exists "INBOX.Gesendet" "\\Sent" {}`, `if specialuse_exists "Sent" "\\Sent" {}`},
		{`if specialuse_exists "INBOX.Gesendet" {}`, `if specialuse_exists "INBOX.Gesendet" {}`},
		{`fileinto # "INBOX.Work"` + "\r\n" + `/* fileinto "INBOX.Work"; */ "INBOX.Work"; # fileinto "INBOX.Work";`,
			`fileinto # "INBOX.Work"` + "\r\n" + `/* fileinto "INBOX.Work"; */ "Work"; # fileinto "INBOX.Work";`},
		{"vacation text:\r\nfileinto \"INBOX.Work\";\r\n..\r\n.\r\n;fileinto \"INBOX.Work\";", "vacation text:\r\nfileinto \"INBOX.Work\";\r\n..\r\n.\r\n;fileinto \"Work\";"},
		{`redirect "INBOX.Work"; addheader "fileinto" "INBOX.Work";`, `redirect "INBOX.Work"; addheader "fileinto" "INBOX.Work";`},
		{`fileinto "INBOX.${x}";`, `fileinto "${x}";`}, // without variables this is a name
		{`fileinto "INBOX.a\\b\"c";`, `fileinto "a\\b\"c";`},
		{`snooze :mailbox "INBOX.Work" "09:00";`, `snooze :mailbox "Work" "09:00";`},
		{`fileinto "INBOX.a=2Eb";`, `fileinto "a.b";`},
	} {
		got, _, notes, err := n.translate(config.Old, x.old)
		if err != nil || got != x.new || len(notes) > 0 {
			t.Errorf("%s\ngot  %s\nwant %s (%v, %v)", x.old, got, x.new, notes, err)
		}
		want := cmp.Or(map[string]string{`fileinto "inbox.Work.A";`: `fileinto "INBOX.Work.A";`, `fileinto "Work";`: `fileinto "INBOX.Work";`}[x.old], x.old)
		if back, _, _, err := n.translate(config.New, got); err != nil || back != want {
			t.Errorf("%s\nand back %s (%v)", x.new, back, err)
		}
	}
}

// TestSieveNotes: what cannot be put into the other side's names stays, and is told with its line.
func TestSieveNotes(t *testing.T) {
	n := sieveFolders(t, [2]bool{})
	for script, want := range map[string]string{
		"require \"variables\";\r\nset \"a\" \"b\";\r\nfileinto \"INBOX.${a}\";": `line 3, "INBOX.${a}": the name depends on variables`,
		"if ihave \"encoded-character\" {\nfileinto \"${hex:49}NBOX.a\"; }":      `line 2, "${hex:49}NBOX.a": the name depends on variables`,
		"fileinto \"shared.a\";":   `line 1, "shared.a": the folder belongs to others`,
		"fileinto \"INBOX.\xff\";": "no UTF-8",
		"fileinto \"\";":           "no folder's name",
		"fileinto \"INBOX.\";":     "no folder's name",
		"fileinto \"INBOX.Out\";":  "the folder is not carried: A rule leaves it out",
	} {
		got, _, notes, err := n.translate(config.Old, script)
		if err != nil || len(notes) != 1 || !strings.Contains(notes[0].String(), want) {
			t.Errorf("%q: %v, %v; want %s", script, notes, err, want)
		}
		if !strings.Contains(script, "Out") && got != script {
			t.Errorf("%q became %q", script, got)
		}
	}
	for _, bad := range []string{`fileinto "a`, "text:", "text: x\r\n.\r\n", "text:\r\nabc", "/* x", "keep; : ;", "\x00", "§", `"\`} {
		if _, _, _, err := n.translate(config.Old, bad); err == nil {
			t.Errorf("%q is taken for a script", bad)
		}
	}
}

// TestSieveUTF7: hosts that take names in scripts as in IMAP get them so, and are read so.
func TestSieveUTF7(t *testing.T) {
	for _, x := range []struct {
		utf7     [2]bool
		old, new string
	}{
		{[2]bool{false, false}, "INBOX.Entwürfe", "Entwürfe"}, {[2]bool{true, false}, "INBOX.Entw&APw-rfe", "Entwürfe"},
		{[2]bool{false, true}, "INBOX.Entwürfe", "Entw&APw-rfe"}, {[2]bool{true, true}, "INBOX.Entw&APw-rfe", "Entw&APw-rfe"},
		{[2]bool{false, true}, "INBOX.B&C", "B&-C"}, {[2]bool{true, false}, "INBOX.B&-C", "B&C"}, {[2]bool{false, true}, "INBOX.Neu.ü", "Neu/&APw-"},
	} {
		n := sieveFolders(t, x.utf7)
		for _, side := range config.Sides {
			from, want := x.old, x.new
			if side == config.New {
				from, want = x.new, x.old
			}
			if got, why := n.name(side, from); got != want || why != "" {
				t.Errorf("%v, from %s: %q is %q, want %q (%s)", x.utf7, side, from, got, want, why)
			}
		}
	}
}

// sieveSample makes a script that may hold anything, by seed, and tells where folders' names stand in it.
func sieveSample(r *rand.Rand) string {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	name := func() string {
		return quoteSieve(pick("INBOX.Work", "INBOX.Work.A", "INBOX.Entwürfe", "INBOX.x\"y", "INBOX.a b.c", "INBOX.日本", "INBOX.Gesendet", "INBOX"))
	}
	junk := func() string {
		return pick(" ", "\r\n", "\n\t", "# fileinto \"INBOX.Work\";\r\n", "/* \"INBOX.Work\" \r\n*/", " /**/ ")
	}
	str := func() string {
		return pick(`"INBOX.Work"`, `"a\"b;"`, `""`, "\"x\r\ny\"", "text:\r\n..a\r\nfileinto \"INBOX.Work\";\r\n.\r\n", `"ü"`)
	}
	var b strings.Builder
	for range r.IntN(8) {
		b.WriteString(junk())
		switch r.IntN(7) {
		case 0:
			b.WriteString("fileinto" + junk() + pick("", ":copy ", ":flags "+str()+" ") + name() + junk() + ";")
		case 1:
			b.WriteString("if" + junk() + "mailboxexists [" + name() + junk() + "," + name() + "]{ stop ;}")
		case 2:
			b.WriteString("vacation :days 7 :fcc " + name() + " " + str() + ";")
		case 3:
			b.WriteString("redirect " + str() + junk() + ";")
		case 4:
			b.WriteString("if header :contains [" + str() + "," + str() + "] " + str() + " { discard; }")
		case 5:
			b.WriteString("if size :over 10K { keep; } else { addflag " + str() + "; }")
		case 6:
			b.WriteString("if metadata :is " + name() + junk() + str() + str() + " {}")
		}
	}
	return b.String()
}

// TestSieveMappingIsIdentityElsewhere: whatever a script holds, but for mailbox names not a byte of it changes; and there and back it is
// the same script.
func TestSieveMappingIsIdentityElsewhere(t *testing.T) {
	n := sieveFolders(t, [2]bool{})
	for seed := range uint64(3000) {
		script := sieveSample(rand.New(rand.NewPCG(seed, 1)))
		got, refs, notes, err := n.translate(config.Old, script)
		if err != nil || len(notes) > 0 {
			t.Fatalf("seed %d: %q: %v, %v", seed, script, notes, err)
		}
		after, err := findSieve(got)
		if err != nil || len(after.tokens) != len(refs.tokens) || len(after.mailboxes) != len(refs.mailboxes) {
			t.Fatalf("seed %d: %q became %q: %v", seed, script, got, err)
		}
		names := map[int]bool{}
		for i, at := range refs.mailboxes {
			if names[at] = true; after.mailboxes[i] != at {
				t.Fatalf("seed %d: another name: %q", seed, got)
			}
			if strings.Contains(after.tokens[at].text, "INBOX.") {
				t.Errorf("seed %d: %q was left", seed, after.tokens[at].text)
			}
		}
		for i := range refs.tokens {
			if !names[i] && refs.tokens[i].raw != after.tokens[i].raw {
				t.Errorf("seed %d: token %d %q became %q", seed, i, refs.tokens[i].raw, after.tokens[i].raw)
			}
		}
		if back, _, _, err := n.translate(config.New, got); err != nil || back != script {
			t.Errorf("seed %d: %q\nthere %q\nback  %q, %v", seed, script, got, back, err)
		}
	}
}

// FuzzSieve: the tokens of a text are the text, and a text without changed names is itself.
func FuzzSieve(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(sieveSample(rand.New(rand.NewPCG(seed, 2))))
	}
	f.Add("fileinto text: # x\n.\n;")
	f.Fuzz(func(t *testing.T, script string) {
		refs, err := findSieve(script)
		if err != nil {
			return
		}
		if got := refs.with(func(_ int, name string) string { return name }); got != script {
			t.Errorf("%q became %q", script, got)
		}
		renamed := refs.with(func(_ int, name string) string { return name + "x" })
		again, err := findSieve(renamed)
		if err != nil || len(again.mailboxes) != len(refs.mailboxes) {
			t.Fatalf("%q with other names is %q: %v", script, renamed, err)
		}
		for i, at := range refs.mailboxes {
			if got, want := again.tokens[again.mailboxes[i]].text, refs.tokens[at].text+"x"; got != want {
				t.Errorf("%q: a name is %q, want %q", renamed, got, want)
			}
		}
	})
}
