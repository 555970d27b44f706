-- What users met on OLD before their flip: counts as JSON of the gates.
CREATE TABLE baselines (
  "user" TEXT COLLATE "C" PRIMARY KEY,
  at     BIGINT NOT NULL,
  text   BYTEA NOT NULL
);

-- What happens to users at the fronts, by day (of UTC, its beginning) and by the node that counts it.
CREATE TABLE signals (
  "user"         TEXT COLLATE "C" NOT NULL,
  side           BIGINT NOT NULL,
  day            BIGINT NOT NULL,
  node           TEXT COLLATE "C" NOT NULL,
  logins_ok      BIGINT NOT NULL,
  logins_refused BIGINT NOT NULL,
  logins_failed  BIGINT NOT NULL,
  sessions       BIGINT NOT NULL,
  broken         BIGINT NOT NULL,
  mail_ok        BIGINT NOT NULL,
  mail_refused   BIGINT NOT NULL,
  PRIMARY KEY ("user", side, day, node)
);
CREATE INDEX signals_day ON signals (day);

-- Gates that a person lets pass.
CREATE TABLE waivers (
  scope  TEXT COLLATE "C" NOT NULL,
  gate   TEXT COLLATE "C" NOT NULL,
  by     TEXT COLLATE "C" NOT NULL,
  reason TEXT COLLATE "C" NOT NULL,
  at     BIGINT NOT NULL,
  until  BIGINT NOT NULL,
  PRIMARY KEY (scope, gate)
);
