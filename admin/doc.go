// Package admin is how people and monitors reach a running gateway: the control socket that verbs talk to (API,
// Client), health and metrics over HTTP (Metrics, Health). It can nothing that a verb cannot.
//
// It may import config, op, router, cutover. Begin at API.
package admin
