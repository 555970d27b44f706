// Command bench measures mailgate against nginx's mail proxy, Dovecot's login proxy and a bare io.Copy relay, side by
// side in one run, and checks the ratios that docs/benchmarks.md promises. "make bench" runs it; begin at bench.run.
//
// The harness starts everything as child processes on loopback: a backend that accepts every login and sends from
// memory, the four proxies in front of it, and a load generator for each measurement. The backend and the generator
// are processes of their own (this binary again), so that CPU seconds and memory read from /proc are the proxy's alone.
package main
