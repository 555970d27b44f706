-- Who has logged in through the gateway, where, and when last.
CREATE TABLE logins (
  user     TEXT NOT NULL,
  side     INTEGER NOT NULL,
  protocol TEXT NOT NULL,
  first    INTEGER NOT NULL,
  last     INTEGER NOT NULL,
  PRIMARY KEY (user, side, protocol)
) WITHOUT ROWID;

-- Strong hashes of passwords learned at login, and how the hook for each stands. Rows are changed with secure_delete on, see secretly.
CREATE TABLE kept (
  user     TEXT PRIMARY KEY,
  side     INTEGER NOT NULL,
  protocol TEXT NOT NULL,
  hash     TEXT NOT NULL,
  learned  INTEGER NOT NULL,
  seen     INTEGER NOT NULL,
  expires  INTEGER NOT NULL,
  done     INTEGER NOT NULL,
  tries    INTEGER NOT NULL,
  next     INTEGER NOT NULL,
  error    TEXT NOT NULL
) WITHOUT ROWID;

-- Logins that a side refuses with a password that worked on the other.
CREATE TABLE refusals (
  user     TEXT NOT NULL,
  side     INTEGER NOT NULL,
  protocol TEXT NOT NULL,
  first    INTEGER NOT NULL,
  last     INTEGER NOT NULL,
  count    INTEGER NOT NULL,
  PRIMARY KEY (user, side, protocol)
) WITHOUT ROWID;
