package syncer

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailgate/config"

	"golang.org/x/net/html"
)

var update = flag.Bool("update", false, "write testdata/*.golden anew") //nolint:gochecknoglobals // flags are

// golden compares text with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is another (-update writes it anew):\n%s", file, got)
	}
}

const hostile = `<script>alert("1")</script>&amp;'"` + "\x1b[31m\u202e"

// everyLine is a plan with all kinds of lines.
func everyLine(t *testing.T) *Plan {
	t.Helper()
	m := twoSides(t, "Work", "Work/Clients", "Old", "Both", "Archive")
	old, new := m.sides[config.Old], m.sides[config.New]
	m.rules.Exclude = []string{"Private"}
	m.do(t, config.Old, "Work", "Arbeit")
	delete(old.folders, "INBOX.Old")
	delete(old.folders, "INBOX.Both")
	delete(new.folders, "Both")
	delete(new.folders, "Archive")
	new.Profile = &Profile{BadNames: "%", CaseFolds: true}
	m.with(config.Old, "INBOX.Entw&APw-rfe &ZeVnLIqe-", `\Drafts`, 20)
	m.with(config.Old, "INBOX.100% sure", "", 21)
	m.with(config.Old, "INBOX."+strings.Repeat("a very long name ", 6)+"indeed", "", 22)
	m.with(config.Old, "INBOX.Private", "", 23)
	m.with(config.Old, "INBOX.case", "", 24)
	m.with(config.Old, "INBOX.Case", "", 25)
	m.with(config.Old, "INBOX."+encodeUTF7(hostile), "", 26)
	m.with(config.New, "Elsewhere", "", 27)
	m.sides[config.New].add("Empty", modelFolder{id: 28})
	old.folders["INBOX.Parent"] = &modelFolder{}
	return m.plan()
}

// TestPlanText shows plans as people see them, in process and behind the control socket alike.
func TestPlanText(t *testing.T) {
	p := everyLine(t)
	for _, a := range []Action{ActionPair, ActionCreate, ActionRename, ActionGone, ActionSkip, ActionRefuse} {
		if !slices.ContainsFunc(p.Folders, func(f Folder) bool { return f.Action == a }) {
			t.Errorf("the plan has no %s", a)
		}
	}
	golden(t, "plan", []byte(p.Text()))
	text, err := json.MarshalIndent(p, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "plan_json", text)
	var back Plan
	if err := json.Unmarshal(text, &back); err != nil || back.Text() != p.Text() {
		t.Errorf("behind JSON: %v\n%s", err, back.Text())
	}
	m := twoSides(t)
	m.authority = config.New
	golden(t, "plan_new_decides", []byte(m.plan().Text()))
}

