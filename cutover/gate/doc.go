// Package gate answers whether a wave may move, or stay where it has moved to: it counts what happens to users at the fronts (Signals),
// keeps what it was before their flip (Baseline), and judges each gate by that (Judge): pass, fail, or unknown and why. A Book ties them to
// a Store, which package store implements.
//
// A trap that it is built around: behind the flip nobody of a wave is on the side that it came from, so that a comparison of the two
// sides at one time would compare with nothing. What is compared is a wave with itself, before.
//
// It may import config and op. Begin at Judge and Book.
package gate
