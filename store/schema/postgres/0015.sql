-- What people have asked to be deleted through the gateway, until a pass has carried it.
CREATE TABLE proofs (
  "user" TEXT COLLATE "C" PRIMARY KEY,
  text   BYTEA NOT NULL -- JSON
);
