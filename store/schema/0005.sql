-- Sieve scripts of a user: what they were when both sides were last in agreement. Names are bytes.
CREATE TABLE scripts (
  account    INTEGER NOT NULL REFERENCES accounts (id),
  name       BLOB NOT NULL,
  old_base   TEXT NOT NULL,
  new_base   TEXT NOT NULL,
  old_active INTEGER NOT NULL,
  new_active INTEGER NOT NULL,
  state      TEXT NOT NULL,
  why        BLOB NOT NULL,
  tried      TEXT NOT NULL,
  seen       INTEGER NOT NULL,
  PRIMARY KEY (account, name)
) WITHOUT ROWID;
