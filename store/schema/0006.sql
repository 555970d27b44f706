-- Passwords learned at login, encrypted to a key that is not here. Rows are changed with secure_delete on, see secretly.
CREATE TABLE learned (
  user        TEXT NOT NULL,
  side        INTEGER NOT NULL,
  learned     INTEGER NOT NULL,
  seen        INTEGER NOT NULL,
  expires     INTEGER NOT NULL,
  refused_old INTEGER NOT NULL,
  refused_new INTEGER NOT NULL,
  sealed      BLOB NOT NULL,
  PRIMARY KEY (user, side)
) WITHOUT ROWID;
