-- Passwords learned at login, encrypted to a key that is not here.
CREATE TABLE learned (
  "user"      TEXT COLLATE "C" NOT NULL,
  side        BIGINT NOT NULL,
  learned     BIGINT NOT NULL,
  seen        BIGINT NOT NULL,
  expires     BIGINT NOT NULL,
  refused_old BIGINT NOT NULL,
  refused_new BIGINT NOT NULL,
  sealed      BYTEA NOT NULL,
  PRIMARY KEY ("user", side)
);
