package lab

import "testing"

// The hosts that have ManageSieve keep scripts and the active mark, byte for byte.
func TestSieve(t *testing.T) {
	l := Start(t)
	c := StartCyrus(t)
	for _, h := range []Host{l.Old, l.New, c.Host} {
		t.Run(h.Name, func(t *testing.T) {
			Dial(t, h, 1).Close()
			x := DialSieve(t, h, 1)
			defer x.Close()
			text := "require \"fileinto\";\r\n# {5}\r\nfileinto \"a\";\n"
			x.Put("one", text)
			x.Put(`two`, "keep;")
			x.Activate("two")
			all, active := x.All()
			if len(all) != 2 || all["one"] != text || all["two"] != "keep;" || active != "two" {
				t.Errorf("got %q, active %q", all, active)
			}
			x.Activate("")
			x.Delete("two")
			if all, active := x.All(); len(all) != 1 || active != "" {
				t.Errorf("got %q, active %q", all, active)
			}
		})
	}
}
