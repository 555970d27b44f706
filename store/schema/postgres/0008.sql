-- Who has logged in through the gateway, where, and when last.
CREATE TABLE logins (
  "user"   TEXT COLLATE "C" NOT NULL,
  side     BIGINT NOT NULL,
  protocol TEXT COLLATE "C" NOT NULL,
  first    BIGINT NOT NULL,
  last     BIGINT NOT NULL,
  PRIMARY KEY ("user", side, protocol)
);

-- Strong hashes of passwords learned at login, and how the hook for each stands.
CREATE TABLE kept (
  "user"   TEXT COLLATE "C" PRIMARY KEY,
  side     BIGINT NOT NULL,
  protocol TEXT COLLATE "C" NOT NULL,
  hash     TEXT COLLATE "C" NOT NULL,
  learned  BIGINT NOT NULL,
  seen     BIGINT NOT NULL,
  expires  BIGINT NOT NULL,
  done     BIGINT NOT NULL,
  tries    BIGINT NOT NULL,
  next     BIGINT NOT NULL,
  error    TEXT COLLATE "C" NOT NULL
);

-- Logins that a side refuses with a password that worked on the other.
CREATE TABLE refusals (
  "user"   TEXT COLLATE "C" NOT NULL,
  side     BIGINT NOT NULL,
  protocol TEXT COLLATE "C" NOT NULL,
  first    BIGINT NOT NULL,
  last     BIGINT NOT NULL,
  count    BIGINT NOT NULL,
  PRIMARY KEY ("user", side, protocol)
);
