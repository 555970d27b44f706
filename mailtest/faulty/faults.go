package faulty

import (
	"cmp"
	"math/rand/v2"
	"time"
)

// Kind is a way to fail.
type Kind int

const (
	None   Kind = iota
	Cut         // the connection ends; the command is not done
	Lost        // it is done, and the connection ends before the answer
	Inside      // it is done, and the connection ends in the middle of the answer
	Upload      // the connection ends in the middle of a literal that is sent
	Late        // the connection ends, and a while later the command is done
	Bye         // BYE in place of an answer
	Refuse      // NO, of passing trouble
	Bad         // BAD
	Some        // it is done for some of its messages, then NO
	Half        // a listing or a FETCH leaves something out, then NO
	Lies        // a listing or a FETCH leaves something out and is OK
	Noise       // lines that nobody asked for
	Slow        // the answer takes a while
	kinds
)

func (k Kind) String() string {
	return [...]string{"none", "cut", "lost", "inside", "upload", "late", "bye", "refuse", "bad", "some", "half", "lies", "noise", "slow"}[k]
}

// All are all kinds but Lies, which no client can do anything about.
func All() (out []Kind) {
	for k := Cut; k < kinds; k++ {
		if k != Lies {
			out = append(out, k)
		}
	}
	return out
}

// Faults are what goes wrong.
type Faults struct {
	Seed  uint64
	Rate  float64 // of commands, 0 to 1
	Kinds []Kind
	Wait  time.Duration // how late Late and Slow are, at most; how late the answer of the one command of Only is that is Half
	Only  string        // the one command that fails, with its first argument, such as "SELECT Work"; "" means any

	Text  string // the refusal of Refuse and Bye; "" means any
	Times int    // how many, at most; 0 means without end

	rnd  *rand.Rand
	done int
	Hit  [kinds]int // how often each kind happened; read it when the host is Sound
}

// fault is what happens to one command.
type fault struct {
	kind Kind
	text string
	part float64
	wait time.Duration
	dice func() bool
	lies bool
}

// writes are the commands that change something.
var writes = map[string]bool{"APPEND": true, "UID STORE": true, "STORE": true, "UID COPY": true, "UID MOVE": true, "UID EXPUNGE": true, "EXPUNGE": true,
	"CREATE": true, "DELETE": true, "RENAME": true, "SUBSCRIBE": true, "UNSUBSCRIBE": true}

func (f *Faults) hit() (Kind, bool) {
	if f == nil || len(f.Kinds) == 0 || f.Times > 0 && f.done >= f.Times {
		return None, false
	}
	if f.rnd == nil {
		f.rnd = rand.New(rand.NewPCG(f.Seed, 7))
	}
	if f.rnd.Float64() >= f.Rate {
		return None, false
	}
	f.done++
	return f.Kinds[f.rnd.IntN(len(f.Kinds))], true
}

// roll decides about a command.
func (h *Host) roll(c *command) fault {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.faults
	name := c.name
	if f != nil && f.Only != "" && (len(c.args) == 0 || f.Only != name+" "+c.args[0].s) {
		return fault{}
	}
	kind, ok := f.hit()
	if !ok || kind == Upload {
		return fault{}
	}
	x := fault{kind: kind, part: f.rnd.Float64()}
	switch kind {
	case Late, Slow:
		x.wait = time.Duration(x.part * float64(f.Wait))
	case Refuse:
		x.text = []string{"[UNAVAILABLE] later", "[INUSE] locked", "[LIMIT] too many", "[SERVERBUG] Internal error", "no reason at all"}[f.rnd.IntN(5)]
		x.text = cmp.Or(f.Text, x.text)
	case Bye:
		x.text = cmp.Or(f.Text, "[UNAVAILABLE] going down")
	case Half, Lies:
		if name != "LIST" && name != "LSUB" && name != "UID FETCH" {
			return fault{}
		}
		dice := rand.New(rand.NewPCG(f.rnd.Uint64(), 3))
		if f.Only != "" {
			x.wait = f.Wait
		}
		x.kind, x.lies, x.dice = Half, kind == Lies, func() bool { return dice.IntN(3) == 0 }
	case Noise:
		x.text = []string{"* OK still here\r\n", "* OK [ALERT] the disk is \"full\r\n", "* NO just so\r\n", "* XFOO (bar {3}\r\nabc) \"x\r\n", "* FLAGS (\\Seen X)\r\n"}[f.rnd.IntN(5)]
	}
	f.Hit[kind]++
	return x
}

// cutLiteral decides about a literal: how many of its bytes are read before the connection ends.
func (h *Host) cutLiteral(size int) (n int, cut bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.faults
	if kind, ok := f.hit(); !ok || kind != Upload || f.Only != "" {
		return 0, false
	}
	f.Hit[Upload]++
	return f.rnd.IntN(size + 1), true
}

// refusesLiteral decides about a literal that the client asks leave for.
func (h *Host) refusesLiteral() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	kind, ok := h.faults.hit()
	if !ok || kind != Refuse || h.faults.Only != "" {
		return false
	}
	h.faults.Hit[Refuse]++
	return true
}
