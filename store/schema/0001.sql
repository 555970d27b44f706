CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE users (
  user       TEXT PRIMARY KEY,
  side       INTEGER NOT NULL,
  epoch      INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  state      TEXT NOT NULL,
  target     INTEGER NOT NULL,
  op         TEXT NOT NULL,
  since      INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE operations (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  kind     TEXT NOT NULL,
  user     TEXT NOT NULL,
  target   INTEGER NOT NULL,
  status   TEXT NOT NULL,
  step     TEXT NOT NULL,
  reason   TEXT NOT NULL,
  by       TEXT NOT NULL,
  pin      INTEGER NOT NULL,
  created  INTEGER NOT NULL,
  changed  INTEGER NOT NULL,
  deadline INTEGER NOT NULL,
  took     INTEGER NOT NULL,
  payload  TEXT NOT NULL
);
CREATE INDEX operations_open ON operations (id) WHERE status IN ('accepted', 'waiting', 'running');
CREATE INDEX operations_open_kind ON operations (kind, id) WHERE status IN ('accepted', 'waiting', 'running');
CREATE INDEX operations_user ON operations (user, id);

CREATE TABLE pins (
  user   TEXT PRIMARY KEY,
  side   INTEGER NOT NULL,
  by     TEXT NOT NULL,
  reason TEXT NOT NULL,
  at     INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE history (
  id     INTEGER PRIMARY KEY AUTOINCREMENT,
  at     INTEGER NOT NULL,
  op     TEXT NOT NULL,
  user   TEXT NOT NULL,
  what   TEXT NOT NULL,
  before TEXT NOT NULL,
  after  TEXT NOT NULL,
  by     TEXT NOT NULL,
  detail TEXT NOT NULL
);
CREATE INDEX history_user ON history (user, id);

CREATE TABLE desired (user TEXT PRIMARY KEY, side INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE nodes (name TEXT PRIMARY KEY) WITHOUT ROWID;
