// Package keepbench measures how serve keeps mailboxes equal while people work: the lag, the memory and the processor time of users at
// rest, and what users of OLD feel of a NEW that is slow or dead. The real program stands between two real Dovecots. make bench-keep runs
// it, with the build tag bench: begin at bench_test.go.
package keepbench
