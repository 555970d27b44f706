// Package tlsconf is TLS on both sides: the certificates of the listeners, chosen by name and read again when they
// change (Certificates), the policy towards backends (Client), and connections that wait without a buffer (Quiet).
//
// It may import config. Begin at NewCertificates and Client.
package tlsconf
