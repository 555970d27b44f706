// Package traffic is what tests of flips put between mailboxes and the gateway: people with four mail programs each that work without
// pause and come back by themselves (Crowd), mail that comes past the gateway on both sides, and an oracle of all that was acknowledged:
// what must be there, what must not, and on which side who was served when. Begin at New and Crowd.Start.
package traffic
