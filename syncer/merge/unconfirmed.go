package merge

import "slices"

// unconfirmed marks a base whose keywords were sent to the side and not seen there since: a server may take them with OK and
// keep none. It stands in bases only. No flag can be spelled so (RFC 3501, section 9, atom).
const unconfirmed = "(unconfirmed)"

// Unconfirmed is a set of flags as the base of a side that has said OK to them. The first sight of the message there settles
// which of the keywords it has; one that is missing then was not kept, rather than taken off by somebody.
func (d *Dict) Unconfirmed(f Flags) Flags {
	if !slices.ContainsFunc(d.numbers(f), func(n int) bool { return d.flags[n] != unconfirmed && d.flags[n][0] != '\\' }) {
		return f
	}
	return d.set(append(slices.Clone(d.numbers(f)), d.flag(unconfirmed)))
}

// Settled is an unconfirmed base once the message was seen with the flags now: without the keywords that it lacks. Other
// bases, and a message that was not seen (whose flags are those of the base), stay as they are.
func (d *Dict) Settled(base, now Flags) Flags {
	mark, ok := d.index[unconfirmed]
	if !ok || base == now || !slices.Contains(d.numbers(base), mark) || slices.Contains(d.numbers(now), mark) {
		return base
	}
	has := d.numbers(now)
	return d.set(slices.DeleteFunc(slices.Clone(d.numbers(base)), func(n int) bool {
		return n == mark || d.flags[n][0] != '\\' && !slices.Contains(has, n)
	}))
}

// Sent is a base without its mark: the flags that the side was sent.
func (d *Dict) Sent(base Flags) Flags {
	mark, ok := d.index[unconfirmed]
	if !ok || !slices.Contains(d.numbers(base), mark) {
		return base
	}
	return d.set(slices.DeleteFunc(slices.Clone(d.numbers(base)), func(n int) bool { return n == mark }))
}
