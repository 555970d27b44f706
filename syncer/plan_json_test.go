package syncer

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"mailgate/config"

	"pgregory.net/rapid"
)

// pairOf draws a value for each side.
func pairOf[T any](g *rapid.Generator[T]) *rapid.Generator[[2]T] {
	return rapid.Custom(func(t *rapid.T) [2]T { return [2]T{g.Draw(t, "old"), g.Draw(t, "new")} })
}

// rawNames are names as servers have them: any bytes.
func rawNames() *rapid.Generator[string] {
	return rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
		rapid.SampledFrom([]string{"", "INBOX", "INBOX.Entw&APw-rfe", "caf\xe9", `{"base64":"AAAA"}`, "<b>&amp;", "\u2028"}))
}

func anyFolder() *rapid.Generator[Folder] {
	return rapid.Custom(func(t *rapid.T) Folder {
		f := Folder{
			Name: pairOf(rawNames()).Draw(t, "name"), Shown: pairOf(rapid.String()).Draw(t, "shown"), Listed: pairOf(rawNames()).Draw(t, "listed"),
			Exists: pairOf(rapid.Bool()).Draw(t, "exists"), Selectable: pairOf(rapid.Bool()).Draw(t, "selectable"),
			Known: rapid.Int64().Draw(t, "known"),
			Action: rapid.SampledFrom([]Action{ActionPair, ActionCreate, ActionRename, ActionGone, ActionSkip,
				ActionRefuse}).Draw(t, "action"),
			From: rawNames().Draw(t, "from"), Use: rapid.SampledFrom([]string{"", `\Sent`}).Draw(t, "use"),
			Subscribed: pairOf(rapid.Bool()).Draw(t, "subscribed"), Subscribe: rapid.Bool().Draw(t, "subscribe"),
			Messages: pairOf(rapid.Uint32()).Draw(t, "messages"), Size: pairOf(rapid.Int64()).Draw(t, "size"), Why: rapid.String().Draw(t, "why"),
		}
		if f.Action != ActionPair && f.Action != ActionSkip {
			f.Side = rapid.SampledFrom(config.Sides[:]).Draw(t, "side")
		}
		return f
	})
}

// TestPlanRoundTrip sends plans through JSON, as the control socket does.
func TestPlanRoundTrip(t *testing.T) {
	checks(t, "3000")
	rapid.Check(t, func(t *rapid.T) {
		p := &Plan{
			User: rapid.String().Draw(t, "user"), Authority: rapid.SampledFrom(config.Sides[:]).Draw(t, "authority"),
			Prefix: pairOf(rawNames()).Draw(t, "prefix"), Separator: pairOf(rapid.Byte()).Draw(t, "separator"),
			Folders: rapid.SliceOfN(anyFolder(), 1, 4).Draw(t, "folders"), Notes: rapid.SliceOfN(rapid.String(), 1, 3).Draw(t, "notes"),
		}
		sameInJSON(t, p)
		sameInJSON(t, *p)
	})
	for _, text := range []string{`{"authority":"both"}`, `{"authority":"old","separator":["//",""]}`, `{"authority":"new","separator":["\u4e00",""]}`,
		`{"authority":"old","folders":[{"side":"north"}]}`, `{"authority":"old","prefix":[{"base64":"?"},""]}`, `[]`} {
		if err := json.Unmarshal([]byte(text), new(Plan)); err == nil {
			t.Errorf("%s is taken for a plan", text)
		}
	}
}

// sameInJSON writes a value and reads it back.
func sameInJSON[T any](t *rapid.T, v T) {
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var back T
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if !reflect.DeepEqual(back, v) {
		t.Fatalf("%s\nwas   %+v\nis now %+v", text, v, back)
	}
}

// TestVerificationRoundTrip does the same to what verify found.
func TestVerificationRoundTrip(t *testing.T) {
	checks(t, "1000")
	difference := rapid.Custom(func(t *rapid.T) Difference {
		return Difference{Kind: rapid.String().Draw(t, "kind"), UID: pairOf(rapid.Uint32()).Draw(t, "uid"), Subject: rapid.String().Draw(t, "subject"),
			MessageID: rapid.String().Draw(t, "id"), Old: rapid.String().Draw(t, "old"), New: rapid.String().Draw(t, "new"), Why: rapid.String().Draw(t, "why")}
	})
	folder := rapid.Custom(func(t *rapid.T) FolderVerification {
		return FolderVerification{Name: pairOf(rapid.String()).Draw(t, "name"), Messages: pairOf(rapid.Int64()).Draw(t, "messages"),
			Hashed: rapid.Int64().Draw(t, "hashed"), Found: rapid.Int64().Draw(t, "found"),
			Open: rapid.SliceOfN(difference, 1, 3).Draw(t, "open"), Waived: rapid.Int64().Draw(t, "waived"),
			Differences: rapid.SliceOfN(difference, 1, 3).Draw(t, "differences"), Explained: rapid.SliceOfN(difference, 1, 3).Draw(t, "explained")}
	})
	rapid.Check(t, func(t *rapid.T) {
		sameInJSON(t, &Verification{User: rapid.String().Draw(t, "user"), At: time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "at"), 5).UTC(),
			Took: time.Duration(rapid.Int64().Draw(t, "took")), Deep: rapid.Bool().Draw(t, "deep"), Authority: rapid.String().Draw(t, "authority"),
			Folders: rapid.SliceOfN(folder, 1, 3).Draw(t, "folders"), Messages: pairOf(rapid.Int64()).Draw(t, "messages"),
			Compared: rapid.Int64().Draw(t, "compared"), Hashed: rapid.Int64().Draw(t, "hashed"), Equal: rapid.Bool().Draw(t, "equal")})
	})
}
