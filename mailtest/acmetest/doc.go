// Package acmetest is a certificate authority for tests: Pebble, which Let's Encrypt made for that, and a DNS server whose zone takes
// signed updates. All of it is on loopback. Pebble is built from a module of its own, in the folder pebble.
package acmetest
