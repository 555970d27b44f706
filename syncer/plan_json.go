package syncer

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
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

// MarshalJSON keeps raw names byte for byte. The side is left out where nothing is done.
func (f Folder) MarshalJSON() ([]byte, error) {
	j := folderJSON{
		Shown: f.Shown, Exists: f.Exists, Selectable: f.Selectable, Known: f.Known, Action: f.Action, From: rawName(f.From),
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
		Action: j.Action, From: string(j.From), Use: j.Use, Subscribed: j.Subscribed, Subscribe: j.Subscribe,
		Listed: [2]string{string(j.Listed[0]), string(j.Listed[1])}, Messages: j.Messages, Size: j.Size, Why: j.Why,
	}
	var err error
	if j.Side != "" {
		f.Side, err = sideOf(j.Side)
	}
	return err
}

// planJSON is a plan in JSON; pairs are OLD, NEW.
type planJSON struct {
	User      string     `json:"user"`
	Authority string     `json:"authority"`
	Prefix    [2]rawName `json:"prefix"`
	Separator [2]string  `json:"separator"` // one character, or none
	Folders   []Folder   `json:"folders"`
	Notes     []string   `json:"notes,omitempty"`
}

// MarshalJSON names the side that decides and the separators.
func (p Plan) MarshalJSON() ([]byte, error) {
	j := planJSON{User: p.User, Authority: p.Authority.String(), Folders: p.Folders, Notes: p.Notes}
	for side, c := range p.Separator {
		j.Prefix[side], j.Separator[side] = rawName(p.Prefix[side]), separatorText(c)
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (p *Plan) UnmarshalJSON(text []byte) error {
	var j planJSON
	if err := json.Unmarshal(text, &j); err != nil {
		return err
	}
	*p = Plan{User: j.User, Folders: j.Folders, Notes: j.Notes}
	var err error
	if p.Authority, err = sideOf(j.Authority); err != nil {
		return err
	}
	for side, text := range j.Separator {
		p.Prefix[side] = string(j.Prefix[side])
		if text == "" {
			continue
		}
		c, n := utf8.DecodeRuneInString(text)
		if n != len(text) || c > 0xFF {
			return fmt.Errorf("separator %q: it is one byte", text)
		}
		p.Separator[side] = byte(c)
	}
	return nil
}

// sideOf reads the name of a side.
func sideOf(name string) (config.Side, error) {
	for _, side := range config.Sides {
		if name == side.String() {
			return side, nil
		}
	}
	return 0, fmt.Errorf("side %q: it is %s or %s", name, config.Old, config.New)
}
