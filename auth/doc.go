// Package auth is who a client says he is: the server's side of SASL exchanges (Exchange), credentials for a backend
// (ClientResponse), what slows down guessing (Limiter), and the authorities over passwords that are no mail host (Verifiers: a file of
// hashes, a directory, token introspection). Without one, whether the secret is right is the backend's to say.
//
// It may import config. Begin at Start, Password, Limiter and Verifiers.
package auth
