-- What the syncer knows. Names and flags of servers are bytes, in whatever encoding they came.
CREATE TABLE accounts (
  id    INTEGER PRIMARY KEY,
  user  TEXT NOT NULL UNIQUE,
  owner TEXT NOT NULL,
  token INTEGER NOT NULL,
  lease INTEGER NOT NULL
);

CREATE TABLE mailboxes (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  account       INTEGER NOT NULL REFERENCES accounts (id),
  old_name      BLOB NOT NULL,
  new_name      BLOB NOT NULL,
  old_validity  INTEGER NOT NULL,
  new_validity  INTEGER NOT NULL,
  old_mailboxid BLOB NOT NULL,
  new_mailboxid BLOB NOT NULL,
  old_uidnext   INTEGER NOT NULL,
  old_messages  INTEGER NOT NULL,
  old_unseen    INTEGER NOT NULL,
  old_modseq    INTEGER NOT NULL,
  old_scanned   INTEGER NOT NULL,
  new_uidnext   INTEGER NOT NULL,
  new_messages  INTEGER NOT NULL,
  new_unseen    INTEGER NOT NULL,
  new_modseq    INTEGER NOT NULL,
  new_scanned   INTEGER NOT NULL,
  subscribed    INTEGER NOT NULL,
  special_use   BLOB NOT NULL,
  flags         BLOB NOT NULL,
  pairs         INTEGER NOT NULL,
  gone          INTEGER NOT NULL
);
CREATE INDEX mailboxes_account ON mailboxes (account);

CREATE TABLE chunks (
  mailbox    INTEGER NOT NULL REFERENCES mailboxes (id) ON DELETE CASCADE,
  low        INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  data       BLOB NOT NULL,
  PRIMARY KEY (mailbox, low)
) WITHOUT ROWID;

CREATE TABLE intents (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  mailbox  INTEGER NOT NULL REFERENCES mailboxes (id) ON DELETE CASCADE,
  side     INTEGER NOT NULL,
  kind     TEXT NOT NULL,
  epoch    INTEGER NOT NULL,
  validity INTEGER NOT NULL,
  uidnext  INTEGER NOT NULL,
  payload  BLOB NOT NULL,
  created  INTEGER NOT NULL
);
CREATE INDEX intents_mailbox ON intents (mailbox);

CREATE TABLE quarantine (
  mailbox  INTEGER NOT NULL REFERENCES mailboxes (id) ON DELETE CASCADE,
  side     INTEGER NOT NULL,
  validity INTEGER NOT NULL,
  uid      INTEGER NOT NULL,
  reason   TEXT NOT NULL,
  detail   BLOB NOT NULL,
  first    INTEGER NOT NULL,
  last     INTEGER NOT NULL,
  tries    INTEGER NOT NULL,
  decision TEXT NOT NULL,
  PRIMARY KEY (mailbox, side, validity, uid)
) WITHOUT ROWID;

CREATE TABLE runs (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  user    TEXT NOT NULL,
  began   INTEGER NOT NULL,
  ended   INTEGER NOT NULL,
  summary BLOB NOT NULL,
  error   BLOB NOT NULL
);
CREATE INDEX runs_user ON runs (user, id);

CREATE TABLE profiles (
  side INTEGER NOT NULL,
  host TEXT NOT NULL,
  text BLOB NOT NULL,
  PRIMARY KEY (side, host)
) WITHOUT ROWID;
