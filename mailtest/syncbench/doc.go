// Package syncbench measures copying and syncing between two real Dovecots against a raw copy without any bookkeeping and
// against mbsync, beside each other in one run. make bench runs it; with the build tag bench: begin at bench_test.go.
package syncbench
