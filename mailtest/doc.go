// Package mailtest is what tests and the demo need of the mail world: OLD and NEW in memory (Memory), servers whose
// conversations are given, faults included (Script), and in package lab the real servers. It may import none of the
// gateway's packages but those of layer 0.
package mailtest
