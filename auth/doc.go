// Package auth is who a client says he is: the server's side of SASL exchanges (Exchange), credentials for a backend
// (ClientResponse), and what slows down guessing (Limiter). Whether the secret is right is the backend's to say.
//
// It may import config. Begin at Start, Password and Limiter.
package auth
