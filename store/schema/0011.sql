-- What users met on OLD before their flip: counts as JSON of the gates.
CREATE TABLE baselines (
  user TEXT PRIMARY KEY,
  at   INTEGER NOT NULL,
  text BLOB NOT NULL
) WITHOUT ROWID;

-- What happens to users at the fronts, by day (of UTC, its beginning) and by the node that counts it.
CREATE TABLE signals (
  user           TEXT NOT NULL,
  side           INTEGER NOT NULL,
  day            INTEGER NOT NULL,
  node           TEXT NOT NULL,
  logins_ok      INTEGER NOT NULL,
  logins_refused INTEGER NOT NULL,
  logins_failed  INTEGER NOT NULL,
  sessions       INTEGER NOT NULL,
  broken         INTEGER NOT NULL,
  mail_ok        INTEGER NOT NULL,
  mail_refused   INTEGER NOT NULL,
  PRIMARY KEY (user, side, day, node)
) WITHOUT ROWID;
CREATE INDEX signals_day ON signals (day);

-- Gates that a person lets pass.
CREATE TABLE waivers (
  scope  TEXT NOT NULL,
  gate   TEXT NOT NULL,
  by     TEXT NOT NULL,
  reason TEXT NOT NULL,
  at     INTEGER NOT NULL,
  until  INTEGER NOT NULL,
  PRIMARY KEY (scope, gate)
) WITHOUT ROWID;
