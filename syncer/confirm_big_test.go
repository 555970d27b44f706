package syncer_test

import (
	"os"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// TestConfirmBig measures what the fence of a flip costs with 20,000 messages in 40 folders: MAILGATE_SOAK=1.
func TestConfirmBig(t *testing.T) {
	if os.Getenv("MAILGATE_SOAK") == "" {
		t.Skip("MAILGATE_SOAK=1 measures it")
	}
	l := lab.Start(t, lab.MailboxesOnly())
	courier, cyrus := lab.StartCourier(t), lab.StartCyrus(t, lab.CyrusSetting("munge8bit: no"))
	for _, pair := range [][2]lab.Host{{l.Old, l.New}, {courier.Host, cyrus.Host}, {courier.Host, l.New}}[:2] {
		t.Run(pair[0].Name+" to "+pair[1].Name, func(t *testing.T) {
			r := newRig(t, pair[0], pair[1], 1, func(o *syncer.Options) { o.Keep = time.Minute })
			for side, p := range newRig(t, pair[0], pair[1], lab.Users, nil).probe(t) {
				if err := r.SaveProfile(t.Context(), config.Side(side), p); err != nil {
					t.Fatal(err)
				}
			}
			var folders []corpus.Folder
			for i := range 40 {
				name := []string{"INBOX"}
				if i > 0 {
					name = []string{"Folder" + string(rune('A'+i/10)) + string(rune('0'+i%10))}
				}
				folders = append(folders, corpus.Small(500, uint64(i+1), name...))
			}
			corpus.Load(t, pair[0], 1, folders)
			r.pass(t)
			r.pass(t)
			x := lab.Dial(t, pair[0], 1)
			for i := range 6 {
				if i >= 2 {
					x.Append("INBOX", "", letter(70_000+10*i))
					x.Append(pair[0].Prefix+"FolderB0", `\Seen`, letter(70_001+10*i))
					x.Do(`SELECT "%sFolderC1"`, pair[0].Prefix)
					uids := x.UIDs()
					for k := range 8 {
						x.Do(`UID STORE %d +FLAGS (\Flagged)`, uids[10*i+k])
					}
					x.Do("SELECT INBOX")
				}
				began := time.Now()
				rep, err := r.Run(t.Context(), lab.User(1), syncer.RunOptions{Fenced: true, NoSieve: true})
				if err != nil || len(rep.Errors) > 0 {
					t.Fatal(rep, err)
				}
				delta := time.Since(began)
				c, err := r.Confirm(t.Context(), lab.User(1), syncer.ConfirmOptions{Wrote: rep.Touched()})
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("delta %s, verify %s, in all %s: %d copied, %d flags; %d looked, %d differ %+v", delta.Round(time.Millisecond), (time.Since(began) - delta).Round(time.Millisecond),
					time.Since(began).Round(time.Millisecond), rep.Copied[1], rep.Flags[1], c.Looked, c.Different, c.Differences)
			}
			x.Close()
		})
	}
}
