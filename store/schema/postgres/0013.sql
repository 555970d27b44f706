-- What nodes tell of themselves.
ALTER TABLE nodes ADD COLUMN seen BIGINT NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN about TEXT COLLATE "C" NOT NULL DEFAULT '';

-- What nodes ask each other: nothing that has to outlive a crash.
CREATE UNLOGGED TABLE messages (
  id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  node        TEXT COLLATE "C" NOT NULL,
  incarnation TEXT COLLATE "C" NOT NULL,
  sender      TEXT COLLATE "C" NOT NULL, -- the incarnation that asks
  at          BIGINT NOT NULL,
  request     BYTEA NOT NULL,
  answer      BYTEA
);
CREATE INDEX messages_node ON messages (incarnation) WHERE answer IS NULL;
CREATE INDEX messages_sender ON messages (sender) WHERE answer IS NOT NULL;
