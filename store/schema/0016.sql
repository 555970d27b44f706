-- What people have asked to be deleted through the gateway, until a pass has carried it.
CREATE TABLE proofs (
  user TEXT PRIMARY KEY,
  text BLOB NOT NULL -- JSON
) WITHOUT ROWID;
