// Package mailgate holds the tests that look at the whole module; the program is cmd/mailgate.
package mailgate
