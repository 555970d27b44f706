-- Sieve scripts of a user: what they were when both sides were last in agreement. Names are bytes.
CREATE TABLE scripts (
  account    BIGINT NOT NULL REFERENCES accounts (id),
  name       BYTEA NOT NULL,
  old_base   TEXT COLLATE "C" NOT NULL,
  new_base   TEXT COLLATE "C" NOT NULL,
  old_active BIGINT NOT NULL,
  new_active BIGINT NOT NULL,
  state      TEXT COLLATE "C" NOT NULL,
  why        BYTEA NOT NULL,
  tried      TEXT COLLATE "C" NOT NULL,
  seen       BIGINT NOT NULL,
  PRIMARY KEY (account, name)
);
