// Package store is the durable side: the Store interfaces that other packages declare, on SQLite.
//
// It may import every package that declares a Store. Begin at Open; schema holds the migrations.
package store
