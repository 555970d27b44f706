package backend

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/mailtest"
)

// sieveWith logs in at a server that goes on with the rest of a dialogue.
func sieveWith(t testing.TB, rest string) *SieveClient {
	t.Helper()
	return sieveServed(t, func(k *mailtest.Talk) { k.Dialogue(sieveIn + rest) })
}

func sieveServed(t testing.TB, serve func(k *mailtest.Talk)) *SieveClient {
	t.Helper()
	s := mailtest.StartScript(t, nil, serve).AllowGone()
	c, err := sieveDialer(t, config.Plain, "", s.Port()).DialSieve(t.Context(), config.Old, "", sieveUser(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestSieveCommands: every command, and that a NO leaves the session usable.
func TestSieveCommands(t *testing.T) {
	ctx := t.Context()
	c := sieveWith(t, `C: LISTSCRIPTS
		S: "one"
		S: "a \"b\" \\" ACTIVE
		S: {4}
		S: lite active
		S: OK "done"
		C: GETSCRIPT "a \"b\" \\"
		S: {13}
		S" "keep;\r\n# \"{3}\r\nOK\r\n"
		C: GETSCRIPT "no"
		S: NO (NONEXISTENT) "no such"
		C: GETSCRIPT {3+}
		C" "ü!\r\n"
		S: "keep;"
		S: OK
		C: CHECKSCRIPT {5+}
		C: keep;
		S: OK (WARNINGS) {12}
		S" "line 1: odd\n\r\n"
		C: PUTSCRIPT "one" {7+}
		C" "keep;\r\n\r\n"
		S: NO (QUOTA/MAXSIZE) "too much"
		C: PUTSCRIPT "one" {4+}
		C: bad;
		S: NO {26}
		S" "line 1: bad\r\nparse failed\r\n\r\n"
		C: HAVESPACE "one" 100
		S: OK
		C: SETACTIVE "one"
		S: OK
		C: SETACTIVE ""
		S: OK
		C: DELETESCRIPT "gone"
		S: NO (NONEXISTENT) "no"
		C: DELETESCRIPT "one"
		S: NO (ACTIVE) "is active"
		C: LOGOUT
		S: OK (TAG ("a" (b "c")) d) "bye"
		!end`)
	list, err := c.List(ctx)
	if want := []SieveScript{{"one", false}, {`a "b" \`, true}, {"lite", true}}; err != nil || !reflect.DeepEqual(list, want) {
		t.Errorf("LISTSCRIPTS: %v, %v", list, err)
	}
	text, err := c.Get(ctx, `a "b" \`)
	if err != nil || text != "keep;\r\n# \"{3}" {
		t.Errorf("GETSCRIPT: %q, %v", text, err)
	}
	if _, err := c.Get(ctx, "no"); SieveRefused(err) == nil || !SieveRefused(err).Has("NONEXISTENT") {
		t.Errorf("GETSCRIPT of none: %v", err)
	}
	if text, err := c.Get(ctx, "ü!"); err != nil || text != "keep;" {
		t.Errorf("GETSCRIPT: %q, %v", text, err)
	}
	if w, err := c.Check(ctx, "keep;"); err != nil || w != "line 1: odd" {
		t.Errorf("CHECKSCRIPT: %q, %v", w, err)
	}
	_, err = c.Put(ctx, "one", "keep;\r\n")
	if e := SieveRefused(err); e == nil || !e.Has("QUOTA") || !e.Has("QUOTA/MAXSIZE") || e.Has("ACTIVE") {
		t.Errorf("PUTSCRIPT beyond the quota: %v", err)
	}
	_, err = c.Put(ctx, "one", "bad;")
	if e := SieveRefused(err); e == nil || e.Code != "" || e.Text != "line 1: bad; parse failed" {
		t.Errorf("PUTSCRIPT of nonsense: %v", err)
	}
	if err := errors.Join(c.HaveSpace(ctx, "one", 100), c.Activate(ctx, "one"), c.Activate(ctx, ""), c.Delete(ctx, "gone")); err != nil {
		t.Error(err)
	}
	if err := c.Delete(ctx, "one"); SieveRefused(err) == nil || !SieveRefused(err).Has("ACTIVE") {
		t.Errorf("DELETESCRIPT of the active one: %v", err)
	}
	if err := c.Logout(ctx); err != nil {
		t.Error(err)
	}
}

// TestSieveCyrusNames: a timsieved lists names as they are, and loses some that it takes.
func TestSieveCyrusNames(t *testing.T) {
	cyrus := strings.Replace(sieveInner, "S: ", "S: \"IMPLEMENTATION\" \"Cyrus timsieved 3.6.1\"\nS: ", 1)
	c := sieveServed(t, func(k *mailtest.Talk) {
		k.Dialogue(sieveHello + "C: AUTHENTICATE ...\nS: OK\n" + cyrus +
			"C: LISTSCRIPTS\n" + `S: "x"y\"` + "\n" + `S: "a\\b" ACTIVE` + "\n" + `S: "{5}"` + "\nS: OK\n!end")
	})
	list, err := c.List(t.Context())
	if want := []SieveScript{{`x"y\`, false}, {`a\\b`, true}, {"{5}", false}}; err != nil || !reflect.DeepEqual(list, want) {
		t.Errorf("%v, %v", list, err)
	}
	for name, want := range map[string]bool{"a b": true, "ü": false, " a": false, "": false, strings.Repeat("n", 61): false, "=?x?=": false, `x"\`: true} {
		if c.Findable(name) != want {
			t.Errorf("%q: findable is %t", name, !want)
		}
	}
	if !sieveWith(t, "!silent").Findable(" ü") {
		t.Error("others find every name")
	}
}

// TestSieveOldServer: without VERSION there is no CHECKSCRIPT, and none is sent.
func TestSieveOldServer(t *testing.T) {
	c := sieveServed(t, func(k *mailtest.Talk) {
		k.Dialogue(sieveHello + "C: AUTHENTICATE ...\nS: OK\nC: CAPABILITY\nS: \"SIEVE\" \"fileinto\"\nS: OK\n!end")
	})
	if _, err := c.Check(t.Context(), "keep;"); !errors.Is(err, ErrNoCheckScript) {
		t.Error(err)
	}
	if got := c.Capabilities().Lacks([]string{"fileinto", "Copy", "copy", "comparator-i;octet"}); !reflect.DeepEqual(got, []string{"copy"}) {
		t.Error(got)
	}
}

// TestSieveLarge: a script of MaxScript is read; a larger one is passed over, and the session goes on.
func TestSieveLarge(t *testing.T) {
	text := strings.Repeat("# 345678\r\n", MaxScript/10)
	c := sieveServed(t, func(k *mailtest.Talk) {
		k.Dialogue(sieveIn)
		for _, s := range []string{text, text + strings.Repeat("x", 100), "keep;"} {
			k.Expect("GETSCRIPT ...")
			k.Send(fmt.Sprintf("{%d}\r\n%s\r\nOK\r\n", len(s), s))
		}
		k.Expect(fmt.Sprintf("PUTSCRIPT \"a\" {%d+}", len(text)))
		k.Send(map[bool]string{true: "OK\r\n", false: "NO \"another text\"\r\n"}[k.ReadN(len(text)+2) == text+"\r\n"])
		k.Silent()
	})
	if got, err := c.Get(t.Context(), "a"); err != nil || got != text {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := c.Get(t.Context(), "b"); !errors.Is(err, ErrScriptSize) {
		t.Errorf("larger: %v", err)
	}
	if got, err := c.Get(t.Context(), "c"); err != nil || got != "keep;" {
		t.Errorf("behind it: %q, %v", got, err)
	}
	if _, err := c.Put(t.Context(), "a", text); err != nil {
		t.Error(err)
	}
	if _, err := c.Put(t.Context(), "a", text+strings.Repeat("x", 100)); !errors.Is(err, ErrScriptSize) {
		t.Errorf("larger: %v", err)
	}
}

// TestSieveHostile: whatever a server says, it is an error in time, and little of it is held.
func TestSieveHostile(t *testing.T) {
	for what, x := range map[string]struct {
		head, again string
		limit       bool // a *LimitError
	}{
		"scripts without end":       {"", "\"x\"\r\n", true},
		"a line without end":        {"\"", "x", false},
		"a literal of 1 TiB":        {"{1099511627776}\r\n", "x", true},
		"a literal of many digits":  {"{99999999999999999999}\r\n", "x\r\n", false},
		"a name of 2 MiB":           {"{2097152}\r\n", "x", true},
		"literals in a line":        {"", "{1}\r\nx ", false},
		"a text of 2 MiB":           {"NO {2097152}\r\n", "x", true},
		"parentheses":               {"NO ", "(", false},
		"a status that is none":     {"OK \"\r\n", "", false},
		"a code without end":        {"NO (a\r\n", "", false},
		"half a list":               {"\"a\"\r\nb\r\nOK\r\n", "", false},
		"a script for a list":       {"{3}\r\nabc def\r\nOK\r\n", "", false},
		"an active list":            {"\"a\" ACTIVE ACTIVE\r\nOK\r\n", "", false},
		"a bye amid the list":       {"\"a\"\r\nBYE \"ends\"\r\n", "", false},
		"the end amid the list":     {"\"a\"\r\n", "", false},
		"the end amid a literal":    {"{10}\r\nabc", "", false},
		"a backslash before a word": {`"a\b"` + "x\r\nOK\r\n", "", false},
	} {
		t.Run(what, func(t *testing.T) {
			c := sieveServed(t, func(k *mailtest.Talk) {
				k.Dialogue(sieveIn + "C: LISTSCRIPTS")
				k.Send(x.head)
				for piece := strings.Repeat(x.again, max(1, 30000/max(len(x.again), 1))); x.again != ""; {
					if _, err := k.Write([]byte(piece)); err != nil {
						return
					}
				}
			})
			before := allocated()
			list, err := c.List(t.Context())
			var limit *imapwire.LimitError
			if err == nil || x.limit && !errors.As(err, &limit) {
				t.Errorf("got %v, %v", list, err)
			}
			if used := allocated() - before; used > 32<<20 {
				t.Errorf("%d bytes were held", used)
			}
			if again := c.Activate(t.Context(), "x"); again == nil {
				t.Error("the session goes on")
			}
		})
	}
}

// TestSieveTimes: a server that says nothing is left after a time, and at once when the caller gives up.
func TestSieveTimes(t *testing.T) {
	c := sieveWith(t, "!silent")
	c.patience = 50 * time.Millisecond
	if _, err := c.List(t.Context()); err == nil {
		t.Error("silence is taken for a list")
	}
	c = sieveWith(t, "!silent")
	why := errors.New("no more")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
	if _, err := c.List(ctx); !errors.Is(err, why) {
		t.Error(err)
	}
}
