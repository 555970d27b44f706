// Package store is the durable side: the Store interfaces that other packages declare, on SQLite and PostgreSQL.
//
// It may import every package that declares a Store. Begin at Open and OpenPostgres, whose methods are
// those of database; schema holds the migrations.
package store
