// Package config is what the operator wrote, checked: the typed sections of mailgate.yaml, their defaults, all errors
// at once with file and line, the routes file, and the differences between two loads of either.
//
// It is the only user of viper. It may import none of our packages. Begin at Load and at ParseRoutes.
package config
