-- When both sides of a user were last compared as a whole, and how that ended.
CREATE TABLE verified (
  "user" TEXT COLLATE "C" PRIMARY KEY,
  at     BIGINT NOT NULL,
  equal  BIGINT NOT NULL,
  text   BYTEA NOT NULL -- JSON
);

-- What a flip left behind on the side that it left, until that is read again.
CREATE TABLE behind (
  "user" TEXT COLLATE "C" PRIMARY KEY,
  at     BIGINT NOT NULL,
  text   BYTEA NOT NULL -- JSON
);
