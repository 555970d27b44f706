package syncer

import (
	"encoding/base64"
	"encoding/json"
	"unicode/utf8"

	"mailgate/config"
)

// rawName is a name in JSON: text, or {"base64": "..."} when it is no UTF-8.
type rawName string

type rawBytes struct {
	Base64 string `json:"base64"`
}

func (n rawName) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(n)) {
		return json.Marshal(string(n))
	}
	return json.Marshal(rawBytes{base64.StdEncoding.EncodeToString([]byte(n))})
}

func (n *rawName) UnmarshalJSON(text []byte) error {
	if len(text) == 0 || text[0] != '{' {
		var s string
		err := json.Unmarshal(text, &s)
		*n = rawName(s)
		return err
	}
	var b rawBytes
	if err := json.Unmarshal(text, &b); err != nil {
		return err
	}
	s, err := base64.StdEncoding.DecodeString(b.Base64)
	*n = rawName(s)
	return err
}

// folderJSON is a line in JSON; pairs are OLD, NEW.
type folderJSON struct {
	Name       [2]rawName `json:"name"`
	Shown      [2]string  `json:"shown"`
	Exists     [2]bool    `json:"exists"`
	Selectable [2]bool    `json:"selectable"`
	Known      int64      `json:"known,omitempty"`
	MaybeFrom  int64      `json:"maybe_from,omitempty"`
	Action     Action     `json:"action"`
	Side       string     `json:"side,omitempty"`
	Listed     [2]rawName `json:"listed"`
	From       rawName    `json:"from,omitempty"`
	Use        string     `json:"special_use,omitempty"`
	Subscribed [2]bool    `json:"subscribed"`
	Subscribe  bool       `json:"subscribe"`
	Messages   [2]uint32  `json:"messages"`
	Size       [2]int64   `json:"size"`
	Why        string     `json:"why,omitempty"`
}

// MarshalJSON keeps raw names byte for byte.
func (f Folder) MarshalJSON() ([]byte, error) {
	j := folderJSON{
		Shown: f.Shown, Exists: f.Exists, Selectable: f.Selectable, Known: f.Known, MaybeFrom: f.MaybeFrom, Action: f.Action, From: rawName(f.From),
		Use: f.Use, Subscribed: f.Subscribed, Subscribe: f.Subscribe, Messages: f.Messages, Size: f.Size, Why: f.Why,
	}
	j.Name = [2]rawName{rawName(f.Name[0]), rawName(f.Name[1])}
	j.Listed = [2]rawName{rawName(f.Listed[0]), rawName(f.Listed[1])}
	if f.Action != ActionPair && f.Action != ActionSkip {
		j.Side = f.Side.String()
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (f *Folder) UnmarshalJSON(text []byte) error {
	var j folderJSON
	if err := json.Unmarshal(text, &j); err != nil {
		return err
	}
	*f = Folder{
		Name: [2]string{string(j.Name[0]), string(j.Name[1])}, Shown: j.Shown, Exists: j.Exists, Selectable: j.Selectable, Known: j.Known,
		MaybeFrom: j.MaybeFrom, Action: j.Action, From: string(j.From), Use: j.Use, Subscribed: j.Subscribed, Subscribe: j.Subscribe,
		Listed: [2]string{string(j.Listed[0]), string(j.Listed[1])}, Messages: j.Messages, Size: j.Size, Why: j.Why,
	}
	if j.Side == config.New.String() {
		f.Side = config.New
	}
	return nil
}

// MarshalJSON names the side and the separators.
func (p *Plan) MarshalJSON() ([]byte, error) {
	type plain Plan
	j := struct {
		*plain
		Authority string    `json:"authority"`
		Separator [2]string `json:"separator"`
	}{plain: (*plain)(p), Authority: p.Authority.String()}
	for side, c := range p.Separator {
		if c != 0 {
			j.Separator[side] = string(rune(c))
		}
	}
	return json.Marshal(j)
}
