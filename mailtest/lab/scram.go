package lab

// Mechanisms gives both Dovecots, and with OLD's the Postfix, more SASL mechanisms than PLAIN and LOGIN, such as "scram-sha-256". Cyrus has
// SCRAM-SHA-256 and SCRAM-SHA-1 anyway.
func Mechanisms(names string) Option {
	return func(l *Lab) { l.mechanisms = names }
}