// verifications are a report with everything in it, and one with nothing.
func verifications() map[string]*Verification {
	at := time.Date(2026, 11, 25, 10, 30, 0, 0, time.UTC)
	equal := &Verification{User: "anna@example.com", At: at, Took: 1234567890, Deep: true, Authority: "old", Messages: [2]int64{1203, 1203}, Compared: 1203, Hashed: 1203, Equal: true,
		Folders: []FolderVerification{{Name: [2]string{"INBOX", "INBOX"}, Messages: [2]int64{1200, 1200}, Hashed: 1200},
			{Name: [2]string{"INBOX.Entwürfe", "Drafts"}, Messages: [2]int64{3, 3}, Hashed: 3}}}
	different := &Verification{User: hostile, At: at, Took: 95 * time.Second, Authority: "new", Messages: [2]int64{130, 128}, Compared: 127, Hashed: 40, Open: 1, Waived: 1,
		Folders: []FolderVerification{
			{Name: [2]string{"INBOX", "INBOX"}, Messages: [2]int64{100, 99}, Hashed: 20, Found: 1205, Differences: []Difference{
				{Kind: "missing-new", UID: [2]uint32{17, 0}, Subject: hostile, MessageID: "<1@example.com>"},
				{Kind: "missing-old", UID: [2]uint32{0, 9}, Subject: "日本語の件名"},
				{Kind: "flags", UID: [2]uint32{3, 4}, Subject: "Minutes of the meeting", Old: `\Seen`, New: ""},
				{Kind: "date", UID: [2]uint32{5, 6}, Subject: "Invoice", Old: "2026-11-25 10:00:00", New: "2026-11-25 11:00:00"},
				{Kind: "size", UID: [2]uint32{7, 8}, MessageID: "<" + hostile + ">", Old: "1200", New: "1203"},
				{Kind: "body", UID: [2]uint32{9, 10}, Subject: "Contract", Old: "1200 bytes, SHA-256 0011223344556677", New: "1203 bytes, SHA-256 8899aabbccddeeff"},
				{Kind: "subscription", Old: "subscribed", New: "not subscribed"}}},
			{Name: [2]string{hostile + strings.Repeat(" long", 20), ""}, Messages: [2]int64{5, 0}, Found: 1, Differences: []Difference{{Kind: "folder", Why: "the folder is not on NEW"}}},
			{Name: [2]string{"仕事", "仕事"}, Messages: [2]int64{25, 24}, Hashed: 20, Waived: 1, Open: []Difference{
				{Kind: "missing-new", UID: [2]uint32{2, 0}, Subject: "A film", Why: "in quarantine (too-big): NO [TOOBIG] " + hostile}}, Explained: []Difference{
				{Kind: "missing-new", UID: [2]uint32{1, 0}, Subject: "A longer film", Why: aboutWaiver(Quarantined{Reason: "too-big", Detail: "NO [TOOBIG] " + hostile, By: "cli: " + hostile, Decided: at})},
				{Kind: "flags", UID: [2]uint32{3, 4}, Subject: "Label", Old: `\Seen Label`, New: `\Seen`, Why: "the other side does not keep Label"}}},
			{Name: [2]string{"INBOX.Private", ""}, Explained: []Difference{{Kind: "folder", Why: "A rule leaves it out."}}},
		}}
	return map[string]*Verification{"verify_equal": equal, "verify_different": different}
}

// TestVerifyText shows what verify found, as a table, as JSON and as a page.
func TestVerifyText(t *testing.T) {
	for name, v := range verifications() {
		var table, page bytes.Buffer
		if err := v.WriteTable(&table); err != nil {
			t.Fatal(err)
		}
		golden(t, name, table.Bytes())
		if strings.ContainsAny(table.String(), "\x1b\u202e") {
			t.Errorf("%s: the table holds characters that disturb a terminal", name)
		}
		text, err := json.MarshalIndent(v, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name+"_json", text)
		if err := v.WriteHTML(&page); err != nil {
			t.Fatal(err)
		}
		golden(t, name+"_html", page.Bytes())
		if strings.ContainsAny(page.String(), "\x1b\u202e") {
			t.Errorf("%s: the page holds characters that turn text around", name)
		}
		checkPage(t, name, page.Bytes())
	}
}

// checkPage sees to it that a page is well-formed, stands alone, runs nothing and shows hostile text as text.
func checkPage(t *testing.T, name string, page []byte) {
	t.Helper()
	var open []string
	shown := ""
	for z := html.NewTokenizer(bytes.NewReader(page)); ; {
		switch z.Next() {
		case html.ErrorToken:
			if len(open) > 0 {
				t.Errorf("%s: %q are never closed", name, open)
			}
			for _, s := range []string{"alert(\"1\")", "SHA-256 0011223344556677", "Explained in 仕事", "1198 more, which are not listed", "Waiting for a decision in 仕事"} {
				if strings.Contains(name, "different") && !strings.Contains(shown, s) {
					t.Errorf("%s does not show %q", name, s)
				}
			}
			return
		case html.TextToken:
			shown += string(z.Text()) // a Tokenizer gives text as it will be read: unescaped
		case html.StartTagToken:
			tag := z.Token()
			if slices.Contains([]string{"script", "link", "img", "iframe", "object", "base", "form", "a"}, tag.Data) {
				t.Errorf("%s: <%s>", name, tag.Data)
			}
			for _, a := range tag.Attr {
				if !slices.Contains([]string{"lang", "charset", "name", "content", "class"}, a.Key) {
					t.Errorf("%s: <%s %s=%q>", name, tag.Data, a.Key, a.Val)
				}
			}
			if tag.Data != "meta" && tag.Data != "br" {
				open = append(open, tag.Data)
			}
		case html.EndTagToken:
			tag := z.Token()
			if n := len(open); n == 0 || open[n-1] != tag.Data {
				t.Fatalf("%s: </%s> closes %q", name, tag.Data, open)
			}
			open = open[:len(open)-1]
		}
	}
}
