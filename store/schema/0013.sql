-- When both sides of a user were last compared as a whole, and how that ended.
CREATE TABLE verified (
  user  TEXT PRIMARY KEY,
  at    INTEGER NOT NULL,
  equal INTEGER NOT NULL,
  text  BLOB NOT NULL -- JSON
) WITHOUT ROWID;

-- What a flip left behind on the side that it left, until that is read again.
CREATE TABLE behind (
  user TEXT PRIMARY KEY,
  at   INTEGER NOT NULL,
  text BLOB NOT NULL -- JSON
) WITHOUT ROWID;
